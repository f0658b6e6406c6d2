"""The system calls that the running service makes, what the kernel can return from each, and what makes it call them.

What is left out: errors that mean a mistake of ours (EBADF, EFAULT, EINVAL for a wrong argument), and ``ioctl``, which is two
calls: FIONBIO on a new socket, from which nothing can come, and the question of what was delivered. ``getpeername`` it does not call:
accept4 has told.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.hold.clients import IPV4, connect, one_datagram, receive_exactly
from tests.hold.promise import Broken

__all__ = ["CALLS", "PROXY_HOST", "REFUSED", "TLS", "TLS_HOST", "Call", "Place", "one_over_tls"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: What a router or a firewall has said of an address, which the next call on the socket returns (icmp_err_convert in
#: net/ipv4/icmp.c, tab_unreach in net/ipv6/icmp.c of Linux).
_ICMP = "ECONNREFUSED EHOSTUNREACH ENETUNREACH ENOPROTOOPT EMSGSIZE EOPNOTSUPP EHOSTDOWN ENONET EACCES EPROTO"

#: Connections that need a megabyte together: Python asks the kernel for so much at a time.
CROWD = 700

#: No port stays in TIME_WAIT (socket(7), SO_LINGER).
_RESET = struct.pack("@ii", 1, 0)

#: Seconds that a client waits for an answer that may have been lost.
PATIENCE = 0.02


#: What a call is about: a listener that everybody has, or one that only ours has.
PLAIN, UNIX, TLS, PROXY = "", "unix", "tls", "proxy"

#: Where the last two listen, and who is not let in anywhere.
TLS_HOST, PROXY_HOST, REFUSED = "127.0.0.2", "127.0.0.3", "127.0.0.9"


@dataclass(frozen=True)
class Place:
    """Where a server is reached.

    Attributes:
        pid: Its process.
        tcp: The TCP port.
        udp: The UDP port.
        unix: A directory with the sockets ``stream`` and ``datagrams``; None if it has none.
        tls: The port that speaks TLS; None if none does.
        proxy: The port that expects a PROXY header; None if none does.
    """

    pid: int
    tcp: int
    udp: int
    unix: Path | None = None
    tls: int | None = None
    proxy: int | None = None

    def has(self, listener: str) -> bool:
        """Whether there is such a listener."""
        return listener == PLAIN or getattr(self, listener) is not None


@dataclass(frozen=True)
class Call:
    """A system call, and what it can return.

    Attributes:
        names: Its names: Python and Twisted use one or another.
        errors: What the kernel can return from it: its man page, tcp(7), udp(7), unix(7), and what ICMP brings.
        traffic: Makes the service call it.
        leaks: A call that was not made leaves a descriptor behind: nobody could have closed it.
        listener: Which listener it is about.
    """

    names: str
    errors: tuple[str, ...]
    traffic: Callable[[Place], None]
    leaks: bool = field(default=False, kw_only=True)
    listener: str = field(default=PLAIN, kw_only=True)


def _connections(place: Place) -> None:
    """Connect, say little, and leave."""
    for _ in range(5):
        with contextlib.suppress(OSError), connect(IPV4, place.tcp) as sock:
            sock.settimeout(10 * PATIENCE)
            sock.sendall(b"hello")
            sock.recv(5)


def _messages(place: Place) -> None:
    """Stay, and say much."""
    with contextlib.suppress(OSError), connect(IPV4, place.tcp) as sock:
        sock.settimeout(10 * PATIENCE)
        for _ in range(20):
            sock.sendall(b"hello")
            sock.recv(5)


def _datagrams(place: Place) -> None:
    for _ in range(20):
        one_datagram(IPV4, place.udp, b"hello", wait=PATIENCE)


def _unix_messages(place: Place) -> None:
    assert place.unix is not None
    for _ in range(5):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10 * PATIENCE)
            sock.connect(str(place.unix / "stream"))
            for _ in range(4):
                sock.sendall(b"hello")
                sock.recv(5)


def _unix_datagrams(place: Place) -> None:
    assert place.unix is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind("")  # the kernel gives it a name to be answered at (unix(7), autobind)
        for _ in range(20):
            with contextlib.suppress(OSError):
                sock.sendto(b"hello", str(place.unix / "datagrams"))
                sock.recv(5)


def _unix_paths(place: Place) -> None:
    """Ask in the name of a path, which the service looks at before it answers."""
    assert place.unix is not None
    path = place.unix / "client"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        for _ in range(20):
            with contextlib.suppress(OSError):
                sock.sendto(b"hello", str(place.unix / "datagrams"))
                sock.recv(5)


def _tls_messages(place: Place) -> None:
    for _ in range(2):
        with contextlib.suppress(OSError, Broken):
            one_over_tls(place)


def one_over_tls(place: Place) -> None:
    """Connect with TLS, and have some words echoed.

    Raises:
        OSError: It does not come to that.
        Broken: They come back wrong.
    """
    assert place.tls is not None
    with connect(TLS_HOST, place.tls) as plain:
        plain.settimeout(10 * PATIENCE)
        with _ANYBODY.wrap_socket(plain) as sock:
            for _ in range(5):
                sock.sendall(b"hello")
                receive_exactly(sock, 5)


def _anybody() -> ssl.SSLContext:
    """Trust whoever answers: it is about system calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_ANYBODY = _anybody()


def _announced(place: Place) -> None:
    assert place.proxy is not None
    for _ in range(5):
        with contextlib.suppress(OSError), connect(PROXY_HOST, place.proxy) as sock:
            sock.settimeout(10 * PATIENCE)
            sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\nhello")
            sock.recv(5)


def _refused(place: Place) -> None:
    for _ in range(5):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.settimeout(10 * PATIENCE)
            sock.bind((REFUSED, 0))
            sock.connect((IPV4, place.tcp))
            sock.recv(1)


