"""Tests of stream connections in memory: they do what Twisted's TCP connections do."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from echosvc.protocols import EchoFactory, find
from echosvc.testing import MemoryClient, MemoryListener, UnboundedQueue, _transport
from tests.waiting import until


class Recorder(Protocol):
    """Remembers everything that it is told."""

    transport: Any

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connectionMade(self) -> None:
        """Remember the beginning."""
        self.told.append("made")

    def dataReceived(self, data: bytes) -> None:
        """Remember a segment."""
        self.told.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Remember the end."""
        self.told.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """Remembers half ends, too."""

    def readConnectionLost(self) -> None:
        """Remember the end of the input."""
        self.told.append("read")

    def writeConnectionLost(self) -> None:
        """Remember the end of the output."""
        self.told.append("write")


class Producer:
    """Remembers what a transport wants of it, and writes when it is asked to.

    Args:
        transport: Where it writes.
        piece: What it writes each time.
    """

    def __init__(self, transport: Any, piece: bytes = b"") -> None:
        self.transport = transport
        self.piece = piece
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        """Remember."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Remember, and write."""
        self.told.append("resume")
        if self.piece:
            self.transport.write(self.piece)

    def stopProducing(self) -> None:
        """Remember."""
        self.told.append("stop")


class StreamCase(SynchronousTestCase):
    """Connects a client to a recorder."""

    def connect(self, kind: type[Recorder] = HalfRecorder, **options: Any) -> MemoryClient:
        """Connect a client."""
        factory: Factory[Any] = Factory.forProtocol(kind)
        factory.noisy = False
        self.listener = MemoryListener(factory)
        self.clock = self.listener.clock
        client = self.listener.connect(**options)
        self.told = client.protocol.told  # type: ignore[attr-defined]  # it is a recorder
        return client


