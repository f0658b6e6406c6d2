"""Tests of what stands between all that is logged and what it is logged to."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogPublisher, formatEvent, globalLogPublisher
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import LogGuard
from echosvc.observe.flood import ENTRIES, INTERVAL
from echosvc.observe.log_pipe import own_pipes
from echosvc.service import echo_service as service
from echosvc.service import open_service
from echosvc.settings import Settings
from tests.doubles import FakeReactor
from tests.observe.log_sinks import FailingSink, Lines

FULL = OSError(28, "No space left on device")


class GuardCase(SynchronousTestCase):
    """A guarded publisher with one observer, and a logger that has known it for longer than the guard."""

    def setUp(self) -> None:
        """Start the guard."""
        self.sink = FailingSink()
        self.publisher = LogPublisher(self.sink)
        self.somebody = Logger(namespace="somebody", observer=self.publisher)
        self.reactor: Any = FakeReactor()
        self.guard = LogGuard(self.reactor, self.publisher)
        self.guard.start()

    def lines(self) -> list[str]:
        """What was logged since the last call."""
        lines = self.sink.lines
        self.sink.events.clear()
        return lines


class LogGuardTests(GuardCase):
    """Begin and end."""

    def test_what_is_logged_is_made_safe(self) -> None:
        """For whatever observer there is, before it and after it."""
        later = Lines()
        self.publisher.addObserver(later)
        self.somebody.info("{x}", x="a\r\nb")

        self.assertEqual([r"a\r\nb"], self.lines())
        self.assertEqual([r"a\r\nb"], later.lines)

    def test_an_observer_can_be_removed(self) -> None:
        """As twistd does in the end."""
        self.publisher.removeObserver(self.sink)
        self.somebody.info("x")

        self.assertEqual([], self.lines())

    def test_a_flood_is_counted_once_a_minute(self) -> None:
        """By the reactor's clock."""
        for _ in range(100):
            self.somebody.info("x")
        self.lines()
        self.reactor.advance(INTERVAL - 1)
        self.assertEqual([], self.lines())
        self.reactor.advance(1)

        self.assertEqual([f"… and {100 - ENTRIES} more within a minute, like: x"], self.lines())

    def test_when_it_stops_all_is_as_it_was(self) -> None:
        """With a last report; no timer is left, and the next test logs what it likes."""
        for _ in range(100):
            self.somebody.info("x")
        self.lines()
        self.guard.stop()
        self.assertEqual([f"… and {100 - ENTRIES} more within a minute, like: x"], self.lines())
        self.somebody.info("{x}", x="a\nb")

        self.assertEqual(["a\nb"], self.lines())
        self.assertIs(LogPublisher, type(self.publisher))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_it_starts_again(self) -> None:
        """A service may be stopped and started."""
        self.guard.stop()
        self.guard.start()
        self.somebody.info("{x}", x="a\nb")

        self.assertEqual([r"a\nb"], self.lines())

    def test_it_outlives_the_service_when_the_process_ends(self) -> None:
        """Its connections are lost after the service has stopped, and each of them may have something to say."""
        self.fire("before")
        self.guard.stop()
        for _ in range(100):
            self.somebody.info("{x}", x="a\nb")
        self.assertEqual([r"a\nb"] * ENTRIES, self.lines())
        self.fire("after")

        self.assertEqual([rf"… and {100 - ENTRIES} more within a minute, like: a\nb"], self.lines())

    def fire(self, phase: str) -> None:
        """Do what the reactor does before or after its end."""
        for call, arguments, keywords in self.reactor.triggers[phase]["shutdown"]:
            call(*arguments, **keywords)

    def test_two_services_have_one_guard(self) -> None:
        """Nothing is held back twice, and stopping the second leaves the first one its guard."""
        second = LogGuard(self.reactor, self.publisher)
        second.start()
        for _ in range(100):
            self.somebody.info("{x}", x="a\nb")
        second.stop()

        self.assertEqual([r"a\nb"] * ENTRIES, self.lines())
        self.somebody.warn("{x}", x="a\nb")
        self.assertEqual([r"a\nb"], self.lines())

    def test_pipes_are_seen_to_once_the_process_logs(self) -> None:
        """Which it does, in every runner, when the reactor runs."""
        self.assertEqual([(own_pipes, (), {})], self.reactor.whenRunningHooks)


