"""Over what a promise is kept: plain TCP, TLS, a UNIX socket, or TCP behind a PROXY header.

Everything that differs is here: what the service is started with, and how a client connects. A client is a socket, or has what
promises use of one; each has made itself known when it is handed out: handshake done, header sent. So a promise is one
function, and `tests.hold.promise.carried` makes one of it for each carrier, with figures of its own.

What means something else:

- T13 over UNIX: its clients have no address. The kernel tells which user each is (SO_PEERCRED), and that is its source.
- T11-slow over UNIX: the kernel tells of what was read only when all of one write was, so that a reader must take that, up to
  32 KiB, within `--stall-timeout`.
- T11-stuck over TLS: where there is no room for data there is none for close_notify either. The client ends with FIN alone.
- T12 over TLS and behind PROXY: the client has spoken before it falls silent, which is seen up to a second later.

The TLS module needs nothing but Python, nor does this one: programs beside this file connect in the same way.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from tests.hold.tls_stream import Bytes, TLSStream

__all__ = [
    "GIVE_UP",
    "IPV4",
    "Carrier",
    "Place",
    "Stream",
    "address",
    "connect",
    "dial",
    "find_place",
    "listener",
    "over",
]

IPV4 = "127.0.0.1"

#: Seconds after which a silent socket is given up. No promise is that slow; it only ends a hang.
GIVE_UP = 20.0


class Stream(Protocol):
    """What promises use of a connection: a socket has it, and TLS in front of one."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def close(self) -> None:
        """Close it."""

    def fileno(self) -> int:
        """The number of its descriptor."""

    def getsockname(self) -> Any:
        """Its own address."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Wait for so long at most."""

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001  # as a socket has it
        """Wait, or do not."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option of the socket."""

    def send(self, data: Bytes, /) -> int:
        """Send some of it, and return how many bytes were taken."""

    def sendall(self, data: Bytes, /) -> None:
        """Send all of it."""

    def recv(self, size: int, /) -> bytes:
        """Receive at most so many bytes; none at the end."""

    def recv_into(self, room: memoryview, /) -> int:
        """Receive as many bytes as there is room for."""

    def shutdown(self, how: int, /) -> None:
        """End a direction."""


class Carrier(Enum):
    """What carries the bytes; the value ends the names of its promises."""

    TCP = "tcp"
    TLS = "tls"
    UNIX = "unix"
    PROXY = "proxy"

    def of(self, name: str) -> str:
        """Name a promise over this carrier; one over plain TCP has no more than its own name."""
        return name if self is Carrier.TCP else f"{name}-{self.value}"

    @property
    def words(self) -> str:
        """Say over what, to follow a subject: `` over TLS``; nothing of plain TCP."""
        return {
            Carrier.TCP: "",
            Carrier.TLS: " over TLS",
            Carrier.UNIX: " over a UNIX socket",
            Carrier.PROXY: " behind a PROXY header",
        }[self]


def over(name: str, *carriers: Carrier) -> tuple[str, ...]:
    """Name a promise over some carriers, all if none is given."""
    return tuple(each.of(name) for each in carriers or Carrier)


@dataclass(frozen=True)
class Place:
    """Where clients connect, and over what; `str()` is what programs are told.

    Attributes:
        carrier: Over what.
        where: A port, or the path of a UNIX socket.
    """

    carrier: Carrier
    where: str

    def __str__(self) -> str:
        return f"{self.carrier.value}:{self.where}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` wrote; a number alone is a port of plain TCP."""
        carrier, _, where = text.rpartition(":") if text.isdigit() else text.partition(":")
        return cls(Carrier(carrier or "tcp"), where)


#: How the service says where each of them listens.
_LISTENS = {
    Carrier.TCP: re.compile(r" listens on TCP \S+:(\d+)\b"),
    Carrier.TLS: re.compile(r" listens on TCP \S+:(\d+)\b.*, TLS"),
    Carrier.UNIX: re.compile(r" listens on unix:(\S+)"),
    Carrier.PROXY: re.compile(r" listens on TCP \S+:(\d+)\b.*, PROXY"),
}


def find_place(carrier: Carrier, log: str) -> Place | None:
    """Read from a log where the first listener of a carrier is, if it is there yet."""
    found = _LISTENS[carrier].search(log)
    return Place(carrier, found.group(1)) if found else None


