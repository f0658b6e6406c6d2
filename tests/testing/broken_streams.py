"""Protocols on streams that are wrong, each in one way that has been seen in the wild; and some that look wrong and are not."""

from __future__ import annotations

import codecs
import sys
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from echosvc.protocols import Echo
from echosvc.protocols.chargen import Chargen
from tests.waiting import until

__all__ = [
    "Asking",
    "Chatty",
    "Decoding",
    "Delaying",
    "DroppingAtTheEnd",
    "Finishing",
    "Hoarding",
    "Impatient",
    "LeavingTimers",
    "LeavingTimersElsewhere",
    "LineCutting",
    "LoneBytes",
    "NeverClosing",
    "NeverResuming",
    "RaisingWhenLost",
    "Rushing",
    "Sharing",
    "Stripping",
    "Stumbling",
    "WaitingForTheClient",
    "WaitingForTheEnd",
    "factory_of",
]


class LineCutting(Echo):
    """Makes one character of CR LF, but only if both arrive together."""

    def dataReceived(self, data: bytes) -> None:
        """Answer each segment by itself."""
        self.transport.write(data.replace(b"\r\n", b"\n"))


class LoneBytes(Echo):
    """Takes a byte that arrives alone for a sign of life."""

    def dataReceived(self, data: bytes) -> None:
        """Answer all others."""
        if len(data) > 1:
            self.transport.write(data)


class DroppingAtTheEnd(Protocol):
    """Does not know half-close: what is queued at the end of the input is lost."""

    transport: Any

    def connectionMade(self) -> None:
        """Be bounded, at least."""
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Echo."""
        self.transport.write(data)


class NeverClosing(Echo):
    """Waits for more when a client has finished."""

    def readConnectionLost(self) -> None:
        """Do not close."""


class Asking(Echo):
    """Asks back if a client finishes without a word."""

    spoken = False

    def dataReceived(self, data: bytes) -> None:
        """Remember."""
        self.spoken = True
        super().dataReceived(data)

    def readConnectionLost(self) -> None:
        """Ask, perhaps, and close."""
        if not self.spoken:
            self.transport.write(b"?")
        super().readConnectionLost()


class LeavingTimers(Echo):
    """Cancels its timer when a client finishes in good order, and only then."""

    def connectionMade(self) -> None:
        """Start it."""
        super().connectionMade()
        self.timer = self.clock.callLater(1000, self.transport.loseConnection)

    @property
    def clock(self) -> IReactorTime:
        """Where timers belong."""
        clock: IReactorTime = self.transport.reactor
        return clock

    def readConnectionLost(self) -> None:
        """Cancel it."""
        self.timer.cancel()
        super().readConnectionLost()


class LeavingTimersElsewhere(LeavingTimers):
    """The same on the installed reactor, which a fake clock does not see."""

    @property
    def clock(self) -> IReactorTime:
        """Where timers are not the transport's."""
        clock: IReactorTime = sys.modules["twisted.internet.reactor"]  # type: ignore[assignment]
        return clock


class RaisingWhenLost(Echo):
    """Takes every end for an orderly one."""

    finished = False

    def readConnectionLost(self) -> None:
        """Remember."""
        self.finished = True
        super().readConnectionLost()

    def connectionLost(self, reason: Any = None) -> None:
        """Insist on it."""
        if not self.finished:
            raise RuntimeError("the client has gone without a word")


@implementer(IHalfCloseableProtocol)
class Hoarding(Protocol):
    """Has no producer: everything that nobody reads is in memory."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Echo."""
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """Close."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing to do."""


class WaitingForTheEnd(Hoarding):
    """Keeps everything until the client has finished: not in the transport's queue, but in memory all the same."""

    def connectionMade(self) -> None:
        """Begin."""
        self.kept = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Keep."""
        self.kept += data

    def readConnectionLost(self) -> None:
        """Answer, and close."""
        self.transport.write(bytes(self.kept))
        self.transport.loseConnection()


class NeverResuming(Echo):
    """Stops reading when it is told to, and never starts again."""

    def connectionMade(self) -> None:
        """Register."""
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """Stop."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Forget."""

    def stopProducing(self) -> None:
        """Nothing to do."""


