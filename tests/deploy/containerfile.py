"""Reads the Containerfile, as far as ours goes."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["CONTAINER", "final", "stages"]

CONTAINER = Path(__file__).parents[2] / "deploy" / "container"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage: their word, and the rest."""
    text = re.sub(r"\\\n\s*", "", (CONTAINER / "Containerfile").read_text())
    found: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if word and not word.startswith("#"):
            found[-1].append((word, rest))
    return found


def final(word: str) -> str:
    """What the last stage says once."""
    (found,) = (rest for each, rest in stages()[-1] if each == word)
    return found
