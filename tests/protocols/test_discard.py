"""Tests of the discard protocols."""

from __future__ import annotations

from collections import Counter
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IUDPTransport
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramDiscard, DiscardFactory, find
from tests.doubles import DatagramTransport
from tests.transports.ports import PortCase


class DiscardTests(SynchronousTestCase):
    """What comes in on a connection is thrown away."""

    def test_never_answers(self) -> None:
        """Whatever is sent, nothing comes back, and the connection stays open."""
        transport = StringTransport()
        discard = DiscardFactory().buildProtocol(IPv4Address("TCP", "192.0.2.1", 1025))
        assert discard is not None
        discard.makeConnection(transport)
        for segment in (b"hello\r\n", b"", b"x" * 100_000):
            discard.dataReceived(segment)

        self.assertEqual(transport.value(), b"")
        self.assertFalse(transport.disconnecting)

    def test_closes_when_the_peer_has_finished(self) -> None:
        """A peer that half-closes waits for nothing: Twisted closes for a protocol that does not ask to be told."""
        self.assertFalse(IHalfCloseableProtocol.implementedBy(DiscardFactory.protocol))

    def test_the_service_knows_it(self) -> None:
        """Discard is RFC 863, has no settings, and nobody can multiply anything with it."""
        wire = find("discard")
        assert wire.stream is not None
        assert wire.datagram is not None

        self.assertEqual((wire.rfc, wire.options, wire.amplifies), ("RFC 863", None, False))
        self.assertIsInstance(wire.stream(), DiscardFactory)
        self.assertIsInstance(wire.datagram(), DatagramDiscard)
        self.assertFalse(DiscardFactory.noisy or DatagramDiscard.noisy)


class DatagramDiscardTests(PortCase):
    """What comes in as a datagram is thrown away."""

    def test_never_answers(self) -> None:
        """Not the empty datagram, nor any other."""
        transport = DatagramTransport()
        discard = DatagramDiscard()
        discard.makeConnection(cast(IUDPTransport, transport))
        for datagram in (b"", b"hello", b"x" * 65_507):
            discard.datagramReceived(datagram, ("192.0.2.1", 1025))

        self.assertEqual(transport.sent, [])

    def test_takes_whole_batches(self) -> None:
        """On our own port all that came together is thrown away at once, and counted as received."""
        port = self.open_port(DatagramDiscard())
        client = self.client()
        for datagram in (b"one", b"", b"three"):
            client.sendto(datagram, ("127.0.0.1", port.getHost().port))
        port.doRead()
        client.setblocking(False)

        self.assertEqual((port.datagrams_in, port.bytes_in, port.datagrams_out), (3, 8, 0))
        self.assertEqual(port.all_drops(), Counter())
        self.assertRaises(BlockingIOError, client.recv, 100)
