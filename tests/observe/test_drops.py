"""Tests of the report of what was dropped."""

from __future__ import annotations

from collections import Counter

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from echosvc.observe import DropReport


@implementer(ILogObserver)
class Lines:
    """A log that remembers its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        """Remember one event."""
        self.lines.append(formatEvent(event))


class Source:
    """A listener, as far as the report can see."""

    where = "UDP [::]:7"

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def drops(self) -> Counter[str]:
        """Tell what the test has put in."""
        return self.counted


class DropReportTests(SynchronousTestCase):
    """Nothing is dropped silently, and nothing is said twice."""

    def setUp(self) -> None:
        """Start a report on one listener."""
        self.log = Lines()
        self.clock = Clock()
        self.source = Source()
        self.report = DropReport([self.source], self.clock, Logger(namespace="test", observer=self.log))
        self.report.start()

    def test_says_nothing_when_nothing_was_dropped(self) -> None:
        """A quiet service has a quiet log."""
        self.clock.pump([60.0] * 3)

        self.assertEqual(self.log.lines, [])

    def test_says_once_a_minute_what_was_dropped_since(self) -> None:
        """A flood is one line a minute, with the count of each reason since the last one."""
        self.source.counted["source-port-own"] += 130000
        self.source.counted["send-EPERM"] += 1
        self.clock.advance(60)
        self.source.counted["send-EPERM"] += 2
        self.clock.advance(60)

        self.assertEqual(
            self.log.lines,
            [
                "UDP [::]:7: dropped: source-port-own 130000, send-EPERM 1",
                "UDP [::]:7: dropped: send-EPERM 2",
            ],
        )

    def test_says_the_rest_at_the_end(self) -> None:
        """What was dropped in the last minute is not lost when the service stops."""
        self.source.counted["truncated"] += 1
        self.report.stop()

        self.assertEqual(self.log.lines, ["UDP [::]:7: dropped: truncated 1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
