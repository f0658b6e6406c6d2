"""Tables for the screen. Pure: figures in, lines out."""

from __future__ import annotations

from collections.abc import Sequence

from bench.goals import Goal, Verdict
from bench.rivals import RIVALS, C
from bench.summary import Row
from bench.works import WORKS, Work

__all__ = ["goals_table", "work_table"]

_NAME = 32  # columns for the first column


def work_table(work: Work, rows: Sequence[Row]) -> str:
    """Write the table of one work.

    Args:
        work: The work.
        rows: Its rivals.

    Returns:
        Lines; the first is the heading.
    """
    if work.mode == "idle":
        heading, write = _cells(["B/conn.", "±", "of C", "held"]), _idle_cells
    else:
        columns = ["CPU/echo", "±", "of C", "echo/s", "of C", "MB/s", "p50", "p99", "busy"]
        heading, write = _cells(columns), lambda row: _busy_cells(row, work.size)
    lines = [f"{work.title:{_NAME}}{heading}"]
    for row in rows:
        title = f"  {RIVALS[row.rival]:{_NAME - 2}}"
        lines.append(title + (f"  - {row.problem}" if row.problem else write(row)))
    return "\n".join(lines)


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """Write the table of the goals.

    Args:
        verdicts: What the run says about each.

    Returns:
        Lines; the first is the heading. "A/A" is what the same ratio is between C and C.
    """
    titles = {work.name: work.title for work in WORKS}
    lines = [f"{'Goals':{_NAME}}{'':38}{'measured':>9}{'A/A':>7}"]
    for verdict in verdicts:
        noise = "" if verdict.noise is None else f"{verdict.noise:.2f}"
        value = f"{verdict.value:.2f}" if verdict.goal.against else f"{verdict.value:.0f}"
        lines.append(
            f"  {titles[verdict.goal.work]:{_NAME - 2}}{_goal(verdict.goal):38}{value:>9}{noise:>7}"
            f"  {'reached' if verdict.reached else 'NOT REACHED'}"
        )
    return "\n".join(lines)


def _goal(goal: Goal) -> str:
    words = {
        "cpu": "CPU per echo",
        "rate": "rate",
        "p50": "p50",
        "memory": "bytes per connection",
    }[goal.figure]
    sense = {"<=": "at most", ">=": "at least"}[goal.sense]
    if goal.against is None:
        return f"{words} {sense} {goal.limit:.0f}"
    return f"{words} {sense} {goal.limit:.2f} x {RIVALS[goal.against].partition(',')[0]}"


def _busy_cells(row: Row, size: int) -> str:
    median = row.median
    cells = _cells(
        [
            f"{median['cpu']:.2f} us",
            _spread(row, "cpu"),
            _ratio(row, "cpu"),
            f"{median['rate']:,.0f}".replace(",", " "),
            _ratio(row, "rate"),
            f"{median['rate'] * size / 1e6:.0f}",
            _microseconds(median["p50"]),
            _microseconds(median["p99"]),
            _percent(median["busy"]),
        ]
    )
    notes = []
    if median["lost"] >= 0.0005:
        notes.append(f"lost {median['lost']:.1%}")
    if median["errors"]:
        notes.append(f"{median['errors']:.0f} errors")
    return cells + "".join(f"  {note}" for note in notes)


def _idle_cells(row: Row) -> str:
    return _cells(
        [
            f"{row.median['memory']:.0f}",
            _spread(row, "memory"),
            _ratio(row, "memory"),
            f"{row.median['connections']:.0f}",
        ]
    )


def _cells(texts: Sequence[str]) -> str:
    widths = (11, 6, 7, 10, 7, 7, 9, 9, 6)
    return "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=False))


def _ratio(row: Row, figure: str) -> str:
    if row.rival == C:
        return "1"
    return f"{row.ratio[figure]:.2f}" if figure in row.ratio else "-"


def _spread(row: Row, figure: str) -> str:
    return _percent(row.spread[figure]) if figure in row.spread else "-"


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _microseconds(value: float) -> str:
    return f"{value / 1000:.1f} ms" if value >= 10_000 else f"{value:.0f} us"
