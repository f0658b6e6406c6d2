"""Tests of how members of the hub end, and in whose name is logged meanwhile."""

from __future__ import annotations

import functools
import os
import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.main import CONNECTION_DONE
from twisted.python import context, log, threadable

from tests.transports.test_hub import HalfCloseableMember, HubCase, Member


class EndTests(HubCase):
    """One that has nothing left to say ends with the present batch."""

    def finishing(self) -> Member:
        """A member that is over when it has read something."""
        member = self.member(edge_triggered=True)
        member.on_read = lambda: not self.hub.finish(member) or None
        member.on_write = lambda: CONNECTION_DONE
        member.peer.send(b"x")
        return member

    def test_one_that_has_finished_ends_after_the_batch(self) -> None:
        """It is told of its end in the same turn, but not in the middle of what it is doing."""
        member = self.finishing()
        lost_early = []
        member.on_read = lambda: lost_early.append((self.hub.finish(member), member.lost)[1])
        self.hub.doRead()

        self.assertEqual(lost_early, [None])
        assert member.lost is not None
        member.lost.trap(ConnectionDone)
        self.assertEqual(self.hub.getReaders(), [])
        self.assertEqual(self.reactor.getReaders(), [])

    def test_finishing_needs_a_turn(self) -> None:
        """Outside a turn nothing is done, and the member must wait for room as ever."""
        member = self.member()

        self.assertFalse(self.hub.finish(member))
        self.assertEqual(self.hub.getReaders(), [member])

    def test_one_that_has_finished_and_then_writes_is_told_of_room(self) -> None:
        """Whoever has queued something since ends when that is sent."""
        member = self.finishing()
        member.on_read = lambda: (self.hub.finish(member), self.hub.addWriter(member))[1]
        member.on_write = lambda: None
        self.hub.doRead()
        self.assertEqual((member.writes, member.lost), (0, None))
        self.hub.doRead()

        self.assertEqual(member.writes, 1)

    def finish(self, member: Member, finished: list[Member]) -> None:
        """Finish, and remember the order."""
        finished.append(member)
        self.hub.finish(member)

    def test_they_end_in_the_order_in_which_they_finished(self) -> None:
        """Whoever was first is told first."""
        members = [self.finishing() for _ in range(4)]
        ended: list[Member] = []
        for each in members:
            each.connectionLost = lambda _, each=each: ended.append(each)  # type: ignore[method-assign,misc]
        finished: list[Member] = []
        for each in members:
            each.on_read = functools.partial(self.finish, each, finished)
        self.hub.doRead()

        self.assertEqual(len(ended), 4)
        self.assertEqual(ended, finished)

    def test_one_that_has_finished_and_was_lost_meanwhile_is_left_alone(self) -> None:
        """Nobody ends twice."""
        member = self.finishing()

        def lose() -> None:
            """Finish, and be closed by somebody else."""
            self.hub.finish(member)
            member.sock.close()

        member.on_read = lose
        self.hub.doRead()

        self.assertEqual((member.writes, member.lost), (0, None))

    def test_what_one_raises_while_it_ends_touches_no_other(self) -> None:
        """It is logged, and the others end, too."""

        def fail(*_: object) -> None:
            raise RuntimeError("bug")

        unwilling, bad, good = self.finishing(), self.finishing(), self.finishing()
        unwilling.on_write = fail
        self.patch(bad, "connectionLost", fail)
        self.hub.doRead()

        self.assertIsNotNone(good.lost)
        assert unwilling.lost is not None
        unwilling.lost.trap(RuntimeError)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_a_copy_of_an_ended_descriptor_wakes_nobody(self) -> None:
        """A process that is being started holds a copy for a moment, and what it gets is told to nobody."""
        ended = self.finishing()
        copy = os.dup(ended.sock.fileno())
        self.addCleanup(os.close, copy)
        self.hub.doRead()
        successor, number = Member(self, edge_triggered=True), ended.sock.fileno()
        os.dup2(successor.sock.fileno(), number)  # closes it, and gives its number away
        successor.fileno = lambda: number
        ended.peer.send(b"y")
        self.hub.doRead()
        self.hub.addReader(successor)
        ended.peer.send(b"y")
        ended.peer.close()
        self.hub.doRead()
        self.assertEqual((successor.read, successor.lost), ([], None))
        successor.peer.send(b"z")
        self.hub.doRead()

        self.assertEqual(successor.read, [b"z"])

    def test_one_whose_input_has_ended_can_still_write(self) -> None:
        """The kernel's watch was left in place, which is no obstacle."""
        member = HalfCloseableMember(self, edge_triggered=True)
        self.hub.addReader(member)
        member.peer.shutdown(socket.SHUT_WR)
        self.hub.doRead()
        self.hub.addWriter(member)
        self.hub.doRead()

        self.assertEqual((member.finished, member.writes, member.lost), (True, 1, None))

    def test_an_end_does_not_touch_the_successor_of_the_number(self) -> None:
        """A member that closes itself and whose number is taken at once returns an error all the same."""
        member, successor = self.member(edge_triggered=True), Member(self, edge_triggered=True)

        def replace() -> Exception:
            """Close, and let a successor have the number."""
            number = member.fileno()
            self.hub.removeReader(member)
            os.dup2(successor.sock.fileno(), number)
            successor.fileno = lambda: number
            self.hub.addReader(successor)
            self.hub.addWriter(successor)
            return CONNECTION_DONE

        member.on_read = replace
        member.peer.send(b"x")
        self.hub.doRead()

        self.assertIsNotNone(member.lost)
        self.assertIsNone(successor.lost)
        self.assertEqual((self.hub.getReaders(), self.hub.getWriters()), ([successor], [successor]))


