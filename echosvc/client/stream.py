"""Echo over a stream (TCP, or anything Twisted makes look like it), every byte checked.

Bytes come back in the order they were sent, in whatever pieces the network likes. Each call of
`EchoClient.echo` is one stretch of that stream; what arrives is compared with what was sent where it
arrived, in place, so that a 64 MiB echo in one-byte pieces costs time and memory in proportion to its size.
"""

from __future__ import annotations

from collections import deque

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from echosvc.client._compare import common_prefix
from echosvc.client._words import how_it_ended
from echosvc.errors import EchoLost, EchoMismatch

__all__ = ["EchoClient", "EchoClientFactory"]


@attrs.define(eq=False)
class _Call:
    """One `echo` whose bytes are not all back yet."""

    data: bytes
    answered: Deferred[bytes]
    back: int = 0  # how many of its bytes came back


class EchoClient(Protocol):
    """Sends bytes and promises that the same bytes come back.

    The connection is deliberately not its own producer, as a server's is: a client that stops reading while
    its own sending is held up waits for a server that waits for it.

    Attributes:
        verified: How many bytes of this connection came back right so far.
        problem: The wrong bytes that ended the connection, or None. Kept because bytes that nobody asked for
            may arrive when nobody waits.
    """

    transport: ITCPTransport

    def __init__(self) -> None:
        self.verified = 0
        self.problem: EchoMismatch | None = None
        self._calls: deque[_Call] = deque()
        self._closed: str | None = None  # why nothing can be sent any more
        self._gone: str | None = None  # why there is no connection any more
        self._waiting_for_end: list[Deferred[str]] = []

    def connectionMade(self) -> None:
        """Send small messages at once, not when the one before is acknowledged (Nagle, RFC 896)."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    def echo(self, data: bytes | bytearray | memoryview) -> Deferred[bytes]:
        """Send bytes, and wait until the same bytes came back.

        Calls may be made without waiting for earlier ones; they are answered in order. Cancelling the
        Deferred only ends the waiting: the bytes are still sent and still compared.

        Args:
            data: What to send. It may be changed afterwards: what counts is what it was now.

        Returns:
            Fires with the bytes, at once if there are none. Fails with `EchoMismatch` when a wrong byte
            arrives on the connection (which is then aborted), or with `EchoLost` when it ends first or has
            ended.
        """
        sent = bytes(data)
        if self._closed is not None:
            return fail(EchoLost(len(sent), self._closed))
        if not sent:
            return succeed(sent)
        call = _Call(sent, Deferred())
        self._calls.append(call)
        self.transport.write(sent)
        return call.answered

    def close(self) -> Deferred[None]:
        """End the connection once everything has come back.

        Our direction is closed at once (half-close), so the server sees the end of what it has to answer.
        The other direction stays open until the last byte is back. `echo` fails from now on.

        Returns:
            Fires when the connection is gone, however that came about. Cancel it to stop waiting for what
            is outstanding: the connection is aborted then.
        """
        if self._closed is None:
            self._closed = "the connection was closed here"
            self.transport.loseWriteConnection()
            self._finish_closing()
        return self.when_gone().addCallback(lambda _: None)

    def when_gone(self) -> Deferred[str]:
        """Wait for the end of the connection.

        Returns:
            Fires with what ended it, in words. Cancelling it aborts the connection.
        """
        if self._gone is not None:
            return succeed(self._gone)
        waiting: Deferred[str] = Deferred(self._stop_waiting)
        self._waiting_for_end.append(waiting)
        return waiting

    def dataReceived(self, data: bytes) -> None:
        """Compare what came with what was sent, and answer every call that is now complete."""
        received = memoryview(data)
        while received and self.problem is None:
            if not self._calls:
                self._mismatch(b"", received)
                return
            call = self._calls[0]
            window = received[: len(call.data) - call.back]
            right = common_prefix(call.data, call.back, window)
            call.back += right
            self.verified += right
            if right < len(window):
                self._mismatch(call.data[call.back : call.back + EchoMismatch.KEPT], received[right:])
                return
            received = received[right:]
            if call.back == len(call.data):
                self._calls.popleft()
                call.answered.callback(call.data)  # may call echo() or close()
        self._finish_closing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail every call that is still waiting, each with the count of its own missing bytes."""
        gone = how_it_ended(reason) if self.problem is None else str(self.problem)
        self._gone = gone
        self._closed = self._closed or gone
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.answered.errback(EchoLost(len(call.data) - call.back, gone))
        waiting, self._waiting_for_end = self._waiting_for_end, []
        for each in waiting:
            each.callback(gone)

    def _mismatch(self, expected: bytes, received: memoryview) -> None:
        self.problem = EchoMismatch(self.verified, expected, bytes(received[: EchoMismatch.KEPT]))
        self._closed = str(self.problem)
        self.transport.abortConnection()
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.answered.errback(self.problem)

    def _finish_closing(self) -> None:
        """Close the other direction too, once `close` was called and everything is back."""
        if self._closed and not self._calls and self.problem is None and self._gone is None:
            self.transport.loseConnection()

    def _stop_waiting(self, waiting: Deferred[str]) -> None:
        self._waiting_for_end.remove(waiting)
        self.transport.abortConnection()


class EchoClientFactory(ClientFactory):
    """Builds one `EchoClient` for each connection."""

    protocol = EchoClient
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> EchoClient:
        """Build the client of a connection that was just made."""
        client = EchoClient()
        client.factory = self
        return client
