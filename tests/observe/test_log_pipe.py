"""Tests of logging to a pipe that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

#: A process of its own, for standard output is a process's. It says whether writing to that, and to standard error, waits.
PROGRAM = """
    import os, sys
    from pathlib import Path
    from twisted.logger import globalLogBeginner, textFileLogObserver
    from echosvc.observe import own_pipes
    if {logs}:
        globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    if {other_user}:
        os.setuid(65534)
    before = os.listdir("/proc/self/fd")
    own_pipes()
    assert os.listdir("/proc/self/fd") == before
    with open(3, "w") as answer:
        answer.write(f"{{os.get_blocking(1)}} {{os.get_blocking(2)}}")
    print("logged")
"""


class OwnPipesTests(SynchronousTestCase):
    """Writing to our end of a pipe fails in place of waiting, and to nobody else's."""

    def setUp(self) -> None:
        """Make a pipe and a file."""
        self.reads, self.writes = os.pipe()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = os.open(self.folder / "file", os.O_RDWR | os.O_CREAT)
        for each in (self.reads, self.writes, self.file):
            self.addCleanup(os.close, each)

    def waits(self, out: int, err: int, *, logs: bool = True, other_user: bool = False) -> str:
        """Tell whether writing waits in a process that has these: ``True False`` if only to standard output."""
        answer = self.folder / "answer"
        program = textwrap.dedent(PROGRAM).format(logs=logs, other_user=other_user)
        command = ["sh", "-c", 'exec "$@" 3>"$0"', str(answer), sys.executable, "-c", program]
        subprocess.run(command, stdout=out, stderr=err, check=True, timeout=60)
        return answer.read_text()

    def test_a_pipe_is_opened_anew(self) -> None:
        """The end that we share with whoever has started us stays as it was, and the log arrives."""
        self.assertEqual("False False", self.waits(self.writes, self.writes))
        self.assertTrue(os.get_blocking(self.writes))
        self.assertIn(b"[stdout#info] logged\n", os.read(self.reads, 1000))

    def test_each_is_seen_to_by_itself(self) -> None:
        """One may be a pipe, and the other a file, which never waits."""
        self.assertEqual("False True", self.waits(self.writes, self.file))
        self.assertEqual("True False", self.waits(self.file, self.writes))

    def test_who_does_not_log_keeps_its_pipes(self) -> None:
        """A test runner's, for example, into which this service is embedded."""
        self.assertEqual("True True", self.waits(self.writes, self.writes, logs=False))

    def test_the_pipe_of_another_user_is_left_alone(self) -> None:
        """It cannot be opened; the service logs to it as ever."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        self.assertEqual("True True", self.waits(self.writes, self.writes, other_user=True))
        self.assertIn(b"logged", os.read(self.reads, 1000))
