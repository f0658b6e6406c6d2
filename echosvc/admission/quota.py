"""How many connections may be in at once, and how many may come in a second: of each source, and in all."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import attrs

from echosvc.admission.buckets import Buckets

__all__ = ["ACCEPT_RATE", "MAX_CONNECTIONS", "MAX_PER_SOURCE", "Limits", "Quota", "overbooked"]

MAX_CONNECTIONS = "max-connections"
"""So many are in already, and none of them has been idle for long."""

MAX_PER_SOURCE = "max-per-source"
"""So many of one source are in already."""

ACCEPT_RATE = "accept-rate"
"""So many have come in this second, of one source or in all."""

#: The part of what all may have that one source may have, if nothing else is said. Less would be no better for the others:
#: they need some room, and not as much again. But those who measure from one machine would miss it.
SHARE = 3 / 4

#: Connections that may be in beyond the limit for the moment that it takes to close those that make room for them, and the
#: part of the limit that this is at most.
OVERBOOKED, OVERBOOKED_PART = 32, 8


@attrs.frozen(kw_only=True)
class Limits:
    """How many may be in, and how many may come.

    Where a limit for all is given and none for each source, a source has three quarters of it: whoever takes all he can
    get keeps nobody out.

    Attributes:
        max_connections: Connections at once; None for any number.
        max_per_source: Of them, from one source; None for three quarters.
        accept_rate: Connections that may come in a second, and after a pause at once; None for any number.
        accept_rate_per_source: Of them, from one source; None for three quarters.
    """

    max_connections: int | None = None
    max_per_source: int | None = None
    accept_rate: float | None = None
    accept_rate_per_source: float | None = None


class Quota:
    """How much of some limits is used.

    Args:
        limits: The limits.
        seconds: Tells the time, in seconds of a clock that is not set.

    Attributes:
        count: How many are in.
        most: How many may be in; infinite for any number.
        rate: Holds a token for each that may come now; None for any number.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self.count = 0
        self.most = inf if limits.max_connections is None else limits.max_connections
        self._sources: dict[bytes, int] = {}
        share = max(1.0, self.most * SHARE // 1) if self.most < inf else inf
        self._most_per_source = share if limits.max_per_source is None else limits.max_per_source
        self.rate = _buckets(limits.accept_rate, seconds, slots=1)
        part = None if limits.accept_rate is None else limits.accept_rate * SHARE
        self._rate_per_source = _buckets(
            part if limits.accept_rate_per_source is None else limits.accept_rate_per_source, seconds
        )

    def is_overbooked(self) -> bool:
        """Whether as many are in as may ever be, for a moment."""
        return self.count >= self.most + overbooked(self.most)

    def refuses_source(self, source: bytes) -> str | None:
        """Tell why nobody may come from a source now; None if somebody may, who then has come as far as rates go."""
        if self._sources.get(source, 0) >= self._most_per_source:
            return MAX_PER_SOURCE
        if self._rate_per_source is not None and not self._rate_per_source.take(source):
            return ACCEPT_RATE
        return None

    def add(self, source: bytes | None) -> None:
        """Count one who is in, and its source, if that is known."""
        self.count += 1
        if source is not None:
            self.add_source(source)

    def add_source(self, source: bytes) -> None:
        """Count the source of one who is in already."""
        self._sources[source] = self._sources.get(source, 0) + 1

    def remove(self, source: bytes | None) -> None:
        """Count one no longer, nor its source."""
        self.count -= 1
        if source is not None:
            left = self._sources.pop(source) - 1
            if left:
                self._sources[source] = left


def overbooked(most: float) -> int:
    """Tell how many may be in beyond a limit, for a moment."""
    return max(1, int(min(OVERBOOKED, most // OVERBOOKED_PART)))


def _buckets(rate: float | None, seconds: Callable[[], float], **how_many: int) -> Buckets | None:
    return None if rate is None else Buckets(rate, rate, seconds, **how_many)
