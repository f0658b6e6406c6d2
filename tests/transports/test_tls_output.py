"""Tests of TLS between a stream and its protocol: what the protocol writes, and how it closes."""

from __future__ import annotations

import ssl
import weakref
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, ISSLTransport, ITransport
from twisted.python.failure import Failure
from zope.interface import providedBy

from echosvc.transports.tls import PIECE
from tests.transports.tls_case import DONE, PlainFactory, Producer, TLSCase, Wire
from tests.transports.tls_peer import VERSIONS, Client, KeyUpdater, client_context
from tests.waiting import until


class WaitingTests(TLSCase):
    """A peer's request for new keys that has come in part: TLS sends nothing before it has the rest."""

    def setUp(self) -> None:
        """Connect, and hear the first part."""
        super().setUp()
        factory = PlainFactory()
        self.serve(factory)
        context = client_context(self.authority, ssl.TLSVersion.TLSv1_3)
        peer = KeyUpdater(context, self.folder)
        self.client = Client(context)
        self.client.take()
        self.turn()
        (self.protocol,) = factory.built
        first, self.rest = peer.ask_in_two()
        self.peer = peer
        self.server.dataReceived(first)

    def go_on(self, data: bytes = b"") -> None:
        """Hear the rest, and data behind it."""
        self.server.dataReceived(self.rest + (self.peer.say(data) if data else b""))
        self.client.take(self.wire.take())

    def test_what_is_written_waits_for_the_rest(self) -> None:
        """It is sent whole and in order then, and the connection goes on."""
        self.protocol.on_data = self.protocol.transport.write
        self.protocol.transport.write(b"one ")
        self.protocol.transport.write(b"x" * 100_000)
        self.assertEqual((self.wire.value(), self.wire.held), (b"", 100_004))
        self.go_on(b" more")

        self.assertEqual(self.client.heard, b"one " + b"x" * 100_000 + b" more")
        self.assertEqual((self.wire.held, self.wire.disconnecting, self.refused), (0, False, {}))

    def test_an_end_waits_for_the_rest(self) -> None:
        """What was written before is whole, and close_notify says so; nothing can be written after it."""
        for written in (b"", b"x" * 100_000):
            for half in (False, True):
                self.setUp()
                transport = self.protocol.transport
                transport.pauseProducing()
                transport.write(written)
                if half:
                    transport.loseWriteConnection()
                    transport.resumeProducing()
                else:
                    transport.loseConnection()
                transport.write(b"late")
                self.assertEqual((self.wire.disconnecting, self.wire.half_closed), (False, False))
                self.assertEqual(self.wire.producerState, "producing")
                self.go_on(b"too late")

                self.assertEqual((self.client.heard, self.client.finished), (written, True))
                self.assertEqual((self.wire.disconnecting, self.wire.half_closed), (not half, half))
                self.assertEqual(self.protocol.events[2:], [b"too late", "write lost"][:1] if half else [])

    def test_a_producer_waits_for_the_rest(self) -> None:
        """So what waits is bounded."""
        producer = Producer()
        self.protocol.transport.registerProducer(producer, True)
        self.protocol.transport.write(b"x")
        self.assertEqual(producer.asked, ["pause"])
        self.go_on()

        self.assertEqual((producer.asked, self.client.heard), (["pause", "resume"], b"x"))

    def test_the_rest_never_comes(self) -> None:
        """A FIN in its place ends the connection, and so does damage: nothing is waited for."""
        for damage in (False, True):
            self.setUp()
            self.protocol.transport.write(b"x")
            self.protocol.transport.loseConnection()
            if damage:
                self.server.dataReceived(bytes.fromhex("1703030020") + bytes(32))
            else:
                self.server.readConnectionLost()
            self.assertTrue(self.wire.disconnecting)
            self.server.connectionLost(DONE)

            self.assertEqual(self.protocol.events[2:], [ssl.SSLError if damage else ConnectionLost])


