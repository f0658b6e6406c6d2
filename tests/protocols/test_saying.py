"""Tests of what says one thing: that it arrives, and that the connection ends."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IUDPTransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols.saying import CLOSING, PATIENCE, DatagramSaying, Saying, SayingFactory
from tests.doubles import DatagramTransport
from tests.transports.test_stream import StreamCase

GONE = Failure(ConnectionDone())


class HalfClosingTransport(StringTransport):
    """A transport that can close its own direction, as TCP's can."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        """Remember that nothing more will be written."""
        self.half_closed = True


class EndingTransport(StringTransport):
    """A transport that has lost its connection when loseConnection returns, as Twisted's may."""

    saying: Saying

    def loseConnection(self) -> None:
        """Tell the protocol at once."""
        super().loseConnection()
        self.saying.connectionLost(GONE)


class SayingTests(SynchronousTestCase):
    """A connection is told one thing, and then it ends, whatever the client does."""

    def setUp(self) -> None:
        """Make the clock, and connect a client to something that says hello."""
        self.clock = Clock()
        self.factory = SayingFactory(lambda: b"hello\r\n", reactor=self.clock)
        self.transport = HalfClosingTransport()
        self.saying = self.factory.buildProtocol(None)
        self.saying.makeConnection(self.transport)

    def test_says_it_and_no_more(self) -> None:
        """Our direction is closed at once; the other one stays open, so that nothing is reset."""
        self.assertEqual(self.transport.value(), b"hello\r\n")
        self.assertTrue(self.transport.half_closed)
        self.assertFalse(self.transport.disconnecting)

    def test_throws_away_what_is_sent(self) -> None:
        """Input is no question, and gets no second answer."""
        self.saying.dataReceived(b"what?\r\n")
        self.saying.writeConnectionLost()

        self.assertEqual(self.transport.value(), b"hello\r\n")
        self.assertFalse(self.transport.disconnecting)

    def test_closes_when_the_client_has_finished(self) -> None:
        """At the end of the client's input, of which Twisted tells those who know half-close."""
        self.assertTrue(IHalfCloseableProtocol.providedBy(self.saying))

        self.saying.readConnectionLost()

        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)

    def test_a_client_that_sends_for_ever_is_cut(self) -> None:
        """What it sends does not win it any time."""
        for _ in range(19):
            self.clock.advance(PATIENCE / 20)
            self.saying.dataReceived(b"and another thing")
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(PATIENCE / 20 + 0.001)

        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)

    def test_a_close_that_does_not_end_is_aborted(self) -> None:
        """Some transports wait for the client to agree; whether it has finished before makes no difference."""
        for finished in (False, True):
            self.setUp()
            if finished:
                self.saying.readConnectionLost()
            self.clock.pump([PATIENCE, CLOSING - 0.1])
            self.assertFalse(self.transport.disconnected)
            self.clock.advance(0.1)

            self.assertTrue(self.transport.disconnected)

    def test_leaves_no_timer_behind(self) -> None:
        """However early or late the connection ends."""
        for waits in ([], [PATIENCE / 2], [PATIENCE], [PATIENCE, CLOSING / 2], [PATIENCE, CLOSING]):
            self.setUp()
            self.clock.pump(waits)
            self.saying.connectionLost(Failure(ConnectionAborted()))

            self.assertEqual(self.clock.getDelayedCalls(), [], waits)

    def test_leaves_no_timer_behind_if_the_connection_ends_at_once(self) -> None:
        """Nothing is waited for that has happened before loseConnection returns."""
        transport = EndingTransport()
        transport.saying = self.factory.buildProtocol(None)
        self.saying.connectionLost(GONE)
        transport.saying.makeConnection(transport)

        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_survives_losing_a_connection_that_was_never_made(self) -> None:
        """There is no timer then."""
        self.factory.buildProtocol(None).connectionLost(GONE)

    def test_closes_both_directions_where_it_cannot_close_one(self) -> None:
        """On a transport without half-close; what does not end is aborted there, too."""
        transport = StringTransport()
        self.factory.buildProtocol(None).makeConnection(transport)

        self.assertEqual(transport.value(), b"hello\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.disconnected)
        self.clock.advance(CLOSING)
        self.assertTrue(transport.disconnected)

    def test_does_not_close_a_direction_behind_the_back_of_a_layer(self) -> None:
        """A layer as Twisted's TLS hands on what it lacks to the connection under it, which is not ours to close."""
        wrapping = WrappingFactory(self.factory)
        wrapper = wrapping.buildProtocol(None)
        self.assertIsInstance(wrapper, ProtocolWrapper)
        wrapper.makeConnection(self.transport)
        self.transport.half_closed = False
        wrapping.buildProtocol(None).makeConnection(self.transport)

        self.assertFalse(self.transport.half_closed)
        self.assertTrue(self.transport.disconnecting)

    def test_says_what_is_to_be_said_now(self) -> None:
        """Each connection is told what holds when it is made."""
        words = iter([b"one", b"two"])
        factory = SayingFactory(lambda: next(words), reactor=self.clock)
        told = []
        for _ in range(2):
            transport = StringTransport()
            factory.buildProtocol(None).makeConnection(transport)
            told.append(transport.value())

        self.assertEqual(told, [b"one", b"two"])

    def test_the_reactor_is_that_of_the_program(self) -> None:
        """Unless another one is given; it is looked for when it is needed."""
        from twisted.internet import reactor  # noqa: PLC0415  # as late as the factory does

        factory = SayingFactory(lambda: b"")
        self.assertIsNone(factory.reactor)
        factory.buildProtocol(None)

        self.assertIs(factory.reactor, reactor)

    def test_factory_is_plain_twisted(self) -> None:
        """The factory needs nothing of echosvc and writes no log lines of its own."""
        self.assertIsInstance(self.factory, Factory)
        self.assertFalse(SayingFactory.noisy or DatagramSaying.noisy)


class ArrivalTests(StreamCase):
    """On real sockets: the answer arrives."""

    def say(self, words: bytes = b"hello\r\n") -> socket.socket:
        """Connect a client that has sent much which nobody has read when it is answered."""
        factory: Any = SayingFactory(lambda: words, reactor=self.reactor)
        port = self.open_port(factory)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        client.sendall(bytes(100_000))
        port.doRead()
        return client

    def turn(self, *, until_connections: int) -> None:
        """Serve until so many connections are left."""
        for _ in range(100):
            self.hub.doRead()
            if len(self.hub.getReaders()) - 1 <= until_connections and not self.hub.getWriters():
                return
        self.fail(f"still there: {self.hub.getReaders()}")

    def test_is_not_reset_by_unread_input(self) -> None:
        """A client that has sent something gets the answer and the end of the stream, not a reset."""
        client = self.say()
        self.turn(until_connections=1)

        self.assertEqual(client.recv(100), b"hello\r\n")
        self.assertEqual(client.recv(100), b"")

        client.sendall(b"thank you")
        client.shutdown(socket.SHUT_WR)
        self.turn(until_connections=0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_ends_a_connection_that_stays(self) -> None:
        """A client that has its answer and neither closes nor sends is closed."""
        client = self.say()
        self.turn(until_connections=1)
        self.reactor.advance(PATIENCE)

        self.assertEqual(client.recv(100) + client.recv(100), b"hello\r\n")
        self.turn(until_connections=0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_client_that_has_finished_first_is_answered(self) -> None:
        """As ``nc -N host 13 </dev/null`` does."""
        factory: Any = SayingFactory(lambda: b"hello\r\n", reactor=self.reactor)
        port = self.open_port(factory)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        client.shutdown(socket.SHUT_WR)
        port.doRead()
        self.turn(until_connections=0)

        self.assertEqual(client.recv(100) + client.recv(100), b"hello\r\n")
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class DatagramSayingTests(SynchronousTestCase):
    """Each datagram is answered with one."""

    def test_answers_each_where_it_came_from(self) -> None:
        """The empty one, too, and each with what is to be said now."""
        words = iter([b"one", b"two"])
        transport = DatagramTransport()
        saying = DatagramSaying(lambda: next(words))
        saying.makeConnection(cast(IUDPTransport, transport))
        saying.datagramReceived(b"", ("192.0.2.1", 1025))
        saying.datagramReceived(b"what?", ("192.0.2.2", 1026))

        self.assertEqual(transport.sent, [(b"one", ("192.0.2.1", 1025)), (b"two", ("192.0.2.2", 1026))])
