"""Tests of the hub, on socket pairs and a reactor that the test turns by hand."""

from __future__ import annotations

import os
import select
import socket
from typing import Any
from unittest import skipUnless

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from echosvc.transports.hub import Hub, hub_for
from tests.doubles import FakeReactor


class Member:
    """One end of a socket pair, which remembers what the hub tells it.

    Args:
        case: Closes it in the end.
        edge_triggered: As `DirectConnection` has it.
    """

    def __init__(self, case: SynchronousTestCase, *, edge_triggered: bool = False) -> None:
        self.edge_triggered = edge_triggered
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        case.addCleanup(self.sock.close)
        case.addCleanup(self.peer.close)
        self.fileno = self.sock.fileno
        self.read: list[bytes] = []
        self.writes = 0
        self.lost: Failure | None = None
        self.on_read: Any = lambda: None
        self.on_write: Any = lambda: None

    def doRead(self) -> Exception | None:
        """Read once, if there is anything."""
        try:
            data = self.sock.recv(1000)
        except BlockingIOError:
            return None
        self.read.append(data)
        result: Exception | None = self.on_read()
        return result if data else CONNECTION_DONE

    def doWrite(self) -> Exception | None:
        """Count."""
        self.writes += 1
        result: Exception | None = self.on_write()
        return result

    def connectionLost(self, reason: Failure) -> None:
        """Remember."""
        self.lost = reason

    def logPrefix(self) -> str:
        """Name it in logs."""
        return "member"


@implementer(IHalfCloseableDescriptor)
class HalfCloseableMember(Member):
    """One that can go on when the peer has finished."""

    finished = False

    def readConnectionLost(self, reason: Failure) -> None:
        """Remember."""
        self.finished = True

    def writeConnectionLost(self, reason: Failure) -> None:
        """Nothing."""


@skipUnless(hasattr(select, "epoll"), "needs epoll")
class HubCase(SynchronousTestCase):
    """Makes a hub, and members of it."""

    def setUp(self) -> None:
        """Make the hub."""
        self.reactor = FakeReactor()
        self.hub = hub_for(self.reactor)
        self.addCleanup(self.hub._epoll.close)

    def member(self, **options: bool) -> Member:
        """A member that wants to read."""
        member = Member(self, **options)
        self.hub.addReader(member)
        return member


