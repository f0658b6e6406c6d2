"""Tests of the admin listener: a bound socket on which the service is watched."""

from __future__ import annotations

import builtins
import socket
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.logger import capturedLogs, formatEvent

from echosvc.admin import open_admin
from echosvc.admin.listener import AdminListener
from echosvc.errors import ExitCode, InvalidListener, PortInUse
from echosvc.listeners.sockets import Opened
from echosvc.settings.admin import admin_settings
from echosvc.transports.accepting import SPARE
from echosvc.transports.hub import hub_for
from tests.admin.test_metrics import SNAPSHOT
from tests.doubles import FakeReactor
from tests.listeners.cases import ListenerCase
from tests.machine import HAS_IPV6, needs_ipv6, open_descriptors


class AdminCase(ListenerCase):
    """Opens admin listeners, and turns their reactor by hand."""

    ready = True

    def setUp(self) -> None:
        """Make the reactor."""
        self.reactor = FakeReactor()

    def open(self, endpoint: str = "tcp:0") -> AdminListener:
        """Open one."""
        admin = open_admin(admin_settings(endpoint, f"--admin {endpoint}"))
        self.addCleanup(self.stop, admin)
        return admin

    def start(self, endpoint: str = "tcp:0") -> AdminListener:
        """Open one, and begin to answer."""
        admin = self.open(endpoint)
        admin.start(self.reactor, lambda: [SNAPSHOT], lambda: self.ready)
        (self.port,) = self.reactor.getReaders()
        return admin

    def stop(self, admin: AdminListener) -> None:
        """Stop it, if the test has not."""
        stopped = admin.stop()
        self.reactor.advance(0)
        self.successResultOf(stopped)

    def connect(self) -> socket.socket:
        """Connect a client."""
        address: Any = self.port.getHost()
        if hasattr(address, "port"):
            client = socket.create_connection((address.host, address.port), 5)
            self.addCleanup(client.close)
        else:
            client = self.client()
            client.connect(address.name)
        self.port.doRead()
        return client

    def ask(self, path: str, host: str = "localhost") -> bytes:
        """Ask for a page."""
        client = self.connect()
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        hub_for(self.reactor).doRead()
        self.reactor.advance(0)
        found = b""
        while more := client.recv(65536):
            found += more
        return found


