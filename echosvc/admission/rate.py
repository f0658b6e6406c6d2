"""A limit on how many datagrams are let in in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from echosvc.transports import Screen

__all__ = ["ANSWER_RATE", "limited"]

ANSWER_RATE = "answer-rate"
"""More came in than are answered in a second."""


def limited(screen: Screen, rate: float, seconds: Callable[[], float]) -> Screen:
    """Put a token bucket behind a screen.

    Args:
        screen: Asked first; what it refuses takes no token.
        rate: Tokens, and so datagrams, in a second. A second's worth may come at once.
        seconds: Tells the time, in seconds of a clock that is never set back.

    Returns:
        A screen that refuses what comes in too fast, whoever sends it.
    """
    tokens, filled = max(rate, 1.0), seconds()

    def limit(ports: Sequence[int]) -> Mapping[int, str]:
        nonlocal tokens, filled
        refused = screen(ports)
        now = seconds()
        tokens, filled = min(max(rate, 1.0), tokens + (now - filled) * rate), now
        late: dict[int, str] = {}
        for position in range(len(ports)):
            if position in refused:
                continue
            if tokens >= 1:
                tokens -= 1
            else:
                late[position] = ANSWER_RATE
        return {**refused, **late} if late else refused

    return limit
