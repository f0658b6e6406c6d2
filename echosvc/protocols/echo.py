"""Echo (RFC 862): what comes in goes out.

Plain Twisted classes that also run without the rest of echosvc:

    endpoint.listen(EchoFactory())
    reactor.listenUDP(8007, DatagramEcho(), maxPacketSize=65535)
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from echosvc.protocols.wire import WireProtocol
from echosvc.transports import DatagramBatch, IDatagramBatchProtocol

__all__ = ["ECHO", "DatagramEcho", "Echo", "EchoFactory"]


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Send everything back, in order, until the peer has said that it will send no more (RFC 862)."""

    transport: Any  # an ITCPTransport that is an IConsumer too, as Twisted's stream transports are

    def connectionMade(self) -> None:
        """Read only as fast as the peer reads.

        The connection is its own producer: while more than 64 KiB wait to be sent, nothing is read. A
        client that sends and never reads thus stops itself, where a bare echo took 1 GB in 2 seconds.
        """
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Send back what came."""
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """Finish: the peer will send no more, but everything it sent must still reach it.

        Without `IHalfCloseableProtocol` Twisted drops what is queued at this point, and a
        ``printf hello | nc -N`` is answered one time in 200. The producer goes first: a connection whose
        producer is paused never closes.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing to do: we never close only our own direction."""


class EchoFactory(Factory[Echo]):
    """Builds one `Echo` for each connection."""

    protocol = Echo
    noisy = False


@implementer(IDatagramBatchProtocol)
class DatagramEcho(DatagramProtocol):
    """Send every datagram back to where it came from, the empty one too (RFC 862)."""

    transport: IUDPTransport
    noisy = False

    def batch_received(self, batch: DatagramBatch) -> None:
        """Send back what came, all of it at once."""
        batch.send_back()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send back what came."""
        self.transport.write(datagram, addr)


ECHO = WireProtocol(
    name="echo",
    rfc="RFC 862",
    summary="sends back what it receives",
    stream=EchoFactory,
    datagram=DatagramEcho,
)
