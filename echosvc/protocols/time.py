"""Time (RFC 868): the time as a number, for machines.

Plain Twisted classes that also run without the rest of echosvc:

    endpoint.listen(TimeFactory())
    reactor.listenUDP(8037, DatagramTime())
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from echosvc.protocols.saying import DatagramSaying, SayingFactory
from echosvc.protocols.wire import WireProtocol

__all__ = ["TIME", "DatagramTime", "TimeFactory", "time_octets"]

#: Seconds from 1900-01-01 00:00 UTC, where RFC 868 begins to count, to 1970-01-01 00:00 UTC.
_EPOCH = 2_208_988_800


def time_octets(now: float) -> bytes:
    """Write a moment as RFC 868 has it.

    Args:
        now: Seconds since 1970-01-01 00:00 UTC.

    Returns:
        Four octets, the most significant first: full seconds since 1900-01-01 00:00 UTC modulo 2**32. On 2036-02-07 at
        06:28:16 UTC they begin again at zero.
    """
    return ((math.floor(now) + _EPOCH) % 2**32).to_bytes(4, "big")


class TimeFactory(SayingFactory):
    """Tells each connection the time, and closes it (RFC 868).

    Args:
        now: Returns seconds since 1970-01-01 00:00 UTC.
        reactor: As in `SayingFactory`.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, reactor: IReactorTime | None = None) -> None:
        super().__init__(lambda: time_octets(now()), reactor=reactor)


class DatagramTime(DatagramSaying):
    """Answers each datagram with the time; the right question is an empty one (RFC 868).

    Args:
        now: Returns seconds since 1970-01-01 00:00 UTC.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(lambda: time_octets(now()))


TIME = WireProtocol(
    name="time",
    rfc="RFC 868",
    summary="tells the time as 32 bits: seconds since 1900",
    stream=TimeFactory,
    datagram=DatagramTime,
    amplifies=True,
)
