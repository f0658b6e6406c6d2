"""`echosvc config`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import skipUnless

from echosvc.errors import ExitCode
from echosvc.settings import read_config
from tests.cli.command import COMMAND, ENVIRONMENT, PATIENCE, CommandCase

_GOOD = '[[listener]]\nprotocol = "echo"\nendpoint = ["tcp:7", "udp:7"]\n'


class FileCase(CommandCase):
    """Runs the command with files."""

    def setUp(self) -> None:
        """Make a folder for them."""
        folder = TemporaryDirectory(prefix="echosvc-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, text: str, name: str = "echosvc.toml") -> str:
        """Write one; return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


class CheckTests(FileCase):
    """`echosvc config check`."""

    def test_good(self) -> None:
        """A good file is said to be good, and how many listeners it makes."""
        one = self.file('[[listener]]\nprotocol = "echo"\nendpoint = "tcp:7"\n', "one.toml")
        two = self.file(_GOOD, "two.toml")
        for path, words in ((one, "1 listener"), (two, "2 listeners")):
            finished = self.run_command("config", "check", path)
            self.assertEqual((0, b""), (finished.returncode, finished.stderr))
            self.assertEqual(f"{path}: good; {words}\n", finished.stdout.decode())

    def test_opens_nothing(self) -> None:
        """A file can be checked while the service that it describes runs."""
        port = self.stream_server()
        path = self.file(f'[[listener]]\nprotocol = "echo"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n')

        self.assertEqual(0, self.run_command("config", "check", path).returncode)

    def test_mistakes(self) -> None:
        """Every mistake is a line of its own on standard error, with file and line; nothing is on standard output."""
        path = self.file(
            'colour = 1\n[[listener]]\nprotocol = "ecko"\nendpoint = "tcp:x"\nname = "\\u0007"\nsize = 2\n'
        )
        finished = self.run_command("config", "check", path)
        lines = finished.stderr.decode().splitlines()

        self.assertEqual((ExitCode.CONFIG, b""), (finished.returncode, finished.stdout))
        self.assertEqual(
            [f"echosvc: {path}:{line}" for line in (1, 3, 4, 6)],
            [":".join(each.split(":")[:3]) for each in lines],
        )

    def test_no_file(self) -> None:
        """A file that is not there is a mistake of the same kind; no file at all is one of use."""
        self.assert_failed(
            self.run_command("config", "check", self.folder / "none"), ExitCode.CONFIG, "none: No such file"
        )
        self.assert_failed(self.run_command("config", "check"), ExitCode.USAGE, "FILE", "config check --help")

    def test_strange_name(self) -> None:
        """A file's name need not be text."""
        path = os.fsencode(self.folder) + b"/gr\xfc\xdf\n.toml"
        Path(os.fsdecode(path)).write_text(_GOOD)
        good = self.run_command("config", "check", os.fsdecode(path))
        Path(os.fsdecode(path)).write_text("x = 1")
        bad = self.run_command("config", "check", os.fsdecode(path))

        self.assertEqual((0, 2), (good.returncode, len(bad.stderr.splitlines())))
        self.assertIn(rb"/gr\udcfc\udcdf", good.stdout)
        self.assertIn(rb"/gr\udcfc\udcdf\n.toml:1: unknown key x", bad.stderr)


