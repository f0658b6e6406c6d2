"""Accepting connections: which options they have, and what is done when one cannot be accepted.

accept(2) fails in three ways, and each has its own answer:

- The connection is gone already, or forbidden by a packet filter: it was taken from the queue, and the next may be sound.
- We have no descriptor left (EMFILE). Whoever waits would wait for ever, and the listening socket would stay readable, so that
  we spin. One descriptor is kept for this: it is given up, a connection is accepted in its place and closed, and so on.
- The system has no file, buffer or memory left (ENFILE, ENOBUFS, ENOMEM), or something that nobody has thought of. To ask
  again at once would be to spin. The port rests for a tenth of a second, as HAProxy's does; the kernel's queue keeps who comes.

All are counted by name, ``accept-EMFILE`` for one, and none is logged by itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from echosvc.transports.linux import LINUX

__all__ = [
    "NO_LINGER",
    "REST",
    "SPARE",
    "SpareDescriptor",
    "have_reset",
    "is_of_one_connection",
    "reason",
    "set_stream_options",
    "turn_out",
]

#: Bytes that the kernel takes before they can be sent, if it says so. Without it, it takes 4 MiB for a client that reads nothing; what is on
#: its way to one that reads is not limited.
UNSENT = 128 * 1024

#: Seconds for which a port accepts nobody when the system cannot.
REST = 0.1

#: SO_LINGER (socket(7)): closing waits for nothing and goes on in the background; or it resets, and leaves nothing behind.
NO_LINGER, _RESET = struct.pack("@ii", 0, 0), struct.pack("@ii", 1, 0)

#: Errors of the connection that was accepted, which accept(2) tells for it; and EPERM, by which a packet filter forbids it.
_OF_ONE_CONNECTION = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)  # ENONET is Linux' own
)


def set_stream_options(sock: socket.socket) -> None:
    """Keep-alive finds dead peers; Nagle's algorithm would delay small echoes; little waits in the kernel (tcp(7)).

    Connections inherit all of it.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if LINUX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def is_of_one_connection(problem: OSError) -> bool:
    """Whether an error of accept(2) is that of one connection, which it has taken from the queue."""
    return problem.errno in _OF_ONE_CONNECTION


def reason(problem: OSError) -> str:
    """Name an error of accept(2) as it is counted."""
    return f"accept-{errno.errorcode.get(problem.errno or 0, 'error')}"


def have_reset(sock: socket.socket) -> socket.socket:
    """Have a connection that is refused reset when it is closed.

    An orderly end would be an answer, and would be kept in mind (TIME_WAIT) for a minute.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return sock


def turn_out(sock: socket.socket) -> None:
    """Close a connection that was accepted and is not served."""
    with contextlib.suppress(OSError):
        sock.close()


class SpareDescriptor:
    """A descriptor that is kept to have one when there is none. One is enough for a process."""

    def __init__(self) -> None:
        self._fd = -1

    def keep(self) -> bool:
        """Take one, if we have none; return whether we have one now."""
        if self._fd < 0:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return False
        return True

    def give_up(self) -> bool:
        """Give it up, for another to be opened; return whether there was one."""
        if self._fd < 0:
            return False
        os.close(self._fd)
        self._fd = -1
        return True


SPARE = SpareDescriptor()
