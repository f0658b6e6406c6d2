"""Tests of heartbeats."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from tempfile import NamedTemporaryFile

from twisted.trial.unittest import SynchronousTestCase

from echosvc.workers.pulse import BEAT, SILENT, Pulse, open_stat, time_run


class PulseTests(SynchronousTestCase):
    """Which worker is believed dead."""

    def looks_until_dead(self, ran: Callable[[int], float | None]) -> int | None:
        """How many looks it takes until silence counts as death; None if a hundred do not.

        Args:
            ran: Tells, by the number of the look, for how many seconds the process has run, as `Pulse` is told.
        """
        looks = range(1, 101)
        look = iter(looks[1:])  # at the first nothing is asked
        pulse = Pulse(lambda: ran(next(look)))
        return next((each for each in looks if pulse.is_still()), None)

    def test_silence_is_death(self) -> None:
        """Half a second without a heartbeat is too long, and not before: whether a process is stopped or runs in circles."""
        for what, ran in (("stopped", lambda _: None), ("in circles", lambda look: look * BEAT)):
            with self.subTest(what=what):
                self.assertEqual(self.looks_until_dead(ran), SILENT)

    def test_a_heartbeat_begins_it_anew(self) -> None:
        """A worker that speaks now and then lives."""
        pulse = Pulse(lambda: None)
        found = []

        for _ in range(3):
            found += [pulse.is_still() for _ in range(SILENT - 1)]
            pulse.beat()

        self.assertNotIn(True, found)

    def test_waiting_for_the_processor_is_no_silence(self) -> None:
        """However long others have it, without a break or with some milliseconds now and then."""
        self.assertIsNone(self.looks_until_dead(lambda _: 7.0))
        self.assertIsNone(self.looks_until_dead(lambda look: look // 10 * 0.005))

    def test_in_half_of_the_time_it_takes_twice_as_long(self) -> None:
        """One that runs in circles and shares the processor is found, too."""
        self.assertEqual(self.looks_until_dead(lambda look: look * BEAT / 2), 2 + 2 * (SILENT - 2))

    def test_waiting_that_has_ended_does_not_count(self) -> None:
        """A process that is stopped after it has waited is dead as soon as any other."""
        self.assertEqual(self.looks_until_dead(lambda look: 7.0 if look < 20 else None), 20 + SILENT - 3)


class TimeRunTests(SynchronousTestCase):
    """What the kernel tells."""

    def told(self, text: str) -> float | None:
        """Read what stands in a file."""
        with NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            return time_run(file.fileno())()

    def test_state_and_time(self) -> None:
        """As /proc/PID/stat has them, whatever the name of the program is; of one that waits for something else, nothing."""
        rest = " 1 2 3 4 5 6 7 8 9 10 300 100 0 0"
        ticks = os.sysconf("SC_CLK_TCK")

        self.assertEqual(self.told(f"7 (a) S (b) R{rest}"), 400 / ticks)
        for state in "SDTtZ":
            self.assertIsNone(self.told(f"7 (a) R (b) {state}{rest}"))

    def test_a_system_that_does_not_tell(self) -> None:
        """Nothing is known, and nothing is excused."""
        self.assertIsNone(open_stat("/nowhere/at/all"))
        self.assertIsNone(time_run(None)())
        for text in ("", "7 (a)", "7 (a) R 1 2"):
            self.assertIsNone(self.told(text))

    def test_real_processes(self) -> None:
        """This one runs; one that is stopped does not, nor does one that is gone."""
        ours = open_stat()
        if ours is None:
            self.skipTest("this system does not tell")
        self.addCleanup(os.close, ours)
        self.assertGreater(time_run(ours)() or 0.0, 0.0)
        with subprocess.Popen(["sleep", "60"]) as process:
            theirs = os.open(f"/proc/{process.pid}/stat", os.O_RDONLY)
            self.addCleanup(os.close, theirs)
            process.send_signal(signal.SIGSTOP)
            for _ in range(1000):
                if (stopped := time_run(theirs)()) is None:
                    break
                time.sleep(0.01)
            process.kill()

        self.assertEqual((stopped, time_run(theirs)()), (None, None))
