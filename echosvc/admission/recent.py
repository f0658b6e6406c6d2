"""What was found out about many, for as long as they go on: a bounded memory that a storm cannot empty of the others."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Two generations of entries: when the young one is full, it becomes the old one, and the old one is forgotten.

    Whatever is asked for in between stays. So there is no moment in which all must be found out anew, to remember costs
    no bookkeeping (an order of last use would have to be kept with every look), and no more is held than twice `size`.

    Args:
        size: Entries in a generation.

    Attributes:
        young: Those that were added or found since it began. To be read by whoever has no time for `find`.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def find(self, key: K) -> V | None:
        """Tell what is remembered; None if nothing is."""
        value = self.young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.add(key, value)
        return value

    def add(self, key: K, value: V) -> None:
        """Remember something."""
        if len(self.young) >= self._size:
            self.young, self._old = {}, self.young
        self.young[key] = value

    def __len__(self) -> int:
        """Return how many entries are held."""
        return len(self.young) + len(self._old)
