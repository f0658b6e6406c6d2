"""Tests of the echo protocols, on Twisted's in-memory transports."""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IUDPTransport
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramEcho, Echo, EchoFactory
from tests.doubles import DatagramTransport


class ClosingTransport(StringTransport):
    """A transport that, as Twisted's own, does not close while a paused producer is registered."""

    def loseConnection(self) -> None:
        """Close, unless a producer stands in the way."""
        if self.producer is None:
            super().loseConnection()


class EchoTests(SynchronousTestCase):
    """What comes in on a connection goes out on it."""

    def setUp(self) -> None:
        """Connect an echo."""
        self.transport = ClosingTransport()
        echo = EchoFactory().buildProtocol(IPv4Address("TCP", "192.0.2.1", 1025))
        assert isinstance(echo, Echo)
        self.echo = echo
        self.echo.makeConnection(self.transport)

    def test_sends_back_what_it_receives(self) -> None:
        """Every byte comes back, in order, whatever the segments."""
        for segment in (b"hel", b"l", b"o\r\n\0\xff"):
            self.echo.dataReceived(segment)

        self.assertEqual(self.transport.value(), b"hello\r\n\0\xff")

    def test_reads_only_as_fast_as_the_peer_reads(self) -> None:
        """The connection is its own producer, so that a peer that never reads stops itself."""
        self.assertIs(self.transport.producer, self.transport)
        self.assertTrue(self.transport.streaming)

    def test_closes_after_the_peer_has_finished(self) -> None:
        """The end of the input closes the connection, with everything received before it sent back."""
        self.echo.dataReceived(b"last words")
        self.echo.readConnectionLost()

        self.assertEqual(self.transport.value(), b"last words")
        self.assertTrue(self.transport.disconnecting)

    def test_is_told_of_half_close(self) -> None:
        """Twisted keeps the write side open only for protocols that say they know half-close."""
        self.assertTrue(IHalfCloseableProtocol.providedBy(self.echo))

    def test_survives_losing_the_connection_at_any_time(self) -> None:
        """A connection that breaks, before or after the end of the input, is no error."""
        self.echo.readConnectionLost()
        self.echo.writeConnectionLost()
        self.echo.connectionLost(Failure(ConnectionDone()))

    def test_factory_is_plain_twisted(self) -> None:
        """The factory needs nothing of echosvc and writes no log lines of its own."""
        self.assertIsInstance(EchoFactory(), Factory)
        self.assertFalse(EchoFactory.noisy)


class DatagramEchoTests(SynchronousTestCase):
    """What comes in as a datagram goes back as a datagram."""

    def test_sends_each_datagram_back_to_its_source(self) -> None:
        """Two clients each get their own datagram, the empty one too."""
        transport = DatagramTransport()
        echo = DatagramEcho()
        echo.makeConnection(cast(IUDPTransport, transport))

        echo.datagramReceived(b"one", ("192.0.2.1", 1025))
        echo.datagramReceived(b"", ("192.0.2.2", 1026))

        self.assertEqual(transport.sent, [(b"one", ("192.0.2.1", 1025)), (b"", ("192.0.2.2", 1026))])
