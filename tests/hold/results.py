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

__all__ = ["machine", "table"]

_HEAD = """\
# What came of the promises

Written by `{command}`, not by hand.

{when}, {where}. {outcome}.

| | promise | outcome | figures | {stock} |
|---|---|---|---|---|
"""

#: The control, as the table calls it.
_STOCK = "stock Twisted, which must fail"


def table(
    promises: Sequence[Promise], results: Sequence[Result], *, command: str, when: datetime, where: str
) -> str:
    """Write the table as Markdown.

    Args:
        promises: What was run.
        results: How it came out; of a promise with a control there may be two.
        command: What was typed.
        when: When it was begun.
        where: The machine.
    """
    kept = {each.name: each for each in results if not each.control}
    controls = {each.name: each for each in results if each.control}
    head = _HEAD.format(
        command=command, when=f"{when:%Y-%m-%d}", where=where, outcome=summary(kept.values()), stock=_STOCK
    )
    lines = [
        _line(
            each.name,
            each.text,
            kept[each.name].outcome,
            kept[each.name].figures,
            _said(controls.get(each.name)),
        )
        for each in promises
    ]
    return head + "".join(lines)


def _line(*cells: str) -> str:
    """Write one line; what would end a cell, or be read as a tag, is escaped."""
    return "".join(f"| {re.sub(r'([|<>*_`])', _escaped, each)} " for each in cells) + "|\n"


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[1]}"


def _said(control: Result | None) -> str:
    if control is None:
        return ""
    return {"pass": "fails: ", "fail": "does NOT fail: ", "skip": "skip: "}[control.outcome] + control.figures


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