class ShowTests(FileCase):
    """`echosvc config show`."""

    def shown(self, *options: str) -> str:
        """What a good command line shows; it must be a good file."""
        finished = self.run_command("config", "show", *options)
        self.assertEqual((0, b""), (finished.returncode, finished.stderr))
        text = finished.stdout.decode()
        self.file(text, "shown.toml")
        return text

    def listeners(self, *options: str) -> list[tuple[str, str, int]]:
        """What a service would do with what is shown: protocol, place and backlog of each listener."""
        self.shown(*options)
        return [
            (each.protocol, str(each.place), each.backlog)
            for each in read_config(str(self.folder / "shown.toml")).listeners
        ]

    def test_defaults(self) -> None:
        """Without options it is what the service does without options, each default written out."""
        text = self.shown()

        for line in ('protocol = "echo"', 'endpoint = "udp:8007"', "backlog = 1024", "stall-timeout = 300.0"):
            self.assertIn(f"\n{line}\n", text)

    def test_options(self) -> None:
        """Options are as twistd has them, long, short, and short with their value at once."""
        self.assertEqual(
            [
                ("echo", "Internet(transport='tcp', port=7, interface='::1')", 5),
                ("echo", "Internet(transport='tcp', port=9, interface='')", 5),
                ("chargen", "Internet(transport='udp', port=19, interface='')", 5),
            ],
            self.listeners(
                *("--tcp-port=7", "-i", "::1", "--backlog", "5"),
                *("-lecho=tcp:9", "--listen", "chargen=udp:19"),
            ),
        )

    def test_file(self) -> None:
        """A file is shown with its defaults filled in, and so shows that it was understood."""
        path = self.file(f"[defaults]\nbacklog = 5\n{_GOOD}")

        self.assertEqual(
            [
                ("echo", "Internet(transport='tcp', port=7, interface='')", 5),
                ("echo", "Internet(transport='udp', port=7, interface='')", 5),
            ],
            self.listeners("-c", path),
        )

    def test_wrong_options(self) -> None:
        """One line and the exit code that twistd itself would end with."""
        path = self.file("[[listener]]\n")
        for options, code, words in (
            (["--prot", "7"], ExitCode.USAGE, "--prot: no such option; did you mean --port?"),
            (["--port"], ExitCode.USAGE, "--port: requires argument"),
            (["8080"], ExitCode.USAGE, "did you mean --port 8080?"),
            (["--", "8080"], ExitCode.USAGE, "did you mean --port 8080?"),
            (["-l", "ecko=tcp:7"], ExitCode.USAGE, "--listen ecko=tcp:7: there is no protocol 'ecko'"),
            (["-p7", "-l", "echo=udp:7"], ExitCode.USAGE, "udp:7 is already taken by --port 7"),
            (["-l", "echo=tls:1:cert=/none:key=/none"], ExitCode.USAGE, "certificate file /none"),
            (["-l", "echo=unix:/\udcff"], ExitCode.USAGE, r"'\udcff' is not UTF-8, which TOML is"),
            (["-c", path], ExitCode.CONFIG, f"{path}:1: protocol is missing (and 1 more;"),
            (["-c", "/none"], ExitCode.CONFIG, "/none: No such file"),
        ):
            finished = self.run_command("config", "show", *options)
            self.assert_failed(finished, code, words)
            self.assertEqual(b"", finished.stdout)

    def test_help(self) -> None:
        """It has a help page of its own; among options, --help is twistd's, which lists them."""
        for options, words in (
            (["-h"], "Exit codes:\n"),
            (["--help"], "Exit codes:\n"),
            (["-p7", "--help"], "--stall-timeout="),
        ):
            finished = self.run_command("config", "show", *options)
            self.assertEqual(0, finished.returncode)
            self.assertIn(words, finished.stdout.decode())


class OutputTests(FileCase):
    """Where standard output does not take it."""

    def commands(self) -> list[list[str]]:
        """Every command that writes something and ends."""
        return [["config", "check", self.file(_GOOD)], ["config", "show"], ["protocols"]]

    @skipUnless(Path("/dev/full").exists(), "no full disk to be had")
    def test_disk_full(self) -> None:
        """A full disk is one line and an exit code."""
        for arguments in self.commands():
            with Path("/dev/full").open("wb") as full:
                finished = subprocess.run(
                    [*COMMAND, *arguments],
                    stdout=full,
                    stderr=subprocess.PIPE,
                    env=ENVIRONMENT,
                    timeout=PATIENCE,
                    check=False,
                )
            self.assert_failed(finished, ExitCode.OUTPUT, "standard output", "No space left")

    def test_closed(self) -> None:
        """A standard output that the shell closed is, too: whoever asked was told nothing."""
        for arguments in self.commands():
            finished = subprocess.run(
                ["sh", "-c", '"$@" >&-', "sh", *COMMAND, *arguments],
                capture_output=True,
                env=ENVIRONMENT,
                timeout=PATIENCE,
                check=False,
            )
            self.assert_failed(finished, ExitCode.OUTPUT, "standard output", "Bad file descriptor")

    def test_nobody_can_be_told(self) -> None:
        """Where standard error is closed, the exit code is what there is."""
        wrong = self.file("x = 1")
        for arguments, code in (
            (["config", "check", wrong], ExitCode.CONFIG),
            (["config", "show", "-c", wrong], ExitCode.CONFIG),
            (["config", "show", "--prot"], ExitCode.USAGE),
        ):
            finished = subprocess.run(
                ["sh", "-c", '"$@" 2>&-', "sh", *COMMAND, *arguments],
                capture_output=True,
                env=ENVIRONMENT,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual((code, b"", b""), (finished.returncode, finished.stdout, finished.stderr))
