"""Tests of token buckets for any number of sources."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import buckets
from echosvc.admission.buckets import Buckets


class BucketTests(SynchronousTestCase):
    """A source has a burst at once, and then its rate."""

    def make(self, rate: float, burst: float, **how_many: int) -> Buckets:
        """Make buckets, and the clock that fills them."""
        self.clock = Clock()
        self.clock.advance(1_000_000.3)  # a clock may begin anywhere
        return Buckets(rate, burst, self.clock.seconds, **how_many)

    def test_a_burst_and_no_more(self) -> None:
        """One by one, or several at once, of which the first pass."""
        single = self.make(10.0, 3.0)
        self.assertEqual([1, 1, 1, 0, 0], [single.take(b"a") for _ in range(5)])
        several = self.make(10.0, 5.0)
        self.assertEqual([2, 3, 0], [several.take(b"a", count) for count in (2, 8, 8)])

    def test_the_rate_afterwards(self) -> None:
        """A token for each part of a second, whether or not somebody asks in between."""
        tokens = self.make(4.0, 2.0)
        tokens.take(b"a", 2)
        for seconds, expected in ((0.25, 1), (0.125, 0), (0.125, 1), (0.5, 2), (0.0, 0)):
            self.clock.advance(seconds)

            self.assertEqual(expected, tokens.take(b"a", 9))

    def test_silence_saves_up_no_more_than_a_burst(self) -> None:
        """However long it was."""
        tokens = self.make(10.0, 3.0)
        tokens.take(b"a", 3)
        self.clock.advance(86_400.0)

        self.assertEqual(3, tokens.take(b"a", 100))

    def test_a_burst_of_less_than_one_is_one(self) -> None:
        """Or nobody would ever pass."""
        tokens = self.make(0.5, 0.5)

        self.assertEqual(1, tokens.take(b"a"))
        self.clock.advance(1.9)
        self.assertEqual(0, tokens.take(b"a"))
        self.clock.advance(0.1)
        self.assertEqual(1, tokens.take(b"a"))

    def test_nobody_pays_for_another(self) -> None:
        """Each source has a bucket of its own; but for those that share one, here at most a few."""
        tokens = self.make(1.0, 1.0)
        passed = sum(tokens.take(b"%d" % number) for number in range(1000))

        self.assertGreater(passed, 950)
        self.assertEqual(0, sum(tokens.take(b"%d" % number) for number in range(1000)))

    def test_one_bucket_is_for_all_together(self) -> None:
        """A table of one."""
        tokens = self.make(10.0, 3.0, slots=1)

        self.assertEqual([1, 1, 1, 0], [tokens.take(b"%d" % number) for number in range(4)])

    def test_a_clock_that_is_set_back_locks_nobody_out(self) -> None:
        """For longer than it takes to fill an empty bucket."""
        tokens = self.make(10.0, 5.0)
        tokens.take(b"a", 2)
        self.clock.rightNow -= 3600

        self.assertEqual(0, tokens.take(b"a", 9))
        self.clock.advance(0.5)
        self.assertEqual(5, tokens.take(b"a", 9))

    def test_a_clock_that_stands_still_gives_no_more(self) -> None:
        """A burst, once."""
        tokens = self.make(1000.0, 7.0)

        self.assertEqual(7, sum(tokens.take(b"a", 3) for _ in range(1000)))

    @given(
        st.integers(1, 1000),
        st.integers(1, 50),
        st.lists(st.tuples(st.integers(0, 64), st.integers(1, 60)), max_size=50),
    )
    def test_never_more_and_never_less_than_a_bucket_holds(
        self, rate: int, burst: int, asked: Sequence[tuple[int, int]]
    ) -> None:
        """As a bucket would that is filled all the time, in thirty-seconds of a token."""
        tokens = self.make(float(rate), float(burst))
        level = burst * 32
        for passed, count in asked:
            self.clock.advance(passed / 32)
            level = min(burst * 32, level + passed * rate)
            expected = min(count, level // 32)
            level -= expected * 32

            self.assertEqual(expected, tokens.take(b"a", count))


class ForgerTests(SynchronousTestCase):
    """Whoever sends in the names of many gains nothing against one who is honest."""

    def test_memory_is_bounded(self) -> None:
        """Nothing before it is needed, then 512 KiB, whatever comes."""
        tokens = Buckets(1.0, 1.0, Clock().seconds)
        self.assertIsNone(tokens._full_at)
        for number in range(100_000):
            tokens.take(number.to_bytes(4, "big"))
        full_at = tokens._full_at

        assert full_at is not None
        self.assertEqual(512 * 1024, len(full_at) * full_at.itemsize)

    def test_a_storm_of_forged_sources_forgets_nobody(self) -> None:
        """A source that has had its share has had it still, and one that has not is let in."""
        clock = Clock()
        tokens = Buckets(20.0, 20.0, clock.seconds)
        tokens.take(b"greedy", 20)
        for number in range(200_000):
            tokens.take((number % 100_000).to_bytes(4, "big"))

        self.assertEqual(0, tokens.take(b"greedy"))
        # Some 3 of 200 000 in 65 536 buckets: that 20 are in the honest one's has a chance of 1 in 10^10.
        self.assertGreater(tokens.take(b"honest", 20), 0)

    def test_who_shares_a_bucket_is_a_secret_of_each_table(self) -> None:
        """Were it known, a forger would choose sources that share a victim's bucket."""
        victims: Counter[int] = Counter()
        for _ in range(40):
            tokens = Buckets(1.0, 1.0, Clock().seconds, slots=4)
            tokens.take(b"victim")
            victims.update(number for number in range(4) if not tokens.take(b"%d" % number))

        self.assertTrue(all(0 < victims[number] < 40 for number in range(4)), victims)

    def test_the_secret_is_random(self) -> None:
        """PYTHONHASHSEED may be known, for one because it is 0."""
        secrets = [bytes(16), bytes([1]) * 16]
        self.patch(os, "urandom", lambda size: secrets[0][:size])
        same = [Buckets(1.0, 1.0, Clock().seconds) for _ in range(2)]
        secrets.pop(0)
        other = Buckets(1.0, 1.0, Clock().seconds)
        for each in (*same, other):
            each.take(b"a")
        places = [list(each._full_at or ()).index(1.0) for each in (*same, other)]

        self.assertEqual(buckets.SLOTS, len(same[0]._full_at or ()))
        self.assertEqual(places[0], places[1])
        self.assertNotEqual(places[0], places[2])
