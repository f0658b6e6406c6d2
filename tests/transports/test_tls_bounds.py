"""Tests of TLS between a stream and its protocol: what a client may cost."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import INegotiated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echosvc.protocols import EchoFactory
from echosvc.transports.handshakes import FLIGHT, SMALL, Handshakes
from echosvc.transports.tls import TLSFactory
from echosvc.transports.tls_handshake import HandshakeSettings
from echosvc.transports.tls_session import _IN, _OUT, Session
from echosvc.transports.turns import TURN, Turns
from tests.certificates import Authority
from tests.transports.tls_case import DONE, PEER, PlainFactory, TLSCase, Wire
from tests.transports.tls_peer import VERSIONS, Client, KeyUpdater, client_context, server_context


class BeforeTheHandshakeTests(TLSCase):
    """What a client costs that has not shown who it is."""

    def test_there_is_no_session_before_the_first_message_is_whole(self) -> None:
        """Silence, and all but the last byte of it, cost what they cost a plain connection."""
        self.connect(shake=False)
        context = self.context
        self.patch(self, "context", None)
        self.assertIsNone(self.server.getHandle())
        hello = self.client.give()
        self.server.dataReceived(hello[:-1])
        self.assertEqual(len(self.handshakes), 0)
        self.context = context
        self.server.dataReceived(hello[-1:])

        self.assertEqual(len(self.handshakes), 1)
        self.client.take(self.wire.take())
        self.turn()
        self.assertTrue(self.client.shaken)
        self.assertEqual(len(self.handshakes), 0)

    def test_a_first_message_that_is_too_long_is_refused(self) -> None:
        """As soon as it announces so; an alert says why."""
        self.serve(EchoFactory())
        self.server.dataReceived(bytes.fromhex("16030140000100fffa"))

        self.assertEqual(self.wire.take().hex(), "1503030002022f")  # fatal, illegal_parameter
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(
            (self.refused, self.wire.why), ({"tls-handshake-too-long": 1}, "tls-handshake-too-long")
        )

    def test_a_handshake_in_many_records_at_once_is_refused(self) -> None:
        """Each costs time."""
        self.connect(version=ssl.TLSVersion.TLSv1_2, shake=False)
        self.server.dataReceived(self.client.give())
        key_exchange = b"\x10\x00\x07\xff" + bytes(2043)
        self.server.dataReceived(b"".join(b"\x16\x03\x03\x00\x01" + bytes([each]) for each in key_exchange))

        self.assertEqual(self.refused, {"tls-handshake-too-long": 1})
        self.assertFalse(self.server._handshakeDone)

    def test_certificates_that_are_too_many_are_refused(self) -> None:
        """One line says so, and the client is not left in the dark."""
        mutual = server_context(*self.authority.issue("localhost").write(self.folder), self.trusted())
        for version in VERSIONS:
            self.wire = Wire()
            self.refused.clear()
            self.context = mutual
            self.serve(PlainFactory())
            context = client_context(self.authority, version)
            cert, key = self.authority.issue("a client").write(self.folder, "client")
            with Path(cert).open("ab") as file:
                file.writelines(Authority(f"CA {number}").pem for number in range(FLIGHT // 250))
            context.load_cert_chain(cert, key)
            self.client = Client(context)
            self.client.take()
            self.turn()

            self.assertEqual(self.refused, {"tls-handshake-too-long": 1})
            self.assertTrue(self.wire.half_closed)

    def trusted(self) -> str:
        """Write whose certificate a client must have; return the file."""
        path = Path(self.folder) / "ca.pem"
        path.write_bytes(self.authority.pem)
        return str(path)

    def test_what_comes_behind_the_handshake_is_not_counted(self) -> None:
        """A client may say 200 KB in one go with the end of its handshake."""
        data = bytes(range(256)) * 800
        for version in (ssl.TLSVersion.TLSv1_3,):
            self.wire = Wire()
            client = self.connect(version=version, shake=False)
            self.server.dataReceived(client.give())
            client.take(self.wire.take())
            client.write(data)
            self.server.dataReceived(client.give())
            self.turn()

            self.assertEqual(client.heard == data, True)
            self.assertEqual(self.refused, {})

    def test_the_oldest_makes_room(self) -> None:
        """It is reset, and counted; one that goes on is not kept out."""
        self.handshakes = Handshakes(2)
        silent = []
        for _ in range(3):
            self.wire = Wire()
            self.connect(shake=False)
            self.server.dataReceived(self.client.give())
            silent.append((self.server, self.wire))
        self.wire = Wire()
        self.connect()

        self.assertTrue(self.client.shaken)
        self.assertEqual([wire.aborted for _, wire in silent], [True, True, True])
        self.assertEqual({wire.why for _, wire in silent}, {"tls-handshake-evicted"})
        for server, _ in silent:
            server.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_long_first_message_makes_room_before_it_is_whole(self) -> None:
        """What waits for the rest of it is memory, too: only as much as nearly all clients say is free."""
        self.handshakes = Handshakes(2)
        waiting = []
        for length in (SMALL, SMALL + 1, SMALL + 1, SMALL + 1):
            self.wire = Wire()
            self.connect(shake=False)
            sent = bytes.fromhex("1603012000 0100 1ffc") + bytes(length - 9)
            for start in range(0, length, 500):
                self.server.dataReceived(sent[start : start + 500])
            waiting.append(self.wire)

        self.assertEqual([wire.aborted for wire in waiting], [False, True, True, False])
        self.assertEqual(
            (waiting[1].why, self.refused), ("tls-handshake-evicted", {"tls-handshake-evicted": 2})
        )
        self.server.dataReceived(bytes(0x2000))
        self.assertEqual(len(self.handshakes), 0)

    def test_a_protocol_that_is_required_must_be_offered(self) -> None:
        """By a client that offers any (RFC 7301); one that offers none is served."""
        self.required = (b"echo",)
        self.context.set_alpn_protocols(["echo"])
        for offered, served in ((["h2"], False), (["h2", "echo"], True), ([], True)):
            self.wire = Wire()
            self.refused.clear()
            inner = PlainFactory()
            self.serve(inner)
            context = client_context(self.authority)
            if offered:
                context.set_alpn_protocols(offered)
            self.client = Client(context)
            self.client.take()
            self.turn()

            self.assertEqual((self.client.shaken, len(inner.built)), (served, int(served)))
            if served:
                transport = inner.built[0].transport
                self.assertTrue(INegotiated.providedBy(transport))
                self.assertEqual(transport.negotiatedProtocol, b"echo" if offered else None)
                self.assertEqual(transport.hello.server_name, "localhost")
            else:
                self.assertIn("no application protocol", str(self.client.error).lower().replace("_", " "))
                self.assertEqual(self.refused, {"tls-handshake-failed": 1})


class WorkTests(TLSCase):
    """What a client's bytes cost others."""

    def setUp(self) -> None:
        """Let each look at the clock be a third of a turn."""
        super().setUp()
        self.now = 0.0

        def seconds() -> float:
            self.now += TURN / 3
            return self.now

        self.seconds = seconds

    def serve(self, inner: Any) -> None:
        """Begin the server's side, with a clock that work moves."""
        self.factory = TLSFactory(
            inner,
            HandshakeSettings(context=lambda _: self.context),
            self.clock,
            refused=self.refused,
            turns=Turns(self.clock, seconds=self.seconds),
        )
        self.server = self.factory.buildProtocol(PEER)
        self.server.makeConnection(self.wire)

    def reactor_turn(self) -> int:
        """Do what is due, once; return how much that was."""
        due: list[Any] = [
            each for each in self.clock.getDelayedCalls() if each.getTime() <= self.clock.seconds()
        ]
        for each in due:
            serve = each.func
            each.cancel()
            serve()
        return len(due)

    def test_many_records_take_many_turns(self) -> None:
        """Others are served between them; nothing more is read until all is handed on, and nothing is lost or late."""
        protocol = self.connect_plain()
        for number in range(20):
            self.client.write(bytes([number]))
        self.client.finish()
        self.server.dataReceived(self.client.give())
        heard: list[list[Any]] = [list(protocol.events[2:])]
        self.assertEqual(self.wire.producerState, "paused")
        for _ in range(100):
            if not self.reactor_turn():
                break
            heard.append(protocol.events[2 + sum(map(len, heard)) :])

        self.assertTrue(all(1 <= len(each) <= 4 for each in heard), heard)
        self.assertEqual(
            [each for turn in heard for each in turn],
            [bytes([number]) for number in range(20)] + ["read lost"],
        )
        self.assertEqual(self.wire.producerState, "producing")

    def test_new_keys_take_turns_too(self) -> None:
        """Each is a record that OpenSSL would read on over, as many as it was handed."""
        context = client_context(self.authority, ssl.TLSVersion.TLSv1_3)
        hostile = KeyUpdater(context, self.folder)
        self.serve(EchoFactory())
        self.client = Client(context)
        self.client.take()
        self.turn()
        self.server.dataReceived(b"".join(hostile.ask() for _ in range(20)))

        self.assertEqual(self.wire.producerState, "paused")
        answered = len(self.wire.take())
        self.assertTrue(0 < answered < 10 * 27, answered)
        self.reactor_turn()
        self.assertEqual(len(self.wire.take()), answered)

    def test_listeners_share_the_turns_of_their_reactor(self) -> None:
        """Two that are kept busy take no more of it than one; and memory that connections of both left is counted together."""
        factories = [
            TLSFactory(
                PlainFactory(),
                HandshakeSettings(context=lambda _: self.context),
                clock,
                refused=self.refused,
            )
            for clock in (self.clock, self.clock, Clock())
        ]
        first, second, other = factories

        self.assertIs(first.turns, second.turns)
        self.assertIs(first.trimmer, second.trimmer)
        self.assertIsNot(first.turns, other.turns)
        self.assertIsNot(first.trimmer, other.trimmer)

    def test_a_protocol_that_raises_in_its_turn_ends_its_connection(self) -> None:
        """It is logged and counted as what a protocol raises at once, and the protocol is told of it."""
        protocol = self.connect_plain()
        for _ in range(20):
            self.client.write(b"x")
        self.server.dataReceived(self.client.give())
        protocol.on_data = lambda _: 1 / 0
        self.reactor_turn()
        self.assertTrue(self.wire.aborted)
        self.server.connectionLost(Failure(ConnectionAborted()))

        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.wire.why, protocol.events[-1]), ("failed", ZeroDivisionError))

    def test_a_producer_that_raises_in_a_turn_stops_no_other_turn(self) -> None:
        """It raises when what was kept is sent, after the protocol has returned."""

        class Raising(Wire):
            def write(self, data: bytes) -> None:
                raise ZeroDivisionError

        protocol = self.connect_plain()
        for _ in range(20):
            self.client.write(b"x")
        self.server.dataReceived(self.client.give())
        protocol.on_data = lambda _: protocol.transport.write(b"y")
        self.wire.__class__ = Raising
        self.now += 1
        others: list[str] = []
        self.factory.turns.later(lambda: others.append("served"))
        self.reactor_turn()
        self.reactor_turn()

        self.assertEqual(others, ["served"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.wire.why, self.wire.aborted), ("failed", True))

    def test_a_connection_that_ends_has_no_more_turns(self) -> None:
        """What it sent is forgotten."""
        protocol = self.connect_plain()
        for _ in range(20):
            self.client.write(b"x")
        self.server.dataReceived(self.client.give())
        heard = len(protocol.events)
        self.server.connectionLost(DONE)
        self.reactor_turn()

        self.assertEqual(len(protocol.events), heard + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PausingTests(TLSCase):
    """A protocol that wants no more for now."""

    def test_it_is_handed_nothing_until_it_resumes(self) -> None:
        """Neither what is to come nor what has come in the same read; then it comes in order, and not from inside the call."""
        protocol = self.connect_plain()
        protocol.on_data = lambda _: protocol.transport.pauseProducing()
        for letter in (b"a", b"b", b"c"):
            self.client.write(letter)
        self.client.finish()
        self.server.dataReceived(self.client.give())
        for heard in ([b"a"], [b"a", b"b"], [b"a", b"b", b"c"]):
            self.clock.advance(0)
            self.assertEqual(protocol.events[2:], heard)
            self.assertEqual(self.wire.producerState, "paused")
            self.assertGreater(self.wire.held, 0)  # counted as what waits
            protocol.transport.resumeProducing()
            self.assertEqual(protocol.events[2:], heard)
        self.clock.advance(0)

        self.assertEqual(protocol.events[5:], ["read lost"])
        self.assertEqual((self.wire.producerState, self.wire.held), ("producing", 0))

    def test_it_may_pause_before_anything_comes(self) -> None:
        """Then it is the transport that waits."""
        protocol = self.connect_plain()
        protocol.transport.pauseProducing()
        self.assertEqual(self.wire.producerState, "paused")
        protocol.transport.resumeProducing()

        self.assertEqual(self.wire.producerState, "producing")


class SharedBuffersTests(TLSCase):
    """Sessions share OpenSSL's buffers, and never meet in them."""

    def test_connections_served_from_inside_each_other_stay_apart(self) -> None:
        """A protocol that is handed data makes another connection write, and be handed its own."""
        first, first_client, first_wire = self.connect_plain(), self.client, self.wire
        first_server, self.wire = self.server, Wire()
        second = self.connect_plain()

        def serve_the_other(data: bytes) -> None:
            first.transport.write(b"first before ")
            second.transport.write(b"second ")
            self.client.write(b"for the second")
            self.server.dataReceived(self.client.give())
            first.transport.write(b"first after")

        first.on_data = serve_the_other
        second.on_data = second.transport.write
        first_client.write(b"for the first")
        first_client.write(b"!")
        first_server.dataReceived(first_client.give())
        first_client.take(first_wire.take())
        self.client.take(self.wire.take())

        self.assertEqual(first.events[2:], [b"for the first", b"!"])
        self.assertEqual(first_client.heard, b"first before first after" * 2)
        self.assertEqual(self.client.heard, b"second for the second" * 2)
        self.assertEqual((first_client.error, self.client.error), (None, None))

    def test_new_keys_in_two_reads_while_much_is_written(self) -> None:
        """Wherever the record that asks for them is cut: what is written before, between and behind its halves arrives, and so does input.

        Between the halves another connection is served, and new keys are asked for there in two halves, too.
        """
        ends = []
        for name in ("first", "second"):
            folder = Path(self.folder) / name
            folder.mkdir()
            self.wire, context = Wire(), client_context(self.authority, ssl.TLSVersion.TLSv1_3)
            hostile, factory = KeyUpdater(context, str(folder)), PlainFactory()
            self.serve(factory)
            self.client = Client(context)
            self.client.take()
            self.turn()
            ends.append((hostile, self.client, self.server, self.wire, factory.built[0]))
        written: list[list[bytes]] = [[], []]
        sent = [0, 0]

        def write(which: int, size: int) -> None:
            data = bytes([len(written[which]) % 256]) * size
            written[which].append(data)
            ends[which][4].transport.write(data)

        length = 5 + 5 + 1 + 16  # header, message, type, tag
        for cut in range(1, length):
            records = [hostile.ask() for hostile, *_ in ends]
            self.assertEqual({length}, set(map(len, records)))
            for half in (slice(cut), slice(cut, None)):
                for which, (_, _, server, _, _) in enumerate(ends):
                    write(which, 70_000)
                    server.dataReceived(records[which][half])
                    self.assertEqual((_IN.pending, _OUT.pending), (0, 0))
                    write(which, 1)
            for which, (hostile, client, server, wire, _) in enumerate(ends):
                server.dataReceived(hostile.say(bytes([cut])))
                records_out = wire.take()
                sent[which] += len(records_out)
                client.take(records_out)

        for which, (_, client, _, wire, protocol) in enumerate(ends):
            self.assertEqual((client.error, client.heard == b"".join(written[which])), (None, True))
            self.assertEqual(protocol.events[2:], [bytes([cut]) for cut in range(1, length)])
            self.assertEqual((wire.aborted, wire.disconnecting), (False, False))
            # Each was answered, by a record like it; in 70 000 bytes are five records.
            data = sum(map(len, written[which])) + 2 * (length - 1) * 6 * (5 + 1 + 16)
            self.assertEqual(sent[which], data + (length - 1) * length)

    def test_nothing_is_left_in_them(self) -> None:
        """Not of a handshake that failed, of a damaged record, of a part of one, or of a write after an end."""
        for last in (b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\x00\x20" + bytes(5), b"garbage" * 9):
            self.wire = Wire()
            protocol = self.connect_plain()
            self.server.dataReceived(last)
            protocol.transport.write(b"too late")
            self.assertEqual((_IN.pending, _OUT.pending), (0, 0))
        sent: list[bytes] = []
        session = Session(self.context, sent.append)
        self.assertRaises(ssl.SSLError, session.shake, b"GET / HTTP/1.1\r\n\r\n" * 10)

        self.assertEqual((_IN.pending, _OUT.pending), (0, 0))
