"""Waiting, in tests: every loop that waits for something gives up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

__all__ = ["until"]


def until(condition: Callable[[], object], seconds: float = 30.0) -> Iterator[None]:
    """Turn a loop until a condition holds.

    For example ``for _ in until(lambda: peer.closed): port.doRead()``.
    `tests/test_structure.py` lets no other loop of a test wait. A body that can block for ever needs a timeout of its own.

    Args:
        condition: Asked before each turn.
        seconds: After how many it gives up, however busy the machine.

    Raises:
        AssertionError: It does not hold then.
    """
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"it has not come about in {seconds:g} s")
        yield
