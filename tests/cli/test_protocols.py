"""`echosvc protocols`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from echosvc.protocols import known
from tests.cli.command import COMMAND, ENVIRONMENT, PATIENCE, CommandCase, Finished

_MODULE = '''\
"""Protocols of somebody else."""
from echosvc.protocols import DatagramEcho, EchoFactory, WireProtocol

MURMUR = WireProtocol(name="murmur", rfc="RFC 99999", summary="says it softly", datagram=DatagramEcho)
WRONG = 3
'''

_ENTRY_POINTS = """\
[echosvc.protocols]
murmur = murmuring:MURMUR
broken-import = no.such.package:THING
broken-object = murmuring:WRONG
echo = murmuring:MURMUR
"""


class ProtocolsTests(CommandCase):
    """The list of what can be spoken."""

    def install(self) -> str:
        """Make a folder with an installed package that brings one good protocol and three that cannot be had."""
        folder = TemporaryDirectory(prefix="echosvc-")
        self.addCleanup(folder.cleanup)
        path = Path(folder.name)
        (path / "murmuring.py").write_text(_MODULE)
        info = path / "murmuring-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: murmuring\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(_ENTRY_POINTS)
        return folder.name

    def run_with(self, folder: str, *arguments: str) -> Finished:
        """Run the command where that package is installed."""
        path = os.pathsep.join((ENVIRONMENT["PYTHONPATH"], folder))
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            env={**ENVIRONMENT, "PYTHONPATH": path},
            timeout=PATIENCE,
            check=False,
        )

    def test_ours(self) -> None:
        """Each of ours has a line: name, RFC, forms, who brings it, what it does."""
        finished = self.run_command("protocols")
        lines = finished.stdout.decode().splitlines()

        self.assertEqual((0, b""), (finished.returncode, finished.stderr))
        self.assertEqual(["NAME", "RFC", "FORMS", "FROM", "SUMMARY"], lines[0].split())
        for name, rfc in (
            ("echo", "862"),
            ("discard", "863"),
            ("chargen", "864"),
            ("qotd", "865"),
            ("time", "868"),
        ):
            (line,) = (each for each in lines if each.startswith(f"{name} "))
            self.assertEqual([name, rfc, "stream+datagram", "echosvc"], line.split()[:4])
        self.assertIn(
            next(each.wire.summary for each in known() if each.wire and each.name == "echo"), lines[4]
        )

    def test_columns(self) -> None:
        """Columns stand under each other, whoever brings what."""
        lines = self.run_with(self.install(), "protocols").stdout.decode().splitlines()
        for column in ("RFC", "FORMS", "FROM", "SUMMARY"):
            at = lines[0].index(column)
            self.assertEqual({" "}, {line[at - 1] for line in lines})
            self.assertNotIn(" ", {line[at] for line in lines})

    def test_of_others(self) -> None:
        """What another package brings is listed with its name and version; what it breaks, with the reason."""
        finished = self.run_with(self.install(), "protocols")
        lines = [line.split() for line in finished.stdout.decode().splitlines()]

        self.assertEqual((0, b""), (finished.returncode, finished.stderr))
        for expected in (
            "murmur 99999 datagram murmuring 2.5 says it softly",
            "broken-import - broken murmuring 2.5 protocol broken-import cannot be loaded: ModuleNotFoundError:",
            "broken-object - broken murmuring 2.5 broken-object is 3 not a WireProtocol",
            "echo 862 stream+datagram echosvc",
            "echo - broken murmuring 2.5 the name is taken",
        ):
            words = expected.split()
            self.assertTrue(
                any([each.rstrip(",") for each in line[: len(words)]] == words for line in lines), expected
            )

    def test_a_broken_one_stops_nobody(self) -> None:
        """Beside it the others can be used; it can not, and says why."""
        folder = self.install()
        good = self.run_with(folder, "config", "show", "-l", "murmur=udp:7", "-l", "echo=tcp:7")
        bad = self.run_with(folder, "config", "show", "-l", "broken-import=tcp:7")

        self.assertEqual((0, b""), (good.returncode, good.stderr))
        self.assert_failed(bad, 64, "--listen broken-import=tcp:7", "cannot be loaded: ModuleNotFoundError")

    def test_arguments(self) -> None:
        """There is nothing to ask for."""
        self.assert_failed(self.run_command("protocols", "echo"), 64, "echo", "protocols --help")
