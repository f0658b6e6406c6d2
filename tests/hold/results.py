"""The table of a run: what was promised, how it came out, when and where. Written by ``--results``, never by hand."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from tests.hold.promise import Promise, Result, summary
from tests.hold.run import Subject

__all__ = ["machine", "table"]

_HEAD = """\
# What came of the promises

Written by `{command}`, not by hand.

{when}, {where}. {outcome}.

The last three columns are controls: what other servers, and the service with that switched off which the promise rests
on, did in the same run.

| | promise | outcome | figures | {controls} |
|---|---|---|---|---|---|---|
"""

_CONTROLS = [each for each in Subject if each is not Subject.SERVICE]


def table(
    promises: Sequence[Promise], results: Sequence[Result], *, command: str, when: datetime, where: str
) -> str:
    """Write the table as Markdown.

    Args:
        promises: What was run.
        results: How it came out, for each whom it was run against.
        command: What was typed.
        when: When it was begun.
        where: The machine.
    """
    found = {(each.name, each.subject): each for each in results}
    outcome = summary(each for each in results if each.subject is Subject.SERVICE)
    controls = " | ".join(each.value for each in _CONTROLS)
    head = _HEAD.format(
        command=command, when=f"{when:%Y-%m-%d}", where=where, outcome=outcome, controls=controls
    )
    lines = []
    for each in promises:
        ours = found[each.name, Subject.SERVICE]
        others = [_said(found.get((each.name, who))) for who in _CONTROLS]
        lines.append(_line(each.name, each.text, ours.outcome, ours.figures, *others))
    return head + "".join(lines)


def _line(*cells: str) -> str:
    """Write one line; what would end a cell, or be read as a tag, is escaped."""
    return "".join(f"| {re.sub(r'([|<>*_`])', _escaped, each)} " for each in cells) + "|\n"


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[1]}"


def _said(control: Result | None) -> str:
    if control is None:
        return ""
    return {"pass": "", "fail": "NOT as is known of it: ", "skip": "skip: "}[
        control.outcome
    ] + control.figures


def machine() -> str:
    """Name the machine: its processor and system, and what all this runs on."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    parts = [
        f"{os.cpu_count()} x {found[1] if found else platform.machine()}",
        f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        f"Twisted {version('twisted')}",
    ]
    return ", ".join(filter(None, parts))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
