"""Tests of a running service that is watched."""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.logger import LogLevel

from echosvc.errors import InvalidListener, PortInUse
from echosvc.listeners import ListenerSettings
from echosvc.service import EchoService, open_service
from echosvc.settings import Settings
from echosvc.settings.admin import admin_settings
from tests.doubles import FakeReactor
from tests.machine import open_descriptors
from tests.service.test_echo_service import ServiceCase, settings


def watched(endpoint: str = "tcp:0") -> Settings:
    """Echo, and an admin listener."""
    return attrs.evolve(settings(), admin=admin_settings(endpoint, f"--admin {endpoint}"))


class WatchedTests(ServiceCase):
    """From start to stop."""

    def page(self, service: EchoService, path: str) -> int:
        """Ask the admin listener of a service for a page; return the code."""
        admin: Any = service._seeing._admin
        return int(self.successResultOf(admin._factory.answer(path, "")).code)

    def test_is_ready_from_start_to_stop(self) -> None:
        """Not before, not with a listener that is gone, and not while it stops."""
        service = open_service(watched(), FakeReactor())
        self.assertFalse(service.is_ready())
        self.assertIsNone(service._seeing._admin and service._seeing._admin._factory)
        self.successResultOf(service._seeing.stop())
        for each in service.listeners:
            each.stop()
        service = self.start(FakeReactor(), watched())
        self.assertEqual(200, self.page(service, "/readyz"))
        listener: Any = service.listeners[0]
        listener._served.connected = False
        self.assertEqual(503, self.page(service, "/readyz"))
        listener._served.connected = True
        stopped = self.parent.stopService()
        self.assertEqual((503, 200), (self.page(service, "/readyz"), self.page(service, "/healthz")))
        self.reactor.advance(0)
        self.reactor.advance(0)
        self.successResultOf(stopped)

    def test_is_shown_to_the_last(self) -> None:
        """The admin listener is closed when all others are, and leaves no timer."""
        service = self.start(FakeReactor(), watched())
        admin: Any = service._seeing._admin
        stopped = self.parent.stopService()
        self.assertTrue(admin._port.connected)
        self.reactor.advance(0)
        self.reactor.advance(0)

        self.successResultOf(stopped)
        self.assertFalse(admin._port.connected)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_the_log_says_where(self) -> None:
        """As a URL."""
        self.start(FakeReactor(), watched())

        self.assertTrue(
            any("metrics, health and status at http://127.0.0.1:" in said for _, said in self.lines())
        )

    def test_a_snapshot(self) -> None:
        """Has every listener."""
        service = self.start(FakeReactor())

        self.assertEqual(["tcp", "udp"], [each.transport for each in service.snapshot().listeners])

    def test_nothing_stays_open_if_something_cannot_be(self) -> None:
        """Whichever of them it is."""
        before = open_descriptors()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertRaises(PortInUse, open_service, watched(f"tcp:{port}"), FakeReactor())
            wrong = attrs.evolve(
                watched(), listeners=(ListenerSettings(protocol="ecko", place=settings().listeners[0].place),)
            )
            self.assertRaises(InvalidListener, open_service, wrong, FakeReactor())
            self.assertEqual(before + 1, open_descriptors())

    def test_after_a_reload_it_counts_on(self) -> None:
        """What was served by a listener that is gone is not forgotten; where the service is watched stays as it is."""
        reactor = FakeReactor()
        first = watched()
        second = attrs.evolve(
            first,
            listeners=(attrs.evolve(first.listeners[0], stall_timeout=7.0), first.listeners[1]),
            admin=admin_settings("tcp:9", "--admin tcp:9"),
        )
        said = [second, attrs.evolve(second, admin=admin_settings("tcp:9", "elsewhere"))]
        self.reactor = reactor
        self.parent = MultiService()
        self.events = self.logged()
        service = open_service(first, reactor, reread=lambda: said.pop(0))
        service.setServiceParent(self.parent)
        self.parent.startService()
        self.addCleanup(self.stop)
        listener: Any = service.listeners[0]
        listener._served.sessionno = 5
        listener._served.ended["lost"] = 5
        self.lines()
        service.reload()
        self.assertIn((LogLevel.warn, "admin: from the next start on"), self.lines())
        service.reload()
        self.assertNotIn((LogLevel.warn, "admin: from the next start on"), self.lines())
        reactor.advance(0)

        counted = {each.transport: each.opened for each in service.snapshot().listeners}
        self.assertEqual({"tcp": 5, "udp": 0}, counted)
        self.assertEqual(2, len(service.snapshot().listeners))
