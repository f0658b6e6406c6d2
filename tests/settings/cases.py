"""What the tests of settings share: files for a while, and mistakes as they are compared."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import InvalidConfig
from echosvc.listeners import ListenerSettings
from echosvc.settings import read_config
from echosvc.settings.structure import Mistake, Mistakes, structure

__all__ = ["ConfigCase", "StructureCase"]


class ConfigCase(SynchronousTestCase):
    """Writes configuration files, and reads them.

    Attributes:
        folder: Where files can be; it is gone after the test.
    """

    def setUp(self) -> None:
        """Make the folder."""
        folder = TemporaryDirectory(prefix="echosvc-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, content: str | bytes, name: str = "echosvc.toml") -> str:
        """Write a file; return its path."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def read(self, content: str | bytes) -> tuple[ListenerSettings, ...]:
        """Read what is good."""
        return read_config(self.file(content)).listeners

    def mistakes(self, content: str | bytes) -> list[str]:
        """Read what is not: the mistakes, each with its line and without the file's name."""
        path = self.file(content)
        found = self.assertRaises(InvalidConfig, read_config, path).mistakes
        for each in found:
            self.assertTrue(each.startswith(f"{path}:"), each)
        return [each.removeprefix(f"{path}:").strip() for each in found]

    def assert_beginnings(self, beginnings: list[str], found: list[str]) -> None:
        """Each mistake must begin like this, and there must be no other."""
        shortened = [each[: len(begin)] for begin, each in zip(beginnings, found, strict=False)]
        self.assertEqual(beginnings, shortened + found[len(beginnings) :])


class StructureCase(SynchronousTestCase):
    """Makes records of tables."""

    def mistakes(self, table: Any, kind: type[Any]) -> dict[str, str]:
        """What is wrong with a table, by where: ``limits.most`` or ``sizes[0]``."""
        found = self.assertRaises(Mistakes, structure, table, kind).found
        named = {_path(each): each.problem for each in found}
        self.assertEqual(len(found), len(named))
        return named


def _path(mistake: Mistake) -> str:
    parts = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in mistake.key)
    return "".join(parts).removeprefix(".")
