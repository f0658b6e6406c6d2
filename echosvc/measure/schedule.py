"""When a regular probe is due."""

from __future__ import annotations

import math

__all__ = ["next_slot"]


def next_slot(slot: int, elapsed: float, interval: float) -> int:
    """Choose the slot of the next probe in a schedule that does not drift.

    Slot n is due n intervals after the start, however late the ones before were served. Slots that passed
    unserved (the process was stopped, the machine was asleep) are left out, and not made up for in a burst.

    Args:
        slot: The slot served last.
        elapsed: Seconds since the start.
        interval: Seconds between slots.

    Returns:
        A slot after `slot`: the following one, or the latest one that is due if that has passed already.
    """
    return max(slot + 1, math.floor(elapsed / interval))
