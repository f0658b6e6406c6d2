"""The command line itself: help pages, usage errors, start-up."""

from __future__ import annotations

import subprocess
import sys

from echosvc import __version__
from echosvc.errors import ExitCode
from echosvc.tap import Options
from tests.cli.command import ENVIRONMENT, PATIENCE, CommandCase

#: What only the service ends with, and its help page has.
OF_THE_SERVICE = {ExitCode.SOFTWARE, ExitCode.SYSTEM, ExitCode.PERMISSION, ExitCode.CONFIG}


class HelpTests(CommandCase):
    """What can be learned from the command."""

    def test_help(self) -> None:
        """The help pages name the commands, give examples and list the exit codes."""
        for arguments, words in (
            (["--help"], ["ping", "talk", "config", "protocols", "RFC 862"]),
            (["talk", "--help"], ["Examples:", "Exit codes:", "udp:HOST:PORT", "sha256sum"]),
            (["ping", "-h"], ["Examples:", "Exit codes:", "-c COUNT", "ping(8)"]),
            (["config", "--help"], ["check", "show"]),
            (["config", "check", "-h"], ["FILE", "Exit codes:\n", "opens no socket"]),
            (["config", "show", "-h"], ["Examples:\n", "Exit codes:\n", "--config echosvc.toml"]),
            (["protocols", "--help"], ["echosvc.protocols", "docs/extending.md"]),
        ):
            finished = self.run_command(*arguments)
            self.assertEqual((0, b""), (finished.returncode, finished.stderr))
            for each in words:
                self.assertIn(each, finished.stdout.decode())

    def test_version(self) -> None:
        """--version prints name and version."""
        finished = self.run_command("--version")

        self.assertEqual((0, f"echosvc {__version__}\n"), (finished.returncode, finished.stdout.decode()))

    def test_exit_codes_are_documented(self) -> None:
        """Every exit code a command can end with stands on its help page, and every other on the service's."""
        for command, codes in (
            (["talk"], set(ExitCode) - OF_THE_SERVICE),
            (["health"], {ExitCode.OK, ExitCode.USAGE, ExitCode.UNAVAILABLE, ExitCode.CONFIG}),
            (["config", "check"], {ExitCode.OK, ExitCode.CONFIG}),
            (["config", "show"], {ExitCode.OK, ExitCode.USAGE, ExitCode.CONFIG}),
        ):
            page = self.run_command(*command, "--help").stdout.decode()
            for code in codes:
                self.assertIn(f"\n    {code.value} ", page)
        page = Options().getUsage()
        for code in OF_THE_SERVICE:
            self.assertRegex(page, rf"[ \n]{code.value} ")

    def test_nothing_is_imported_for_help(self) -> None:
        """A help page appears without Twisted having been imported, and so at once."""
        code = (
            "import sys, atexit\n"
            "atexit.register(lambda: print([name for name in sys.modules if 'twisted' in name]))\n"
            "from echosvc.cli import main\n"
            "main(sys.argv[1:])"
        )
        for command in (["talk"], ["config", "check"], ["config", "show"], ["protocols"]):
            printed = subprocess.run(
                [sys.executable, "-c", code, *command, "--help"],
                capture_output=True,
                env=ENVIRONMENT,
                timeout=PATIENCE,
                check=True,
            ).stdout
            self.assertEqual(b"[]", printed.splitlines()[-1])


class UsageErrorTests(CommandCase):
    """What was typed wrong is told in one line."""

    def test_usage_errors(self) -> None:
        """Every wrong use is one line on standard error that names the trouble, and exit code 64."""
        for arguments, words in (
            (["shout"], ["'shout'", "echosvc --help"]),
            (["ping"], ["HOST PORT", "echosvc ping --help"]),
            (["ping", "localhost"], ["the port is missing"]),
            (["ping", "localhost", "abc"], ["abc", "1 to 65535"]),
            (["ping", "localhost", "65536"], ["65536", "1 to 65535"]),
            (["talk", "::1:8080"], ["brackets"]),
            (["talk", "a", "1", "2"], ["HOST PORT"]),
            (["ping", "-c", "0", "localhost", "1"], ["-c", "0"]),
            (["ping", "-c", "many", "localhost", "1"], ["-c", "many"]),
            (["ping", "-i", "nan", "localhost", "1"], ["-i", "nan", "seconds"]),
            (["ping", "-W", "1e9", "localhost", "1"], ["-W", "1e9", "seconds"]),
            (["talk", "-W", "soon", "localhost", "1"], ["-W", "soon", "seconds"]),
            (["talk", "--tls", "localhost", "1"], ["--tls"]),
            (["config", "chek"], ["'chek'", "echosvc config --help"]),
            (["config", "check", "a", "b"], ["b", "config check --help"]),
            (["protocols", "--all"], ["--all"]),
        ):
            self.assert_failed(self.run_command(*arguments), ExitCode.USAGE, *words)

    def test_no_arguments(self) -> None:
        """Without arguments the help page appears on standard error, with the exit code of a usage error."""
        for arguments in ((), ("config",)):
            finished = self.run_command(*arguments)
            self.assertEqual((ExitCode.USAGE, b""), (finished.returncode, finished.stdout))
            self.assertIn(b"Commands:", finished.stderr)

    def test_name_not_found(self) -> None:
        """A name without an address is one line and an exit code of its own, over TCP and UDP."""
        for arguments in (["ping", "nowhere.invalid:7"], ["talk", "udp:nowhere.invalid:7"]):
            self.assert_failed(self.run_command(*arguments), ExitCode.NAME_NOT_FOUND, "nowhere.invalid")
