"""TLS through a socket, for a client that never waits."""

from __future__ import annotations

import contextlib
import socket

from tests.transports.tls_peer import Client
from tests.waiting import until

__all__ = ["TLSSocket"]

#: What one record carries.
_RECORD = 1 << 14


class TLSSocket:
    """Speaks TLS through a connected socket, and has what `SocketClient` needs of one.

    Args:
        sock: Connected. It is owned from now on.
        client: Speaks TLS in memory.
    """

    def __init__(self, sock: socket.socket, client: Client) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._client = client
        self._unsent = b""
        self._finished = False
        client.take()
        self._push()

    def send(self, data: memoryview) -> int:
        """Send a record's worth, after the handshake."""
        self._begin()
        piece = bytes(data[:_RECORD])
        self._client.write(piece)
        self._push()
        return len(piece)

    def recv(self, size: int) -> bytes:
        """Receive. A connection that ends without close_notify was cut, and not finished."""
        self._push()
        client = self._client
        for _ in until(lambda: client.heard or client.finished):  # a part of a record is nothing yet
            self._take(size)
        data, client.heard = client.heard[:size], client.heard[size:]
        return data

    def shutdown(self, how: int) -> None:
        """Send close_notify, and close the direction under it."""
        self._begin()
        if not self._finished:
            self._client.finish()
            self._finished = True
            self._push()
        if self._unsent:
            raise BlockingIOError
        self._socket.shutdown(how)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  # the socket module's
        """Never wait, whatever is wanted."""

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Set an option of the socket."""
        self._socket.setsockopt(level, option, value)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _begin(self) -> None:
        """Go on with the handshake, and with what is not sent; there is more to wait for if this raises."""
        if not self._client.shaken:
            self._take(_RECORD)
        self._push()
        if not self._client.shaken or self._unsent:
            raise BlockingIOError

    def _take(self, size: int) -> None:
        data = self._socket.recv(size)
        if not data:
            raise ConnectionResetError("the connection was cut: there was no close_notify")
        self._client.take(data)
        self._push()
        if self._client.error is not None:
            raise ConnectionResetError(str(self._client.error))

    def _push(self) -> None:
        self._unsent += self._client.give()
        with contextlib.suppress(BlockingIOError):
            for _ in until(lambda: not self._unsent):
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
