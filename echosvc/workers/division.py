"""What each worker has of the limits that hold for the whole service."""

from __future__ import annotations

import os
from collections.abc import Collection

import attrs

from echosvc.admission import ScreenSettings
from echosvc.admission.quota import Limits
from echosvc.listeners import ListenerSettings
from echosvc.settings import Settings

__all__ = ["count_of", "part_of"]

#: Bytes that each worker may hold for slow readers, however many workers there are.
LEAST_QUEUED = 1024 * 1024


def count_of(settings: Settings) -> int:
    """Tell how many workers are asked for: with ``auto``, one for each processor that this process may use."""
    return len(os.sched_getaffinity(0)) if settings.workers == "auto" else settings.workers


def part_of(settings: Settings, count: int, common: Collection[int] = ()) -> Settings:
    """Divide the limits of a service among its workers.

    Whole numbers are rounded up. What a source may send in datagrams is divided where all workers read the same socket. It is not divided
    where each worker has a socket of its own: there a flow stays on one worker.

    Args:
        settings: Those of the service.
        count: How many workers there are.
        common: The numbers of the listeners whose sockets all workers read, whatever place the settings name.

    Returns:
        Those of each worker.
    """
    gate = attrs.evolve(
        settings.gate,
        limits=_limits(settings.gate.limits, count),
        max_queued=max(LEAST_QUEUED, -(-settings.gate.max_queued // count)),
    )
    listeners = tuple(
        _listener(each, count, readers=count if number in common else 1)
        for number, each in enumerate(settings.listeners)
    )
    return attrs.evolve(settings, listeners=listeners, gate=gate, workers=0, admin=None, log_format="text")


def _listener(listener: ListenerSettings, count: int, *, readers: int) -> ListenerSettings:
    return attrs.evolve(
        listener,
        answer_rate=listener.answer_rate / count,
        door=attrs.evolve(
            listener.door,
            limits=_limits(listener.door.limits, count),
            # Less than a byte in a second is never read; 0 is any number.
            byte_rate_total=max(1.0, listener.door.byte_rate_total / count)
            if listener.door.byte_rate_total
            else 0.0,
        ),
        screen=_screen(listener.screen, count, readers),
    )


def _screen(screen: ScreenSettings, count: int, readers: int) -> ScreenSettings:
    return attrs.evolve(
        screen, rate=screen.rate / readers, burst=screen.burst / readers, total=screen.total / count
    )


def _limits(limits: Limits, count: int) -> Limits:
    return Limits(
        max_connections=_whole(limits.max_connections, count),
        max_per_source=_whole(limits.max_per_source, count),
        accept_rate=_rate(limits.accept_rate, count),
        accept_rate_per_source=_rate(limits.accept_rate_per_source, count),
    )


def _whole(limit: int | None, count: int) -> int | None:
    return None if limit is None else -(-limit // count)


def _rate(limit: float | None, count: int) -> float | None:
    return None if limit is None else limit / count