class BrokenSinkTests(GuardCase):
    """A log that cannot be written."""

    def test_who_logs_does_not_notice(self) -> None:
        """Whatever the observer raises."""
        self.sink.problem = FULL
        self.somebody.info("x")

        self.assertEqual(1, self.sink.tries)

    def test_what_the_observer_raises_may_be_broken_too(self) -> None:
        """It is shown as well as it can be."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise ZeroDivisionError

        self.sink.problem = Mute()
        self.somebody.info("one")
        self.sink.problem = None
        self.somebody.info("two")

        self.assertRegex(self.lines()[1], "^1 entries before the last one may be missing: Mute: ")

    def test_what_is_missing_is_said_once_it_works_again(self) -> None:
        """Once, with a number and the reason."""
        self.sink.problem = FULL
        self.somebody.info("one")
        self.somebody.info("two")
        self.sink.problem = None
        self.somebody.info("three")
        self.somebody.info("four")

        missing = "2 entries before the last one may be missing: OSError: [Errno 28] No space left on device"
        self.assertEqual(["three", missing, "four"], self.lines())

    def test_what_is_missing_is_said_even_if_it_fails_again_at_that(self) -> None:
        """The number is kept until it could be said."""
        self.sink.problem = FULL
        self.somebody.info("one")
        self.sink.problem = None
        fails_at = self.sink.tries + 2

        class Flaky(FailingSink):
            def __call__(self, event: dict[str, Any]) -> None:
                self.problem = FULL if self.tries + 1 == fails_at else None
                super().__call__(event)

        self.sink.__class__ = Flaky
        self.somebody.info("two")
        self.somebody.info("three")

        missing = "2 entries before the last one may be missing: OSError: [Errno 28] No space left on device"
        self.assertEqual(["two", "three", missing], self.lines())

    def test_others_are_told_once_and_log_on(self) -> None:
        """Not with each entry, and not with a traceback."""
        other = Lines()
        self.publisher.addObserver(other)
        self.sink.problem = OSError("gone\x1b")
        self.somebody.info("one")
        self.somebody.info("two")

        self.assertEqual(3, len(other.lines))
        self.assertRegex(other.lines[0], r"^<.*FailingSink object.*> cannot log: OSError: gone\\x1b$")
        self.assertEqual(["one", "two"], other.lines[1:])
        self.assertNotIn("log_failure", other.events[0])

    def test_one_that_is_removed_leaves_nothing_behind(self) -> None:
        """Another one that comes in its place is not said to have lost anything."""
        self.sink.problem = FULL
        self.somebody.info("one")
        self.publisher.removeObserver(self.sink)
        self.somebody.info("two")
        self.sink.problem = None
        self.publisher.addObserver(self.sink)
        self.somebody.info("three")

        self.assertEqual(["three"], self.lines())

    def test_two_broken_sinks_do_not_chase_each_other(self) -> None:
        """Each is told once of the other, and no more."""
        other = FailingSink(FULL)
        self.publisher.addObserver(other)
        self.sink.problem = FULL
        for number in range(ENTRIES):
            self.somebody.info("{n}", n=number)

        self.assertEqual((ENTRIES + 1, ENTRIES + 1), (self.sink.tries, other.tries))

    def test_a_sink_that_logs_does_not_log_for_ever(self) -> None:
        """A user's own mistake: what it logs is an entry, and so on."""
        calls = []

        def sink(event: dict[str, Any]) -> None:
            calls.append(event)
            self.somebody.info("seen {event}", event=formatEvent(event))

        self.publisher.addObserver(sink)  # type: ignore[arg-type]  # any callable will do
        for _ in range(100):
            self.somebody.info("x")

        self.assertEqual(2 * ENTRIES, len(calls))

    def test_a_trace_is_kept(self) -> None:
        """Twisted's own way to see where an entry goes."""
        trace: list[Any] = []
        self.somebody.info("x", log_trace=trace)

        self.assertEqual([(self.somebody, self.publisher), (self.publisher, self.sink)], trace)


class ServiceTests(SynchronousTestCase):
    """The running service is guarded."""

    def setUp(self) -> None:
        """Make a service that listens to nothing."""
        self.service = open_service(Settings(listeners=()), FakeReactor())

    def test_everything_is_guarded_while_it_runs(self) -> None:
        """What all of Twisted logs to, from before its first line to after its last."""
        sink = Lines()
        globalLogPublisher.addObserver(sink)
        self.addCleanup(globalLogPublisher.removeObserver, sink)
        self.service.startService()
        log.msg("a\nb")
        self.service.stopService()
        log.msg("a\nb")

        self.assertEqual([r"a\nb", "a\nb"], sink.lines)

    def test_pipes_are_seen_to_before_rights_are_dropped(self) -> None:
        """Root's pipe cannot be opened by nobody."""
        calls: list[str] = []
        self.patch(service, "own_pipes", lambda: calls.append("seen to"))
        self.service.privilegedStartService()

        self.assertEqual(["seen to"], calls)
