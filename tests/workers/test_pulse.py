"""Tests of heartbeats."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from echosvc.workers.pulse import SILENT, Pulse, turn_waited


class PulseTests(SynchronousTestCase):
    """Who is believed dead."""

    def test_silence_is_death(self) -> None:
        """Half a second without a heartbeat is too long, and not before."""
        pulse = Pulse(lambda: 0.0)

        self.assertEqual([pulse.is_still() for _ in range(SILENT)], [False] * (SILENT - 1) + [True])

    def test_a_heartbeat_begins_it_anew(self) -> None:
        """Whoever speaks now and then lives."""
        pulse = Pulse(lambda: 0.0)
        found = []

        for _ in range(3):
            found += [pulse.is_still() for _ in range(SILENT - 1)]
            pulse.beat()

        self.assertNotIn(True, found)

    def test_waiting_for_the_processor_is_no_silence(self) -> None:
        """On a busy machine a worker is not killed for what others do; once it has its turn it has to speak."""
        waited = 0.0
        pulse = Pulse(lambda: waited)
        found = []

        for _ in range(20):
            waited += 0.1
            found.append(pulse.is_still())
        more = [pulse.is_still() for _ in range(SILENT)]

        self.assertNotIn(True, found)
        self.assertIn(True, more)

    def test_what_it_waited_before_does_not_count(self) -> None:
        """Only the time since it was last heard is looked at."""
        pulse = Pulse(lambda: 1000.0)

        self.assertTrue([pulse.is_still() for _ in range(SILENT)][-1])


class TurnWaitedTests(SynchronousTestCase):
    """What the kernel tells."""

    def test_the_second_number_is_nanoseconds(self) -> None:
        """As /proc/PID/schedstat has them."""
        with TemporaryDirectory() as folder:
            (Path(folder) / "7").mkdir()
            (Path(folder) / "7" / "schedstat").write_text("5 2500000000 9\n")

            self.assertEqual(turn_waited(7, Path(folder))(), 2.5)

    def test_a_kernel_that_does_not_tell(self) -> None:
        """Nothing is known, and nothing is excused."""
        with TemporaryDirectory() as folder:
            self.assertEqual(turn_waited(7, Path(folder))(), 0.0)

    def test_a_real_process(self) -> None:
        """This one has waited for no negative time."""
        self.assertGreaterEqual(turn_waited(os.getpid())(), 0.0)
