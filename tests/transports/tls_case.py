"""A TLS connection in memory, between the standard library's client and our server."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from echosvc.protocols import EchoFactory
from echosvc.transports.handshakes import Handshakes
from echosvc.transports.tls import TLSFactory
from echosvc.transports.tls_handshake import HandshakeSettings
from echosvc.transports.turns import Turns
from tests.certificates import Authority, folder_for
from tests.transports.tls_peer import Client, client_context, server_context

PEER = IPv4Address("TCP", "192.0.2.1", 1025)

DONE = Failure(ConnectionDone())


class Wire(StringTransport):
    """A transport in memory that can be half-closed; remembers how it was closed, and how often it was written to."""

    half_closed = False
    aborted = False
    held = 0
    peer_ended = False
    writes = 0
    why: str | None = None

    def write(self, data: bytes) -> None:
        """Remember."""
        assert not (self.disconnecting or self.half_closed or self.aborted)
        self.writes += 1
        super().write(data)

    def loseWriteConnection(self) -> None:
        """Remember."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """Remember."""
        self.aborted = True

    def take(self) -> bytes:
        """Return what was written since this was last asked."""
        data: bytes = self.value()
        self.clear()
        return data


class Plain(Protocol):
    """Remembers what happens to it, and does what a test wants when data comes."""

    transport: Any

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.on_data: Callable[[bytes], object] = lambda _: None

    def connectionMade(self) -> None:
        """Remember."""
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        """Remember, and do it."""
        self.events.append(data)
        self.on_data(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Remember."""
        self.events.append(reason.type)


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class HalfCloseable(Plain):
    """Knows that each direction may end by itself, and that TLS has a handshake."""

    def handshakeCompleted(self) -> None:
        """Remember."""
        self.events.append("shaken")

    def readConnectionLost(self) -> None:
        """Remember."""
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        """Remember."""
        self.events.append("write lost")


class PlainFactory(Factory[Plain]):
    """Builds one kind of protocol, and remembers what it has built and for whom."""

    def __init__(self, kind: type[Plain] = HalfCloseable) -> None:
        self.kind = kind
        self.built: list[Plain] = []
        self.addresses: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Plain:
        """Build one."""
        self.built.append(self.kind())
        self.addresses.append(addr)
        return self.built[-1]


class Producer:
    """Remembers what it is asked for.

    Args:
        resume: Called when it is asked for more.
    """

    def __init__(self, resume: Callable[[], object] = lambda: None) -> None:
        self.asked: list[str] = []
        self._resume = resume

    def resumeProducing(self) -> None:
        """Remember, and do it."""
        self.asked.append("resume")
        self._resume()

    def pauseProducing(self) -> None:
        """Remember."""
        self.asked.append("pause")

    def stopProducing(self) -> None:
        """Remember."""
        self.asked.append("stop")


class TLSCase(SynchronousTestCase):
    """Connects a client and a server in memory."""

    def setUp(self) -> None:
        """Make certificates."""
        self.folder = folder_for(self)
        self.authority = Authority()
        cert, key = self.authority.issue("localhost").write(self.folder)
        self.context = server_context(cert, key)
        self.handshakes = Handshakes()
        self.required: tuple[bytes, ...] = ()
        self.clock = Clock()
        self.refused: Counter[str] = Counter()
        self.wire = Wire()

    def serve(self, inner: Any) -> None:
        """Begin the server's side."""
        self.factory = TLSFactory(
            inner,
            HandshakeSettings(
                context=lambda _: self.context, required=self.required, unfinished=self.handshakes
            ),
            self.clock,
            refused=self.refused,
            turns=Turns(self.clock, seconds=self.clock.seconds),  # no time passes, unless a test says so
        )
        self.server = self.factory.buildProtocol(PEER)
        self.server.makeConnection(self.wire)

    def turn(self, step: int = 1 << 20) -> None:
        """Carry bytes both ways until there are none, some at a time."""
        for _ in range(20):
            sent = self.client.give()
            for start in range(0, len(sent), step):
                self.server.dataReceived(sent[start : start + step])
            self.client.take(self.wire.take())

    def connect(
        self, inner: Any = None, version: ssl.TLSVersion | None = None, *, shake: bool = True
    ) -> Client:
        """Connect a client to a factory's protocol."""
        self.serve(inner or EchoFactory())
        self.client = Client(client_context(self.authority, version))
        self.client.take()
        if shake:
            self.turn()
        return self.client

    def connect_plain(
        self, kind: type[Plain] = HalfCloseable, version: ssl.TLSVersion | None = None
    ) -> Plain:
        """Connect a client to a protocol that remembers; return that one."""
        factory = PlainFactory(kind)
        self.connect(factory, version)
        (protocol,) = factory.built
        return protocol
