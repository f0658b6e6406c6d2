"""Chargen (RFC 864): characters without end over a connection, a few of them for each datagram.

Plain Twisted classes that also run without the rest of echosvc:

    endpoint.listen(ChargenFactory())
    reactor.listenUDP(8019, DatagramChargen())
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from echosvc.protocols.wire import WireProtocol

__all__ = ["CHARGEN", "PATTERN", "Chargen", "ChargenFactory", "ChargenOptions", "DatagramChargen"]

#: The ASCII printing characters. Read as a ring, the space follows the tilde.
_RING = bytes(range(0x20, 0x7F))

#: RFC 864's pattern as far as it goes before it repeats: 95 lines of 72 characters. Line N begins with character N.
PATTERN = b"".join((_RING * 2)[line : line + 72] + b"\r\n" for line in range(len(_RING)))

#: What is sent at once: the pattern a whole number of times, so that it is the same object again and again, and no more
#: than Twisted's queues hold (64 KiB). Sending a piece takes some 10 us; then it is everyone else's turn.
_PIECE = PATTERN * (2**16 // len(PATTERN))

#: The most characters in a datagram (RFC 864).
_MOST = 512


@implementer(IHalfCloseableProtocol, IPullProducer)
class Chargen(Protocol):
    """Send the pattern as fast as the peer reads, until the peer ends the connection (RFC 864).

    A pull producer: the transport asks for a piece whenever it has sent the last one, once for each turn of the reactor.
    As a push producer it would have to write until it is paused, which a peer that reads fast enough never lets happen.
    """

    transport: Any  # an ITransport that is an IConsumer too, as Twisted's stream transports are

    def connectionMade(self) -> None:
        """Begin."""
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Send the next piece; none if we are closing, which no transport does before its producer is gone."""
        if self.transport.disconnecting:
            self.transport.unregisterProducer()
        else:
            self.transport.write(_PIECE)

    def stopProducing(self) -> None:
        """Nothing to do: the connection is lost, and the transport asks no more."""

    def dataReceived(self, data: bytes) -> None:
        """Throw it away."""

    def readConnectionLost(self) -> None:
        """Go on: a peer that will send no more (``nc -N host 19 </dev/null``) may read on for ever.

        One that has gone, in good order or not, resets the connection when the next piece arrives. One that is there and
        does not read is the transport's to give up.
        """

    def writeConnectionLost(self) -> None:
        """Nothing to do: we never close only our own direction."""


class ChargenFactory(Factory[Chargen]):
    """Builds one `Chargen` for each connection."""

    protocol = Chargen
    noisy = False


@attrs.frozen(kw_only=True)
class ChargenOptions:
    """What a listener's settings may say of chargen.

    Attributes:
        allow_amplification: UDP: answer with 0 to 512 characters whatever the length of the request, as RFC 864 has it.
            Without it no answer is longer than its request, so that nobody can use us to multiply a forged one: an
            empty request was answered with up to 512 bytes, and chargen has been seen to multiply by 358
            (US-CERT TA14-017A).
    """

    allow_amplification: bool = False


class DatagramChargen(DatagramProtocol):
    """Answer each datagram with one that has a random number of characters, 0 to 512 (RFC 864).

    Args:
        options: Whether an answer may be longer than its request; None for no.
        randint: Returns a random integer from its first argument to its second, both included.
    """

    transport: IUDPTransport
    noisy = False

    def __init__(
        self,
        options: ChargenOptions | None = None,
        *,
        randint: Callable[[int, int], int] = random.randint,
    ) -> None:
        self._amplify = options is not None and options.allow_amplification
        self._randint = randint

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer with the beginning of the pattern."""
        most = _MOST if self._amplify else min(len(datagram), _MOST)
        self.transport.write(PATTERN[: self._randint(0, most)], addr)


CHARGEN = WireProtocol(
    name="chargen",
    rfc="RFC 864",
    summary="sends the printing characters, without end over a stream",
    stream=lambda _: ChargenFactory(),
    datagram=DatagramChargen,
    options=ChargenOptions,
    amplifies=True,
)
