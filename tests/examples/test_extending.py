"""Tests of docs/extending.md: whoever follows it sees what it says."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.examples.page import PAGE, Block, Command, Unlike, blocks, check, tools, write
from tests.hold.service import environment


def new_folder(test: SynchronousTestCase) -> Path:
    """Make a folder that is gone after the test."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


class ExtendingTests(SynchronousTestCase):
    """The page itself. What needs a real service is in ``python -m tests.hold EXTEND``."""

    def test_its_files_and_commands(self) -> None:
        """Every file is as it must be for the commands that follow it, and they say what the page says."""
        here = new_folder(self)
        folder, bin_folder = here / "page", here / "bin"
        folder.mkdir()
        bin_folder.mkdir()
        having = tools(bin_folder, sys.executable, environment())

        said = []
        for block in blocks(PAGE.read_text(encoding="utf-8")):
            if block.file is not None:
                write(block, folder)
            elif not block.is_real:
                said += [check(command, folder, having) for command in block.commands()]

        self.assertGreater(len(said), 5)


class PageTests(SynchronousTestCase):
    """How a page is read."""

    def test_blocks_in_order(self) -> None:
        """A block is known by what stands behind its fence, and where it stands."""
        found = blocks("# Title\n\n```python a.py\nx = 1\n```\n\nText\n\n```console real\n$ a\n```\n")

        self.assertEqual(found, [Block("python a.py", "x = 1\n", 3), Block("console real", "$ a\n", 9)])
        self.assertEqual([each.file for each in found], ["a.py", None])
        self.assertEqual([each.is_real for each in found], [False, True])

    def test_a_block_that_nobody_would_run_is_refused(self) -> None:
        """Code that no test runs does not come into the page unnoticed."""
        for page in (
            "```python\nx = 1\n```\n",
            "```sh\nls\n```\n",
            "```console\nls\n```\n",
            "```console real fails\n$ ls\n```\n",
            "```\nx\n```\n",
            "```python a.py\nx = 1\n",
            "- text\n  ```console\n  $ ls\n  ```\n",
        ):
            self.assertRaises(ValueError, blocks, page)

    def test_commands_and_what_they_say(self) -> None:
        """Only the last command of a block that fails is the one that does."""
        block = Block("console fails", "$ one\n$ two\nsaid\nmore\n", 1)

        self.assertEqual(
            list(block.commands()),
            [Command("one", "", fails=False), Command("two", "said\nmore\n", fails=True)],
        )

    def test_a_file_is_written_with_another_port(self) -> None:
        """Whatever listens on the reader's port 9000 is not in the way."""
        here = new_folder(self)

        write(Block("toml a.toml", 'endpoint = ["tcp:9000"]\n', 1), here)

        self.assertEqual((here / "a.toml").read_text(), 'endpoint = ["tcp:0"]\n')


class CheckTests(SynchronousTestCase):
    """How a command is compared with the page."""

    def check(self, line: str, said: str, *, fails: bool = False, port: int = 0) -> str:
        """Run a shell's command here."""
        return check(Command(line, said, fails=fails), Path(), environment(), port)

    def test_the_same_output(self) -> None:
        """Spaces in a row, and those at the end, make no difference."""
        self.assertEqual(self.check("echo 'a  b'", "a b\n"), "a  b\n")
        self.check("printf a", "a\n")

    def test_anything(self) -> None:
        """The sign for anything stands for a part of a line, or for lines, or for none."""
        for said in ("…\n", "a\n…\n", "…\nc d\n", "…\na\nb\nc d\n…\n", "a\n…\nc …\n", "…\nc…\n"):
            self.check("printf 'a\\nb\\nc d\\n'", said)

    def test_a_command_without_output_may_say_anything(self) -> None:
        """Only that it succeeds is checked."""
        self.check("echo a", "")

    def test_another_output(self) -> None:
        """The error tells the command, what it said, and what the page says."""
        for said in ("b\n", "a\nb\n", "…\nb\n", "a…b\n"):
            problem = self.assertRaises(Unlike, self.check, "echo a", said)

            self.assertIn("$ echo a", str(problem))

    def test_another_end(self) -> None:
        """A command that fails where it should not is unlike the page, and one that does not where it should."""
        self.assertRaises(Unlike, self.check, "echo a; exit 3", "a\n")
        self.assertRaises(Unlike, self.check, "echo a", "a\n", fails=True)
        self.check("echo a >&2; exit 3", "a\n", fails=True)

    def test_the_port(self) -> None:
        """The page's port is the one that is served here."""
        self.assertEqual(self.check("echo 9000", "1234\n", port=1234), "1234\n")
