"""Reads systemd's unit files, and what their system call filters allow."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["DEPLOY", "Unit", "allowed_calls", "read_unit"]

#: Where our own are.
DEPLOY = Path(__file__).parents[2] / "deploy" / "systemd"

#: What a unit says, by section and key. A key may stand there more than once.
Unit = dict[str, dict[str, list[str]]]


def read_unit(path: Path) -> Unit:
    """Read a unit file (systemd.syntax(7)), as far as ours go: no continued lines.

    Args:
        path: The file.
    """
    unit: Unit = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = unit.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return unit


def allowed_calls(filters: Sequence[str]) -> set[str]:
    """Find out which system calls ``SystemCallFilter=`` leaves, as this machine's systemd knows its groups.

    Args:
        filters: The values of the key, in their order: the first allows, those with ``~`` take away.

    Raises:
        FileNotFoundError: There is no systemd-analyze here.
    """
    calls: set[str] = set()
    for each in filters:
        words = each.removeprefix("~").split()
        named = set[str]().union(*(_expanded(word) for word in words))
        calls = calls - named if each.startswith("~") else calls | named
    return calls


@functools.cache
def _expanded(name: str) -> frozenset[str]:
    if not name.startswith("@"):
        return frozenset({name})
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], check=True, capture_output=True, text=True
    )
    inside = [line.strip() for line in told.stdout.splitlines()[1:]]
    return frozenset[str]().union(*(_expanded(each) for each in inside if each and not each.startswith("#")))