class OutputTests(TLSCase):
    """What a protocol writes, and how our direction ends."""

    def test_large_writes_are_whole(self) -> None:
        """However large, and from however many pieces."""
        protocol = self.connect_plain()
        data = bytes(range(256)) * 4096
        protocol.transport.write(data)
        protocol.transport.writeSequence([data, b"", b"end"])
        self.client.take(self.wire.take())

        self.assertEqual(self.client.heard, data + data + b"end")

    def test_a_peer_may_ask_for_short_records(self) -> None:
        """OpenSSL then takes less at once than it was given (max_fragment_length, RFC 6066 section 4)."""
        protocol = self.connect_plain()
        handle: Any = self.server.getHandle()
        write = handle.write
        self.patch(handle, "write", lambda data: write(data[:512]))
        protocol.transport.write(bytes(100_000))
        self.client.take(self.wire.take())

        self.assertEqual(self.client.heard, bytes(100_000))

    def test_what_is_written_on_data_leaves_in_one_piece(self) -> None:
        """Many small writes cost the kernel one call, and nobody waits for another turn."""
        protocol = self.connect_plain()
        protocol.on_data = lambda data: [protocol.transport.write(b"x") for _ in range(100)]
        self.client.write(b"1")
        self.client.write(b"2")
        before = self.wire.writes
        self.server.dataReceived(self.client.give())
        self.client.take(self.wire.take())

        self.assertEqual(self.wire.writes - before, 1)
        self.assertEqual(self.client.heard, b"x" * 200)

    def test_a_producer_that_writes_until_it_is_paused_is_paused(self) -> None:
        """Even while the protocol is handed data: what waits for its return is bounded."""
        protocol = self.connect_plain()
        paused: list[int] = []

        def write_until_paused(_: bytes) -> None:
            for _turn in until(lambda: paused):
                protocol.transport.write(bytes(1000))

        class Pausing(Wire):
            def write(self, data: bytes) -> None:
                super().write(data)
                if len(self.value()) > PIECE:
                    paused.append(len(self.value()))

        self.wire.__class__ = Pausing
        protocol.on_data = write_until_paused
        self.client.write(b"go")
        self.server.dataReceived(self.client.give())

        self.assertLess(paused[0], 2 * PIECE)

    def test_half_closing_sends_what_was_written_and_goes_on_reading(self) -> None:
        """Each side hears of the end of the other."""
        for version in VERSIONS:
            self.wire = Wire()
            protocol = self.connect_plain(version=version)
            protocol.transport.write(b"my last word")
            protocol.transport.loseWriteConnection()
            protocol.transport.loseWriteConnection()
            protocol.transport.write(b"too late")
            self.client.take(self.wire.take())
            self.assertEqual((self.client.heard, self.client.finished), (b"my last word", True))
            self.assertTrue(self.wire.half_closed)
            self.server.writeConnectionLost()
            self.client.write(b"mine")
            self.client.finish()
            self.turn()
            self.assertFalse(self.wire.disconnecting)
            protocol.transport.loseConnection()

            self.assertEqual(protocol.events, ["made", "shaken", "write lost", b"mine", "read lost"])
            self.assertTrue(self.wire.disconnecting)

    def test_half_closing_waits_for_a_producer(self) -> None:
        """As Twisted's interface has it: what it still writes is sent."""
        protocol = self.connect_plain()
        protocol.transport.registerProducer(protocol.transport, True)
        protocol.transport.loseWriteConnection()
        protocol.transport.write(b"the rest")
        self.assertFalse(self.wire.half_closed)
        protocol.transport.unregisterProducer()
        self.client.take(self.wire.take())

        self.assertEqual((self.client.heard, self.client.finished), (b"the rest", True))
        self.assertTrue(self.wire.half_closed)

    def test_closing_waits_for_a_producer(self) -> None:
        """Likewise."""
        protocol = self.connect_plain()
        protocol.transport.registerProducer(protocol.transport, True)
        protocol.transport.loseConnection()
        protocol.transport.write(b"the rest")
        self.assertFalse(self.wire.disconnecting)
        protocol.transport.unregisterProducer()
        self.client.take(self.wire.take())

        self.assertEqual((self.client.heard, self.client.finished), (b"the rest", True))
        self.assertTrue(self.wire.disconnecting)

    def test_unregistering_a_producer_closes_nothing_by_itself(self) -> None:
        """A connection outlives its producers."""
        protocol = self.connect_plain()
        protocol.transport.registerProducer(protocol.transport, True)
        protocol.transport.unregisterProducer()
        protocol.transport.unregisterProducer()

        self.assertFalse(self.wire.disconnecting or self.wire.half_closed)

    def test_closing_does_not_wait_for_an_answer(self) -> None:
        """A peer that never sends its close_notify cannot keep the connection; what is written later is dropped."""
        for version in VERSIONS:
            self.wire = Wire()
            protocol = self.connect_plain(version=version)
            protocol.transport.write(b"bye")
            protocol.transport.loseConnection()
            protocol.transport.loseConnection()
            protocol.transport.write(b"too late")
            self.client.take(self.wire.take())

            self.assertEqual((self.client.heard, self.client.finished), (b"bye", True))
            self.assertTrue(self.wire.disconnecting)

    def test_closing_while_data_comes_ends_it(self) -> None:
        """A protocol that has closed hears no more."""
        protocol = self.connect_plain()
        protocol.on_data = lambda _: protocol.transport.loseConnection()
        self.client.write(b"one")
        self.client.write(b"two")
        self.server.dataReceived(self.client.give())

        self.assertEqual(protocol.events, ["made", "shaken", b"one"])

    def test_aborting_claims_no_good_end(self) -> None:
        """A peer must not take what it has for everything; and the protocol hears no more."""
        protocol = self.connect_plain()
        protocol.on_data = lambda _: protocol.transport.abortConnection()
        self.client.write(b"one")
        self.client.write(b"two")
        self.server.dataReceived(self.client.give())
        self.client.take(self.wire.take())
        self.assertFalse(self.client.finished)
        self.assertTrue(self.wire.aborted)
        self.assertTrue(protocol.transport.disconnecting)
        self.server.connectionLost(Failure(ConnectionAborted()))

        self.assertEqual(protocol.events, ["made", "shaken", b"one", ConnectionAborted])

    def test_a_write_that_fails_ends_the_connection(self) -> None:
        """The protocol is told why, and is not bothered with an exception."""
        protocol = self.connect_plain()

        def fail(_: bytes) -> int:
            raise ssl.SSLError("out of luck")

        self.patch(self.server.getHandle(), "write", fail)
        protocol.transport.write(b"x")
        self.assertTrue(self.wire.disconnecting)
        self.server.connectionLost(DONE)

        self.assertEqual(protocol.events[-1], ssl.SSLError)

    def test_a_producer_that_must_be_asked(self) -> None:
        """It is asked for each piece, until it has no more."""
        protocol = self.connect_plain()
        pieces = [b"one ", b"two ", b"three"]

        def resume() -> None:
            protocol.transport.write(pieces.pop(0))
            if not pieces:
                protocol.transport.unregisterProducer()

        protocol.transport.registerProducer(Producer(resume), False)
        protocol.transport.loseConnection()
        self.assertFalse(self.wire.streaming)
        for _ in range(3):  # as the transport under TLS does when it has sent everything
            producer: Any = self.wire.producer
            producer.resumeProducing()
        self.client.take(self.wire.take())

        self.assertEqual((self.client.heard, self.client.finished), (b"one two three", True))


