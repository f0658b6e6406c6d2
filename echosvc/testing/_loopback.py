"""Real sockets without waiting: a reactor that a test turns by hand, and clients that are turned with it.

What a kernel does to a connection (coalesced segments, full buffers, resets) cannot be had in memory. Here client and
server are on loopback in one thread, and nothing sleeps: the reactor is turned until nothing moves any more, and
time passes only when the test says so.

`twisted.internet.testing.MemoryReactorClock` records that somebody listens or connects, and does neither.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
from typing import Any, Protocol

from twisted.internet.pollreactor import PollReactor

from echosvc.testing._check import positive, raw
from echosvc.transports.linux import LINUX

__all__ = ["LoopbackReactor", "SocketClient", "SocketLike", "narrow_socket"]

#: Turns without rest after which something is wrong: a descriptor is always ready, and nobody ever serves it. Enough for
#: 600 MB, 64 KiB at a time.
_RESTLESS = 10_000

#: What a narrow socket asks for; the kernel doubles it.
_ROOM = 8192

#: The most bytes that a client takes at once.
_READ = 256 * 1024


class LoopbackReactor(PollReactor):
    """A Twisted reactor for loopback sockets that only a test turns, and whose time is the test's.

    It is a whole reactor (``listenTCP``, ``listenUNIX``, ``listenUDP``, endpoints …), but it is not installed, handles no
    signals and is never run. Close it at the end of the test: ``self.addCleanup(reactor.close)``.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._served = 0
        super().__init__()

    def seconds(self) -> float:
        """Return the time, in seconds since the reactor was made."""
        return self._now

    def turn(self, wait: float = 0.0) -> bool:
        """Do once what is due, and serve once what is ready.

        Args:
            wait: The most seconds, of the machine's own clock, to wait for something to be ready. The kernel rarely
                needs any for loopback.

        Returns:
            Whether there was anything to do.
        """
        due = bool(self.threadCallQueue) or any(
            call.getTime() <= self._now for call in self.getDelayedCalls()
        )
        self._served = 0
        self.runUntilCurrent()
        self.doIteration(wait)
        return due or self._served > 0

    def settle(self) -> bool:
        """Turn until nothing moves any more.

        Returns:
            Whether anything did.

        Raises:
            RuntimeError: Something moves for ever.
        """
        for turns in range(_RESTLESS):
            if not self.turn():
                return turns > 0
        raise RuntimeError(
            f"the reactor is still busy after {_RESTLESS} turns: something is always ready and never served, or calls "
            f"itself again and again with callLater(0, …)"
        )

    def advance(self, seconds: float) -> None:
        """Let time pass, and turn until nothing moves any more.

        Args:
            seconds: How much. Timed calls that are due see it all passed, as after a long turn.

        Raises:
            RuntimeError: Something moves for ever.
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time does not pass backwards: advance({seconds})")
        self._now += seconds
        self.settle()

    def close(self) -> None:
        """Close every port and connection, cancel every timed call, and free the reactor's own descriptors."""
        self.turn()  # a port that was told to stop does so in the next turn
        for reader in list(self._internalReaders):
            self._removeInternalReader(reader)
            reader.connectionLost(None)
        self.waker = None
        self.disconnectAll()
        for call in self.getDelayedCalls():
            call.cancel()

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        self._served += 1
        super()._doReadOrWrite(selectable, fd, event)


def narrow_socket(address: tuple[str, int] | str) -> socket.socket:
    """Connect to a listener on this machine, with as little room on the way as the kernel allows.

    A server's queue then fills after some 300 KB. It takes 8 MB by default, where short segments, which let the kernel
    think that little is on the way, and small buffers make the difference. Over IPv4 on Linux the connection comes from an
    address in 127/8 of its own: the kernel remembers how earlier connections between two addresses fared (tcp_metrics), and
    gives more room from the start where it saw segments overtake each other (1.5 MB was seen, in place of 120 KB).

    Args:
        address: An IP address and port, or the path of a UNIX socket.

    Returns:
        The connected socket, blocking.

    Raises:
        OSError: Nobody listens there.
    """
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        # The least that everybody must take (RFC 1122, 4.2.2.6).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _ROOM)
    try:
        if LINUX and address[0] == "127.0.0.1":
            own = secrets.token_bytes(2)
            sock.bind((f"127.{own[0] % 254 + 1}.{own[1]}.1", 0))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


