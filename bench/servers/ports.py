"""One port number for TCP and UDP, and the line that tells it."""

from __future__ import annotations

import socket
import sys

__all__ = ["announce", "bind_both", "free_port"]

_LOOPBACK = "127.0.0.1"


def bind_both() -> tuple[socket.socket, socket.socket]:
    """Bind a TCP and a UDP socket to one free port of 127.0.0.1.

    Returns:
        The two sockets, non-blocking; nothing listens yet.
    """
    while True:
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.bind((_LOOPBACK, 0))
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagram.bind(stream.getsockname())
        except OSError:  # the number is free for TCP only
            stream.close()
            datagram.close()
            continue
        stream.setblocking(False)
        datagram.setblocking(False)
        return stream, datagram


def free_port() -> int:
    """Find a number that is free for TCP and UDP, for programs that must be told one."""
    stream, datagram = bind_both()
    with stream, datagram:
        return int(stream.getsockname()[1])


def announce(port: int) -> None:
    """Tell whoever has started this program where it listens."""
    sys.stdout.write(f"port {port}\n")
    sys.stdout.flush()
