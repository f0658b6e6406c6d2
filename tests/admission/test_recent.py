"""Tests of a bounded memory that a storm cannot empty of those who go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.recent import Recent


class RecentTests(SynchronousTestCase):
    """What is asked for stays, what is not goes, and there is never more than so much."""

    def test_finds_what_it_was_given(self) -> None:
        """And nothing else."""
        recent: Recent[str, int] = Recent(2)
        recent.add("a", 1)

        self.assertEqual((1, None), (recent.find("a"), recent.find("b")))
        self.assertEqual({"a": 1}, recent.young)

    def test_a_storm_takes_only_what_nobody_asks_for(self) -> None:
        """Whoever is heard of once in a generation is remembered for ever."""
        recent: Recent[object, int] = Recent(10)
        recent.add("honest", 1)
        recent.add("gone", 2)
        for number in range(1000):
            recent.add(number, 0)
            if number % 9 == 0:
                self.assertEqual(1, recent.find("honest"))

        self.assertIsNone(recent.find("gone"))

    @given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=200))
    def test_is_bounded_and_right(self, size: int, steps: list[tuple[bool, int]]) -> None:
        """Whatever is added and asked for: at most two generations, and never a wrong answer."""
        recent: Recent[int, int] = Recent(size)
        for adds, key in steps:
            if adds:
                recent.add(key, key + 100)
                self.assertEqual(key + 100, recent.find(key))
            else:
                self.assertIn(recent.find(key), (None, key + 100))

            self.assertLessEqual(len(recent), 2 * size)
