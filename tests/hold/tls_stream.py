"""TLS on the client's side, as a socket has it: half-close and close_notify included. Nothing here is Twisted, or ours.

`ssl.SSLSocket` cannot end one direction: its `shutdown` forgets TLS, and its `unwrap` reads what the other side still sends.
So TLS is done in memory, and a socket carries what comes of it. Needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
import ssl
import threading
from typing import Self, TypeAlias

__all__ = ["LEAST", "RECORD", "Bytes", "TLSStream", "client_context"]

Bytes: TypeAlias = bytes | bytearray | memoryview

#: The most that one record carries (RFC 8446 section 5.1), and how much is encrypted at once.
RECORD = 2**14
_PIECE = 4 * RECORD

#: Bytes that a caller that polls asks for at least: what came is then all decrypted and handed out. No poll tells of what is not.
LEAST = 4 * RECORD

#: The most that a record takes on the wire; so much of one may have come before.
_ON_THE_WIRE = RECORD + 2**9


@functools.cache
def client_context() -> ssl.SSLContext:
    """Settings of a client that believes any certificate: those of the promises are made for one run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TLSStream:
    """One connection. One thread may send while another receives.

    Args:
        sock: A connected socket that blocks; it is closed with this.
        context: Settings; those of `client_context` if None.

    Attributes:
        sock: As given. What is done to it passes by TLS.
        tls: Encrypts and decrypts. What is done to it passes by the socket.
        received: Bytes that have come, as they were on the wire.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None = None) -> None:
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context()).wrap_bio(self._in, self._out)
        self.received = 0
        self._lock = threading.Lock()  # OpenSSL serves one thread at a time
        self._unsent = memoryview(b"")
        self._taken = 0  # bytes of a caller's that `_unsent` carries
        self._early = bytearray()  # decrypted, and not asked for yet
        self._ended = False

    def handshake(self) -> Self:
        """Make it, and return this.

        Raises:
            OSError: It failed.
        """
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.take())
                self._feed(_PIECE)
        self.sock.sendall(self.take())
        return self

    def take(self) -> bytes:
        """Take what OpenSSL has to send, in place of the socket."""
        return self._out.read()

    # -- as a socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, without close_notify."""
        self.sock.close()

    def fileno(self) -> int:
        """The number of the socket's descriptor."""
        return self.sock.fileno()

    def getsockname(self) -> tuple[str, int]:
        """The address of the socket."""
        name: tuple[str, int] = self.sock.getsockname()
        return name

    def settimeout(self, seconds: float | None) -> None:
        """Wait for so long at most."""
        self.sock.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  # as a socket has it
        """Wait, or do not."""
        self.sock.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket."""
        self.sock.setsockopt(level, option, value)

    def send(self, data: Bytes) -> int:
        """Send some of it, at most four records.

        Returns:
            How many bytes were taken.

        Raises:
            BlockingIOError: Nothing was taken, or only in part: the next call must begin with the same bytes.
        """
        if not self._unsent:
            with self._lock:
                self._taken = self.tls.write(memoryview(data)[:_PIECE])
                self._unsent = memoryview(self.take())
        while self._unsent:
            self._unsent = self._unsent[self.sock.send(self._unsent) :]
        return self._taken

    def sendall(self, data: Bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest) :]

    def recv(self, size: int) -> bytes:
        """Receive at most so many bytes; none if the peer has ended its direction with close_notify.

        Raises:
            ConnectionError: It ended without.
        """
        while True:
            with self._lock:
                if came := self._decrypt(size):
                    return came
                if self._ended:
                    return b""
            self._feed(max(LEAST, size) - _ON_THE_WIRE)

    def recv_into(self, room: memoryview) -> int:
        """Receive as many bytes as there is room for."""
        came = self.recv(len(room))
        room[: len(came)] = came
        return len(came)

    def shutdown(self, how: int) -> None:
        """End our direction with close_notify and FIN, and go on receiving; with FIN alone if there is no room for more.

        Args:
            how: SHUT_WR; nothing else makes sense.
        """
        assert how == socket.SHUT_WR
        with self._lock:
            self._early += self._decrypt(2**30)  # OpenSSL would take it for an answer to close_notify
            if not self._ended:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self.tls.unwrap()
            last = bytes(self._unsent) + self.take()
        with contextlib.suppress(BlockingIOError, TimeoutError):
            self.sock.sendall(last)
        self.sock.shutdown(socket.SHUT_WR)

    def _feed(self, most: int) -> None:
        data = self.sock.recv(most)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "ended without close_notify")
        self.received += len(data)
        with self._lock:
            self._in.write(data)

    def _decrypt(self, size: int) -> bytes:
        """Take at most so many bytes of what has come. The lock is held."""
        came, self._early = self._early[:size], self._early[size:]
        try:
            while len(came) < size and not self._ended:
                if piece := self.tls.read(min(RECORD, size - len(came))):
                    came += piece
                else:
                    self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # what it says when our own direction has ended, too
            self._ended = True
        return bytes(came)
