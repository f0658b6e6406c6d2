"""Tests of the pauses between deaths and successors."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.workers.pauses import HEALTHY, LONGEST, Pauses


class PausesTests(SynchronousTestCase):
    """How long is waited."""

    def test_the_first_time_at_once_then_longer_and_longer(self) -> None:
        """They double, and end at ten seconds."""
        pauses = Pauses(Clock().seconds)

        found = [pauses.died() for _ in range(10)]

        self.assertEqual(found[:5], [0.0, 0.1, 0.2, 0.4, 0.8])
        self.assertEqual(found[-1], LONGEST)

    def test_a_healthy_while_is_a_new_beginning(self) -> None:
        """Whoever dies once a day is replaced at once each time."""
        clock = Clock()
        pauses = Pauses(clock.seconds)
        for _ in range(5):
            pauses.died()

        clock.advance(HEALTHY - 1)
        soon = pauses.died()
        clock.advance(HEALTHY)

        self.assertEqual((soon, pauses.died()), (1.6, 0.0))
