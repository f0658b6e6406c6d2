"""Tests of how long a connection may be idle, and how long it may live."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.sweep import LOOKS, MOST_SPARE, PATIENCE, TICK, Member, Sweep


class FakeConnection:
    """Counts what a test says, and remembers how it was ended."""

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = 0
        self.left = self.asked = 0
        self.is_held = False
        self.ended: float | None = None
        self.why: str | None = None
        self.aborted: float | None = None

    def undelivered(self) -> int:
        """What a test says; count how often it is asked."""
        self.asked += 1
        return self.left

    def unread(self) -> int:
        """Nothing."""
        return 0

    def held_back(self) -> bool:
        """What a test says."""
        return self.is_held


class SweepCase(SynchronousTestCase):
    """Makes a sweep, and turns its clock."""

    def make(self, idle_timeout: float = 0.0, lifetime: float = 0.0) -> None:
        """Make a sweep that nobody is in."""
        self.now = 0.0
        self.ended: Counter[str] = Counter()
        self.sweep = Sweep(idle_timeout=idle_timeout, lifetime=lifetime, ended=self.ended)
        self.members: list[Member] = []

    def enter(self, *, made: bool = True) -> Clocked:
        """Let a connection in."""
        member = Member(self.now)
        connection = Clocked(self)
        member.connection = connection if made else None
        self.sweep.add(member)
        self.members.append(member)
        return connection

    def wait(self, seconds: float) -> None:
        """Let time pass, and look as often as it wants."""
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.sweep.look(self.now)


class Clocked(FakeConnection):
    """Knows when it was ended."""

    def __init__(self, case: SweepCase) -> None:
        super().__init__()
        self._case = case

    def end(self) -> None:
        """Remember when."""
        assert self.ended is None
        self.ended = self._case.now

    def abortConnection(self) -> None:
        """Remember when."""
        self.aborted = self._case.now


class TimeTests(SweepCase):
    """Whoever stays too long is ended, to a second."""

    def test_whoever_says_nothing_is_ended(self) -> None:
        """When the time is over, and not before."""
        self.make(idle_timeout=30.0)
        connection = self.enter()
        self.wait(28.5)
        self.assertIsNone(connection.ended)
        self.wait(2.5)

        self.assertIsNotNone(connection.ended)
        self.assertEqual(("idle-timeout", {"idle-timeout": 1}), (connection.why, self.ended))

    @given(st.integers(1, 12), st.lists(st.floats(0, 6), max_size=6), st.integers(0, 1), st.integers(0, 40))
    def test_the_idle_time_counts_from_the_last_byte(
        self, timeout: int, pauses: list[float], out: int, others: int
    ) -> None:
        """Read or sent; whatever the number of connections, to a second."""
        self.make(idle_timeout=timeout)
        for _ in range(others):
            self.enter()
        self.wait(0.375)
        connection = self.enter()
        last = self.now
        for pause in (pause for pause in pauses if pause < timeout - 1):
            self.wait(pause)
            last = self.now
            connection.bytes_in += 1 - out
            connection.bytes_out += out
        self.wait(timeout + 2)

        assert connection.ended is not None
        self.assertLessEqual(abs(connection.ended - last - timeout), 1.0)
        self.assertEqual(self.ended["idle-timeout"], 1 + others)

    def test_whoever_goes_on_is_left_alone(self) -> None:
        """A byte now and then is enough; that it comes back at once makes it two, and not none."""
        self.make(idle_timeout=5.0)
        silent, echoing = self.enter(), self.enter()
        for _ in range(20):
            self.wait(3.5)
            silent.bytes_in += 1
            echoing.bytes_in += 1
            echoing.bytes_out += 1

        self.assertEqual([None, None], [silent.ended, echoing.ended])

    def test_whoever_has_lived_long_enough_is_ended(self) -> None:
        """However busy; whenever it came, to a second."""
        self.make(idle_timeout=5.0, lifetime=20.0)
        connections = []
        for _ in range(20):
            connections.append((self.now, self.enter()))
            self.wait(TICK)
        for _ in range(25):
            for _, connection in connections:
                connection.bytes_out += 1
            self.wait(1.0)
        late = [(connection.ended or 0.0) - came - 20.0 for came, connection in connections]

        self.assertTrue(-1.0 <= min(late) <= max(late) <= 1.0, late)
        self.assertEqual({"lifetime": 20}, self.ended)

    def test_nobody_is_ended_where_nothing_is_said(self) -> None:
        """No limit is no limit."""
        self.make()
        connection = self.enter()
        self.wait(600)

        self.assertIsNone(connection.ended)
        self.assertEqual({}, self.ended)

    def test_whoever_does_not_end_is_aborted(self) -> None:
        """It has some seconds to send what is queued, and is asked only once."""
        self.make(idle_timeout=2.0)
        connection = self.enter()
        self.wait(2.0 + PATIENCE - 1.5)
        self.assertIsNotNone(connection.ended)
        self.assertIsNone(connection.aborted)
        self.wait(3.0)

        self.assertIsNotNone(connection.aborted)
        self.assertEqual({"idle-timeout": 1}, self.ended)

    def test_nothing_is_asked_of_who_is_not_there(self) -> None:
        """A connection that is not made yet, or that has ended since the round began."""
        self.make(idle_timeout=2.0)
        self.enter(made=False)
        gone = self.enter()
        self.wait(TICK)
        self.members[1].connection = None
        self.sweep.remove(self.members[1])
        self.wait(20)

        self.assertIsNone(gone.ended)
        self.assertEqual({}, self.ended)

    def test_each_look_is_at_an_eighth(self) -> None:
        """So that none takes long, however many there are."""
        self.make(idle_timeout=3.0)
        connections = [self.enter() for _ in range(1000)]
        self.wait(2.375)
        looked: list[int] = []
        for _ in range(LOOKS):
            before = sum(each.ended is not None for each in connections)
            self.wait(TICK)
            looked.append(sum(each.ended is not None for each in connections) - before)

        self.assertEqual([125] * LOOKS, looked)


class UnseenTests(SweepCase):
    """A peer may move though we neither read nor send."""

    def read_slowly(self, connection: Clocked, seconds: int) -> None:
        """Let a peer take what it was sent before, byte by byte."""
        for _ in range(seconds):
            connection.left -= 1
            self.wait(1.0)

    def test_a_slow_reader_is_not_idle(self) -> None:
        """As long as it takes something; its time counts from when it was last seen to."""
        self.make(idle_timeout=10.0)
        connection = self.enter()
        connection.bytes_out = connection.left = 1000
        self.read_slowly(connection, 100)
        self.assertIsNone(connection.ended)
        last = self.now
        self.wait(22.0)

        assert connection.ended is not None
        self.assertTrue(8.0 <= connection.ended - last <= 21.0, connection.ended - last)

    def test_a_slow_reader_makes_no_room(self) -> None:
        """Nor one that has just taken the rest; others do."""
        self.make()
        slow, done, idle = self.enter(), self.enter(), self.enter()
        slow.left = done.left = 100
        self.read_slowly(slow, 20)
        done.left = 0
        self.assertEqual([(self.members[2], idle)], self.sweep.idlest())
        self.members[2].connection = None
        self.assertEqual([], self.sweep.idlest())
        self.wait(20.0)
        found = []
        for some in islice(iter(self.sweep.idlest, []), 100_000):
            found.append(some[0][1])
            some[0][0].deadline = self.now

        self.assertEqual({slow, done}, set(found))

    def test_whoever_takes_nothing_is_idle(self) -> None:
        """Whatever waits for it: at its time, and not later than others."""
        for timeout in (2, 5, 30):
            self.make(idle_timeout=timeout)
            connection = self.enter()
            connection.left = 1000
            self.wait(timeout + 1.5)

            assert connection.ended is not None
            self.assertLessEqual(abs(connection.ended - timeout), 1.0)
        self.make()
        stuck = self.enter()
        stuck.left = 1000
        self.wait(12.0)
        self.assertEqual([(self.members[0], stuck)], self.sweep.idlest())

    def test_whoever_waits_for_us_is_not_idle(self) -> None:
        """It has sent what we do not read yet, by a limit of ours."""
        self.make(idle_timeout=15.0)
        held, late = self.enter(), self.enter()
        held.is_held = True
        self.wait(8.0)
        late.is_held = True
        self.wait(60.0)
        self.assertEqual([None, None, []], [held.ended, late.ended, self.sweep.idlest()])
        held.is_held = late.is_held = False
        self.wait(17.0)

        self.assertNotIn(None, [held.ended, late.ended])

    def test_it_is_rarely_asked(self) -> None:
        """The kernel takes longer to answer than all the rest of a look: it is asked of the busy once in a round."""
        self.make(idle_timeout=600.0)
        idle, busy = self.enter(), self.enter()
        for _ in range(590):
            busy.bytes_in += 1
            self.wait(1.0)

        self.assertEqual((2, 590), (idle.asked, busy.asked))

    def test_nothing_is_kept_of_who_has_left(self) -> None:
        """Nor of who has taken all."""
        self.make()
        for _ in range(2):
            self.enter().left = 100
        self.wait(8.0)
        self.assertEqual(2, len(self.sweep._undelivered))
        self.sweep.remove(self.members[0])
        connection: Any = self.members[1].connection
        connection.bytes_out += 1
        connection.left = 0
        self.wait(8.0)

        self.assertEqual({}, self.sweep._undelivered)


class SpareTests(SweepCase):
    """Whoever has been idle the longest is known, and makes room first."""

    def test_the_longest_idle(self) -> None:
        """One after the other, as they have come to rest; and nobody who has not been idle for long."""
        self.make()
        connections = []
        for _ in range(3):
            connections.append(self.enter())
            self.wait(2.0)
        connections[0].bytes_in += 1  # the first is now the last
        self.wait(9.0)
        self.enter()
        self.wait(5.0)
        found = []
        for some in islice(iter(self.sweep.idlest, []), 100_000):
            found.append(some[0][1])
            some[0][0].deadline = self.now

        self.assertEqual([connections[1], connections[2], connections[0]], found)

    def test_nobody_is_spared_before_ten_seconds(self) -> None:
        """A client that waits for its answer on a slow link is not idle."""
        self.make()
        self.enter()
        self.wait(10.0)
        self.assertEqual([], self.sweep.idlest())
        self.wait(2.0)

        self.assertEqual(1, len(self.sweep.idlest()))

    def test_whoever_has_moved_since_is_not_idle(self) -> None:
        """The last round's knowledge is up to a second old."""
        self.make()
        first, second = self.enter(), self.enter()
        self.wait(20.0)
        first.bytes_in += 1
        first.bytes_out += 1

        self.assertEqual([(self.members[1], second)], self.sweep.idlest())

    def test_whoever_has_left_since_makes_no_room(self) -> None:
        """It has left already."""
        self.make()
        self.enter()
        self.wait(20.0)
        self.members[0].connection = None

        self.assertEqual([], self.sweep.idlest())

    def test_whoever_is_being_ended_makes_no_room(self) -> None:
        """It makes room in any case."""
        self.make(idle_timeout=15.0)
        self.enter()
        self.wait(17.0)

        self.assertEqual([], self.sweep.idlest())

    def test_so_many_are_known_at_most(self) -> None:
        """The longest idle of them: to know the order of all would take long."""
        self.make()
        for _ in range(5):
            for _ in range(MOST_SPARE // 4):
                self.enter()
            self.wait(1.0)
        self.wait(15.0)
        oldest = set(self.members[:MOST_SPARE])
        found = set()
        for some in islice(iter(self.sweep.idlest, []), 100_000):
            found.add(some[0][0])
            some[0][0].deadline = self.now

        self.assertEqual(oldest, found)

    def test_when_all_of_them_have_left_others_are_soon_known(self) -> None:
        """Not only a round later: many may come at once, and each of them needs room."""
        self.make()
        for _ in range(4 * MOST_SPARE):
            self.enter()
        self.wait(20.0)
        found = 0
        for _ in range(LOOKS):
            for _ in range(MOST_SPARE // 4):
                some = self.sweep.idlest()
                self.assertEqual(1, len(some), found)
                some[0][0].deadline = self.now
                some[0][0].connection = None
                found += 1
            self.wait(TICK)

    def test_whoever_has_left_takes_nobodys_place_among_them(self) -> None:
        """All have left, in the middle of a round: the next look finds others."""
        self.make()
        for _ in range(4 * MOST_SPARE):
            self.enter()
        self.wait(20.0 + 4 * TICK)
        for _ in range(MOST_SPARE):
            ((member, _),) = self.sweep.idlest()
            member.deadline = self.now
        self.wait(TICK)

        self.assertEqual(1, len(self.sweep.idlest()))

    def test_whoever_waits_for_us_takes_nobodys_place_among_them(self) -> None:
        """However many they are: who is idle is found at once."""
        self.make()
        for _ in range(2 * MOST_SPARE):
            self.enter().is_held = True
        self.wait(2.0)
        idle = self.enter()
        self.wait(15.0)

        self.assertEqual([idle], [connection for _, connection in self.sweep.idlest()])