class SendingTests(StreamCase):
    """What a client sends."""

    def test_each_send_is_a_segment(self) -> None:
        """The protocol is told of each by itself, at once."""
        client = self.connect()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        client.send(b"one")
        client.send(b"")
        client.send(bytearray(b"two"))  # type: ignore[arg-type]  # as good as bytes

        self.assertEqual(self.told, ["made", b"one", b"two"])

    def test_a_large_segment_arrives_in_pieces(self) -> None:
        """As from a kernel, which is asked for 64 KiB at a time."""
        client = self.connect()
        client.send(b"x" * 100_000)

        self.assertEqual([len(each) for each in self.told[1:]], [65_536, 34_464])

    def test_what_is_not_read_waits(self) -> None:
        """A server that is paused reads when it resumes, in its next turn."""
        client = self.connect()
        client.transport.pauseProducing()
        client.send(b"later")
        self.assertEqual((client.waiting, client.transport.is_reading), (5, False))
        client.transport.resumeProducing()
        self.assertEqual(self.told, ["made"])
        self.clock.advance(0)

        self.assertEqual(self.told, ["made", b"later"])
        self.assertEqual((client.waiting, client.transport.is_reading), (0, True))

    def test_what_a_client_does_takes_the_place_of_the_next_turn(self) -> None:
        """Nothing is left on the clock that only the connection has asked for."""
        client = self.connect()
        client.transport.write(b"answer")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        client.send(b"question")
        client.transport.loseConnection()
        client.send_eof()
        client.transport.loseWriteConnection()

        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_of_the_input(self) -> None:
        """A protocol that knows half-close is told, and can still answer."""
        client = self.connect()
        client.send(b"question")
        client.send_eof()
        client.transport.write(b"answer")

        self.assertEqual(self.told, ["made", b"question", "read"])
        self.assertEqual(client.receive(), b"answer")
        self.assertFalse(client.is_closed)

    def test_the_end_of_the_input_drops_the_queue_of_a_protocol_that_does_not_know_it(self) -> None:
        """That is what Twisted does, and why a protocol has to know."""
        client = self.connect(Recorder, window=3)
        client.transport.write(b"answer")
        client.send_eof()

        self.assertEqual(self.told, ["made", ConnectionDone])
        self.assertEqual((client.receive(), client.receive()), (b"ans", b""))
        self.assertTrue(client.is_closed)

    def test_a_client_may_answer_in_the_middle_of_something(self) -> None:
        """What it sends from a callback is told next, and not within that."""
        client = self.connect()
        original = HalfRecorder.dataReceived

        def answer(recorder: HalfRecorder, data: bytes) -> None:
            if data == b"one":
                client.send(b"two")
            original(recorder, data)

        self.patch(HalfRecorder, "dataReceived", answer)
        client.send(b"one")

        self.assertEqual(self.told, ["made", b"one", b"two"])

    def test_an_abort(self) -> None:
        """The protocol learns that the connection is lost; what either side had not read is gone."""
        client = self.connect()
        client.transport.write(b"answer")
        client.send(b"question")
        client.abort()
        client.abort()

        self.assertEqual(self.told, ["made", b"question", ConnectionLost])
        self.assertEqual(client.receive(), b"")

    def test_an_abort_is_seen_only_by_who_looks(self) -> None:
        """A server that neither reads nor writes learns of it when it does."""
        client = self.connect()
        client.transport.pauseProducing()
        client.send(b"unread")
        client.abort()
        self.assertEqual((client.is_closed, client.waiting), (False, 0))
        client.transport.write(b"are you there?")
        self.clock.advance(0)

        self.assertEqual(self.told, ["made", ConnectionLost])

    def test_sending_to_a_server_that_has_closed(self) -> None:
        """It is lost, as on a network."""
        client = self.connect()
        client.transport.loseConnection()
        self.assertTrue(client.is_closed)
        client.send(b"hello?")
        client.send_eof()

        self.assertEqual(client.waiting, 0)
        self.assertEqual(self.told, ["made", ConnectionDone])

    def test_a_client_that_is_used_wrongly_says_so(self) -> None:
        """The message says how it is done."""
        client = self.connect()
        with self.assertRaisesRegex(
            TypeError, r"send\(\) takes bytes, not str; write b'…', or encode the text"
        ):
            client.send("text")  # type: ignore[arg-type]  # the point
        with self.assertRaisesRegex(TypeError, r"send\(\) takes bytes, not int$"):
            client.send(5)  # type: ignore[arg-type]  # the point
        with self.assertRaisesRegex(ValueError, "limit is a number of bytes above zero, not 0"):
            client.receive(0)
        client.send_eof()
        with self.assertRaisesRegex(ValueError, r"send\(\) after send_eof\(\): .* connect\(\) another one"):
            client.send(b"x")
        client.abort()
        with self.assertRaisesRegex(ValueError, r"send_eof\(\) after abort\(\): .* connect\(\) another one"):
            client.send_eof()


class ReceivingTests(StreamCase):
    """What a client receives, and how a server waits for it."""

    def test_no_more_arrives_than_the_client_has_room_for(self) -> None:
        """The rest is queued, and comes as the client takes what is there."""
        client = self.connect(window=4)
        client.transport.writeSequence([b"abc", b"def"])

        self.assertEqual(client.receive(3), b"abc")
        self.assertEqual(client.transport.queued, 0)
        self.assertEqual(client.receive(), b"def")

    def test_a_push_producer_is_paused_and_resumed(self) -> None:
        """At 64 KiB in the queue, and when it is empty again."""
        client = self.connect(window=10)
        producer = Producer(client.transport)
        client.transport.registerProducer(producer, True)  # type: ignore[arg-type]  # it does what one must
        client.transport.write(b"x" * 65_547)
        self.assertEqual((producer.told, client.transport.queued), (["pause"], 65_547))
        for _ in until(lambda: not client.transport.queued):
            client.receive()

        self.assertEqual(producer.told, ["pause", "resume"])

    def test_a_pull_producer_is_asked_while_there_is_room(self) -> None:
        """And not when there is none."""
        client = self.connect(window=10)
        producer = Producer(client.transport, b"1234")
        client.transport.registerProducer(producer, False)  # type: ignore[arg-type]  # it does what one must

        self.assertEqual(client.receive(), b"1234123412")
        self.assertEqual(client.receive(), b"3412341234")
        self.assertEqual(producer.told, ["resume"] * 8)

    def test_the_producer_is_stopped_when_the_connection_is_lost(self) -> None:
        """It must not write any more."""
        client = self.connect()
        producer = Producer(client.transport)
        client.transport.registerProducer(producer, True)  # type: ignore[arg-type]  # it does what one must
        client.abort()

        self.assertEqual(producer.told, ["stop"])

    def test_a_protocol_that_writes_without_bound_is_stopped(self) -> None:
        """Before it has taken all memory, with a word about how it is done."""
        self.patch(_transport, "MAX_QUEUE", 100)
        transport = self.connect().transport
        with self.assertRaisesRegex(UnboundedQueue, "101 bytes wait .* Register a producer"):
            transport.write(b"x" * 101)
        with self.assertRaises(UnboundedQueue):
            transport.writeSequence([b"x"])


