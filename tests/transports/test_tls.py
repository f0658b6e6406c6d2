"""Tests of TLS between a stream and its protocol: handshakes, and what the protocol is handed."""

from __future__ import annotations

import ssl
from collections import Counter
from functools import partial

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from echosvc.protocols import EchoFactory
from echosvc.transports.tls import CONTROL, TLSProtocol
from tests.transports.tls_case import DONE, PEER, Plain, PlainFactory, Producer, TLSCase, Wire
from tests.transports.tls_peer import VERSIONS, Client, KeyUpdater, client_context
from tests.waiting import until


class HandshakeTests(TLSCase):
    """How a connection begins, or does not."""

    def test_echoes(self) -> None:
        """What is sent comes back, over every version, even if every byte comes by itself."""
        for version in VERSIONS:
            for step in (1, 1 << 20):
                self.wire = Wire()
                client = self.connect(version=version, shake=False)
                self.turn(step)
                client.write(b"hello")
                client.write(b" world")
                self.turn(step)

                self.assertEqual(client.heard, b"hello world")
                self.assertEqual(client.tls.version(), version.name.replace("v1_", "v1."))

    def test_a_protocol_is_made_when_the_handshake_is_done(self) -> None:
        """It may ask at once who its peer is; before, there is none."""
        inner = PlainFactory()
        self.connect(inner, shake=False)
        self.assertEqual(inner.built, [])
        self.turn()

        self.assertEqual(inner.addresses, [PEER])
        self.assertEqual(inner.built[0].events, ["made", "shaken"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_protocol_that_knows_nothing_of_tls(self) -> None:
        """It is told of a connection, and of nothing else."""
        self.assertEqual(self.connect_plain(Plain).events, ["made"])

    def test_what_comes_with_the_end_of_the_handshake_is_echoed(self) -> None:
        """A client need not wait before it speaks."""
        for version in VERSIONS:
            self.wire = Wire()
            client = self.connect(version=version, shake=False)
            for _ in until(lambda: client.shaken):
                self.server.dataReceived(client.give())
                client.take(self.wire.take())
            client.write(b"hello")
            self.server.dataReceived(client.give())
            client.take(self.wire.take())

            self.assertEqual(client.heard, b"hello")

    def test_a_factory_may_build_nothing(self) -> None:
        """The connection ends in good order."""

        class Refusing(Factory[Protocol]):
            def buildProtocol(self, addr: IAddress | None) -> None:
                return None

        client = self.connect(Refusing())

        self.assertTrue(client.finished)
        self.assertTrue(self.wire.disconnecting)

    def test_one_that_fails_is_told_and_counted(self) -> None:
        """An alert says why; then input is thrown away until the client closes, too."""
        inner = PlainFactory()
        self.serve(inner)
        self.server.dataReceived(bytes.fromhex("160301000402000000"))  # a server's hello
        self.assertTrue(self.wire.take().hex().endswith("0002020a"))  # fatal, unexpected_message
        self.assertTrue(self.wire.half_closed)
        self.server.writeConnectionLost()
        self.server.dataReceived(b"more")
        self.assertFalse(self.wire.disconnecting)
        self.server.readConnectionLost()
        self.assertTrue(self.wire.disconnecting)
        self.server.connectionLost(DONE)

        self.assertEqual(self.refused, {"tls-handshake-failed": 1})
        self.assertEqual(self.wire.why, "tls-handshake-failed")
        self.assertEqual(inner.built, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_failed_cannot_stay(self) -> None:
        """It has the time that a handshake has, and is counted once."""
        self.serve(EchoFactory())
        self.server.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.clock.advance(9)
        self.assertFalse(self.wire.aborted)
        self.clock.advance(1)

        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.refused, {"tls-handshake-failed": 1})

    def test_one_that_leaves_in_the_middle_is_counted(self) -> None:
        """Whether it closes in good order or breaks."""
        for leave in (
            TLSProtocol.readConnectionLost,
            partial(TLSProtocol.connectionLost, reason=DONE),
            partial(TLSProtocol.connectionLost, reason=Failure(ConnectionLost())),
        ):
            self.refused, self.wire = Counter(), Wire()
            self.connect(shake=False)
            self.server.dataReceived(self.client.give()[:50])
            leave(self.server)
            if self.wire.disconnecting:
                self.server.connectionLost(DONE)

            self.assertEqual(self.refused, {"tls-handshake-failed": 1})
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_takes_too_long_is_aborted_and_counted(self) -> None:
        """A byte now and then does not help."""
        self.connect(shake=False)
        hello = self.client.give()
        for position in range(9):
            self.server.dataReceived(hello[position : position + 1])
            self.clock.advance(1)
        self.assertFalse(self.wire.aborted)
        self.clock.advance(1)
        self.assertTrue(self.wire.aborted)
        self.server.connectionLost(Failure(ConnectionAborted()))

        self.assertEqual((self.refused, self.wire.why), ({"tls-handshake-late": 1}, "tls-handshake-late"))

    def test_a_handshake_that_is_done_has_no_deadline(self) -> None:
        """A quiet connection may last."""
        self.connect()
        self.clock.advance(1000)

        self.assertFalse(self.wire.aborted)
        self.assertEqual(self.refused, {})

    def test_closing_before_the_handshake_is_done_aborts(self) -> None:
        """There is nobody yet with whom to close in good order."""
        self.connect(shake=False)
        self.server.loseConnection()

        self.assertTrue(self.wire.aborted)
        self.assertFalse(self.wire.disconnecting)


class InputTests(TLSCase):
    """What a protocol is handed, and how the peer's direction ends."""

    def test_everything_before_close_notify_is_echoed(self) -> None:
        """Then comes our close_notify, and the connection closes: whatever else comes after it."""
        for version in VERSIONS:
            self.wire = Wire()
            client = self.connect(version=version)
            client.write(b"last words")
            client.finish()
            last = client.give()
            self.server.dataReceived(last + b"junk")
            self.server.dataReceived(b"junk")
            client.take(self.wire.take())

            self.assertEqual((client.heard, client.finished), (b"last words", True))
            self.assertTrue(self.wire.disconnecting)
            self.assertEqual(self.refused, {})

    def test_close_notify_ends_only_the_peers_direction(self) -> None:
        """A protocol that knows half-close is told so, once, and may go on for as long as it likes."""
        protocol = self.connect_plain()
        self.client.finish()
        self.turn()
        self.server.readConnectionLost()
        self.assertEqual(protocol.events, ["made", "shaken", "read lost"])
        self.assertFalse(self.wire.disconnecting)
        protocol.transport.write(b"still here")
        self.client.take(self.wire.take())

        self.assertEqual((self.client.heard, self.client.finished), (b"still here", False))

    def test_close_notify_ends_a_protocol_that_does_not_know_half_close(self) -> None:
        """As with Twisted's own TLS; what it has written is sent, though its producer is paused."""
        for streaming in (True, False):
            self.wire = Wire()
            protocol = self.connect_plain(Plain)
            producer = Producer()
            protocol.transport.registerProducer(producer, streaming)
            protocol.on_data = protocol.transport.write
            self.client.write(b"bye")
            self.client.finish()
            self.turn()
            self.assertEqual((self.client.heard, self.client.finished), (b"bye", True))
            self.assertTrue(self.wire.disconnecting)
            self.assertIsNone(self.wire.producer)
            self.assertEqual(producer.asked, ["stop"])
            self.server.connectionLost(DONE)

            self.assertEqual(protocol.events, ["made", b"bye", ConnectionDone])

    def test_an_end_without_close_notify_is_a_truncation(self) -> None:
        """What was received is echoed, whole for all to see; the protocol is told of a connection that was lost."""
        for version in VERSIONS:
            self.wire = Wire()
            protocol = self.connect_plain(version=version)
            protocol.transport.registerProducer(protocol.transport, True)
            protocol.on_data = protocol.transport.write
            self.client.write(b"half a sent")
            self.turn()
            self.server.readConnectionLost()
            self.assertTrue(self.wire.disconnecting)
            self.client.take(self.wire.take())
            self.assertEqual((self.client.heard, self.client.finished), (b"half a sent", True))
            self.server.connectionLost(DONE)

            self.assertEqual(protocol.events, ["made", "shaken", b"half a sent", ConnectionLost])

    def test_a_transport_without_half_close_tells_of_a_truncation_too(self) -> None:
        """Its orderly end is none unless close_notify was there before."""
        for finish, reason in ((False, ConnectionLost), (True, ConnectionDone)):
            self.wire = Wire()
            protocol = self.connect_plain()
            if finish:
                self.client.finish()
                self.turn()
            self.server.connectionLost(DONE)

            self.assertEqual(protocol.events[-1], reason)

    def test_a_connection_that_breaks(self) -> None:
        """The protocol is told what the transport tells."""
        protocol = self.connect_plain()
        self.server.connectionLost(Failure(ConnectionAborted()))

        self.assertEqual(protocol.events[-1], ConnectionAborted)

    def test_a_damaged_record_ends_the_connection(self) -> None:
        """The peer is told why, the protocol too, and what came before is echoed."""
        protocol = self.connect_plain()
        protocol.transport.registerProducer(protocol.transport, True)
        protocol.on_data = protocol.transport.write
        self.client.write(b"good")
        good = self.client.give()
        self.client.write(b"bad")
        bad = self.client.give()
        self.server.dataReceived(good + bad[:-1] + bytes([bad[-1] ^ 1]))
        self.client.take(self.wire.take())
        self.assertTrue(self.wire.disconnecting)
        self.server.connectionLost(DONE)

        self.assertEqual(self.client.heard, b"good")
        self.assertIn("bad record mac", str(self.client.error).lower())
        self.assertEqual(protocol.events, ["made", "shaken", b"good", ssl.SSLError])
        self.assertEqual((self.refused, self.wire.why), ({"tls-failed": 1}, "tls-failed"))

    def test_a_protocol_that_raises(self) -> None:
        """What it wrote before is sent; the error is its transport's to log."""

        def write_and_raise(data: bytes) -> None:
            protocol.transport.write(data)
            raise RuntimeError("bug")

        protocol = self.connect_plain()
        protocol.on_data = write_and_raise
        self.client.write(b"x")
        self.assertRaises(RuntimeError, self.turn)
        self.client.take(self.wire.take())

        self.assertEqual(self.client.heard, b"x")

    def test_a_peer_that_always_asks_for_new_keys_is_aborted(self) -> None:
        """TLS answers each time, and whoever reads none of the answers would fill the memory."""
        self.serve(PlainFactory())
        context = client_context(self.authority, ssl.TLSVersion.TLSv1_3)
        hostile = KeyUpdater(context, self.folder)
        self.client = Client(context)
        self.client.take()
        self.turn()
        asked = answered = 0
        for _ in until(lambda: self.wire.aborted):
            self.server.dataReceived(hostile.ask())
            asked += 1
            answered += len(self.wire.take())
        self.server.dataReceived(hostile.ask())

        self.assertGreater(asked, 400)
        self.assertTrue(CONTROL < answered < CONTROL + 100)
        self.assertEqual(self.wire.take(), b"")
        self.assertEqual((self.refused, self.wire.why), ({"tls-control-flood": 1}, "tls-control-flood"))

    def test_a_quiet_protocol_may_hear_for_ever(self) -> None:
        """Only what TLS answers by itself counts, not what is sent or answered by the protocol."""
        self.connect()
        for _ in range(CONTROL // 10):
            self.client.write(b"0123456789")
        self.turn()

        self.assertEqual(len(self.client.heard), CONTROL // 10 * 10)
        self.assertEqual(self.refused, {})
