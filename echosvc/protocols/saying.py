"""Saying one thing: what qotd (RFC 865), daytime (RFC 867) and time (RFC 868) have in common.

A connection is told one thing and closed, a datagram is answered with one, and what the client sends is thrown away.

Closing is the hard part. A connection that is closed while something it was sent lies unread is reset by the kernel,
and a reset throws away what was said and had not arrived. So only our own direction is closed at first, and input is
thrown away until the client has finished, too, but not for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["DatagramSaying", "Saying", "SayingFactory"]

#: Seconds for which a client's input is thrown away after the last word. A client that closes when it has its answer
#: takes a round trip; two seconds are three of those by satellite.
PATIENCE = 2.0

#: Seconds that closing may take. Over TLS that is the rest of the handshake, what is said, and the client's agreement,
#: some of it perhaps sent again.
CLOSING = 10.0


@implementer(IHalfCloseableProtocol)
class Saying(Protocol):
    """Say one thing, and close when the client has finished, too, or after `PATIENCE` seconds; abort after `CLOSING` more.

    Args:
        words: What to say.
        reactor: Keeps time.
    """

    transport: Any  # an ITransport, and most often an ITCPTransport
    _due: IDelayedCall | None = None

    def __init__(self, words: bytes, reactor: IReactorTime) -> None:
        self._words = words
        self._reactor = reactor

    def connectionMade(self) -> None:
        """Say it, and say no more."""
        self.transport.write(self._words)
        # Asked of the class: Twisted's TLS hands on what it lacks to the TCP connection under it, whose direction
        # would then be closed in the middle of the handshake.
        if hasattr(type(self.transport), "loseWriteConnection"):
            self.transport.loseWriteConnection()
            self._due = self._reactor.callLater(PATIENCE, self._close)
        else:
            self._close()

    def dataReceived(self, data: bytes) -> None:
        """Throw it away."""

    def readConnectionLost(self) -> None:
        """Close: the client has finished. What was said still reaches it."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Wait for the client to finish."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Wait no longer."""
        if self._due is not None and self._due.active():
            self._due.cancel()

    def _close(self) -> None:
        """Close, and abort if it does not end: TLS waits for a client to agree."""
        # First the timer: the connection may be lost, and the timer cancelled, before loseConnection returns.
        self._due = self._reactor.callLater(CLOSING, self.transport.abortConnection)
        self.transport.loseConnection()


class SayingFactory(Factory[Saying]):
    """Builds a `Saying` for each connection.

    Args:
        say: Returns what a connection is told, short enough for one segment. Called when it is made.
        reactor: Keeps time; None for the reactor that is installed when the first connection is made.

    Attributes:
        reactor: As given.
    """

    noisy = False
    protocol = Saying

    def __init__(self, say: Callable[[], bytes], *, reactor: IReactorTime | None = None) -> None:
        self._say = say
        self.reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> Saying:
        """Build one that says what is to be said now."""
        if self.reactor is None:
            # Not before: to import it is to install one, and nobody could choose another any more.
            from twisted.internet import reactor  # noqa: PLC0415

            self.reactor = reactor
        return Saying(self._say(), self.reactor)


class DatagramSaying(DatagramProtocol):
    """Answers each datagram, the empty one too, with one that says the one thing.

    Args:
        say: Returns what a datagram is answered with.
    """

    transport: IUDPTransport
    noisy = False

    def __init__(self, say: Callable[[], bytes]) -> None:
        self._say = say

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer, whatever it says."""
        self.transport.write(self._say(), addr)
