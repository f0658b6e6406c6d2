"""Tests of how direct connections close, and of what they do where there is no epoll."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from functools import partial

from twisted.internet.error import ConnectionLost
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from echosvc.transports.connection import LITTLE, READ_TURN, SMALL_READ
from tests.transports.test_connection import Heard
from tests.transports.test_stream import RecorderFactory, StreamCase
from tests.waiting import until


class Closing(Heard):
    """Does some things when it hears something; remembers the order of what happens.

    Args:
        acts: What to do.
    """

    def __init__(self, *acts: Callable[[], object]) -> None:
        super().__init__()
        self.acts = acts
        self.order: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        """Do it."""
        for act in self.acts:
            act()
        self.order.append("done")

    def connectionLost(self, reason: Failure = Failure(ConnectionLost())) -> None:  # noqa: B008  # as Twisted's
        """Remember."""
        self.order.append("lost")


class ClosingTests(StreamCase):
    """A connection with nothing to send closes in the same turn."""

    def setUp(self) -> None:
        """Connect."""
        super().setUp()
        self.client, self.transport = self.connect(self.open_port(RecorderFactory()))

    def hear(self, *acts: Callable[[], object]) -> list[str]:
        """Let a protocol hear something and do things; return what has happened to it after this turn."""
        self.transport.protocol = protocol = Closing(*acts)
        self.client.send(b"x")
        self.hub.doRead()
        return protocol.order

    def test_in_the_same_turn_but_not_in_the_middle_of_the_protocol(self) -> None:
        """The protocol is told of its end after it has returned, and nobody waits for room."""
        order = self.hear(partial(self.transport.write, b"bye"), self.transport.loseConnection)

        self.assertEqual(order, ["done", "lost"])
        self.assertEqual(self.client.recv(100) + self.client.recv(100), b"bye")
        self.assertNotIn(self.transport, self.hub.getReaders() + self.hub.getWriters())

    def test_what_is_written_after_it_was_closed_is_sent(self) -> None:
        """As Twisted has it: closing waits for what is written in the same breath."""
        order = self.hear(self.transport.loseConnection, partial(self.transport.write, b"ps"))
        self.assertEqual(order, ["done"])
        self.hub.doRead()

        self.assertEqual(self.client.recv(100) + self.client.recv(100), b"ps")
        self.assertEqual(order, ["done", "lost"])

    def test_aborted_after_it_was_closed(self) -> None:
        """The abort wins."""
        order = self.hear(self.transport.loseConnection, self.transport.abortConnection)
        self.assertEqual(order, ["done"])
        self.reactor.advance(0)

        self.assertEqual(order, ["done", "lost"])
        self.assertRaises(ConnectionResetError, self.client.recv, 100)

    def test_a_streaming_producer_does_not_hold_it(self) -> None:
        """As Twisted has it: only a paused producer, or one that must be asked, does."""
        self.transport.registerProducer(self.transport, True)

        self.assertEqual(self.hear(self.transport.loseConnection), ["done", "lost"])

    def test_one_that_has_sent_much_waits_for_room(self) -> None:
        """The kernel's buffer may be full: the wait for it is one that can be given up."""
        order = self.hear(partial(self.transport.write, bytes(LITTLE + 1)), self.transport.loseConnection)
        self.assertEqual(self.hub.getWriters(), [self.transport])
        self.hub.doRead()

        self.assertEqual(order, ["done", "lost"])

    def test_outside_a_turn_it_waits_for_room(self) -> None:
        """A timer that closes a connection is not in a turn of the hub."""
        self.transport.loseConnection()
        self.assertEqual(self.hub.getWriters(), [self.transport])
        self.hub.doRead()

        self.assertTrue(self.transport.disconnected)


class WithoutEpollTests(StreamCase):
    """Where there is no epoll the reactor is the hub: it tells what is there, again and again."""

    def setUp(self) -> None:
        """Connect, on a system without epoll."""
        self.patch(select, "epoll", None)
        del select.epoll
        super().setUp()
        self.assertIs(self.hub, self.reactor)
        self.client, self.transport = self.connect(self.open_port(RecorderFactory()))

    def test_bulk_is_read_to_the_end(self) -> None:
        """What one call leaves is told again."""
        self.transport.protocol = heard = Heard()
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * READ_TURN)
        self.client.sendall(bytes(READ_TURN + SMALL_READ))
        for _ in until(lambda: not select.select([self.transport], [], [], 0.1)[0]):
            self.transport.doRead()
            self.assertIn(self.transport, self.reactor.getReaders())

        self.assertEqual(sum(len(piece) for piece in heard.pieces), READ_TURN + SMALL_READ)

    def test_closing_waits_for_room(self) -> None:
        """There is no turn with whose end it could end."""
        self.transport.loseConnection()
        self.assertIn(self.transport, self.reactor.getWriters())

        self.assertIs(self.transport.doWrite(), CONNECTION_DONE)
