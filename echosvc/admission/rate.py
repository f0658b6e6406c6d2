"""How many datagrams are let in in a second: of each source, and in all.

Every source has a token bucket (`Buckets`), and all together have one. To ask a bucket takes 0.5 us, a third of what a
datagram costs in all; so a source takes some tokens at a time, and uses them up one by one. What it has taken is off its bucket
and off the common one, so that nobody is let in twice.

A plain bucket can be turned against a source: whoever forges its address takes every token as soon as it is there, with no more
datagrams than the rate, and the true owner never gets one. Therefore an eighth of the rate is kept back, and drawn by lot, one in four, among
what comes too fast. (chrony calls that the leak, and draws one in four, too; there it comes on top of the limit.)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from math import inf

from echosvc.admission.buckets import Buckets
from echosvc.transports import Refusal

__all__ = ["FREE", "Allowance", "Everyone", "Rate", "Verdict", "refused_for"]

#: The part of a rate that is drawn by lot, and one in how many is drawn.
LOT_PART, LOT = 1 / 8, 4

#: Tokens that a source takes at a time, at most. A source that is forgotten loses what it has not used.
_MOST = 256

#: And the part of a second's tokens that this is at most.
_PART = 50

#: Seconds for which the common bucket is not asked again once it was empty: a storm would ask for each of its datagrams. What
#: flows in meanwhile is not lost.
_DRY = 0.001


class Verdict:
    """What is known of an envelope.

    Attributes:
        left: Datagrams that are let in before it must be asked. The screen counts it down; if that makes it negative, they
            are given back and `ask` decides.
        source: The source whose tokens it counts; empty if there is none.
    """

    __slots__ = ("left",)

    source: bytes = b""

    def __init__(self, left: float) -> None:
        self.left = left

    def ask(self, count: int) -> Refusal | None:
        """Decide about more datagrams than are left.

        Args:
            count: How many there are.

        Returns:
            Why they are refused, and how many of them are not; None if all are let in.
        """
        raise NotImplementedError


FREE = Verdict(inf)
"""Lets in whatever comes."""


class _Refused(Verdict):
    """Lets nothing in."""

    __slots__ = ("_refusal",)

    def __init__(self, reason: str) -> None:
        super().__init__(-inf)
        self._refusal = (reason, 0)

    def ask(self, count: int) -> Refusal:
        return self._refusal


def refused_for(reason: str) -> Verdict:
    """Make a verdict that lets nothing in."""
    return _Refused(reason)


class Everyone:
    """The tokens of all together.

    Args:
        rate: Datagrams in a second.
        burst: How many may come at once after a pause.
        seconds: Tells the time, in seconds of a clock that is not set.
        reason: Why others are refused.
    """

    def __init__(self, rate: float, burst: float, seconds: Callable[[], float], reason: str) -> None:
        self._bucket = Buckets(rate, burst, seconds, slots=1)
        self._seconds = seconds
        self._left = 0
        self._dry_since = -inf
        self._at_once = _at_once(rate)
        self.reason = reason

    def take(self, count: int) -> int:
        """Take tokens; return how many there were."""
        if self._left < count and not 0 <= (now := self._seconds()) - self._dry_since < _DRY:
            more = self._bucket.take(b"", max(count - self._left, self._at_once))
            self._left += more
            if not more:
                self._dry_since = now
        taken = min(count, self._left)
        self._left -= taken
        return taken


class Rate:
    """The tokens of each source.

    Args:
        rate: Datagrams in a second.
        burst: How many may come at once after a pause.
        seconds: Tells the time, in seconds of a clock that is not set.
        reason: Why others are refused.
    """

    def __init__(self, rate: float, burst: float, seconds: Callable[[], float], reason: str) -> None:
        self._sure = Buckets(rate * (1 - LOT_PART), burst, seconds)
        self._by_lot = Buckets(rate * LOT_PART, 1, seconds)
        self._until_drawn = secrets.randbelow(LOT)
        self.at_once = _at_once(rate)
        self.reason = reason
        self.take = self._sure.take

    def draw(self, source: bytes, count: int) -> int:
        """Let in some of those that came too fast; nobody can tell beforehand which.

        Returns:
            How many.
        """
        drawn = 0
        self._until_drawn -= count
        while self._until_drawn < 0:
            drawn += 1
            self._until_drawn += 1 + secrets.randbelow(2 * LOT - 1)
        return self._by_lot.take(source, drawn) if drawn else 0


class Allowance(Verdict):
    """What one source may still send.

    Args:
        source: Its key.
        rate: What each source may have; None for any number.
        everyone: What all may have; None for any number.
        again: Told the source whenever it has taken tokens, except for the first time.
    """

    __slots__ = ("_again", "_at_once", "_everyone", "_heard", "_rate", "source")

    left: int

    def __init__(
        self,
        source: bytes,
        rate: Rate | None,
        everyone: Everyone | None,
        again: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(0)
        self.source = source
        self._rate = rate
        self._everyone = everyone
        self._again = again
        self._heard = False
        self._at_once = 1  # of those who are never heard of again, no more is wasted

    def ask(self, count: int) -> Refusal | None:
        """Take tokens, and let in as many as they are good for."""
        rate, everyone = self._rate, self._everyone
        granted = wanted = max(count - self.left, self._at_once)
        if rate is not None:
            wanted = granted = rate.take(self.source, wanted)
            self._at_once = min(2 * self._at_once, rate.at_once)
        if everyone is not None:
            granted = everyone.take(granted)
        left = self.left + granted
        if left >= count:
            self.left = left - count
            if self._heard and self._again is not None:
                self._again(self.source)
            self._heard = True
            return None
        self.left = 0
        if everyone is not None and granted < wanted:
            return everyone.reason, left
        assert rate is not None  # noqa: S101  # somebody has refused
        drawn = rate.draw(self.source, count - left)
        if drawn and everyone is not None:
            drawn = everyone.take(drawn)
        return (rate.reason, left + drawn) if left + drawn < count else None


def _at_once(rate: float) -> int:
    return int(max(1, min(_MOST, rate / _PART)))
