"""Daytime (RFC 867): the date and the time, in UTC, as a line for people.

Plain Twisted classes that also run without the rest of echosvc:

    endpoint.listen(DaytimeFactory())
    reactor.listenUDP(8013, DatagramDaytime())
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from echosvc.protocols.saying import DatagramSaying, SayingFactory
from echosvc.protocols.wire import WireProtocol

__all__ = ["DAYTIME", "DatagramDaytime", "DaytimeFactory", "daytime"]

# strftime would name them in the language of the locale.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def daytime(now: float) -> bytes:
    """Write a moment in the first form that RFC 867 shows: ``Tuesday, February 22, 1982 17:37:43-UTC``.

    Args:
        now: Seconds since 1970-01-01 00:00 UTC.

    Returns:
        One line, with CR LF.
    """
    utc = time.gmtime(now)
    day = f"{_DAYS[utc.tm_wday]}, {_MONTHS[utc.tm_mon - 1]} {utc.tm_mday}, {utc.tm_year}"
    return f"{day} {utc.tm_hour:02}:{utc.tm_min:02}:{utc.tm_sec:02}-UTC\r\n".encode("ascii")


class DaytimeFactory(SayingFactory):
    """Tells each connection the date and the time, and closes it (RFC 867).

    Args:
        now: Returns seconds since 1970-01-01 00:00 UTC.
        reactor: As in `SayingFactory`.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, reactor: IReactorTime | None = None) -> None:
        super().__init__(lambda: daytime(now()), reactor=reactor)


class DatagramDaytime(DatagramSaying):
    """Answers each datagram with the date and the time (RFC 867).

    Args:
        now: Returns seconds since 1970-01-01 00:00 UTC.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(lambda: daytime(now()))


DAYTIME = WireProtocol(
    name="daytime",
    rfc="RFC 867",
    summary="tells the date and the time as a line of text, in UTC",
    stream=DaytimeFactory,
    datagram=DatagramDaytime,
    amplifies=True,
)
