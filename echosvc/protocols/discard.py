"""Discard (RFC 863): what comes in is thrown away, and nothing is ever answered.

Plain Twisted classes that also run without the rest of echosvc:

    endpoint.listen(DiscardFactory())
    reactor.listenUDP(8009, DatagramDiscard(), maxPacketSize=65535)
"""

from __future__ import annotations

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from echosvc.protocols.wire import WireProtocol
from echosvc.transports import DatagramBatch, IDatagramBatchProtocol

__all__ = ["DISCARD", "DatagramDiscard", "Discard", "DiscardFactory"]


class Discard(Protocol):
    """Throw everything away until the peer closes (RFC 863).

    A peer that closes only its own direction has finished: there is nothing that it could wait for. That is what
    Twisted makes of a protocol that does not provide `IHalfCloseableProtocol`.
    """

    def dataReceived(self, data: bytes) -> None:
        """Throw it away."""


class DiscardFactory(Factory[Discard]):
    """Builds one `Discard` for each connection."""

    protocol = Discard
    noisy = False


@implementer(IDatagramBatchProtocol)
class DatagramDiscard(DatagramProtocol):
    """Throw every datagram away (RFC 863)."""

    noisy = False

    def batch_received(self, batch: DatagramBatch) -> None:
        """Throw all of it away, without looking."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Throw it away."""


DISCARD = WireProtocol(
    name="discard",
    rfc="RFC 863",
    summary="throws away what it receives, and never answers",
    stream=DiscardFactory,
    datagram=DatagramDiscard,
)
