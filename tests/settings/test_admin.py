"""Tests of where the admin listener listens."""

from __future__ import annotations

import tomllib

from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import InvalidOption
from echosvc.listeners import Internet, ListenerSettings, UnixSocket
from echosvc.settings import Settings, read_config, show
from echosvc.settings.admin import admin_endpoint, admin_option, admin_settings
from echosvc.tap import Options
from tests.listeners.cases import tcp_listener
from tests.settings.cases import ConfigCase

LISTENER = '[[listener]]\nprotocol = "echo"\nendpoint = "tcp:7"\n'


class EndpointTests(SynchronousTestCase):
    """What an endpoint means."""

    def test_a_port_is_on_this_machine_alone(self) -> None:
        """Whoever wants others to reach it writes an address out."""
        for text, interface in (
            ("tcp:9007", "127.0.0.1"),
            ("tcp:9007:interface=127.0.0.1", "127.0.0.1"),
            ("tcp:127.0.0.1:9007", "127.0.0.1"),
            ("TCP:127.0.0.1:9007", "127.0.0.1"),
            ("tcp:[::1]:9007", "::1"),
            ("tcp:[fe80::1%eth0]:9007", "fe80::1%eth0"),
            ("tcp:0.0.0.0:9007", "0.0.0.0"),
            ("tcp:9007:interface=[::]", "::"),
        ):
            self.assertEqual(Internet("tcp", 9007, interface), admin_settings(text, "x").place)

    def test_unix_sockets(self) -> None:
        """With what they can say besides."""
        self.assertEqual(
            UnixSocket("unix", "/run/a", 0o600), admin_settings("unix:/run/a:mode=600", "x").place
        )

    def test_what_can_be_said_besides(self) -> None:
        """Behind an address, too; and who asked for it is kept."""
        settings = admin_settings("tcp:127.0.0.1:9007:backlog=5", "--admin x")

        self.assertEqual(
            (9007, "--admin x", "admin"),
            (settings.place.port, settings.origin, settings.name),  # type: ignore[union-attr]
        )

    def test_nothing_else(self) -> None:
        """HTTP is for streams, and TLS is not spoken there."""
        for text in (
            "udp:9007",
            "unixgram:/run/a",
            "tls:9007:cert=a:key=b",
            "haproxy:tcp:9007",
            "haproxy:unix:/run/a",
            "systemd:name=admin",
            "ssh:9007",
            "9007",
            "tcp",
            "",
            "tcp:localhost:9007",
            "tcp:127.0.0.1:99999",
            "tcp:127.0.0.1",
        ):
            self.assertRaises(ValueError, admin_settings, text, "x")

    def test_is_written_as_it_is_read(self) -> None:
        """So that settings can be shown."""
        for text in ("tcp:9007", "tcp:[::1]:9007", "unix:/run/a:mode=600"):
            settings = admin_settings(text, "x")
            self.assertEqual(settings, admin_settings(admin_endpoint(settings), "x"))


class OptionTests(SynchronousTestCase):
    """--admin."""

    def test_is_named_in_errors(self) -> None:
        """With its value, and what would be right."""
        problem = self.assertRaises(InvalidOption, admin_option, "udp:1", None)

        self.assertEqual("--admin udp:1: must be tcp:PORT, tcp:ADDRESS:PORT or unix:PATH", str(problem))

    def test_nothing_is_served_without_it(self) -> None:
        """Or what the file says, which it replaces."""
        file = tcp_listener()

        self.assertIsNone(admin_option(None, None))
        self.assertIs(file, admin_option(None, file))
        found = admin_option("tcp:9007", file)
        self.assertEqual(admin_settings("tcp:9007", "--admin tcp:9007"), found)

    def test_among_all_options(self) -> None:
        """It is one of twistd's."""
        options = Options()
        options.parseOptions(["--admin", "tcp:9007"])

        self.assertEqual(admin_settings("tcp:9007", "--admin tcp:9007"), options.settings.admin)
        self.assertEqual(2, len(options.settings.listeners))


class FileTests(ConfigCase):
    """The table [admin]."""

    def admin(self, table: str) -> ListenerSettings | None:
        """Read a file with it."""
        return read_config(self.file(LISTENER + table)).admin

    def test_says_where(self) -> None:
        """With its line, for errors."""
        found = self.admin('[admin]\nendpoint = "tcp:9007"\n')

        self.assertEqual(admin_settings("tcp:9007", f"{self.folder / 'echosvc.toml'}:5"), found)
        self.assertIsNone(self.admin(""))

    def test_mistakes(self) -> None:
        """Each with its line."""
        for table, problem in (
            ('[admin]\nendpoint = "udp:1"\n', "5: endpoint 'udp:1': must be tcp:PORT"),
            ("[admin]\n", "4: endpoint is missing"),
            ("[admin]\nendpoint = 5\n", "5: endpoint must be a string, not 5"),
            ('[admin]\nendpoint = "tcp:1"\nport = 5\n', "6: unknown key port"),
        ):
            self.assert_beginnings([problem], self.mistakes(LISTENER + table))

    def test_is_shown(self) -> None:
        """As a file that means the same, and not where there is none."""
        admin = admin_settings("tcp:[::1]:9007", "x")
        written = show(Settings(listeners=(tcp_listener(7),), admin=admin))

        self.assertEqual({"endpoint": "tcp:9007:interface=[::1]"}, tomllib.loads(written)["admin"])
        found = read_config(self.file(written)).admin
        self.assertEqual(admin.place, found and found.place)
        self.assertNotIn("admin", tomllib.loads(show(Settings(listeners=(tcp_listener(7),)))))
