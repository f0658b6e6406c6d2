"""Tests of what is said about which datagrams are let in, in options and in files."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import ScreenSettings
from echosvc.errors import InvalidConfig
from echosvc.settings import read_config
from echosvc.tap import Options
from tests.certificates import folder_for


class OptionTests(SynchronousTestCase):
    """Of each listener that the command line asks for."""

    def screens(self, *options: str) -> list[ScreenSettings]:
        """Parse options."""
        parsed = Options()
        parsed.parseOptions(list(options))
        return [each.screen for each in parsed.settings.listeners]

    def refuse(self, *options: str) -> str:
        """Parse options that make no sense; return what is said."""
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as ended:
            Options().parseOptions(list(options))
        self.assertEqual(64, ended.exception.code)
        return said.getvalue().removeprefix("echosvc: ").strip()

    def test_without(self) -> None:
        """The defaults hold."""
        self.assertEqual([ScreenSettings()] * 2, self.screens())

    def test_all(self) -> None:
        """For every listener."""
        said = (
            *("--datagram-rate", "500", "--datagram-burst", "20", "--datagram-rate-total", "9000"),
            *("--low-ports", "862,2049,123", "--port", "7", "--listen", "echo=udp:8"),
        )
        expected = ScreenSettings(low_ports=(862, 2049, 123), rate=500.0, burst=20.0, total=9000.0)

        self.assertEqual([expected] * 3, self.screens(*said))

    def test_off(self) -> None:
        """No limit."""
        for off in ("off", "0"):
            (found, _) = self.screens("--datagram-rate", off, "--datagram-rate-total", off)
            self.assertEqual((0.0, 0.0), (found.rate, found.total))

    def test_wrong_values(self) -> None:
        """Each is refused with the option's name."""
        for option, value, remedy in (
            ("--datagram-rate", "many", "must be a number from 0 to 1000000, or off"),
            ("--datagram-burst", "-1", "must be a number from 0 to 1000000, or off"),
            ("--datagram-rate-total", "10000001", "must be a number from 0 to 10000000, or off"),
            ("--low-ports", "0", "must be a number from 1 to 1023, or 2049; others are let in"),
            ("--low-ports", "1024", "must be a number from 1 to 1023, or 2049; others are let in"),
            ("--low-ports", "", "must be a number from 1 to 1023, or 2049; others are let in"),
        ):
            self.assertEqual(f"{option} {value}: {remedy}", self.refuse(option, value))

    def test_of_no_listener(self) -> None:
        """Would be taken to hold for those of a file."""
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write('[[listener]]\nprotocol = "echo"\nendpoint = "udp:7"\n')
            file.flush()

            said = self.refuse("--config", file.name, "--datagram-rate", "5")
        self.assertEqual(
            "--datagram-rate is for --port and --listen; a file says it in [[listener]] or [defaults]", said
        )


class FileTests(SynchronousTestCase):
    """In ``[[listener]]`` and ``[defaults]``."""

    def read(self, text: str) -> list[ScreenSettings]:
        """Read a file."""
        path = Path(folder_for(self)) / "file"
        path.write_text(text)
        return [each.screen for each in read_config(str(path)).listeners]

    def test_without(self) -> None:
        """The defaults are those of the options."""
        self.assertEqual([ScreenSettings()], self.read('[[listener]]\nprotocol = "echo"\nendpoint = "udp:7"'))

    def test_defaults_and_a_listener_of_its_own(self) -> None:
        """What a listener says holds; 0 and an empty list are something said."""
        found = self.read(
            "[defaults]\ndatagram-rate = 50\ndatagram-burst = 5\ndatagram-rate-total = 900\nlow-ports = [862]\n"
            '[[listener]]\nprotocol = "echo"\nendpoint = "udp:7"\n'
            '[[listener]]\nprotocol = "echo"\nendpoint = "udp:8"\nlow-ports = []\n'
            "datagram-rate = 0\ndatagram-burst = 7.5\ndatagram-rate-total = 0\n"
        )

        self.assertEqual(
            [
                ScreenSettings(low_ports=(862,), rate=50.0, burst=5.0, total=900.0),
                ScreenSettings(low_ports=(), rate=0.0, burst=7.5, total=0.0),
            ],
            found,
        )

    def test_wrong_values(self) -> None:
        """Each is told with its line."""
        said = (
            '[[listener]]\nprotocol = "echo"\nendpoint = "udp:7"\n'
            "low-ports = [862, 1024]\ndatagram-rate = -1\ndatagram-burst = nan\ndatagram-rate-total = 1e8\n"
        )
        with self.assertRaises(InvalidConfig) as refused:
            self.read(said)

        found = "\n".join(refused.exception.mistakes)
        for line, problem in (
            (4, "low-ports 1024: must be ports from 1 to 1023, or 2049; others are let in"),
            (5, "datagram-rate -1.0: must be a number from 0 to 1000000"),
            (6, "datagram-burst nan: must be a number from 0 to 1000000"),
            (7, "datagram-rate-total 100000000.0: must be a number from 0 to 10000000"),
        ):
            self.assertIn(f":{line}: {problem}", found)
