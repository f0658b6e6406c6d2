"""Tests of how a flood is judged: what is the service's fault, what the machine's, and what nobody has seen."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.hold import flood, launch, service
from tests.hold.clients import Pings
from tests.hold.flood import ATTEMPTS, Flooded, small_floods
from tests.hold.promise import Broken, as_is_known
from tests.hold.run import Run, Subject
from tests.hold.service import Lateness, NotServing, Server, lateness

QUIET = Flooded(
    stall=15.0,
    usual=5.0,
    median=0.5,
    timer=Lateness(late=0.010, own=0.002),
    clock=1.0,
    pings=1000,
    rate=3e5,
)


class JudgementTests(SynchronousTestCase):
    """One flood."""

    def test_borne(self) -> None:
        """Nobody waited for long."""
        self.assertTrue(QUIET.holds())

    def test_stall(self) -> None:
        """A TCP client that waits for longer than 20 ms, where the machine is not late, has been stalled."""
        self.assertFalse(replace(QUIET, stall=21.0).holds())

    def test_late_timer(self) -> None:
        """So has a timer."""
        self.assertFalse(replace(QUIET, timer=Lateness(late=0.021, own=0.0)).holds())

    def test_machine(self) -> None:
        """Where a mere clock is late, one wait may be longer, within bounds."""
        self.assertTrue(replace(QUIET, stall=60.0, clock=6.1).holds())
        self.assertFalse(replace(QUIET, stall=62.0, clock=6.1).holds())

    def test_own(self) -> None:
        """What no waiting for the processor explains is the service's fault on any machine."""
        late = Lateness(late=0.030, own=0.021)

        self.assertFalse(replace(QUIET, timer=late, clock=100.0).holds())

    def test_usual(self) -> None:
        """If more than one ping in a hundred waits, it is not for a moment's lateness: less is allowed for."""
        self.assertFalse(replace(QUIET, usual=21.0).holds())
        self.assertTrue(replace(QUIET, usual=30.0, clock=6.1).holds())
        self.assertFalse(replace(QUIET, usual=31.0, clock=6.1).holds())

    def test_quantile(self) -> None:
        """One in a hundred is left out, not two."""
        pings = Pings()
        pings.seconds = [0.001] * 99 + [1.0]
        self.assertEqual((0.001, 1.0), (pings.quantile(0.98), pings.quantile(0.99)))

    def test_control(self) -> None:
        """The figures of the stock server, which has no timer, are those that its pattern looks for."""
        for stall in (150.0, 3000.0):
            stalled = replace(QUIET, stall=stall, timer=None)

            self.assertFalse(stalled.holds())
            self.assertTrue(as_is_known(small_floods, Subject.STOCK, f"empty: {stalled}"))
        self.assertFalse(as_is_known(small_floods, Subject.STOCK, f"empty: {QUIET}"))


class AttemptTests(SynchronousTestCase):
    """How often."""

    def hold(self, *floods: Flooded) -> tuple[str, int]:
        """What is said of these floods, and how many of them there were."""
        made: list[Flooded] = []

        def make(*_: Any) -> Flooded:
            made.append(floods[len(made)])
            return made[-1]

        self.patch(flood, "_flood", make)
        self.patch(flood, "answers", lambda *_: None)
        self.patch(flood, "SETTLE", 0.0)
        with TemporaryDirectory() as directory:
            server: Any = type("Server", (), {"tcp": 0, "udp": 0})
            said = flood._hold(Run("T20", Path(directory)), server, "empty", 0)
        return said, len(made)

    def test_once(self) -> None:
        """One that is borne is enough."""
        self.assertEqual((f"empty: {QUIET}", 1), self.hold(QUIET))

    def test_again(self) -> None:
        """After a late moment it is tried again, and both are told."""
        late = replace(QUIET, stall=25.0)

        self.assertEqual((f"empty: {QUIET}, AFTER {late}", 2), self.hold(late, QUIET))

    def test_never(self) -> None:
        """Late every time is broken."""
        self.assertRaises(Broken, self.hold, *[replace(QUIET, stall=25.0)] * ATTEMPTS)


class WatchTests(SynchronousTestCase):
    """The timer in the service's reactor."""

    def setUp(self) -> None:
        """Watch a reactor whose time the test makes, on a machine that is as busy as the test says."""
        self.reactor = Clock()
        self.waited = 0.0
        self.notes: list[str] = []
        launch.Watch(self.reactor, self.notes.append, self.reactor.seconds, lambda: self.waited).begin()

    def noted(self) -> list[str]:
        """What was noted, without the time."""
        return [line.strip().partition(" ")[2] for line in self.notes]

    def test_on_time(self) -> None:
        """A quiet reactor is not late."""
        self.reactor.pump([0.001] * 120)

        self.assertEqual(["0.0 0.0"], self.noted())

    def test_late(self) -> None:
        """The worst of each tenth of a second is noted, and only there."""
        self.reactor.pump([0.001, 0.031] + [0.001] * 300)

        self.assertEqual(["30.0 30.0", "0.0 0.0"], self.noted()[:2])

    def test_waited(self) -> None:
        """What others had the processor for is not the service's own."""
        self.reactor.pump([0.001])
        self.waited += 0.012
        self.reactor.pump([0.031] + [0.001] * 100)

        self.assertEqual(["30.0 18.0"], self.noted())

    def test_waited_before(self) -> None:
        """Nor does what they had it for at another time excuse the service."""
        self.waited += 1.0
        self.reactor.pump([0.001, 0.031] + [0.001] * 100)

        self.assertEqual(["30.0 30.0"], self.noted())

    def test_this_system(self) -> None:
        """The kernel's count never falls."""
        waited = launch.turn_waited()

        self.assertLessEqual(0.0, waited())
        self.assertLessEqual(waited(), waited())

    def test_another_system(self) -> None:
        """Where the kernel does not count turns, all that is no work counts as waiting."""
        waited = launch.turn_waited("/nowhere")
        before = waited()
        time.sleep(0.02)

        self.assertGreater(waited() - before, 0.01)


class LatenessTests(SynchronousTestCase):
    """What is read of the timer's notes."""

    NOTES = "10.0 900.0 900.0\n10.1 1.0 0.5\n10.2 30.0 2.0\n10.3 2.0 1.0\n"

    def test_worst(self) -> None:
        """The worst between two moments counts, and what was before does not."""
        self.assertEqual(Lateness(0.030, 0.002), lateness(self.NOTES, 10.05, 10.25))

    def test_first_after(self) -> None:
        """The first note after the end tells of the time before."""
        self.assertEqual(Lateness(0.030, 0.002), lateness(self.NOTES, 10.15, 10.15))

    def test_not_yet(self) -> None:
        """Before the timer has run once more, nothing can be said."""
        self.assertIsNone(lateness(self.NOTES, 10.0, 10.4))

    def test_being_written(self) -> None:
        """A line without an end is not read."""
        self.assertIsNone(lateness(self.NOTES + "10.5 1", 10.0, 10.4))

    def test_never(self) -> None:
        """A timer that does not run is no timer that is on time."""
        with TemporaryDirectory() as directory:
            (Path(directory) / "lateness").write_text(self.NOTES)
            self.patch(service, "STOP", 0.05)
            server = Server(["true"], Path(directory))
            self.addCleanup(server.close)

            self.assertRaises(NotServing, server.timer_lateness, 10.0, 11.0)
