"""The service as a user starts it on chosen listeners, and clients of the small protocols that it speaks there."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.hold.clients import address, connect, one_datagram, send_all_and_shut
from tests.hold.run import Run, Subject
from tests.hold.service import START, NotServing, Server, twistd
from tests.hold.xinetd import BUILT_IN, Xinetd

__all__ = ["Service", "start", "start_all", "the_rest"]

NAMES = ("echo", "discard", "chargen", "qotd", "daytime", "time")

#: The line with which the service says what listens where.
_LISTENS = re.compile(r"(\w+) \(RFC \d+\) listens on (TCP|UDP) \S+:(\d+)\b")


def start(run: Run, *options: str, expected: int) -> dict[tuple[str, str], int]:
    """Start the service on exactly what the options say.

    Args:
        run: Judges and stops it.
        options: Of ``twistd echosvc``.
        expected: How many listeners there will be.

    Returns:
        The port of each, by name and transport.

    Raises:
        NotServing: They were not there in time.
    """
    server = Server([*twistd(), "-n", "--pidfile=", "echosvc", *options], run.server_directory())
    run.watch(server)
    until = time.monotonic() + START
    while time.monotonic() < until and server.alive():
        ports = {(name, transport): int(port) for name, transport, port in _LISTENS.findall(server.log())}
        if len(ports) == expected:
            return ports
        time.sleep(0.02)
    raise NotServing(f"the server does not listen: {server.log().strip().rpartition(chr(10))[2]}")


def start_all(run: Run) -> dict[tuple[str, str], int]:
    """Start every protocol on TCP and UDP, in the default configuration; otherwise as `start`.

    Of xinetd, start all that are built into it.
    """
    if run.subject is Subject.XINETD:
        xinetd = Xinetd(run.server_directory(), names=BUILT_IN)
        run.watch(xinetd)
        xinetd.wait_until_listening()
        return xinetd.ports
    options = [word for name in NAMES for each in ("tcp", "udp") for word in ("--listen", f"{name}={each}:0")]
    return start(run, *options, expected=2 * len(NAMES))


@dataclass(frozen=True)
class Service:
    """The service, seen by clients of one family.

    Attributes:
        host: Its address.
        ports: Where each protocol listens, by name and transport.
    """

    host: str
    ports: dict[tuple[str, str], int]

    def names(self) -> list[str]:
        """The protocols that there are."""
        return list(dict.fromkeys(name for name, _ in self.ports))

    def connect(self, name: str) -> socket.socket:
        """Connect to a protocol."""
        return connect(self.host, self.ports[name, "TCP"])

    def ask(self, name: str, payload: bytes) -> bytes | None:
        """Ask by UDP; None if there is no answer."""
        return one_datagram(self.host, self.ports[name, "UDP"], payload)

    def count_answers(self, name: str, payloads: Sequence[bytes], *, wait: float = 0.2) -> int:
        """Send datagrams and count what comes back in all, errors of ICMP among it.

        Args:
            name: To which protocol.
            payloads: What to send.
            wait: Seconds of silence after which no more is expected.
        """
        family, sockaddr = address(self.host, self.ports[name, "UDP"])
        came = 0
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr)
            for payload in payloads:
                with contextlib.suppress(ConnectionRefusedError):
                    sock.send(payload)
            while select.select([sock], [], [], wait)[0]:
                came += 1
                with contextlib.suppress(ConnectionRefusedError):
                    sock.recv(65535)
        return came

    def tell(self, name: str, payload: bytes, *, finish: bool = False) -> bytes | None:
        """Connect, send something and read to the end of the stream.

        Args:
            name: To which protocol.
            payload: What to send.
            finish: Half-close then.

        Returns:
            What came; None if the stream was reset, or did not end.
        """
        with self.connect(name) as sock:
            if finish:
                threading.Thread(target=send_all_and_shut, args=(sock, payload), daemon=True).start()
            else:
                with contextlib.suppress(OSError):  # seen by who reads
                    sock.sendall(payload)
            return the_rest(sock)


def the_rest(sock: socket.socket) -> bytes | None:
    """Read to the end of the stream; None if it is reset, or does not end."""
    came = bytearray()
    try:
        while piece := sock.recv(65536):
            came += piece
    except OSError:
        return None
    return bytes(came)
