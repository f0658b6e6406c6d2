"""Tests of the chargen protocols."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IUDPTransport
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import ChargenFactory, ChargenOptions, DatagramChargen, find
from echosvc.protocols.chargen import PATTERN, Chargen
from echosvc.transports import StreamTransport
from tests.doubles import DatagramTransport
from tests.transports.test_stream import STALL_TIMEOUT, StreamCase


def line(number: int) -> bytes:
    """One line as RFC 864 describes it: characters number N to N + 71 of a ring of 95, then CR LF."""
    return bytes(0x20 + (number + place) % 95 for place in range(72)) + b"\r\n"


class PatternTests(SynchronousTestCase):
    """What is sent."""

    def test_is_the_ring_of_the_rfc(self) -> None:
        """95 lines of 72 characters, each a character further on; the 96th is the first again."""
        lines = (PATTERN * 2).splitlines(keepends=True)

        self.assertEqual(lines, [line(number) for number in range(190)])
        self.assertEqual(lines[95], lines[0])

    def test_has_every_printing_character(self) -> None:
        """The space and the tilde, which others leave out, among them."""
        self.assertEqual(set(PATTERN) - set(b"\r\n"), set(range(32, 127)))


class ChargenTests(SynchronousTestCase):
    """A connection is sent the pattern, a piece whenever it asks."""

    def setUp(self) -> None:
        """Connect one."""
        self.transport = StringTransport()
        chargen = ChargenFactory().buildProtocol(None)
        assert isinstance(chargen, Chargen)
        self.chargen = chargen
        self.chargen.makeConnection(self.transport)

    def test_sends_when_it_is_asked(self) -> None:
        """Nothing of its own accord: whoever does not read is sent nothing more, and costs nothing more."""
        self.assertIs(self.transport.producer, self.chargen)
        self.assertFalse(self.transport.streaming)
        self.assertTrue(IPullProducer.providedBy(self.chargen))
        self.assertEqual(self.transport.value(), b"")

        self.chargen.resumeProducing()
        self.assertTrue(0 < len(self.transport.value()) <= 2**16)

    def test_pieces_join_without_a_seam(self) -> None:
        """The lines go on from piece to piece."""
        for _ in range(3):
            self.chargen.resumeProducing()
        lines = self.transport.value().splitlines(keepends=True)

        self.assertEqual(lines, [line(number) for number in range(len(lines))])

    def test_throws_away_what_is_sent(self) -> None:
        """Input changes nothing."""
        self.chargen.dataReceived(b"stop\r\n")
        self.chargen.resumeProducing()

        self.assertTrue(self.transport.value().startswith(line(0)))
        self.assertFalse(self.transport.disconnecting)

    def test_goes_on_after_the_end_of_the_input(self) -> None:
        """Who has closed only their own direction may still read."""
        self.assertTrue(IHalfCloseableProtocol.providedBy(self.chargen))
        self.chargen.readConnectionLost()
        self.chargen.writeConnectionLost()
        self.chargen.resumeProducing()

        self.assertTrue(self.transport.value())
        self.assertFalse(self.transport.disconnecting)

    def test_lets_go_of_a_connection_that_is_being_closed(self) -> None:
        """A transport closes only when its producer is gone."""
        self.transport.loseConnection()
        self.chargen.resumeProducing()

        self.assertEqual(self.transport.value(), b"")
        self.assertIsNone(self.transport.producer)

    def test_survives_losing_the_connection(self) -> None:
        """A rude abort is no error."""
        self.chargen.stopProducing()
        self.chargen.connectionLost(Failure(ConnectionDone()))

    def test_factory_is_plain_twisted(self) -> None:
        """The factory needs nothing of echosvc and writes no log lines of its own."""
        self.assertIsInstance(ChargenFactory(), Factory)
        self.assertFalse(ChargenFactory.noisy)

    def test_the_service_knows_it(self) -> None:
        """Chargen is RFC 864, and may be told to answer a datagram with a longer one."""
        wire = find("chargen")
        assert wire.stream is not None
        assert wire.datagram is not None

        self.assertEqual((wire.rfc, wire.options, wire.amplifies), ("RFC 864", ChargenOptions, True))
        self.assertIsInstance(wire.stream(ChargenOptions()), ChargenFactory)
        self.assertIsInstance(wire.datagram(ChargenOptions()), DatagramChargen)


class FlowTests(StreamCase):
    """On real sockets: the peer decides how much, and when it ends."""

    def begin(self) -> tuple[socket.socket, StreamTransport]:
        """Connect a client; return its socket and the connection on our side."""
        factory: Any = ChargenFactory()
        client, transport = self.connect(self.open_port(factory))
        client.setblocking(False)
        return client, transport

    def turn(self) -> None:
        """Serve until two turns on end have sent nothing: the first may have seen the end of the input."""
        idle = 0
        for _ in range(1000):
            before = sum(each.bytes_out for each in self.transports())
            self.hub.doRead()
            idle = idle + 1 if before == sum(each.bytes_out for each in self.transports()) else 0
            if idle == 2:
                return
        self.fail("sends without end to a peer that does not read")

    def transports(self) -> list[StreamTransport]:
        """All live connections."""
        members = {*self.hub.getReaders(), *self.hub.getWriters()}
        return [each for each in members if isinstance(each, StreamTransport)]

    def received(self, client: socket.socket) -> Iterator[bytes]:
        """What has arrived."""
        try:
            while piece := client.recv(1_000_000):
                yield piece
        except BlockingIOError:
            pass

    def test_stops_when_the_peer_stops_reading(self) -> None:
        """One piece waits, and goes on when there is room; in the end the pattern is whole."""
        client, transport = self.begin()
        came = b""
        for _ in range(3):
            self.turn()
            self.assertLessEqual(len(transport.dataBuffer) + transport._tempDataLen, 2**16)
            before = len(came)
            came += b"".join(self.received(client))
            self.assertGreater(len(came), before)

        self.assertEqual(came, (PATTERN * (len(came) // len(PATTERN) + 1))[: len(came)])

    def test_a_turn_sends_one_piece(self) -> None:
        """However much room there is: the others must have their turn."""
        _, transport = self.begin()
        first = transport.bytes_out
        self.hub.doRead()

        self.assertLessEqual(first, 2**16)
        self.assertLessEqual(transport.bytes_out, 2 * 2**16)
        self.assertGreater(transport.bytes_out, 0)

    def test_goes_on_after_the_end_of_the_input(self) -> None:
        """As ``nc -N host 19 </dev/null`` expects."""
        client, transport = self.begin()
        client.shutdown(socket.SHUT_WR)
        for _ in range(3):
            self.turn()
            self.assertGreater(sum(map(len, self.received(client))), 0)

        self.assertTrue(transport.connected)

    def test_a_peer_that_has_finished_and_does_not_read_is_given_up(self) -> None:
        """The transport's stall timeout ends it, and counts it."""
        client, transport = self.begin()
        port: Any = transport.server
        client.shutdown(socket.SHUT_WR)
        self.turn()
        self.wait(STALL_TIMEOUT * 1.3)

        self.assertFalse(transport.connected)
        self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_a_rude_abort_is_no_error(self) -> None:
        """The connection is gone, and nothing is logged."""
        client, transport = self.begin()
        self.turn()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.turn()

        self.assertFalse(transport.connected)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_careful_close_is_no_error(self) -> None:
        """A client that has read everything and closes is gone with the next piece."""
        client, transport = self.begin()
        self.turn()
        client.shutdown(socket.SHUT_WR)
        list(self.received(client))
        client.close()
        self.turn()
        self.turn()

        self.assertFalse(transport.connected)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_can_be_closed_by_us(self) -> None:
        """What waits is sent, and then the stream ends."""
        client, transport = self.begin()
        self.turn()
        transport.loseConnection()
        came = 0
        for _ in range(100):
            came += sum(map(len, self.received(client)))
            if not transport.connected:
                break
            self.hub.doRead()

        self.assertFalse(transport.connected)
        client.setblocking(True)
        self.assertEqual(client.recv(1), b"")
        self.assertGreater(came, 0)


