"""On which line of a TOML file everything stands, which TOML's own reader does not tell."""

from __future__ import annotations

import tomllib
from typing import Any

from echosvc.settings.structure import Key

__all__ = ["key_lines"]


def key_lines(text: str) -> dict[Key, int]:
    """Find the line of each key, table and item of a list.

    A file is statements one after another, each a header or a key with its value, and none is TOML before it is
    whole. So TOML's own reader can be asked where each ends. Only a list of several lines is read again at each of
    them. (To read what the file's first line says, its first two, its first three, took minutes for 100 listeners.)

    Args:
        text: TOML without a mistake.

    Returns:
        Lines, counted from 1. An item of a list in a list, or in an inline table, is where that begins.
    """
    lines: dict[Key, int] = {}
    newest: dict[Key, int] = {}
    here: Key = ()
    statement = ""
    begins = 1
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        statement += line + "\n"
        if (table := _read(statement)) is None:
            if (so_far := _read(f"{statement}]")) is not None:  # a list of several lines
                _note(so_far, here, begins, lines)
                begins = number + 1
            continue
        if statement.lstrip().startswith("["):
            here = _enter(table, begins, lines, newest)
        else:
            _note(table, here, begins, lines)
        statement, begins = "", number + 1
    return lines


def _read(statement: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(statement)
    except (ValueError, RecursionError):  # the latter if the whole file was at the edge of it
        return None


def _note(value: Any, key: Key, line: int, lines: dict[Key, int]) -> None:
    """Note the line of everything in a value that has none yet."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        lines.setdefault((*key, name), line)
        _note(child, (*key, name), line, lines)


def _enter(table: Any, line: int, lines: dict[Key, int], newest: dict[Key, int]) -> Key:
    """Follow a header to its table: ``[a.b]`` goes on in the newest of several tables ``[[a]]``."""
    here: Key = ()
    while table:
        ((name, table),) = table.items()
        here = (*here, name)
        lines.setdefault(here, line)
        if isinstance(table, list):
            newest[here] = newest.get(here, -1) + 1
            table = table[0]
        if here in newest:
            here = (*here, newest[here])
            lines.setdefault(here, line)
    return here
