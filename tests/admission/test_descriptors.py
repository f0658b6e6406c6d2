"""Tests of how many connections this process can have."""

from __future__ import annotations

import resource
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import descriptors
from echosvc.admission.descriptors import SPARE, provide_for
from echosvc.admission.quota import overbooked

OPEN = 12


class DescriptorTests(SynchronousTestCase):
    """There is a descriptor for each connection, and some are left."""

    def limit(self, soft: int, hard: int) -> None:
        """Have the system allow so many."""
        self.limits = (soft, hard)
        self.patch(descriptors, "_open_now", lambda: OPEN)
        self.patch(resource, "getrlimit", lambda _: self.limits)
        self.patch(resource, "setrlimit", self.set)

    def set(self, _: int, limits: tuple[int, int]) -> None:
        """Refuse what the system would."""
        if limits[1] != self.limits[1] or limits[0] > limits[1] != resource.RLIM_INFINITY:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits

    def test_the_soft_limit_is_raised_as_far_as_is_needed(self) -> None:
        """And no further."""
        for hard in (1_000_000, resource.RLIM_INFINITY):
            self.limit(1024, hard)

            self.assertEqual(10_000, provide_for(10_000))
            self.assertEqual((10_000 + overbooked(10_000) + OPEN + SPARE, hard), self.limits)

    def test_a_limit_that_is_high_enough_is_left_alone(self) -> None:
        """Infinity is, too."""
        for soft in (20_000, resource.RLIM_INFINITY):
            self.limit(soft, resource.RLIM_INFINITY)

            self.assertEqual(10_000, provide_for(10_000))
            self.assertEqual((soft, resource.RLIM_INFINITY), self.limits)

    @given(st.integers(1, 100_000), st.integers(1, 3000))
    def test_below_the_hard_limit_there_are_fewer_connections(self, wanted: int, hard: int) -> None:
        """As many as leave enough for everything else; one at least."""
        self.limit(min(64, hard), hard)
        granted = provide_for(wanted)

        self.assertLessEqual(granted, wanted)
        if granted > 1:
            self.assertLessEqual(granted + overbooked(granted) + OPEN + SPARE, hard)
        if granted < wanted:
            self.assertGreater(granted + 1 + overbooked(granted + 1) + OPEN + SPARE, hard)
        self.assertGreaterEqual(granted, 1)

    def test_more_than_can_be_watched_are_no_use(self) -> None:
        """The reactor knows fewer."""
        self.limit(256, 100_000)
        granted = provide_for(10_000, ceiling=1024)

        self.assertEqual((1024, 100_000), self.limits)
        self.assertLessEqual(granted + overbooked(granted) + OPEN + SPARE, 1024)

    def test_what_may_not_be_raised_stays(self) -> None:
        """A filter of system calls forbids it, for one."""
        self.limit(100, 1000)

        def forbid(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(resource, "setrlimit", forbid)
        granted = provide_for(500)

        self.assertLessEqual(granted + overbooked(granted) + OPEN + SPARE, 100)
        self.assertGreater(granted, 50)

    def test_counts_what_is_open(self) -> None:
        """Ours, as the system tells; some where it does not."""
        before = descriptors._open_now()
        with Path("/dev/null").open():
            self.assertEqual(before + 1, descriptors._open_now())

        def fail(_: object) -> None:
            raise FileNotFoundError

        self.patch(Path, "iterdir", fail)
        self.assertEqual(descriptors.FEW, descriptors._open_now())
