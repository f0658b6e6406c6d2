"""When probes are due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.measure import next_slot


class ScheduleTests(SynchronousTestCase):
    """A schedule that does not drift."""

    def test_in_time(self) -> None:
        """A slot that was served in time, or a little late, is followed by the next one."""
        self.assertEqual(1, next_slot(0, 0.0, 1.0))
        self.assertEqual(4, next_slot(3, 3.9, 1.0))

    def test_left_out(self) -> None:
        """Slots that passed while the process was stopped are left out; the latest of them is served."""
        self.assertEqual(100, next_slot(3, 100.5, 1.0))

    @given(st.integers(0, 10**6), st.floats(0, 1e6), st.floats(1e-3, 1e3))
    def test_always_forward(self, slot: int, elapsed: float, interval: float) -> None:
        """The next slot is always a later one."""
        self.assertTrue(next_slot(slot, elapsed, interval) > slot)
