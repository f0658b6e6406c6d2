"""Tests of the limit on how many datagrams are let in in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import limited, make_screen
from echosvc.transports import Screen

RATE = "answer-rate"


class RateTests(SynchronousTestCase):
    """So many are let in, and no more, whoever sends them."""

    def limit(self, rate: float, *own_ports: int) -> Screen:
        """Put a limit behind the screen of a service."""
        self.clock = Clock()
        self.clock.advance(1_000_000.5)  # a clock may begin anywhere
        return limited(make_screen(own_ports), rate, self.clock.seconds)

    def let_in(self, screen: Screen, count: int) -> int:
        """Ask about datagrams of one batch; return how many are let in: the first ones."""
        refused = screen(list(range(1024, 1024 + count)))
        self.assertEqual(dict.fromkeys(range(count - len(refused), count), RATE), dict(refused))
        return count - len(refused)

    def test_a_seconds_worth_may_come_at_once(self) -> None:
        """In one batch or several; then no more."""
        screen = self.limit(10.0)

        self.assertEqual([4, 6, 0, 0], [self.let_in(screen, count) for count in (4, 8, 1, 64)])

    def test_as_many_follow_as_time_allows(self) -> None:
        """One for each part of a second."""
        screen = self.limit(4.0)
        self.let_in(screen, 64)
        for seconds, expected in ((0.25, 1), (0.125, 0), (0.125, 1), (0.5, 2), (0.0, 0)):
            self.clock.advance(seconds)

            self.assertEqual(expected, self.let_in(screen, 3))

    def test_what_is_not_used_is_kept_for_a_second(self) -> None:
        """And not for longer: an hour of silence is not followed by an hour's worth."""
        screen = self.limit(10.0)
        self.let_in(screen, 64)
        self.clock.advance(3600)

        self.assertEqual(10, self.let_in(screen, 64))

    def test_less_than_one_in_a_second(self) -> None:
        """One may come, and the next when its time has come."""
        screen = self.limit(0.5)
        self.assertEqual(1, self.let_in(screen, 5))
        self.clock.advance(1.5)
        self.assertEqual(0, self.let_in(screen, 5))
        self.clock.advance(0.5)
        self.assertEqual(1, self.let_in(screen, 5))
        self.clock.advance(100)
        self.assertEqual(1, self.let_in(screen, 5))

    def test_what_the_screen_refuses_takes_no_place(self) -> None:
        """A forger cannot use up what honest clients are let in by; and its own reason is told."""
        screen = self.limit(2.0, 7)

        self.assertEqual({0: "source-port-own", 2: "source-port-zero"}, screen([7, 40000, 0, 40001]))
        self.assertEqual({0: "source-port-own", 1: RATE}, screen([7, 40000]))

    def test_nothing_is_said_of_those_let_in(self) -> None:
        """As the screen itself has it: an empty answer lets all in."""
        self.assertEqual({}, self.limit(5.0)([40000, 40001]))
        self.assertEqual({}, self.limit(5.0)([]))

    def test_two_limits_are_two(self) -> None:
        """Each listener has its own."""
        first, second = self.limit(1.0), self.limit(1.0)
        self.let_in(first, 5)

        self.assertEqual(1, self.let_in(second, 5))

    @given(
        st.integers(1, 50),
        st.lists(st.tuples(st.integers(0, 40), st.lists(st.sampled_from([0, 7, 40000]), max_size=64))),
    )
    def test_never_more_than_the_rate_allows(
        self, rate: int, turns: Sequence[tuple[int, Sequence[int]]]
    ) -> None:
        """Over any time, whatever comes: a second's worth and what time has added; and as many as that, if they come."""
        screen = self.limit(rate, 7)
        inside = passed = honest = 0
        for sixteenths, ports in turns:
            self.clock.advance(sixteenths / 16)
            passed += sixteenths
            refused: Mapping[int, str] = screen(ports)
            honest += ports.count(40000)
            inside += len(ports) - len(refused)

            self.assertLessEqual(inside, rate + rate * passed / 16)
            self.assertGreaterEqual(inside, min(honest, rate))
            for position, port in enumerate(ports):
                expected = {0: "source-port-zero", 7: "source-port-own"}.get(port)
                self.assertIn(refused.get(position), [expected] if expected else [None, RATE])
