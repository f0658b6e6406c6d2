"""In-memory stand-ins that several rooms' tests share."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.testing import MemoryReactorClock


class DatagramTransport:
    """Remembers what a datagram protocol sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int] | None]] = []

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        """Remember one datagram."""
        self.sent.append((datagram, addr))


class FakeReactor(MemoryReactorClock):
    """A reactor that runs nothing: a test calls doRead and doWrite itself, and moves the clock."""

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        """Call at once."""
        function(*args, **kwargs)


def udp_socket(host: str = "127.0.0.1") -> socket.socket:
    """Open a bound UDP socket for a test's own use; it waits at most 5 seconds."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind((host, 0))
    return sock
