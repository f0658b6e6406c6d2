"""Tests of what options and files say about the log."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import InvalidConfig, InvalidOption
from echosvc.settings import Settings, read_config, show
from echosvc.settings.values import share, share_text
from echosvc.tap import Options
from tests.certificates import folder_for

LISTENER = '[[listener]]\nprotocol = "echo"\nendpoint = "tcp:7"\n'


class LoggingTests(SynchronousTestCase):
    """The format, and the lines of connections."""

    def options(self, *given: str) -> Settings:
        """What options say."""
        asked = Options()
        asked.understand(list(given))
        return asked.settings

    def path(self, text: str) -> str:
        """Write a file."""
        path = Path(folder_for(self)) / "x.toml"
        path.write_text(text)
        return str(path)

    def test_options(self) -> None:
        """Text and no lines, if nothing is said."""
        for given, log_format, one_in in (
            ((), "text", 0),
            (("--log-format", "json", "--log-connections", "on"), "json", 1),
            (("--log-format=text", "--log-connections=1/100"), "text", 100),
            (("--log-connections=off",), "text", 0),
        ):
            settings = self.options(*given)
            self.assertEqual((log_format, one_in), (settings.log_format, settings.log_connections))

    def test_wrong_options(self) -> None:
        """Are named, with what would be right."""
        for option, value in (("log-format", "xml"), ("log-connections", "1/0"), ("log-connections", "100")):
            with self.assertRaisesRegex(InvalidOption, f"^--{option} {value}: must be "):
                self.options(f"--{option}", value)

    def test_a_file(self) -> None:
        """Says it for all, and for one listener; options say it otherwise."""
        path = self.path(
            f'[service]\nlog-format = "json"\nlog-connections = "1/10"\n{LISTENER}log-connections = "on"\n'
        )
        said, other = (
            read_config(path),
            self.options("--config", path, "--log-format=text", "--log-connections=off"),
        )

        self.assertEqual(("json", 10), (said.log_format, said.log_connections))
        self.assertEqual(("text", 0), (other.log_format, other.log_connections))
        self.assertEqual([1, 1], [each.listeners[0].log_connections for each in (said, other)])

    def test_wrong_files(self) -> None:
        """Are told by line."""
        path = self.path(
            f'[service]\nlog-format = "xml"\nlog-connections = "2/3"\n{LISTENER}log-connections = "maybe"\n'
        )
        with self.assertRaises(InvalidConfig) as caught:
            read_config(path)
        first, second, third = caught.exception.mistakes

        self.assertTrue(first.startswith(f"{path}:2: log-format must be 'text' or 'json'"), first)
        self.assertTrue(second.startswith(f"{path}:3: log-connections 2/3: must be off, on, or 1/N"), second)
        self.assertTrue(third.startswith(f"{path}:7: log-connections maybe: must be off, on, or 1/N"), third)

    def test_shown(self) -> None:
        """And read again."""
        settings = self.options("--log-format=json", "--log-connections=1/7", "--port=7")
        path = self.path(show(settings) + 'log-connections = "off"\n')
        again = read_config(path)

        self.assertEqual(("json", 7), (again.log_format, again.log_connections))
        self.assertEqual([None, 0], [each.log_connections for each in again.listeners])
        self.assertIn('log-connections = "off"', show(again))

    def test_shares(self) -> None:
        """What is written is what was read."""
        for text, one_in in (("off", 0), ("on", 1), ("1/2", 2), ("1/9999999", 9_999_999)):
            self.assertEqual((one_in, text), (share(text), share_text(one_in)))
        for wrong in ("", "1", "1/", "1/0", "2/3", "1/01", "1/12345678", "ON", "1/१"):
            self.assertRaises(ValueError, share, wrong)