class ClosingTests(StreamCase):
    """How a server ends a connection."""

    def test_closing_delivers_what_is_queued(self) -> None:
        """And then ends, in the next turn."""
        client = self.connect(window=3)
        client.transport.write(b"bye")
        client.transport.write(b"bye")
        client.transport.loseConnection()
        self.assertEqual(self.told, ["made"])

        self.assertEqual((client.is_closed, client.is_finished), (False, False))
        self.assertEqual((client.receive(), client.is_closed), (b"bye", True))
        self.assertEqual((client.receive(), client.is_reset), (b"bye", False))
        self.assertEqual(self.told, ["made", ConnectionDone])

    def test_closing_waits_for_a_producer(self) -> None:
        """As in Twisted, which makes a trap of it: a producer has to be unregistered first."""
        client = self.connect()
        client.transport.registerProducer(client.transport, True)
        client.transport.loseConnection()
        client.transport.doWrite()
        self.assertFalse(client.is_closed)
        client.transport.unregisterProducer()

        self.assertTrue(client.is_closed)

    def test_closing_with_something_unread_resets(self) -> None:
        """As a kernel does; over a network, what was sent before may then be lost."""
        client = self.connect()
        client.transport.pauseProducing()
        client.send(b"unread")
        client.transport.loseConnection()

        self.assertEqual((client.is_reset, client.waiting), (True, 0))

    def test_closing_one_direction(self) -> None:
        """The client may still send; a second close ends it."""
        client = self.connect()
        client.transport.loseWriteConnection()
        self.assertEqual((client.is_finished, client.is_closed), (True, False))
        client.send(b"still here")
        client.transport.loseConnection()

        self.assertEqual(self.told, ["made", "write", b"still here", ConnectionDone])
        self.assertTrue(client.is_closed)

    def test_closing_one_direction_of_a_protocol_that_does_not_know_it(self) -> None:
        """It is not told."""
        client = self.connect(Recorder)
        client.transport.loseWriteConnection()

        self.assertTrue(client.is_finished)
        self.assertEqual(self.told, ["made"])

    def test_aborting_forgets_what_is_queued(self) -> None:
        """The protocol is told in the next turn, once."""
        client = self.connect(window=1)
        client.transport.write(b"never")
        client.transport.abortConnection()
        client.transport.abortConnection()
        self.assertEqual(self.told, ["made"])
        self.clock.advance(0)
        client.transport.connectionLost(Failure(ConnectionDone()))

        self.assertEqual(self.told, ["made", ConnectionAborted])
        self.assertTrue(client.is_reset)
        self.assertEqual(client.receive(), b"")

    def test_a_timer_closes_without_the_client(self) -> None:
        """What a timer asks for has happened when the clock has advanced."""
        client = self.connect()
        client.transport.reactor.callLater(60, client.transport.loseConnection)
        self.clock.advance(60)

        self.assertEqual(self.told, ["made", ConnectionDone])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RaisingTests(StreamCase):
    """What a protocol raises is logged once, and closes its connection."""

    def raises(self, where: str) -> MemoryClient:
        """Connect to a protocol that raises."""

        def fail(*_: object) -> None:
            raise RuntimeError("bug")

        self.patch(HalfRecorder, where, fail)
        return self.connect()

    def test_at_the_beginning(self) -> None:
        """Others could still connect."""
        client = self.raises("connectionMade")

        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((self.told, client.is_closed), ([RuntimeError], True))

    def test_on_data(self) -> None:
        """What follows is not read."""
        client = self.raises("dataReceived")
        client.send(b"x")

        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.told, ["made", RuntimeError])

    def test_at_the_end_of_the_input(self) -> None:
        """The other direction ends, too."""
        client = self.raises("readConnectionLost")
        client.send_eof()

        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.told, ["made", RuntimeError])

    def test_at_the_end_of_the_output(self) -> None:
        """Likewise."""
        client = self.raises("writeConnectionLost")
        client.transport.loseWriteConnection()

        self.assertTrue(client.is_closed)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_at_the_end(self) -> None:
        """There is nothing left to close."""
        client = self.raises("connectionLost")
        client.abort()

        self.assertTrue(client.is_closed)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class ListenerTests(SynchronousTestCase):
    """A listener in memory."""

    def test_serves_a_wire_protocol(self) -> None:
        """An echo, for example."""
        listener = MemoryListener(find("echo"))
        client = listener.connect()
        client.send(b"hello")
        client.send_eof()

        self.assertEqual((client.receive(), client.is_closed), (b"hello", True))
        self.assertEqual(listener.clock.getDelayedCalls(), [])

    def test_serves_a_factory_on_a_clock(self) -> None:
        """The protocols' timers are on that clock."""
        clock = Clock()
        client = MemoryListener(EchoFactory(), clock=clock).connect()

        self.assertIs(client.transport.reactor, clock)

    def test_every_client_has_an_address(self) -> None:
        """Of its own, or the one it is given."""
        listener = MemoryListener(EchoFactory())
        one, two = listener.connect(), listener.connect()
        given = listener.connect(peer=IPv4Address("TCP", "203.0.113.7", 7))

        self.assertNotEqual(one.transport.getPeer(), two.transport.getPeer())
        self.assertEqual(given.transport.getPeer(), IPv4Address("TCP", "203.0.113.7", 7))
        self.assertEqual(one.transport.getHost(), two.transport.getHost())
        self.assertEqual(listener.clients, [one, two, given])

    def test_a_factory_may_refuse(self) -> None:
        """Who is refused is closed, at once."""
        factory = EchoFactory()
        self.patch(factory, "buildProtocol", lambda _: None)
        client = MemoryListener(factory).connect()
        client.send(b"hello?")

        self.assertEqual((client.receive(), client.is_closed), (b"", True))

    def test_a_factory_may_raise(self) -> None:
        """So is who meets with a bug; it is logged."""

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        factory = EchoFactory()
        self.patch(factory, "buildProtocol", fail)
        client = MemoryListener(factory).connect()

        self.assertTrue(client.is_closed)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_tells_its_factory_when_it_begins_and_ends(self) -> None:
        """As a port does."""
        factory = EchoFactory()
        listener = MemoryListener(factory)
        self.assertEqual(factory.numPorts, 1)
        listener.stop()

        self.assertEqual(factory.numPorts, 0)

    def test_is_used_wrongly(self) -> None:
        """A protocol class is no factory, a window has room."""
        with self.assertRaisesRegex(TypeError, r"not <class .*Echo'>; Factory.forProtocol"):
            MemoryListener(EchoFactory.protocol)  # type: ignore[arg-type]  # the point
        with self.assertRaisesRegex(ValueError, "window is a number of bytes above zero, not 0"):
            MemoryListener(EchoFactory()).connect(window=0)

    def test_the_transport_is_what_it_says(self) -> None:
        """It has what Twisted's interfaces ask for."""
        transport = MemoryListener(EchoFactory()).connect().transport

        for interface in (ITCPTransport, IConsumer, IPushProducer):
            verifyObject(interface, transport)
        transport.setTcpNoDelay(False)
        transport.setTcpKeepAlive(False)
        self.assertFalse(transport.getTcpNoDelay() or transport.getTcpKeepAlive())