class LoggingTests(HubCase):
    """What is logged while a member is served is logged in its name."""

    def test_log_lines_name_whoever_is_served(self) -> None:
        """What a protocol logs while it is served carries its name, as on any reactor."""
        systems: list[object] = []
        member, other = self.member(), self.member()
        member.on_read = lambda: systems.append(context.get(log.ILogContext)["system"])
        other.on_read = lambda: systems.append(dict(context.get(log.ILogContext)))
        self.patch(other, "logPrefix", lambda: "other")
        member.peer.send(b"x")
        self.hub.doRead()
        other.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual(systems, ["member", {"system": "other"}])
        self.assertEqual(context.get(log.ILogContext)["system"], "-")

    def test_a_thread_does_not_log_in_the_name_of_whoever_is_served_later(self) -> None:
        """It inherits the context in which it was started, as Twisted's threads do."""
        inherited: list[dict[object, Any]] = []
        member = self.member()
        member.on_read = lambda: inherited.append(context.theContextTracker.currentContext().contexts[-1])
        member.peer.send(b"x")
        self.hub.doRead()
        self.patch(threadable, "ioThread", -1)
        member.on_read = lambda: inherited.append(inherited[0][log.ILogContext].copy())
        member.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual(inherited[1], {"system": "-"})
        self.assertEqual(len(inherited[0][log.ILogContext]), 1)

    def test_one_that_cannot_name_itself_touches_no_other(self) -> None:
        """What it raises is logged all the same, and the others are served."""

        def fail() -> None:
            raise RuntimeError("bug")

        bad, good = self.member(), self.member()
        bad.on_read = fail
        self.patch(bad, "logPrefix", fail)
        for each in (bad, good):
            each.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual((bad.read, good.read), ([b"x"], [b"x"]))
        self.assertIsNotNone(bad.lost)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_reactor_turned_from_inside_a_protocol(self) -> None:
        """Whoever turns it is served again when the inner turn is over."""
        systems: list[object] = []
        inner, outer = self.member(), self.member()

        def turn() -> None:
            """Turn the hub from inside."""
            inner.peer.send(b"x")
            self.hub.doRead()
            systems.append(context.get(log.ILogContext)["system"])

        outer.on_read = turn
        self.patch(outer, "logPrefix", lambda: "outer")
        outer.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual((inner.read, systems), ([b"x"], ["outer"]))
