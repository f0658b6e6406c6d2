"""What several tests of protocols share."""

from __future__ import annotations

import calendar

__all__ = ["moment"]


def moment(*utc: int) -> int:
    """Seconds since 1970 of a year, month, day, hour, minute and second in UTC."""
    return calendar.timegm((*utc, 0, 0, 0))
