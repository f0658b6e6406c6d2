"""The summary of ping(8)."""

from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.measure import RoundTrips

TIMES = st.floats(1e-6, 1e3)


def summary(times: list[float], sent: int | None = None) -> RoundTrips:
    """Summarise round-trip times in seconds."""
    trips = RoundTrips(sent=len(times) if sent is None else sent)
    for each in times:
        trips.add(each)
    return trips


class RoundTripsTests(SynchronousTestCase):
    """Counts and times."""

    def test_example(self) -> None:
        """Three known times give the figures that ping(8) prints for them."""
        trips = summary([0.001, 0.002, 0.006])

        self.assertEqual((0.001, 0.006), (trips.minimum, trips.maximum))
        self.assertAlmostEqual(0.003, trips.mean)
        self.assertAlmostEqual(math.sqrt((1 + 4 + 36) / 3 - 9) / 1000, trips.mdev)

    def test_nothing_yet(self) -> None:
        """Before the first probe there is no loss and no spread."""
        trips = RoundTrips()

        self.assertEqual((0, 0.0, 0.0), (trips.lost, trips.loss, trips.mdev))

    def test_loss(self) -> None:
        """What was sent and did not come back is lost."""
        trips = summary([0.1], sent=4)

        self.assertEqual((3, 0.75), (trips.lost, trips.loss))

    @given(st.lists(TIMES, min_size=1, max_size=50))
    def test_against_statistics(self, times: list[float]) -> None:
        """Mean and mdev are the mean and the population's standard deviation of the times."""
        trips = summary(times)

        self.assertTrue(math.isclose(statistics.fmean(times), trips.mean, rel_tol=1e-9))
        self.assertTrue(math.isclose(statistics.pstdev(times), trips.mdev, rel_tol=1e-6, abs_tol=1e-9))
        self.assertEqual((min(times), max(times)), (trips.minimum, trips.maximum))

    def test_long_times_that_hardly_differ(self) -> None:
        """A microsecond of spread shows even on top of a thousand seconds."""
        trips = summary([1000 + number % 2 * 2e-6 for number in range(10_000)])

        self.assertAlmostEqual(1e-6, trips.mdev, places=10)