class DatagramChargenTests(SynchronousTestCase):
    """A datagram is answered with the beginning of the pattern."""

    def lengths(self, chargen: DatagramChargen, *requests: int) -> list[int]:
        """How long the answers are to requests of these lengths."""
        transport = DatagramTransport()
        chargen.makeConnection(cast(IUDPTransport, transport))
        for size in requests:
            chargen.datagramReceived(b"x" * size, ("192.0.2.1", 1025))
        self.assertEqual({addr for _, addr in transport.sent}, {("192.0.2.1", 1025)})
        for answer, _ in transport.sent:
            self.assertEqual(answer, PATTERN[: len(answer)])
        return [len(answer) for answer, _ in transport.sent]

    def test_is_never_longer_than_the_request(self) -> None:
        """Nor than 512 characters; the least is none at all."""
        sizes = (0, 1, 64, 511, 512, 513, 1400)
        longest = DatagramChargen(randint=lambda _, most: most)
        shortest = DatagramChargen(randint=lambda least, _: least)

        self.assertEqual(self.lengths(longest, *sizes), [0, 1, 64, 511, 512, 512, 512])
        self.assertEqual(self.lengths(shortest, *sizes), [0] * 7)

    def test_can_be_allowed_to_amplify(self) -> None:
        """Then it is as RFC 864 has it: 0 to 512 characters, whatever is asked."""
        options = ChargenOptions(allow_amplification=True)

        self.assertEqual(
            self.lengths(DatagramChargen(options, randint=lambda _, most: most), 0, 1400), [512] * 2
        )
        self.assertEqual(
            self.lengths(DatagramChargen(options, randint=lambda least, _: least), 0, 1400), [0] * 2
        )

    def test_does_not_amplify_unless_told_to(self) -> None:
        """The options say no by themselves."""
        chargen = DatagramChargen(ChargenOptions(), randint=lambda _, most: most)

        self.assertEqual(self.lengths(chargen, 0, 1), [0, 1])

    def test_lengths_are_random(self) -> None:
        """Fifty answers are not all of one length, and none is too long."""
        lengths = self.lengths(DatagramChargen(), *[512] * 50)

        self.assertGreater(len(set(lengths)), 1)
        self.assertLessEqual(max(lengths), 512)
