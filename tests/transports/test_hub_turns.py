"""Tests of the hub's turns: how long one lasts, and one inside another."""

from __future__ import annotations

import functools
import os

from echosvc.transports import hub as hub_module
from echosvc.transports.hub import BATCH, SMALL, TURN
from tests.transports.test_hub import HubCase, Member


class TurnCase(HubCase):
    """Members that take their time."""

    def setUp(self) -> None:
        """Keep a clock that only members move."""
        super().setUp()
        self.now = 0.0
        self.patch(hub_module, "monotonic", lambda: self.now)

    def ready(self, count: int, seconds: float = 0.0) -> list[Member]:
        """Members with something to read, each of which takes so long for it."""
        members = [self.member() for _ in range(count)]
        for each in members:
            each.on_read = lambda: self.spend(seconds)
            each.peer.send(b"x")
        return members

    def spend(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class LengthTests(TurnCase):
    """A turn ends in time, whatever its members do."""

    def read(self, members: list[Member]) -> int:
        """How many were served."""
        return sum(len(each.read) for each in members)

    def test_all_are_served_if_they_are_quick(self) -> None:
        """One turn serves as many as are ready."""
        members = self.ready(BATCH + 10)
        self.hub.doRead()

        self.assertEqual(self.read(members), BATCH + 10)

    def test_ends_after_a_batch_that_took_its_time(self) -> None:
        """The reactor gets its turn, and the hub comes back for the rest."""
        members = self.ready(BATCH + 10, TURN / BATCH * 1.5)
        self.hub.doRead()
        self.assertEqual(self.read(members), BATCH)
        self.hub.doRead()

        self.assertEqual(self.read(members), BATCH + 10)

    def go_on(self, member: Member) -> None:
        """Take half of the time that is too long for all together, and have something to read again."""
        self.spend(TURN / BATCH * 0.45)
        member.peer.send(b"x")

    def test_many_batches_end_in_time(self) -> None:
        """Batches that are quick each are not quick together for ever."""
        members = self.ready(BATCH)
        for each in members:
            each.on_read = functools.partial(self.go_on, each)
        self.hub.doRead()

        self.assertEqual(self.read(members), 3 * BATCH)

    def test_slow_members_are_taken_fewer_at_a_time(self) -> None:
        """The turn after a long one is a short one, and all have their turn."""
        members = self.ready(100, TURN / 4)
        self.hub.doRead()
        for each in members:
            each.peer.send(b"x")
        began = self.now
        self.hub.doRead()
        self.assertLessEqual(self.now - began, 2 * TURN)
        for _ in range(100):
            self.hub.doRead()

        self.assertEqual({len(each.read) for each in members}, {2})

    def test_one_very_slow_member_is_served_alone(self) -> None:
        """At least one is taken, or nobody would ever be."""
        members = self.ready(5, 10 * TURN)
        self.hub.doRead()
        for each in members:
            each.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual(self.read(members), 5 + 1)

    def test_more_are_taken_again_when_they_are_quick(self) -> None:
        """A slow moment is not remembered for ever."""
        (slow, *_) = self.ready(SMALL, TURN)
        self.hub.doRead()
        members = [slow, *self.ready(3 * BATCH)]
        for each in members:
            each.on_read = lambda: None
        for _ in range(3):
            self.hub.doRead()

        self.assertEqual(self.hub._most, BATCH)


class NestedTests(TurnCase):
    """A protocol that runs the reactor from within."""

    def test_a_stale_event_reaches_nobody(self) -> None:
        """One whose number was given to a new member in mid-batch is not taken for it after an inner turn either."""
        first, second, successor = self.member(), self.member(), Member(self)

        def replace(other: Member) -> None:
            """Give the other's number to the successor, and turn."""
            first.on_read = second.on_read = lambda: None
            number = other.fileno()
            self.hub.removeReader(other)
            os.dup2(successor.sock.fileno(), number)
            successor.fileno = lambda: number
            self.hub.addReader(successor)
            self.hub.doRead()

        served = []
        successor.doRead = lambda: served.append(1)  # type: ignore[method-assign]
        first.on_read = lambda: replace(second)
        second.on_read = lambda: replace(first)
        first.peer.send(b"x")
        second.peer.send(b"x")
        self.hub.doRead()

        self.assertEqual(served, [])

    def test_one_that_joins_in_an_inner_turn_is_served_in_the_next(self) -> None:
        """What is fresh in one batch is not so in the next."""
        member, late = self.ready(1)[0], Member(self)
        late.peer.send(b"x")

        def join() -> None:
            """Turn, with a newcomer."""
            member.on_read = lambda: None
            self.hub.addReader(late)
            self.hub.doRead()

        member.on_read = join
        self.hub.doRead()
        self.hub.doRead()

        self.assertEqual(late.read, [b"x"])
