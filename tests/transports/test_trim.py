"""Tests of memory that connections have left behind."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.trim import MANY, QUIET, Trimmer, trim


class TrimmerTests(SynchronousTestCase):
    """When it is given back."""

    def setUp(self) -> None:
        """Make one that only counts."""
        self.clock = Clock()
        self.given_back = 0
        self.trimmer = Trimmer(self.clock, self.give_back)

    def give_back(self) -> None:
        """Count."""
        self.given_back += 1

    def come_and_go(self, come: int, go: int) -> None:
        """Let some connections begin, and then some end."""
        for _ in range(come):
            self.trimmer.take()
        for _ in range(go):
            self.trimmer.leave()

    def test_when_many_have_left(self) -> None:
        """Once, a little later; again only when as many have left again."""
        self.come_and_go(3 * MANY, MANY)
        self.assertEqual(self.given_back, 0)
        self.clock.advance(QUIET)
        self.assertEqual(self.given_back, 1)
        self.come_and_go(0, MANY - 1)
        self.clock.advance(QUIET)
        self.assertEqual(self.given_back, 1)
        self.come_and_go(0, 1)
        self.clock.advance(QUIET)

        self.assertEqual(self.given_back, 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_while_others_take_their_place(self) -> None:
        """However many come and go, one after the other, or all at once and soon again."""
        self.come_and_go(MANY, 0)
        for _ in range(3 * MANY):
            self.come_and_go(1, 1)
        self.come_and_go(0, MANY)
        self.clock.advance(QUIET / 2)
        self.come_and_go(MANY, 0)
        self.clock.advance(QUIET)

        self.assertEqual(self.given_back, 0)

    def test_asks_the_library(self) -> None:
        """Nothing is wrong if there is nothing to give back."""
        trim()