class TransportTests(TLSCase):
    """A protocol's transport is as any other."""

    def test_says_what_the_transport_under_it_is(self) -> None:
        """With its interfaces, its addresses, and what it says of itself."""
        protocol = self.connect_plain()
        transport = protocol.transport

        self.assertEqual(transport.getPeer(), self.wire.getPeer())
        self.assertEqual(transport.getHost(), self.wire.getHost())
        self.assertTrue(ITransport.providedBy(transport))
        self.assertTrue(IHalfCloseableProtocol.providedBy(transport))
        self.assertIn("HalfCloseable", transport.logPrefix())

    def test_provides_all_that_the_transport_under_it_provides(self) -> None:
        """A protocol may ask whether it is a consumer, for example; and learns that it is encrypted."""
        transport = self.connect_plain().transport

        self.assertEqual([each for each in providedBy(self.wire) if not each.providedBy(transport)], [])
        self.assertTrue(IConsumer.providedBy(transport))
        self.assertTrue(ISSLTransport.providedBy(transport))

    def test_nothing_is_left_of_a_connection_that_has_ended(self) -> None:
        """Memory is given back at once, without the garbage collector's help."""
        self.connect()
        handle = weakref.ref(self.server.getHandle())
        self.server.connectionLost(DONE)

        self.assertIsNone(handle())

    def test_an_ended_connection_takes_everything_and_does_nothing(self) -> None:
        """A protocol need not know that it is too late."""
        protocol = self.connect_plain()
        transport = protocol.transport
        self.wire.take()
        self.server.connectionLost(DONE)
        transport.write(b"x")
        transport.loseWriteConnection()
        transport.loseConnection()
        transport.unregisterProducer()

        self.assertEqual(self.wire.take(), b"")
        self.assertFalse(self.wire.half_closed or self.wire.disconnecting)