def _reload(place: Place) -> None:
    os.kill(place.pid, signal.SIGHUP)
    time.sleep(PATIENCE)


def _crowd(place: Place) -> None:
    """Be many at once: that takes memory, which is given back afterwards."""
    with contextlib.ExitStack() as sockets, contextlib.suppress(OSError):
        for _ in range(CROWD):
            sock = sockets.enter_context(connect(IPV4, place.tcp))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.settimeout(10 * PATIENCE)
            sock.sendall(b"hello")
            sock.recv(5)


CALLS = (
    Call(
        "accept4",
        # accept(2): of the process, of the system, of a firewall, and "already-pending network errors on the new socket".
        _words(
            "EMFILE ENFILE ENOBUFS ENOMEM ECONNABORTED EPERM EINTR EAGAIN EPROTO ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET"
            " EHOSTUNREACH EOPNOTSUPP ENETUNREACH ETIMEDOUT"
        ),
        _connections,
    ),
    # No EAGAIN where there is something to read: edge-triggered, nobody would say so again, and the kernel never does it.
    Call(
        "read,recvfrom",
        _words(f"EINTR ECONNRESET ETIMEDOUT ENETDOWN ENOMEM ENOBUFS EPIPE {_ICMP}"),
        _messages,
    ),
    Call(
        "write,sendto",
        _words(f"EINTR EAGAIN EPIPE ECONNRESET ETIMEDOUT ENETDOWN EPERM ENOMEM ENOBUFS {_ICMP}"),
        _messages,
    ),
    Call("recvmmsg,recvfrom", _words(f"EINTR EAGAIN ENOMEM ENOBUFS ENETDOWN {_ICMP}"), _datagrams),
    Call(
        "sendmmsg,sendmsg,sendto",
        _words(f"EINTR EAGAIN EPERM ENOMEM ENOBUFS EIO EINVAL EADDRNOTAVAIL ENETDOWN {_ICMP}"),
        _datagrams,
    ),
    Call("epoll_wait", ("EINTR",), _messages),
    Call("epoll_ctl", ("ENOMEM", "ENOSPC"), _connections),
    # A security module says EACCES, a program of a cgroup's EPERM or, without memory, ENOMEM.
    Call("getsockname", ("ENOBUFS", "EACCES"), _connections),
    Call("setsockopt", ("EACCES", "EPERM", "ENOMEM"), _refused, listener=TLS),
    # mmap(2): out of memory or of mappings. Python asks for a megabyte at a time, and keeps it: there are few calls.
    Call("mmap", ("ENOMEM",), _crowd),
    # What is read again: certificates and keys, on whatever file system they are.
    Call(
        "openat",
        _words(
            "EACCES EINTR EIO ELOOP EMFILE ENFILE ENOENT ENOMEM ENOTDIR EOVERFLOW EPERM ESTALE ENXIO ENODEV"
        ),
        _reload,
        listener=TLS,
    ),
    Call("fstat,newfstatat", ("EIO", "ENOMEM", "ESTALE", "EOVERFLOW"), _reload, listener=TLS),
    Call(
        "read,recvfrom",
        _words(f"EINTR ECONNRESET ETIMEDOUT ENOMEM ENOBUFS EPIPE {_ICMP}"),
        _tls_messages,
        listener=TLS,
    ),
    Call(
        "write,sendto",
        _words(f"EINTR EAGAIN EPIPE ECONNRESET ETIMEDOUT ENOMEM ENOBUFS EPERM {_ICMP}"),
        _tls_messages,
        listener=TLS,
    ),
    Call("accept4", ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"), _announced, listener=PROXY),
    Call(
        "read,recvfrom",
        _words(f"EINTR ECONNRESET ETIMEDOUT ENOMEM ENOBUFS EPIPE {_ICMP}"),
        _announced,
        listener=PROXY,
    ),
    Call(
        "write,sendto",
        _words(f"EINTR EAGAIN EPIPE ECONNRESET ETIMEDOUT ENOMEM ENOBUFS EPERM {_ICMP}"),
        _announced,
        listener=PROXY,
    ),
    Call("shutdown", ("ENOTCONN",), _unix_messages, listener=UNIX),
    Call("recvmsg", ("EINTR", "ECONNRESET", "ENOMEM", "ENOBUFS"), _unix_messages, listener=UNIX),
    Call(
        "write,sendto,sendmsg",
        ("EINTR", "EAGAIN", "EPIPE", "ECONNRESET", "ENOMEM", "ENOBUFS"),
        _unix_messages,
        listener=UNIX,
    ),
    Call("getsockopt,setsockopt", ("EACCES", "EPERM", "ENOMEM"), _unix_messages, listener=UNIX),
    Call("recvmsg", ("EINTR", "EAGAIN", "ECONNRESET", "ENOMEM", "ENOBUFS"), _unix_datagrams, listener=UNIX),
    Call(
        "openat", _words("EACCES EIO ELOOP EMFILE ENFILE ENOENT ENOMEM ENOTDIR"), _unix_paths, listener=UNIX
    ),
    Call("fstat,newfstatat", ("EIO", "ENOMEM", "ESTALE", "EOVERFLOW"), _unix_paths, listener=UNIX),
    Call(
        "sendto,sendmsg",
        _words(
            "EINTR EAGAIN ECONNREFUSED ECONNRESET ENOENT EACCES EPERM EMSGSIZE EPROTOTYPE EPIPE ENOTDIR ENOMEM ENOBUFS"
        ),
        _unix_datagrams,
        listener=UNIX,
    ),
    Call("close", ("EINTR", "EIO", "ENOSPC", "EDQUOT"), _connections, leaks=True),
)