def listener(carrier: Carrier, folder: Path) -> str | None:
    """Tell what ``--listen`` is told besides, and make the files that it needs.

    Args:
        carrier: Over what. None for plain TCP, where ``--port`` listens.
        folder: The working directory of the service.
    """
    match carrier:
        case Carrier.TLS:
            from tests.certificates import Authority  # noqa: PLC0415  # needs an extra, and the programs nothing of it

            Authority().issue("localhost").write(folder)
            return "echo=tls:0:cert=server.crt:key=server.key"
        case Carrier.UNIX:
            return f"echo=unix:{folder / 'socket'}:mode=666"
        case Carrier.PROXY:
            return "echo=haproxy:tcp:0:proxy=127.0.0.0/8,[::1]"
    return None


def address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    """Turn a literal into what a socket takes; a plain ``connect`` drops the scope of ``fe80::1%eth0``."""
    family, _, _, _, sockaddr = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    return family, sockaddr


#: Level, name and value of an option of a socket (setsockopt(2)).
Option: TypeAlias = tuple[int, int, int]


def connect(
    host: str,
    port: int,
    *,
    source: str = "",
    receive_buffer: int = 0,
    options: Iterable[Option] = (),
    patience: float = GIVE_UP,
) -> socket.socket:
    """Connect by TCP.

    Args:
        host: An address.
        port: A port.
        source: The client's own address.
        receive_buffer: Bytes for SO_RCVBUF, set before connecting so that the window is small from the start.
        options: What else is set before.
        patience: Seconds for which the socket blocks at most.
    """
    family, sockaddr = address(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    with _closed_if_it_fails(sock):
        sock.settimeout(patience)
        _prepare(sock, receive_buffer, ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), *options))
        if source:
            sock.bind((source, 0))
        sock.connect(sockaddr)
    return sock


def dial(
    place: Place,
    host: str = IPV4,
    *,
    source: str = "",
    receive_buffer: int = 0,
    options: Iterable[Option] = (),
    patience: float = GIVE_UP,
    context: ssl.SSLContext | None = None,
) -> Stream:
    """Connect, and do what comes before the first byte of the protocol.

    Args:
        place: Where, and over what.
        host: The address of the service.
        source: In whose name: an address of IPv4; over a UNIX socket the number of a user.
        receive_buffer: As `connect` has it.
        options: Likewise; those of TCP mean nothing over a UNIX socket.
        patience: Likewise.
        context: Settings of TLS; those of `client_context` if None.

    Raises:
        OSError: It was refused, or ended meanwhile.
    """
    if place.carrier is Carrier.UNIX:
        sock = socket.socket(socket.AF_UNIX)
        with _closed_if_it_fails(sock):
            sock.settimeout(patience)
            _prepare(sock, receive_buffer, [each for each in options if each[0] == socket.SOL_SOCKET])
            _connect_as(sock, place.where, source)
        return sock
    own = "" if place.carrier is Carrier.PROXY else source
    sock = connect(
        host,
        int(place.where),
        source=own,
        receive_buffer=receive_buffer,
        options=options,
        patience=patience,
    )
    with _closed_if_it_fails(sock):
        if place.carrier is Carrier.TLS:
            return TLSStream(sock, context).handshake()
        if place.carrier is Carrier.PROXY:
            sock.sendall(_header(sock, source))
    return sock


def _prepare(sock: socket.socket, receive_buffer: int, options: Iterable[Option]) -> None:
    for level, name, value in options:
        sock.setsockopt(level, name, value)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)


@contextlib.contextmanager
def _closed_if_it_fails(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _header(sock: socket.socket, source: str) -> bytes:
    """What a proxy says of a client: that it is the proxy itself, if no other is named."""
    here, there = sock.getsockname(), sock.getpeername()
    family = "TCP6" if sock.family == socket.AF_INET6 else "TCP4"
    return f"PROXY {family} {source or here[0]} {there[0]} {here[1]} {there[1]}\r\n".encode()


#: The effective user is that of all threads.
_one_at_a_time = threading.Lock()


def _connect_as(sock: socket.socket, path: str, user: str) -> None:
    """Connect as another user, if one is named: the kernel remembers who it was (SO_PEERCRED of unix(7))."""
    if not user:
        sock.connect(path)
        return
    with _one_at_a_time:
        before = os.geteuid()
        os.seteuid(int(user))
        try:
            sock.connect(path)
        finally:
            os.seteuid(before)