class HubTests(HubCase):
    """Whoever is ready is served, and nobody else."""

    def test_is_one_for_each_reactor(self) -> None:
        """Everything on one reactor shares one hub, and a hub's hub is itself."""
        self.assertIs(hub_for(self.reactor), self.hub)
        self.assertIs(hub_for(self.hub), self.hub)
        self.assertIsNot(hub_for(FakeReactor()), self.hub)

    def test_is_the_reactor_where_there_is_no_epoll(self) -> None:
        """On other systems the reactor itself is used, and nothing else changes."""
        self.patch(select, "epoll", None)
        del select.epoll

        self.assertIs(hub_for(reactor := FakeReactor()), reactor)

    def test_is_a_reactor_to_its_transports(self) -> None:
        """It watches descriptors, and hands on everything else."""
        verifyObject(IReactorFDSet, self.hub)
        self.hub.callLater(5, lambda: None)

        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)

    def test_joins_with_its_first_member_and_leaves_with_its_last(self) -> None:
        """An idle hub is not a reader left behind, which would make a user's test fail as dirty."""
        self.assertEqual(self.reactor.getReaders(), [])
        first, second = self.member(), self.member()
        self.assertEqual(self.reactor.getReaders(), [self.hub])
        self.hub.removeReader(first)
        self.assertEqual(self.reactor.getReaders(), [self.hub])
        self.hub.removeReader(second)

        self.assertEqual(self.reactor.getReaders(), [])

    def test_joins_again_if_somebody_took_it_out(self) -> None:
        """Trial removes all readers after each test, without telling them."""
        self.member()
        self.reactor.readers.clear()
        self.member()

        self.assertEqual(self.reactor.getReaders(), [self.hub])

    def test_its_members_count(self) -> None:
        """Whoever asks the hub what is watched is told of its members and of the reactor's own."""
        reader, writer = self.member(), Member(self)
        self.hub.addWriter(writer)
        others = object()
        self.reactor.readers.add(others)

        self.assertEqual(set(self.hub.getReaders()), {reader, others})
        self.assertEqual(self.hub.getWriters(), [writer])
        self.assertIn("Member", repr(self.hub))

    def test_serves_who_is_ready(self) -> None:
        """Input reaches its member, room to write its own, and nobody else is disturbed."""
        talking, silent, writing = self.member(), self.member(), Member(self)
        self.hub.addWriter(writing)
        talking.peer.send(b"hello")
        self.hub.doRead()

        self.assertEqual((talking.read, silent.read, writing.writes), ([b"hello"], [], 1))

    def test_edge_triggered_members_hear_news_only(self) -> None:
        """What was told once and not read is not told again, until reading is stopped and started."""
        member = self.member(edge_triggered=True)
        member.peer.send(b"x" * 1500)  # read in pieces of 1000
        for _ in range(3):
            self.hub.doRead()
        self.assertEqual(len(member.read), 1)
        self.hub.removeReader(member)
        self.hub.addReader(member)
        self.hub.doRead()

        self.assertEqual([len(piece) for piece in member.read], [1000, 500])

    def test_other_members_are_told_again(self) -> None:
        """A descriptor that does not read to the end loses nothing."""
        member = self.member()
        member.peer.send(b"x" * 1500)
        for _ in range(3):
            self.hub.doRead()

        self.assertEqual([len(piece) for piece in member.read], [1000, 500])

    def test_a_queue_is_written_piece_by_piece(self) -> None:
        """A member that waits for room is told as long as there is room, edge-triggered or not."""
        member = self.member(edge_triggered=True)
        self.hub.addWriter(member)
        for _ in range(3):
            self.hub.doRead()

        self.assertEqual(member.writes, 3)

    def test_data_and_end_together(self) -> None:
        """A short read before the end of the input does not hide the end."""
        member = self.member(edge_triggered=True)
        member.peer.send(b"bye")
        member.peer.shutdown(socket.SHUT_WR)
        self.hub.doRead()

        self.assertEqual(member.read, [b"bye", b""])
        assert member.lost is not None
        member.lost.trap(ConnectionDone)

    def test_half_close(self) -> None:
        """The end of the input does not end a member that can still write."""
        member = HalfCloseableMember(self)
        self.hub.addReader(member)
        member.peer.shutdown(socket.SHUT_WR)
        self.hub.doRead()

        self.assertTrue(member.finished)
        self.assertIsNone(member.lost)
        self.assertEqual(self.hub.getReaders(), [])

    def test_peer_gone_while_only_writing(self) -> None:
        """A member that does not read learns of the end by the error."""
        member = Member(self)
        self.hub.addWriter(member)
        member.peer.close()
        self.hub.doRead()

        assert member.lost is not None
        member.lost.trap(ConnectionLost)
        self.assertEqual(self.hub.getWriters(), [])

    def test_what_one_protocol_raises_touches_no_other(self) -> None:
        """The connection of the one that raised is closed, and it is logged once."""

        def fail() -> None:
            raise RuntimeError("bug")

        bad, good = self.member(), self.member()
        bad.on_read = fail
        for each in (bad, good):
            each.peer.send(b"x")
        self.hub.doRead()

        assert bad.lost is not None
        bad.lost.trap(RuntimeError)
        self.assertEqual((good.read, good.lost), ([b"x"], None))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_one_that_has_just_stopped_reading_is_not_served(self) -> None:
        """Two are ready, and each stops the other: the second event is stale."""
        first, second = self.member(), self.member()
        first.on_read = lambda: self.hub.removeReader(second)
        second.on_read = lambda: self.hub.removeReader(first)
        for each in (first, second):
            each.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual(len(first.read) + len(second.read), 1)

    def test_an_event_of_a_closed_descriptor_does_not_reach_its_successor(self) -> None:
        """A number that was closed and given to a new connection in the same batch is somebody else's."""
        first, second = self.member(), self.member()
        successor = HalfCloseableMember(self)

        def replace(other: Member) -> None:
            """Close the other, and give its number to the successor."""
            self.hub.removeReader(other)
            number = other.fileno()
            os.dup2(successor.sock.fileno(), number)
            successor.fileno = lambda: number
            self.hub.addReader(successor)

        first.on_read = lambda: replace(second)
        second.on_read = lambda: replace(first)
        for each in (first, second):
            each.peer.send(b"x")
            each.peer.shutdown(socket.SHUT_WR)
        self.hub.doRead()

        self.assertEqual(len(first.read) + len(second.read), 1 + 1)  # data, and for the one served its end
        self.assertEqual((successor.read, successor.lost, successor.finished), ([], None, False))

    def test_a_socket_closed_by_somebody_else_can_be_removed(self) -> None:
        """Its number is gone (-1); the hub finds it all the same."""
        member = self.member()
        self.hub.addWriter(member)
        member.sock.close()
        self.hub.removeReader(member)
        self.hub.removeWriter(member)
        self.hub.removeWriter(member)  # twice is once

        self.assertEqual(self.hub.getReaders() + self.hub.getWriters(), [])

    def test_remove_all(self) -> None:
        """Everything watched is handed back, each once, and nothing is watched any more."""
        both, closed = self.member(), self.member()
        self.hub.addWriter(both)
        closed.sock.close()

        self.assertEqual(set(self.hub.removeAll()), {both, closed})
        self.assertEqual(self.hub.removeAll(), [])

    def test_ends_with_the_reactor(self) -> None:
        """A reactor that ends disconnects what it watches: the hub passes that on."""
        member = self.member()
        self.hub.connectionLost(Failure(ConnectionLost()))

        self.assertIsNotNone(member.lost)
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.hub.logPrefix(), "-")
        self.assertIsInstance(self.hub, Hub)
