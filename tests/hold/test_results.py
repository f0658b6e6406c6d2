"""Tests of the table of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from tests.hold import __main__ as command
from tests.hold.promise import Promise, Result, promise
from tests.hold.results import machine, table
from tests.hold.run import Run, Subject


def named(name: str, *, stock: str | None = None) -> Promise:
    """A promise that is not kept with the stock server."""

    @promise(name, f"text of {name}", deadline=5, stock=stock)
    def keep(run: Run) -> str:
        return "stock breaks it" if run.control else "kept"

    return keep


def lines(*results: Result) -> list[str]:
    """The lines of the table, without its head."""
    promises = [named(each.name) for each in results if each.subject is Subject.SERVICE]
    when = datetime(2026, 1, 2, tzinfo=UTC)
    return table(promises, results, command="typed", when=when, where="here").split("|---|\n")[1].splitlines()


class TableTests(SynchronousTestCase):
    """What is written."""

    def test_head(self) -> None:
        """It says what was typed, when and where, and how it came out."""
        result = Result("X1", "fail", "figures")
        written = table(
            [named("X1")], [result], command="typed", when=datetime(2026, 1, 2, tzinfo=UTC), where="here"
        )
        self.assertIn("Written by `typed`, not by hand.", written)
        self.assertIn("2026-01-02, here. 0 passed, 1 failed, 0 skipped.", written)

    def test_line(self) -> None:
        """A promise has a line: its name, its text, how it came out and the figures."""
        self.assertEqual(
            lines(Result("X1", "pass", "3 of 3")), ["| X1 | text of X1 | pass | 3 of 3 |  |  |  |"]
        )

    def test_control(self) -> None:
        """How the others came out stands beside it, and is not counted as passed."""
        found = lines(
            Result("X1", "pass", "3 of 3"),
            Result("X1", "pass", "0 of 3", Subject.STOCK),
            Result("X1", "fail", "3 of 3", Subject.UNGUARDED),
        )
        expected = "| X1 | text of X1 | pass | 3 of 3 | 0 of 3 |  | NOT as is known of it: 3 of 3 |"
        self.assertEqual(found, [expected])

    def test_escaped(self) -> None:
        """Figures cannot end a cell or begin a tag."""
        self.assertEqual(
            lines(Result("X1", "pass", "a|b <c>")), [r"| X1 | text of X1 | pass | a\|b \<c\> |  |  |  |"]
        )

    def test_machine(self) -> None:
        """The machine has processors, and this Python."""
        self.assertRegex(machine(), r"^\d+ x .+, Python 3\.")


class CommandTests(SynchronousTestCase):
    """What the command makes of ``--results``."""

    def test_written(self) -> None:
        """The table is written when all is through; what has a control is run with it."""
        self.patch(command, "PROMISES", [named("X1", stock="must break")])
        ran: list[tuple[Subject, bool]] = []

        def execute(each: Promise, subject: Subject, *, long: bool) -> Result:
            ran.append((subject, long))
            return Result(each.name, "pass", "figures", subject)

        self.patch(command, "execute", execute)
        self.patch(command, "_print", lambda line: None)
        directory = self.enterContext(TemporaryDirectory())
        file = Path(directory, "table")
        self.assertEqual(command.main(["--long", "--results", str(file)]), 0)
        self.assertEqual(ran, [(Subject.SERVICE, True), (Subject.STOCK, False)])
        self.assertIn("| X1 | text of X1 | pass | figures | figures |  |  |", file.read_text())
        self.assertIn(f"`python -m tests.hold --long --results {file}`", file.read_text())

    def test_not_with_control(self) -> None:
        """Controls have a column of their own, not a table."""
        self.assertRaises(SystemExit, command.main, ["--results", "file", "--control", "stock"])