class AdminTests(AdminCase):
    """Listening and answering."""

    def test_over_tcp(self) -> None:
        """Every page is answered, and whether the service is ready is asked for each time."""
        admin = self.start()

        self.assertEqual(f"http://127.0.0.1:{self.port.getHost().port}/", admin.where)
        self.assertIn(b"\nechosvc_ready 1.0\n", self.ask("/metrics"))
        self.assertIn(b'"version"', self.ask("/status"))
        self.assertTrue(self.ask("/readyz").startswith(b"HTTP/1.1 200 "))
        self.ready = False
        self.assertTrue(self.ask("/readyz").startswith(b"HTTP/1.1 503 "))

    def test_another_host(self) -> None:
        """On a loopback address it answers to no other host's name, over a UNIX socket and on other addresses to any."""
        code = b"HTTP/1.1 421 "
        for endpoint, refuses in (
            ("tcp:0", True),
            ("tcp:127.0.0.2:0", True),
            *[("tcp:[::1]:0", True)] * HAS_IPV6,
            ("tcp:0.0.0.0:0", False),
            (f"unix:{self.folder() / 'admin'}", False),
        ):
            with self.subTest(endpoint=endpoint):
                admin = self.start(endpoint)

                self.assertEqual(refuses, self.ask("/metrics", "evil.example").startswith(code))
                self.assertFalse(self.ask("/metrics", "localhost:9007").startswith(code))
                self.stop(admin)

    def test_over_unix(self) -> None:
        """Likewise, with the rights that its endpoint says; the file goes with it."""
        path = self.folder() / "admin"
        admin = self.start(f"unix:{path}:mode=600")

        self.assertEqual(f"unix:{path}", admin.where)
        self.assertEqual(0o600, path.stat().st_mode & 0o777)
        self.assertTrue(self.ask("/healthz").endswith(b"ok\n"))
        self.stop(admin)
        self.assertFalse(path.exists())

    def test_a_file_that_cannot_be_removed(self) -> None:
        """Is a line in the log: rights may have been dropped since it was made."""
        path = self.folder() / "admin"
        admin = self.start(f"unix:{path}")
        with (
            capturedLogs() as events,
            mock.patch("pathlib.Path.unlink", side_effect=PermissionError(13, "Permission denied")),
        ):
            self.stop(admin)

        self.assertEqual(
            [f"admin: {path} stays behind: Permission denied"], [formatEvent(each) for each in events]
        )

    @needs_ipv6
    def test_over_ipv6(self) -> None:
        """The address is written as URLs have it."""
        self.assertRegex(self.open("tcp:[::1]:0").where, r"^http://\[::1\]:\d+/$")

    def test_the_end(self) -> None:
        """Cuts off who is still there, and leaves nothing open."""
        SPARE.keep()  # which all ports of a process share
        before = open_descriptors()
        admin = self.start()
        client = self.connect()
        self.stop(admin)

        self.assertRaises(ConnectionResetError, client.recv, 1)
        client.close()
        hub_for(self.reactor)._epoll.close()
        self.assertEqual(before, open_descriptors())

    def test_can_be_stopped_before_it_was_started(self) -> None:
        """What was bound is closed, and its file removed."""
        path = self.folder() / "admin"
        before = open_descriptors()
        for endpoint in ("tcp:0", f"unix:{path}"):
            admin = self.open(endpoint)
            self.assertEqual(before + 1, open_descriptors())
            self.stop(admin)

            self.assertEqual(before, open_descriptors())
        self.assertFalse(path.exists())

    def test_whoever_can_be_reached_by_others_says_so(self) -> None:
        """A warning for every address that is not this machine's own alone."""
        path = str(self.folder() / "admin")
        for endpoint, count in (
            ("tcp:0", 0),
            ("tcp:127.0.0.9:0", 0),
            *[("tcp:[::1]:0", 0), ("tcp:[::]:0", 1)] * HAS_IPV6,
            (f"unix:{path}", 0),
            ("tcp:0.0.0.0:0", 1),
        ):
            admin = self.open(endpoint)
            self.assertEqual(count, len(admin.warnings()), endpoint)
            self.stop(admin)

    def test_link_local_addresses_have_a_scope(self) -> None:
        """And are others' to reach."""

        class LinkLocal:
            family = socket.AF_INET6

            def getsockname(self) -> tuple[object, ...]:
                return ("fe80::1%eth0", 9007, 0, 2)

        settings = admin_settings("tcp:9007", "--admin tcp:9007")
        admin = AdminListener(Opened(settings, LinkLocal()))  # type: ignore[arg-type]

        self.assertEqual(1, len(admin.warnings()))


class RefusalTests(AdminCase):
    """What cannot be opened."""

    def test_port_in_use(self) -> None:
        """Is told as of any listener, and nothing stays open."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            endpoint = f"tcp:{taken.getsockname()[1]}"
            problem = self.refused(PortInUse, open_admin, admin_settings(endpoint, f"--admin {endpoint}"))

        self.assertTrue(str(problem).startswith(f"--admin {endpoint}"))

    def test_what_it_needs_is_not_installed(self) -> None:
        """Says how to install it, before anything is opened."""
        real = builtins.__import__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.startswith("prometheus_client"):
                raise ModuleNotFoundError(f"No module named {name!r}", name="prometheus_client")
            return real(name, *args, **kwargs)

        for name in ("echosvc.admin.listener", "echosvc.admin.pages", "echosvc.admin.metrics"):
            module = sys.modules.pop(name, None)
            if module is not None:
                self.addCleanup(sys.modules.__setitem__, name, module)
        self.patch(builtins, "__import__", without)
        path = self.folder() / "admin"
        settings = admin_settings(f"unix:{path}", "--admin x")
        problem = self.refused(InvalidListener, open_admin, settings)

        self.assertEqual(
            "--admin x: needs prometheus_client, which is not installed: pip install prometheus-client",
            str(problem),
        )
        self.assertEqual(ExitCode.USAGE, problem.exit_code)
        self.assertFalse(Path(path).exists())
