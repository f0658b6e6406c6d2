"""How fast each of any number of sources may be: token buckets in a table of fixed size.

Such tables are usually caches of sources. A cache must give something up when it is full, and whoever forges addresses
can fill it: then the honest are forgotten with the others and begin anew, or are not let in any more. chrony keeps
4096 addresses, sixteen to a line of its table, and replaces the one that was seen the longest ago; BIND's table for
response-rate-limiting grows to ``max-table-size`` (20 000) and then takes the oldest entries. In both a storm of forged
sources takes the places of the real ones.

Here nothing is ever given up, because nothing is kept of a source but the fill of its bucket, at a place that a keyed hash of
the source says. So:

- memory is the same whatever comes: 8 bytes a bucket, 512 KiB for 65 536 of them;
- a forger cannot push a source out, and cannot choose whom he shares a bucket with: the key is a secret of the process;
- a forger who sends in the names of many takes from every bucket its share, a 65 536th of what he sends. Only when that
  alone reaches the rate of one source do honest ones suffer. With 100 a second for each that is 6.5 million a second.

The price: two sources share a bucket with a probability of 1 in 65 536, for the life of the process.

A bucket is one number, the time at which it will be full again ("theoretical arrival time" of the generic cell rate algorithm,
ITU-T I.371). There is no timer that fills buckets, and a bucket that nobody uses costs nothing.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from math import inf

__all__ = ["Buckets"]

#: How many there are: more than the sources that are active in one second at most services, and 512 KiB.
SLOTS = 65_536

#: Tokens by which sums of times may be off: a clock that has run for thirty years is exact to 0.1 us.
_ROUNDING = 1e-3


class Buckets:
    """Lets each source pass so many times in a second, and as many at once as it has saved up.

    Args:
        rate: Tokens in a second for each source, above 0.
        burst: Tokens that may be taken at once after a pause: at least 1.
        seconds: Tells the time, in seconds of a clock that is not set. Should it jump all the same, nobody gets more than
            `burst`, and nobody waits longer than it takes to fill an empty bucket.
        slots: How many buckets there are, a power of 2. One alone is a limit for all sources together.
    """

    def __init__(
        self, rate: float, burst: float, seconds: Callable[[], float], *, slots: int = SLOTS
    ) -> None:
        self._seconds = seconds
        self._rate = rate
        self._depth = max(burst, 1.0) / rate
        self._mask = slots - 1
        # Before the key, so that PYTHONHASHSEED=0, for which the hash of bytes is known to all, gives nothing away.
        self._secret = os.urandom(16)
        self._full_at: array[float] | None = None

    def take(self, key: bytes, count: int = 1) -> int:
        """Take tokens for a source, as many as it has.

        Args:
            key: The source.
            count: How many are wanted.

        Returns:
            How many were taken: the first so many may pass.
        """
        full_at = self._full_at
        if full_at is None:
            full_at = self._full_at = array("d", [-inf]) * (self._mask + 1)
        slot = hash(self._secret + key) & self._mask
        now = self._seconds()
        empty = now + self._depth
        due = full_at[slot]
        if due < now:
            due = now
        elif due > empty:  # only if the clock was set back
            due = full_at[slot] = empty
        taken = min(count, int((empty - due) * self._rate + _ROUNDING))
        if taken:
            full_at[slot] = due + taken / self._rate
        return taken
