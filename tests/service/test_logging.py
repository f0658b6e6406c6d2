"""Tests of what a service does about its log."""

from __future__ import annotations

import io
import json
from typing import Any

import attrs
from twisted.logger import Logger, LogPublisher, textFileLogObserver
from twisted.trial.unittest import SynchronousTestCase

from echosvc.listeners import Internet, ListenerSettings
from echosvc.observe import LogGuard
from echosvc.service import echo_service, open_service
from echosvc.settings import Settings
from echosvc.transports import StreamPort
from tests.doubles import FakeReactor

SETTINGS = Settings(listeners=(ListenerSettings(protocol="echo", place=Internet("tcp", 0, "127.0.0.1")),))


class LoggingTests(SynchronousTestCase):
    """The format of the log, and lines for connections, from the start and after a reload."""

    def setUp(self) -> None:
        """Make a log of its own."""
        self.file = io.StringIO()
        self.publisher = LogPublisher(textFileLogObserver(self.file))
        self.log = Logger("test", observer=self.publisher)
        self.patch(echo_service, "LogGuard", lambda reactor: LogGuard(reactor, self.publisher))
        self.reactor: Any = FakeReactor()

    def open(self, settings: Settings) -> Any:
        """Open a service that stops with the test."""
        self.settings = settings
        service = open_service(settings, self.reactor, reread=lambda: self.settings)
        self.addCleanup(self.stop, service)
        return service

    def stop(self, service: Any) -> None:
        """Stop a service, if it runs, and close its sockets."""
        if service.running:
            stopped = service.stopService()
            self.reactor.pump([0.1] * 30)
            self.successResultOf(stopped)

    def writes_json(self) -> bool:
        """Whether a line is JSON now."""
        self.file.truncate(0)
        self.file.seek(0)
        self.log.info("{x}", x="y")
        line = self.file.getvalue()
        if line.startswith("{"):
            self.assertEqual("y", json.loads(line)["x"])
        return line.startswith("{")

    def test_json_from_before_privileges_are_dropped(self) -> None:
        """Until the service stops; where that comes first is not called, from the start."""
        service = self.open(attrs.evolve(SETTINGS, log_format="json"))
        self.assertFalse(self.writes_json())
        service.privilegedStartService()
        self.assertTrue(self.writes_json())
        service.startService()
        self.stop(service)
        self.assertFalse(self.writes_json())

    def test_json_under_twist(self) -> None:
        """Which begins to log when the reactor runs."""
        service = self.open(attrs.evolve(SETTINGS, log_format="json"))
        service.startService()
        self.assertFalse(self.writes_json())
        for call, arguments, keywords in self.reactor.whenRunningHooks:
            if call == service._choose_log_format:
                call(*arguments, **keywords)

        self.assertTrue(self.writes_json())

    def test_a_reload_changes_both(self) -> None:
        """For connections that end from then on."""
        service = self.open(SETTINGS)
        service.startService()
        place = service.listeners[0].settings.place
        (port,) = [each for each in self.reactor.getReaders() if isinstance(each, StreamPort)]
        self.assertEqual((False, None), (self.writes_json(), port.end_log))
        changes: tuple[tuple[Any, int], ...] = (("json", 10), ("text", 0))
        for log_format, one_in in changes:
            self.settings = attrs.evolve(SETTINGS, log_format=log_format, log_connections=one_in)
            service.reload()
            self.assertEqual(
                (log_format == "json", one_in > 0), (self.writes_json(), port.end_log is not None)
            )
        self.assertEqual(place, service.listeners[0].settings.place)
