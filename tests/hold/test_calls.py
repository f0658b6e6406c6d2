"""Tests of the table of system calls and of what they can return."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.hold.calls import CALLS, PROXY, TLS, UNIX, Place


class CallTests(SynchronousTestCase):
    """What is injected."""

    def test_errors_have_names(self) -> None:
        """Of the system: strace would take no others."""
        unknown = {error for call in CALLS for error in call.errors if not hasattr(errno, error)}

        self.assertEqual(set(), unknown)

    def test_nothing_is_tried_twice(self) -> None:
        """A call and an error, under the same traffic."""
        tried = Counter((call.names, error, call.traffic) for call in CALLS for error in call.errors)

        self.assertEqual(set(), {each for each, count in tried.items() if count > 1})

    def test_listeners(self) -> None:
        """A server that has only what everybody has is asked for nothing else."""
        place = Place(1, 7, 7)
        ours = Place(1, 7, 7, Path("/run/echo"), 8, 9)

        self.assertEqual(
            {UNIX, TLS, PROXY}, {call.listener for call in CALLS if not place.has(call.listener)}
        )
        self.assertTrue(all(ours.has(call.listener) for call in CALLS))
