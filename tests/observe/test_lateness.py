"""Tests of how late the reactor is seen to be."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import LatenessWatch
from echosvc.observe.lateness import BOUNDS, INTERVAL, WINDOW


class LatenessTests(SynchronousTestCase):
    """A timer that is missed."""

    def setUp(self) -> None:
        """Begin to watch."""
        self.clock = Clock()
        self.watch = LatenessWatch(self.clock)
        self.watch.start()

    def be_late(self, seconds: float) -> None:
        """Have the next look come late."""
        self.clock.advance(INTERVAL + seconds)

    def counted(self) -> dict[float, int]:
        """How often it was how late, but for never."""
        read = self.watch.read()
        return {bound: count for bound, count in zip((*read.bounds, 99.0), read.counts, strict=True) if count}

    def test_each_look_is_counted_in_its_class(self) -> None:
        """What is above all bounds has a class of its own."""
        for late in (0.0, 0.0005, 0.0011, 0.03, 2.4, 5.0):
            self.be_late(late)

        self.assertEqual({0.001: 2, 0.0025: 1, 0.05: 1, 2.5: 1, 99.0: 1}, self.counted())
        read = self.watch.read()
        self.assertEqual(BOUNDS, read.bounds)
        self.assertAlmostEqual(7.4316, read.total)
        self.assertAlmostEqual(5.0, read.worst)

    def test_the_bound_belongs_to_its_class(self) -> None:
        """As Prometheus' buckets have it: no later than that."""
        self.watch.stop()
        self.watch._due = 1.0
        self.clock.seconds = lambda: 1.25  # type: ignore[method-assign]
        self.watch._look()

        self.assertEqual({0.25: 1}, self.counted())

    def test_the_worst_is_forgotten_after_a_while(self) -> None:
        """After a minute at least and two at most, whoever reads it meanwhile and however often."""
        self.be_late(1.0)
        self.clock.pump([INTERVAL] * round(WINDOW / INTERVAL))
        self.be_late(0.5)
        self.assertAlmostEqual(1.0, self.watch.read().worst)
        self.clock.pump([INTERVAL] * (round(WINDOW / INTERVAL) - 20))
        self.assertAlmostEqual(1.0, self.watch.read().worst)
        self.clock.pump([INTERVAL] * 30)
        self.assertAlmostEqual(0.5, self.watch.read().worst)
        self.clock.pump([INTERVAL] * round(WINDOW / INTERVAL + 30))

        self.assertLess(self.watch.read().worst, 0.001)

    def test_a_clock_that_goes_back_is_no_lateness(self) -> None:
        """Reactors have a clock that does not, but whoever brings another is not to see nonsense."""
        times = [5.0]
        self.clock.seconds = lambda: times[0]  # type: ignore[method-assign]
        self.watch.stop()
        self.watch.start()
        times[0] = 1.0
        self.watch._look()

        self.assertEqual(0.0, self.watch.read().total)

    def test_stops(self) -> None:
        """Leaving no timer; to stop twice is to stop once. What was seen can still be read."""
        self.be_late(0.2)
        self.watch.stop()
        self.watch.stop()

        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual({0.25: 1}, self.counted())
