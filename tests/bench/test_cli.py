"""Tests of the command line."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from bench.cli import parse
from bench.rivals import RIVALS
from bench.works import WORKS


class ParseTests(SynchronousTestCase):
    """What is asked for is what is measured."""

    def test_without_options_everything_is_measured(self) -> None:
        """All works, all rivals, several rounds."""
        plan = parse([])

        self.assertEqual(plan.works, WORKS)
        self.assertEqual(plan.rivals, frozenset(RIVALS))
        self.assertGreater(plan.rounds, 1)

    def test_c_is_always_measured_twice(self) -> None:
        """It is the unit of every table, and against itself the noise."""
        self.assertEqual(parse(["--rival", "echosvc"]).rivals, {"echosvc", "c", "c-again"})

    def test_works_keep_their_order(self) -> None:
        """Tables come in the same order however they were asked for."""
        plan = parse(["--work", "udp-1", "tcp-50"])

        self.assertEqual([work.name for work in plan.works], ["tcp-50", "udp-1"])

    def test_quick_is_a_default_that_other_options_override(self) -> None:
        """A quick look, but twice."""
        plan = parse(["--quick", "--rounds", "2"])

        self.assertEqual((plan.rounds, plan.seconds), (2, 0.4))

    def test_refuses_what_cannot_be(self) -> None:
        """A wrong value ends the program before anything is started."""
        for wrong in (["--rounds", "0"], ["--seconds", "nan"], ["--work", "no-such"], ["--rival", "nobody"]):
            with self.subTest(wrong), contextlib.redirect_stderr(io.StringIO()):
                self.assertRaises(SystemExit, parse, wrong)