class SocketLike(Protocol):
    """What `SocketClient` needs of a socket: a `socket.socket`, or something that speaks TLS through one.

    ``send`` and ``recv`` raise BlockingIOError when they would have to wait, once ``setblocking(False)`` was called.
    """

    def send(self, data: memoryview, /) -> int:
        """Send some bytes, and return how many."""

    def recv(self, size: int, /) -> bytes:
        """Receive at most so many bytes; none if there will be no more."""

    def shutdown(self, how: int, /) -> None:
        """Say that no more will be sent (``socket.SHUT_WR``)."""

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001  # the socket module's
        """Choose whether to wait."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """Set an option of the socket."""

    def close(self) -> None:
        """Close the socket."""


class SocketClient:
    """A client on a real socket, which does what `MemoryClient` does.

    Everything that can happen has happened when a method returns: the reactor is turned until nothing moves.

    Args:
        sock: A connected socket. The client owns it from now on and makes it non-blocking.
        reactor: Serves the other end.
    """

    def __init__(self, sock: SocketLike, reactor: LoopbackReactor) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._reactor = reactor
        self._outgoing = memoryview(b"")
        self._eof = self._eof_sent = False
        self._finished = self._reset = self._gone = False
        self._move()

    def send(self, data: bytes) -> None:
        """Send; what the kernel does not take waits.

        Args:
            data: What to send.

        Raises:
            TypeError: It is not bytes.
            ValueError: The client has finished or aborted.
        """
        raw("send()", data)
        self._must_be_open("send")
        self._outgoing = memoryview(b"".join((self._outgoing, data)))
        self._move()

    def send_eof(self) -> None:
        """Say, after what waits, that the client will send no more (FIN). It still receives.

        Raises:
            ValueError: The client has finished or aborted.
        """
        self._must_be_open("send_eof")
        self._eof = True
        self._move()

    def receive(self, limit: int | None = None) -> bytes:
        """Take what has arrived.

        Args:
            limit: The most bytes to take; None for 256 KiB.

        Returns:
            What has arrived; empty if nothing has. `is_finished` tells whether more can come.

        Raises:
            ValueError: `limit` is not positive.
        """
        if limit is not None:
            positive("limit", limit)
        self._move()
        data = self._read(limit or _READ)
        while (
            self._move() and not data
        ):  # TLS has read a part of a record, perhaps, and so made room for the rest
            data = self._read(limit or _READ)
        return data

    def abort(self) -> None:
        """Reset the connection (RST), as a client that crashes does. Does nothing a second time."""
        if self._gone:
            return
        self._gone = self._finished = True
        self._outgoing = memoryview(b"")
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        self._reactor.settle()

    @property
    def waiting(self) -> int:
        """How many bytes were sent that the kernel has not taken, because the server does not read."""
        self._move()
        return len(self._outgoing)

    @property
    def is_finished(self) -> bool:
        """Whether everything was received, and the server has closed at least its own direction."""
        return self._finished

    @property
    def is_reset(self) -> bool:
        """Whether the server has reset the connection."""
        return self._reset

    def _move(self) -> bool:
        """Send what waits, and turn the reactor, until nothing moves; say whether anything did."""
        moved = self._reactor.settle()
        while self._flush():
            moved = True
            self._reactor.settle()
        return moved

    def _flush(self) -> bool:
        """Send some of what waits; say whether anything was sent."""
        if self._gone:
            return False
        try:
            if self._outgoing:
                self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
                return True
            if self._eof and not self._eof_sent:
                self._socket.shutdown(socket.SHUT_WR)
                self._eof_sent = True
                return True
        except BlockingIOError:
            pass
        except OSError:  # the server has closed: what is sent to it is lost
            self._outgoing = memoryview(b"")
            self._eof_sent = self._reset = True
        return False

    def _read(self, size: int) -> bytes:
        if self._finished:
            return b""
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return b""
        except OSError:
            self._reset = self._finished = True
            return b""
        self._finished = not data
        return data

    def _must_be_open(self, what: str) -> None:
        if self._gone:
            raise ValueError(f"{what}() after abort(): this client is gone; connect another one")
        if self._eof:
            raise ValueError(f"{what}() after send_eof(): this client has finished; connect another one")
