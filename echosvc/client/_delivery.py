"""Sending one datagram, and what it means when a system says that it was not delivered."""

from __future__ import annotations

import errno
import os

from echosvc.errors import ConnectionFailed, PeerError, Refused
from echosvc.transports import DatagramPort, HostPort, display

__all__ = ["send", "undelivered"]


def send(port: DatagramPort, datagram: bytes, peer: HostPort) -> int:
    """Send a datagram, and learn at once if this machine will not.

    The port counts refusals and never raises them. One of them is not about this datagram: the ICMP error
    for an earlier one is reported by whatever call comes first, which then sends nothing and is repeated.

    Args:
        port: The socket.
        datagram: What to send.
        peer: Where to.

    Returns:
        The errno if the system refused it, else 0.
    """
    for _ in range(2):
        before = port.drops.copy()
        port.write(datagram, peer)
        names = [name.removeprefix("send-") for name in port.drops - before]
        if names != ["ECONNREFUSED"]:
            break
    return getattr(errno, names[0], errno.EIO) if names else 0


def undelivered(peer: HostPort, number: int) -> PeerError:
    """Say in our words why a datagram did not get there.

    Args:
        peer: Where it was to go.
        number: The errno.
    """
    if number == errno.ECONNREFUSED:
        return Refused(display(*peer))
    return ConnectionFailed(display(*peer), os.strerror(number))
