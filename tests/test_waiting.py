"""Tests of how tests wait."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.waiting import until


class UntilTests(SynchronousTestCase):
    """A loop that waits."""

    def test_it_ends_when_the_condition_holds(self) -> None:
        """Which is asked before each turn."""
        turns: list[None] = []
        for each in until(lambda: len(turns) == 3):
            turns += [each]

        self.assertEqual([None] * 3, turns)

    def test_it_gives_up(self) -> None:
        """The test fails, and the others have their turn."""
        with self.assertRaisesRegex(AssertionError, "^it has not come about in 0 s$"):
            for _ in until(lambda: False, 0.0):
                pass
