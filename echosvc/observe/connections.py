"""A line for each connection that has ended, or for one in so many: off unless somebody asks, for busy services have many.

A port tells of the ends of its connections only if it has somebody to tell. So nothing here costs a connection of which
nothing is logged more than a look at an attribute, and nothing costs a message.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.logger import Logger

from echosvc.observe.flood import PASSED
from echosvc.transports import display
from echosvc.transports.linux import CREDENTIALS, round_trip

__all__ = ["ConnectionLog"]


class ConnectionLog:
    """Writes a line when a connection of one listener ends. Floods of these lines are not held back: they were asked for.

    The bytes are those of the socket, TLS and PROXY header included. With a PROXY header the peer is the client that it
    names, and the round trip is that to the proxy.

    Args:
        listener: What the listener is called.
        where: Where it listens.
        one_in: Of so many connections one has a line, taken at random: every hundredth would be the same client again and
            again where clients take turns.
        log: Where the lines go.
        seconds: Tells the time, in seconds of a clock that is not set.
        chance: Returns a random number, less than 1.
    """

    def __init__(
        self,
        listener: str,
        where: str,
        one_in: int,
        log: Logger,
        *,
        seconds: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._listener = {"listener": listener, "where": where, PASSED: True}
        self._one_in = one_in
        self._log = log
        self._seconds = seconds
        self._chance = chance

    def begins(self, connection: Any) -> None:
        """Remember when a connection was accepted."""
        connection.began = self._seconds()

    def ends(self, connection: Any, why: str) -> None:
        """Write the line, if this one is to have one.

        Args:
            connection: A `PatientConnection` whose socket is open yet.
            why: As it is counted.
        """
        if self._one_in > 1 and self._chance() * self._one_in >= 1:
            return
        text = "{listener}: connection {id} of {peer} ended"
        known: dict[str, Any] = {
            "id": connection.sessionno,
            "peer": _peer(connection),
            "bytes_in": connection.bytes_in,
            "bytes_out": connection.bytes_out,
            "reason": why,
        }
        if connection.began is not None:
            known["seconds"] = round(self._seconds() - connection.began, 6)
            text += " after {seconds:.3f} s"
        text += ": {reason}; {bytes_in} bytes in, {bytes_out} out"
        if (measured := round_trip(connection.socket)) is not None:
            known["rtt_ms"], known["retransmits"] = round(measured[0] * 1e3, 3), measured[1]
            text += "; round trip {rtt_ms:.3f} ms, {retransmits} sent again"
        self._log.info(text, **known, **self._listener)


def _peer(connection: Any) -> str:
    """Name the client: as it was announced, if a proxy did; on a UNIX socket by process and user, if it has no name."""
    peer = connection.getPeer()
    if not isinstance(peer, UNIXAddress):
        return display(peer.host, peer.port)
    if peer.name:
        return peer.name.decode(errors="backslashreplace")
    try:
        found = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    except (AttributeError, OSError):  # the former where the system does not tell
        return "UNIX"
    process, user, _ = CREDENTIALS.unpack(found)
    return f"process {process} of user {user}"
