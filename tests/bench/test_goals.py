"""Tests of the verdicts on the goals."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.goals import GOALS, Goal, judge
from bench.works import WORKS


class JudgeTests(SynchronousTestCase):
    """A goal is reached or not, and only if it was measured at all."""

    def test_compares_with_the_rival_that_the_goal_names(self) -> None:
        """Twice Twisted's rate reaches a goal of at least twice, and misses one of three times."""
        results = {"tcp-50": {"echosvc": [{"rate": 200.0}], "twisted": [{"rate": 100.0}]}}
        goals = [Goal("tcp-50", "rate", ">=", limit, "twisted") for limit in (2.0, 3.0)]

        self.assertEqual([verdict.reached for verdict in judge(results, goals)], [True, False])

    def test_names_the_noise_beside_a_ratio_to_c(self) -> None:
        """C against itself shows how much of a ratio may be luck."""
        work = {"c": [{"cpu": 4.0}], "c-again": [{"cpu": 5.0}], "echosvc": [{"cpu": 4.4}]}

        (verdict,) = judge({"tcp-50": work}, [Goal("tcp-50", "cpu", "<=", 1.2)])

        self.assertEqual((round(verdict.value, 9), verdict.noise, verdict.reached), (1.1, 1.25, True))

    def test_takes_a_figure_as_it_is_where_there_is_nobody_to_compare_with(self) -> None:
        """Bytes per idle connection are limited in bytes."""
        results = {"idle": {"echosvc": [{"memory": 2000.0}, {"memory": 2100.0}, {"memory": 2040.0}]}}

        (verdict,) = judge(results, [Goal("idle", "memory", "<=", 2048, None)])

        self.assertEqual((verdict.value, verdict.noise, verdict.reached), (2040.0, None, True))

    def test_is_silent_about_what_was_not_measured(self) -> None:
        """A run of one work judges that work's goals; a server that failed is not judged either."""
        self.assertEqual(judge({}), [])
        self.assertEqual(judge({"tcp-50": {"echosvc": ["no echo"], "c": [{"cpu": 1.0}]}}), [])

    def test_every_goal_is_of_a_work_that_exists(self) -> None:
        """A goal with a wrong name would never be judged."""
        self.assertLessEqual({goal.work for goal in GOALS}, {work.name for work in WORKS})
