"""Tests of what workers log."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher, eventAsText, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe.log_guard import LogGuard
from echosvc.workers.relay import Relay, log_event, pack_event


class RelayCase(SynchronousTestCase):
    """An event that goes from one publisher to another.

    Attributes:
        worker: What the worker logs to.
        logged: What the parent has logged.
    """

    def setUp(self) -> None:
        """Make both ends."""
        self.logged: list[LogEvent] = []
        self.parent = LogPublisher(self.logged.append)  # type: ignore[arg-type]
        self.worker = LogPublisher(Relay(lambda event: log_event(event, 3, self.parent)))
        self.log = Logger("echosvc", observer=self.worker)


class RelayTests(RelayCase):
    """What arrives."""

    def test_a_line_arrives_with_the_number_of_its_worker(self) -> None:
        """As the worker would have written it."""
        self.log.error("{where}: dropped {count}", where="UDP", count=3)

        (event,) = self.logged
        self.assertEqual(formatEvent(event), "worker 3: UDP: dropped 3")
        self.assertEqual((event["log_level"], event["log_namespace"]), (LogLevel.error, "echosvc"))

    def test_plain_fields_are_kept(self) -> None:
        """For those who log in JSON."""
        self.log.info("x", where="UDP", count=3, thing=object())

        (event,) = self.logged
        self.assertEqual((event["where"], event["count"]), ("UDP", 3))
        self.assertNotIn("thing", event)

    def test_a_traceback_arrives_whole(self) -> None:
        """With the class, the words, the file and the line."""
        try:
            raise KeyError("lost")  # noqa: TRY301  # for a traceback
        except KeyError:
            self.log.failure("it failed")

        text = eventAsText(self.logged[0], includeTimestamp=False)
        self.assertIn("worker 3: it failed", text)
        self.assertIn("test_relay.py", text)
        self.assertIn("builtins.KeyError: 'lost'", text)

    def test_a_deep_recursion_is_cut(self) -> None:
        """Both of its ends are kept."""

        def deep(left: int) -> None:
            if not left:
                raise ValueError("deep")
            deep(left - 1)

        try:
            deep(200)
        except ValueError:
            self.log.failure("it failed")

        self.assertEqual(len(self.logged[0]["log_failure"].frames), 40)

    def test_old_events_arrive(self) -> None:
        """Those of twisted.python.log, with their system, and without a level."""
        observer: Any = self.worker
        observer(
            {"log_format": "{log_text}", "log_text": "said", "message": ("said",), "system": "S", "time": 1.0}
        )

        (event,) = self.logged
        self.assertEqual(formatEvent(event), "worker 3: said")
        self.assertEqual((event["log_system"], event["log_level"]), ("S", LogLevel.info))
        self.assertNotIn("message", event)

    def test_braces_are_nobody_s_format(self) -> None:
        """What a peer has sent is not formatted again."""
        self.log.info("{what}", what="{worker} {said}")

        self.assertEqual(formatEvent(self.logged[0]), "worker 3: {worker} {said}")

    def test_the_parent_s_guard_passes_what_a_worker_s_guard_has_passed(self) -> None:
        """All of it is logged by one line of code of the parent's, and would be taken for a flood."""
        guard = LogGuard(_Clock(), self.parent)
        guard.start()
        self.addCleanup(guard.stop)

        for number in range(50):
            self.log.info("line {number}", number=number)

        self.assertEqual(len(self.logged), 50)

    def test_who_stands_by_has_no_number(self) -> None:
        """It is called by what it is."""
        log_event(
            pack_event({"log_format": "x", "log_level": LogLevel.info, "log_time": 0.0}), None, self.parent
        )

        self.assertEqual(formatEvent(self.logged[0]), "spare worker: x")

    def test_a_failure_that_is_not_a_class_is_packed_too(self) -> None:
        """Twisted makes such when it cannot find the class."""
        failure = Failure(ValueError("x"))
        failure.type = "some.Error"  # type: ignore[assignment]

        packed = json.loads(pack_event({"log_format": "x", "log_failure": failure}))

        self.assertEqual(packed["failure"]["type"], "some.Error")


class UnheardTests(SynchronousTestCase):
    """When there is nobody to send it to."""

    def test_what_matters_goes_to_standard_error(self) -> None:
        """Which the parent reads; the rest is nobody's concern."""
        stream = io.StringIO()
        self.patch(sys, "__stderr__", stream)
        relay = Relay()

        relay({"log_format": "bad", "log_level": LogLevel.error})
        relay({"log_format": "fine", "log_level": LogLevel.info})

        self.assertEqual(stream.getvalue(), "bad\n")


class _Clock(Clock):
    def callWhenRunning(self, function: Any) -> None:
        """Never: own_pipes is not for tests."""

    def addSystemEventTrigger(self, *args: Any) -> None:
        """Never fires."""