class Impatient(Echo):
    """Gives a client half a minute in all, however busy it is."""

    def connectionMade(self) -> None:
        """Begin to count."""
        super().connectionMade()
        self.timer = self.transport.reactor.callLater(30, self.transport.abortConnection)

    def connectionLost(self, reason: Any = None) -> None:
        """Stop."""
        if self.timer.active():
            self.timer.cancel()


class Sharing(Echo):
    """Keeps the beginning of a line where all its siblings keep theirs."""

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        """Answer whole lines."""
        shared = vars(self.factory).setdefault("line", bytearray())
        shared += data
        if end := shared.rfind(b"\n") + 1:
            self.transport.write(bytes(shared[:end]))
            del shared[:end]

    def readConnectionLost(self) -> None:
        """Answer what is left."""
        self.transport.write(bytes(vars(self.factory).pop("line", b"")))
        super().readConnectionLost()


class Decoding(Echo):
    """Believes that everybody speaks UTF-8."""

    def connectionMade(self) -> None:
        """Begin."""
        super().connectionMade()
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def dataReceived(self, data: bytes) -> None:
        """Believe."""
        self.transport.write(self.decoder.decode(data).encode())


class Stripping(Echo):
    """Keeps the last of all bytes for itself."""

    def dataReceived(self, data: bytes) -> None:
        """Answer the others."""
        self.transport.write(data.replace(b"\xff", b""))


class WaitingForTheClient(Hoarding):
    """Says one thing, closes its own direction, and waits for ever that the client does the same."""

    def connectionMade(self) -> None:
        """Say it."""
        self.transport.write(b"one thing")
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Throw it away."""


class Rushing(Protocol):
    """Chargen that writes and writes."""

    transport: Any

    def connectionMade(self) -> None:
        """Write without end."""
        for _ in until(lambda: False):
            self.transport.write(b"x" * 1000)


class Finishing(Chargen):
    """Chargen that takes the end of the input for the end. That is all right."""

    def readConnectionLost(self) -> None:
        """Close."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()


@implementer(IHalfCloseableProtocol)
class Chatty(Protocol):
    """Chargen that writes a line each turn, whether or not anybody reads."""

    transport: Any
    due: IDelayedCall

    def connectionMade(self) -> None:
        """Write a line, and come back."""
        self.transport.write(b"x" * 100)
        self.due = self.transport.reactor.callLater(0, self.connectionMade)

    def readConnectionLost(self) -> None:
        """Go on."""

    def writeConnectionLost(self) -> None:
        """Nothing to do."""

    def connectionLost(self, reason: Any = None) -> None:
        """Stop."""
        self.due.cancel()


class Stumbling(Echo):
    """Does something later, and is not there any more."""

    def connectionMade(self) -> None:
        """Begin."""
        super().connectionMade()
        self.transport.reactor.callLater(0, self.stumble)

    def stumble(self) -> None:
        """Do it."""
        raise RuntimeError("too late")


@implementer(IHalfCloseableProtocol)
class Delaying(Protocol):
    """An echo that thinks for a second, reads nothing meanwhile, and is otherwise all right."""

    transport: Any
    due: IDelayedCall | None = None
    finished = False

    def dataReceived(self, data: bytes) -> None:
        """Think."""
        self.transport.pauseProducing()
        self.due = self.transport.reactor.callLater(1, self.answer, data)

    def answer(self, data: bytes) -> None:
        """Answer."""
        self.due = None
        self.transport.write(data)
        self.transport.resumeProducing()

    def readConnectionLost(self) -> None:
        """Close."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing to do."""

    def connectionLost(self, reason: Any = None) -> None:
        """Think no more."""
        if self.due is not None:
            self.due.cancel()


def factory_of(protocol: type[Protocol]) -> Factory[Any]:
    """Build a quiet factory."""
    factory: Factory[Any] = Factory.forProtocol(protocol)
    factory.noisy = False
    return factory
