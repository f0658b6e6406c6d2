"""HTTP for a few short answers: one request for each connection, small and soon, or it is closed.

Twisted's `HTTPChannel` understands the requests. What is bounded here: bytes that a client may send, seconds that it has, and
how many clients there are; the oldest makes room for the next, so that clients who hold connections keep no other out. A request
with a body is refused before any of the body is read: Twisted opens a temporary file for one that is chunked or large. Requests
are not logged.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from echosvc.admin.hosts import is_loopback_host
from echosvc.admin.pages import Answer

__all__ = ["AdminFactory"]

#: Connections at once. Half of the descriptors that are kept for other things than clients (`admission.descriptors`).
MOST = 8

#: Seconds that one has in all. Prometheus itself waits no longer than 10 for a scrape.
DEADLINE = 10.0

#: Bytes that a client may send: browsers and Prometheus need less than 1 KiB.
REQUEST = 16 * 1024

_log = Logger(namespace="echosvc")


class _Request(Request):
    """One request."""

    channel: _Channel
    _gone = False

    def process(self) -> None:
        """Answer. Called when all of it is there."""
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if not all(self.channel.factory.answers_to(each.decode("latin-1")) for each in hosts):
            self._send(Answer.text(421, "not this host's; ask for localhost or a loopback address\n"))
            return
        if self.method not in (b"GET", b"HEAD"):
            self.setHeader(b"Allow", b"GET, HEAD")
            self._send(Answer.text(405, "only GET and HEAD\n"))
            return
        accept = b", ".join(self.requestHeaders.getRawHeaders(b"Accept", []))
        answer = maybeDeferred(
            self.channel.factory.answer, self.path.decode("latin-1"), accept.decode("latin-1")
        )
        self.notifyFinish().addErrback(self._lost, answer)
        answer.addCallback(self._send).addErrback(self._failed)

    def _lost(self, _: Failure, answer: Deferred[Any]) -> None:
        self._gone = True
        answer.cancel()

    def _failed(self, failure: Failure) -> None:
        if not self._gone:
            _log.failure("admin: {path} failed", failure=failure, path=self.path)
            self._send(Answer.text(500, "failed; the log says why\n"))

    def _send(self, answer: Answer) -> None:
        self.setResponseCode(answer.code, HTTPStatus(answer.code).phrase.encode())
        self.setHeader(b"Content-Type", answer.kind.encode())
        self.setHeader(b"Content-Length", b"%d" % len(answer.body))
        self.setHeader(b"Cache-Control", b"no-store")
        self.write(answer.body)
        self.finish()


class _Channel(HTTPChannel):
    """One connection."""

    factory: AdminFactory
    transport: Any
    requestFactory = _Request
    timeOut = None  # Twisted's begins anew with each byte
    _room = REQUEST
    _deadline: IDelayedCall

    def connectionMade(self) -> None:
        """Begin to wait for the request."""
        self._deadline = self.factory.clock.callLater(DEADLINE, self.transport.abortConnection)
        self.factory.enter(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take some of the request, unless it is too long."""
        self._room -= len(data)
        if self._room < 0:
            self.transport.abortConnection()
            return
        try:
            super().dataReceived(data)
        except Exception:  # noqa: BLE001  # whatever bytes lead Twisted to: they are the peer's, and no fault of ours
            self._refuse()

    def headerReceived(self, line: bytes) -> bool:
        """Take one header, unless it says that there is a body (RFC 9112, section 6)."""
        name, _, value = line.partition(b":")
        match name.lower():
            case b"transfer-encoding":
                return self._refuse()
            case b"content-length" if value.strip(b" \t") != b"0":
                return self._refuse()
        taken: bool = super().headerReceived(line)
        return taken

    def _refuse(self) -> bool:
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.loseConnection()
        return False

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Close when the request is answered."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Forget it."""
        if self._deadline.active():
            self._deadline.cancel()
        self.factory.leave(self)
        super().connectionLost(reason)


class AdminFactory(Factory):
    """Answers requests.

    Args:
        answer: Finds the answer to a path and what the client can read.
        clock: Keeps the deadlines.
        is_local: Answer only to names and addresses of this machine (`is_loopback_host`), and where a request names no host: a
            browser always does.
    """

    noisy = False
    protocol: Any = _Channel

    def __init__(
        self, answer: Callable[[str, str], Deferred[Answer]], clock: IReactorTime, *, is_local: bool = False
    ) -> None:
        self.answer = answer
        self.clock = clock
        self._is_local = is_local
        self._channels: dict[_Channel, None] = {}  # the oldest first

    def answers_to(self, host: str) -> bool:
        """Whether a request for this host is ours to answer."""
        return not self._is_local or is_loopback_host(host)

    def enter(self, channel: _Channel) -> None:
        """Let a connection in; the oldest makes room."""
        if len(self._channels) == MOST:
            oldest = next(iter(self._channels))
            self.leave(oldest)
            oldest.transport.abortConnection()
        self._channels[channel] = None

    def leave(self, channel: _Channel) -> None:
        """Take notice that a connection has ended, or is about to."""
        self._channels.pop(channel, None)

    def close(self) -> None:
        """End all connections."""
        for channel in list(self._channels):
            channel.transport.abortConnection()

    def log(self, request: Request) -> None:
        """Say nothing of a request that was answered. What Twisted calls."""
