"""Tests of medians, spreads and ratios."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.summary import Rounds, ratio, rows


class RatioTests(SynchronousTestCase):
    """A ratio is taken within each round, so that a machine that slows down does not change it."""

    def test_survives_a_machine_that_slows_down(self) -> None:
        """Both take three times as long in the second half; one still costs twice what the other does."""
        results = {"slow": [{"cpu": 2.0}, {"cpu": 6.0}], "fast": [{"cpu": 1.0}, {"cpu": 3.0}]}

        self.assertEqual(ratio(results, "cpu", "slow", "fast"), 2.0)

    def test_takes_the_median_of_the_rounds(self) -> None:
        """One bad round does not count."""
        results = {"one": [{"cpu": 1.0}, {"cpu": 1.1}, {"cpu": 9.0}], "c": [{"cpu": 1.0}] * 3}

        self.assertEqual(ratio(results, "cpu", "one", "c"), 1.1)

    def test_leaves_out_rounds_in_which_one_of_them_failed(self) -> None:
        """A round without both figures has no ratio."""
        results: Rounds = {"one": [{"cpu": 8.0}, {"cpu": 3.0}], "c": ["no echo", {"cpu": 2.0}]}

        self.assertEqual(ratio(results, "cpu", "one", "c"), 1.5)

    def test_is_none_without_a_round_in_common(self) -> None:
        """Who was not measured is not compared."""
        self.assertIsNone(ratio({"one": [{"cpu": 1.0}]}, "cpu", "one", "c"))
        self.assertIsNone(ratio({"one": [{"cpu": 1.0}], "c": [{"rate": 1.0}]}, "cpu", "one", "c"))


class RowTests(SynchronousTestCase):
    """A row says what all rounds say."""

    def test_has_median_spread_and_ratio(self) -> None:
        """The spread is half the distance between the extremes, as a share of the median."""
        c, other = rows({"c": [{"cpu": 2.0}] * 3, "uvloop": [{"cpu": 5.0}, {"cpu": 3.0}, {"cpu": 4.0}]})

        self.assertEqual((c.median["cpu"], c.spread["cpu"], c.ratio["cpu"]), (2.0, 0.0, 1.0))
        self.assertEqual((other.median["cpu"], other.spread["cpu"], other.ratio["cpu"]), (4.0, 0.25, 2.0))

    def test_of_zeros_has_no_spread(self) -> None:
        """No datagram lost in any round is no reason to divide by zero."""
        (row,) = rows({"c": [{"lost": 0.0}, {"lost": 0.0}]})

        self.assertEqual(row.spread["lost"], 0.0)

    def test_of_a_single_round_has_no_spread(self) -> None:
        """One round says nothing about how much the next would differ; a spread of 0 would be a lie."""
        (row,) = rows({"c": [{"cpu": 2.0}]})

        self.assertEqual(row.spread, {})

    def test_without_figures_says_why(self) -> None:
        """The first round's reason stands in the table."""
        (row,) = rows({"xinetd": ["no echo", "no echo"]})

        self.assertEqual((row.problem, row.median), ("no echo", {}))
