"""Tests of keeping workers running."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from echosvc.workers.generation import FEW, MANY, PATIENCE, Generation, Hopeless
from echosvc.workers.pulse import BEAT
from tests.waiting import until
from tests.workers.doubles import FakeWorker, launcher


class GenerationCase(SynchronousTestCase):
    """Two workers that are fakes.

    Attributes:
        workers: All that were started.
        failures: What was told to whoever is told that it is hopeless.
    """

    def setUp(self) -> None:
        """Start two workers, and one that stands by."""
        self.clock = Clock()
        self.workers: list[FakeWorker] = []
        self.failures: list[Hopeless] = []
        self.events: list[Any] = []
        log = Logger("echosvc", observer=self.events.append)  # type: ignore[arg-type]
        self.generation = Generation(2, launcher(self.workers), self.clock, log, self.failures.append)
        self.ready = self.generation.start()

    def begin(self) -> None:
        """Have all be prepared, and two of them serve."""
        for each in self.workers:
            self.generation.prepared(each)  # type: ignore[arg-type]
        for each in self.workers[:2]:
            each.serve()

    def errors(self) -> list[str]:
        """What was logged of them."""
        return [formatEvent(each) for each in self.events if each["log_level"] is LogLevel.error]


class StartTests(GenerationCase):
    """How it begins."""

    def test_one_more_than_serves_is_started(self) -> None:
        """It stands by."""
        self.begin()

        self.assertEqual([each.number for each in self.workers], [1, 2, None])

    def test_it_is_ready_when_all_serve(self) -> None:
        """And not before."""
        for each in self.workers:
            self.generation.prepared(each)  # type: ignore[arg-type]
        self.workers[0].serve()
        self.assertNoResult(self.ready)
        self.assertFalse(self.generation.is_ready)

        self.workers[1].serve()

        self.successResultOf(self.ready)
        self.assertTrue(self.generation.is_ready)
        self.assertEqual(self.generation.serving, self.workers[:2])


class DeathTests(GenerationCase):
    """How a successor comes."""

    def test_who_stands_by_takes_over_at_once(self) -> None:
        """With the number of the dead one; and another one is started to stand by."""
        self.begin()

        self.workers[1].die("hangs")
        self.clock.advance(0)

        self.assertEqual([each.number for each in self.workers], [1, 2, 2, None])
        self.assertFalse(self.generation.is_ready)
        self.assertIn("worker 2", self.errors()[0])
        self.workers[2].serve()
        self.assertTrue(self.generation.is_ready)

    def test_its_end_is_told_when_it_is_known(self) -> None:
        """A connection that breaks says less than what the system says a moment later."""
        self.begin()

        self.workers[0].die()
        before = self.errors()
        self.workers[0].end("was killed by SIGKILL")

        self.assertEqual(before, [])
        self.assertIn("was killed by SIGKILL", self.errors()[0])

    def test_who_dies_while_it_stands_by_is_replaced(self) -> None:
        """And never becomes anything."""
        self.begin()

        self.workers[2].die("hangs")
        self.clock.advance(0)
        self.generation.prepared(self.workers[3])  # type: ignore[arg-type]
        self.workers[0].die("hangs")

        self.assertEqual([each.number for each in self.workers[2:4]], [None, 1])

    def test_those_who_keep_dying_are_replaced_more_and_more_slowly(self) -> None:
        """The first at once, the next after a tenth of a second, and so on."""
        self.begin()
        started = []

        for _ in range(4):
            self.workers[-1].die("hangs")
            self.clock.advance(0)
            started.append(len(self.workers))
            self.clock.advance(10)

        self.assertEqual(started, [4, 4, 5, 6])

    def test_two_at_once_have_two_successors(self) -> None:
        """The second as soon as one more has started."""
        self.begin()

        self.workers[0].die("hangs")
        self.workers[1].die("hangs")
        self.clock.advance(0)
        self.generation.prepared(self.workers[3])  # type: ignore[arg-type]

        self.assertEqual([each.number for each in self.workers], [1, 2, 1, 2, None])

    def test_who_hangs_is_found_by_looking(self) -> None:
        """Ten times a second."""
        self.begin()
        self.workers[0].hangs = True

        self.clock.advance(BEAT)

        self.assertEqual(self.workers[2].number, 1)


class HopelessTests(GenerationCase):
    """When none comes to serve."""

    def test_it_is_given_up_after_a_few(self) -> None:
        """A package that cannot be imported is no better the hundredth time. It is said once."""
        for each in list(self.workers):
            each.die("ended with exit code 1")
        self.clock.advance(100)
        self.generation._failed_once()

        self.assertEqual(len(self.failures), 1)
        self.assertEqual(len(self.workers), FEW)

    def test_those_that_serve_are_left_alone(self) -> None:
        """However often their successors fail."""
        self.begin()

        for _ in range(3 * MANY):
            self.workers[-1].die("cannot begin")
            self.clock.pump([BEAT] * 110)

        self.assertEqual(self.failures, [])

    def test_once_all_have_served_it_is_tried_for_longer(self) -> None:
        """Half a minute, in which whoever upgrades a package may be done."""
        self.begin()

        for _ in range(2):
            self.generation.serving[0].die("x")  # type: ignore[attr-defined]
        deaths = 2
        for _ in until(lambda: self.failures):
            self.clock.pump([BEAT] * 110)
            self.workers[-1].die("x")
            deaths += 1

        self.assertEqual(deaths, MANY)

    def test_a_process_that_cannot_be_started_counts_as_one_that_dies(self) -> None:
        """There is no memory for it, or no descriptor."""
        self.begin()

        def refuse(_: object) -> Any:
            raise OSError("no memory")

        self.generation._launch = refuse
        self.workers[2].die("hangs")
        self.clock.advance(0)
        self.generation._launch = launcher(self.workers)
        self.clock.advance(0.1)

        self.assertIn("no worker can be started: no memory", self.errors())
        self.assertEqual(len(self.workers), 4)


class StopTests(GenerationCase):
    """How it ends."""

    def test_it_has_ended_when_every_process_has(self) -> None:
        """The one that stands by, too, and one that was given up and is not gone yet."""
        self.begin()
        self.workers[0].die("hangs")
        self.clock.advance(0)

        stopped = self.generation.stop(10.0)
        for each in self.workers[1:]:
            each.end()
        self.assertNoResult(stopped)
        self.workers[0].end("was killed by SIGKILL")

        self.successResultOf(stopped)
        self.assertEqual([each.calls for each in self.workers], [["stop"]] * 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_end_is_killed(self) -> None:
        """When the time for connections is over, and some more."""
        self.begin()

        stopped = self.generation.stop(10.0)
        self.clock.advance(10.0 + PATIENCE)

        self.successResultOf(stopped)
        self.assertEqual([each.calls for each in self.workers], [["stop", "kill"]] * 3)

    def test_nobody_is_started_any_more(self) -> None:
        """Not even if one was due."""
        self.begin()
        self.workers[0].die("hangs")

        self.generation.stop(1.0)
        self.clock.advance(0.5)
        self.workers[1].die("x")

        self.assertEqual(len(self.workers), 3)

    def test_a_hurry_is_passed_on(self) -> None:
        """To all."""
        self.begin()

        self.generation.hurry()

        self.assertEqual([each.calls for each in self.workers], [["hurry"]] * 3)

    def test_a_second_stop_is_the_first(self) -> None:
        """Both fire when all have ended."""
        self.begin()

        both = [self.generation.stop(1.0), self.generation.stop(1.0)]
        for each in self.workers:
            each.end()

        self.assertEqual([stopped.called for stopped in both], [True, True])

    def test_nobody_at_all(self) -> None:
        """All have died and none has come: it has ended."""
        for each in list(self.workers):
            each.die("x")
            each.end()

        self.successResultOf(self.generation.stop(1.0))
