"""A stream of any length through an echo service and back, checked, in bounded memory.

Unlike `EchoClient`, which keeps what was sent until its call is answered, a pipe asks its source for more
only while little is on the way: a window of bytes that were sent and are not back yet, and a transport
that is not held up. What comes back right goes to the sink at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echosvc.client._compare import common_prefix
from echosvc.client._words import how_it_ended
from echosvc.errors import ConnectionEnded, EchoLost, EchoMismatch

__all__ = ["EchoPipe", "Sink", "Source"]

Source: TypeAlias = Callable[[], Deferred[bytes]]
"""Asks for the next piece. Fires with ``b""`` at the end, fails if there is no reading on."""

Sink: TypeAlias = Callable[[bytes], None]
"""Takes what came back right, in order. Whatever it raises ends the pipe."""


@implementer(IPushProducer)
class EchoPipe(Protocol):
    """Sends what a source gives, and gives a sink what comes back right.

    After the source's end our direction is closed (half-close) and the pipe waits for the rest, and for the
    server to close: bytes that nobody asked for may come at the very end. The transport's producer is the
    source's side of the pipe only; reading never stops, for the reason given at `EchoClient`.

    Args:
        source: Where bytes come from.
        sink: Where they go.
        clock: Keeps time.
        patience: Seconds without a single byte coming back, while some are outstanding, after which the pipe
            gives up.

    Attributes:
        done: Fires with the count of bytes when all came back. Fails with `EchoMismatch`; with `EchoLost`
            when the connection ended or `patience` ran out while bytes were outstanding; with
            `ConnectionEnded` when the server closed although none were, before the source's end; or with
            what source or sink raised. Cancelling it aborts the connection.
    """

    #: How many bytes may be on the way: more than any network holds at the speed of this code.
    WINDOW = 4 * 1024 * 1024

    #: What a piece costs beside its bytes, so that a source of single bytes is bounded too.
    PIECE_COST = 128

    #: Seconds for the server to close once everything is back. One that never does is no error.
    GRACE = 1.0

    #: Seconds that `patience` is exceeded by, to read what has come already.
    MOMENT = 0.01

    transport: Any  # an ITCPTransport that is an IConsumer too, as Twisted's stream transports are

    def __init__(self, source: Source, sink: Sink, clock: IReactorTime, *, patience: float) -> None:
        self._source = source
        self._sink = sink
        self._clock = clock
        self._patience = patience
        self.done: Deferred[int] = Deferred(self._cancelled)
        self._pieces: deque[bytes] = deque()  # sent, not back yet
        self._back = 0  # how much of the first piece is back
        self._outstanding = 0
        self._verified = 0
        self._asked = False  # the source owes us a piece
        self._filling = False
        self._held_up = False  # the transport asked us to pause
        self._at_end = False  # the source has no more
        self._finished = False
        self._progress = 0.0  # when something last came back, or was first sent
        self._watch: IDelayedCall | None = None

    # -- sending

    def connectionMade(self) -> None:
        """Start asking the source."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._watch = self._clock.callLater(self._patience, self._check_progress)
        self._fill()

    def pauseProducing(self) -> None:
        """Ask the source for nothing more: the transport is held up."""
        self._held_up = True

    def resumeProducing(self) -> None:
        """Ask the source again."""
        self._held_up = False
        self._fill()

    def stopProducing(self) -> None:
        """Ask the source for nothing more, ever: the connection is going."""
        self._held_up = True

    def _fill(self) -> None:
        if self._filling:  # a source that answers at once is asked again by the loop below, not deeper
            return
        self._filling = True
        while self._has_room():
            self._asked = True
            self._source().addCallback(self._send).addErrback(self._finish)
        self._filling = False

    def _has_room(self) -> bool:
        on_the_way = self._outstanding + self.PIECE_COST * len(self._pieces)
        stopped = self._asked or self._held_up or self._at_end or self._finished
        return not stopped and on_the_way < self.WINDOW

    def _send(self, piece: bytes) -> None:
        self._asked = False
        if self._finished:
            return
        if not piece:
            self._at_end = True
            self.transport.unregisterProducer()  # first: a connection with a paused producer never closes
            self.transport.loseWriteConnection()
            self._close_when_back()
            return
        if not self._outstanding:
            self._progress = self._clock.seconds()
        self._pieces.append(piece)
        self._outstanding += len(piece)
        self.transport.write(piece)
        self._fill()

    # -- receiving

    def dataReceived(self, data: bytes) -> None:
        """Hand on what is right; end at the first wrong byte, with everything before it handed on."""
        if self._finished:
            return
        right = self._match(memoryview(data))
        try:
            if right:
                self._sink(data[:right])
        except Exception:  # noqa: BLE001  # whatever a sink raises is reported to who waits for the pipe
            self._finish(Failure())
            return
        if right < len(data):
            expected = self._pieces[0][self._back :] if self._pieces else b""
            self._finish(Failure(EchoMismatch(self._verified, expected, data[right:])))
            return
        self._progress = self._clock.seconds()  # after the sink, which may have waited for its reader
        self._close_when_back()
        self._fill()

    def _match(self, received: memoryview) -> int:
        """Count how many of these bytes are right, and strike them off."""
        matched = 0
        while matched < len(received) and self._pieces:
            piece = self._pieces[0]
            window = received[matched : matched + len(piece) - self._back]
            right = common_prefix(piece, self._back, window)
            matched += right
            self._back += right
            if self._back == len(piece):
                self._pieces.popleft()
                self._back = 0
            elif right < len(window):
                break
        self._verified += matched
        self._outstanding -= matched
        return matched

    # -- the end

    def _close_when_back(self) -> None:
        if self._at_end and not self._outstanding:
            self._stop_watch()
            self._watch = self._clock.callLater(self.GRACE, self.transport.loseConnection)

    def _check_progress(self, *, sure: bool = False) -> None:
        idle = self._clock.seconds() - self._progress if self._outstanding else 0.0
        if idle < self._patience:
            self._watch = self._clock.callLater(self._patience - idle, self._check_progress)
        elif not sure:
            # A process that was stopped (Ctrl-Z) finds its timers overdue before it has read what came
            # meanwhile: the reactor reads before the next call.
            self._watch = self._clock.callLater(self.MOMENT, self._check_progress, sure=True)
        else:
            why = f"nothing more came back within {self._patience:g} s"
            self._finish(Failure(EchoLost(self._outstanding, why)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report the end, unless it was reported already."""
        if self._outstanding:
            self._finish(Failure(EchoLost(self._outstanding, how_it_ended(reason))))
        elif not self._at_end:
            self._finish(Failure(ConnectionEnded(f"{how_it_ended(reason)} before the end of the input")))
        else:
            self._finish(self._verified)

    def _finish(self, result: Failure | int) -> None:
        if self._finished:
            return
        self._finished = True
        self._stop_watch()
        if isinstance(result, Failure):
            if not self._at_end:
                self.transport.unregisterProducer()
            self.transport.abortConnection()
        self.done.callback(result)

    def _stop_watch(self) -> None:
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._watch = None

    def _cancelled(self, done: Deferred[int]) -> None:
        self._finish(Failure(CancelledError()))
