"""Tests of work that is done in turns."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.turns import TURN, Turns


class TurnsTests(SynchronousTestCase):
    """Each takes a little longer than a turn, if a test says so."""

    def setUp(self) -> None:
        """Make a clock that work moves."""
        self.clock = Clock()
        self.now = 0.0
        self.turns = Turns(self.clock, seconds=lambda: self.now)
        self.done: list[str] = []

    def work(self, name: str, seconds: float, again: int = 0) -> None:
        """Take some time, and want another turn so often."""
        self.done.append(name)
        self.now += seconds
        if again:
            self.turns.later(partial(self.work, name, seconds, again - 1))

    def turn(self) -> None:
        """Do what the reactor does in one turn: what was asked for meanwhile waits for the next."""
        call: Any
        (call,) = self.clock.getDelayedCalls()
        serve = call.func
        call.cancel()
        serve()

    def test_all_have_their_turn_while_there_is_time(self) -> None:
        """In the order in which they came; then the reactor has its own, though one of them has more to do."""
        self.turns.later(partial(self.work, "a", TURN / 10, 1))
        self.turns.later(partial(self.work, "b", TURN / 10))
        self.assertEqual(self.done, [])
        self.turn()
        self.assertEqual(self.done, ["a", "b"])
        self.turn()

        self.assertEqual(self.done, ["a", "b", "a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_together_they_take_no_more_than_a_turn(self) -> None:
        """Those who wait go on in the reactor's next turn, before those who have had theirs."""
        for name in "abc":
            self.turns.later(partial(self.work, name, TURN * 1.1, 1))
        for _ in range(6):
            before = len(self.done)
            self.turn()
            self.assertEqual(len(self.done), before + 1)

        self.assertEqual("".join(self.done), "abcabc")
        self.assertEqual(self.clock.getDelayedCalls(), [])
