"""Tests of the connecting side: whose connections are direct."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.client import StreamClient, direct
from tests.doubles import FakeReactor
from tests.waiting import until


class Greeting(Protocol):
    """Says something as soon as it is connected, and ends when it is answered."""

    def connectionMade(self) -> None:
        """Greet."""
        transport: Any = self.transport
        transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        """End."""
        transport: Any = self.transport
        transport.loseConnection()


class DirectTests(SynchronousTestCase):
    """A reactor that is given to an endpoint of Twisted's."""

    def test_a_double_is_left_alone(self) -> None:
        """A test that records who connects goes on to do so."""
        reactor = FakeReactor()

        self.assertIs(direct(reactor), reactor)

    def test_connects_directly(self) -> None:
        """Connections are ours; time, names and all else are the reactor's."""
        reactor: Any = SelectReactor()
        self.addCleanup(self.close, reactor)
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        factory: Any = ClientFactory.forProtocol(Greeting)
        factory.noisy = False
        ours = direct(reactor)
        connector = ours.connectTCP(*listener.getsockname(), factory)
        self.assertTrue(IReactorPluggableNameResolver.providedBy(ours))
        self.assertIs(ours.nameResolver, reactor.nameResolver)
        self.assertIsInstance(connector.transport, StreamClient)
        for _ in until(lambda: connector.state == "connected"):
            reactor.iterate(0.01)
        peer, _ = listener.accept()
        self.addCleanup(peer.close)
        for _ in until(lambda: select.select([peer], [], [], 0)[0]):
            reactor.iterate(0.01)
        peer.send(peer.recv(100))
        for _ in until(lambda: connector.state != "connected"):
            reactor.iterate(0.01)

        self.assertEqual(connector.state, "disconnected")

    def close(self, reactor: Any) -> None:
        """Close what a reactor keeps for itself."""
        for each in reactor.removeAll():
            each.connectionLost(None)
