"""What pytest must know to run trial's classes."""

from __future__ import annotations

import unittest

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run trial's classes before plain pytest functions.

    After the first plain function pytest-twisted keeps the reactor running in a greenlet, and every trial
    TestCase that starts the reactor itself then fails (pytest-twisted issue 147).
    """
    items.sort(key=lambda item: not _is_unittest(item))


def _is_unittest(item: pytest.Item) -> bool:
    cls = getattr(item, "cls", None)
    return cls is not None and issubclass(cls, unittest.TestCase)
