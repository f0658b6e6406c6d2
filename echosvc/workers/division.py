"""What each worker has of the limits that hold for the whole service."""

from __future__ import annotations

import os

import attrs

from echosvc.admission import ScreenSettings
from echosvc.admission.quota import Limits
from echosvc.listeners import ListenerSettings, UnixSocket
from echosvc.settings import Settings

__all__ = ["count_of", "part_of"]

#: Bytes that each worker may hold for slow readers, however many workers there are.
LEAST_QUEUED = 1024 * 1024


def count_of(settings: Settings) -> int:
    """Tell how many workers are asked for: with ``auto``, one for each processor that this process may use."""
    return len(os.sched_getaffinity(0)) if settings.workers == "auto" else settings.workers


def part_of(settings: Settings, count: int) -> Settings:
    """Divide the limits of a service among its workers.

    Whole numbers are rounded up. What a source may send in datagrams is divided for UNIX sockets, which all workers read. It is not divided
    for ports: there its flow stays on one worker.

    Args:
        settings: Those of the service.
        count: How many workers there are.

    Returns:
        Those of each worker.
    """
    gate = attrs.evolve(
        settings.gate,
        limits=_limits(settings.gate.limits, count),
        max_queued=max(LEAST_QUEUED, -(-settings.gate.max_queued // count)),
    )
    listeners = tuple(_listener(each, count) for each in settings.listeners)
    return attrs.evolve(settings, listeners=listeners, gate=gate, workers=0, admin=None, log_format="text")


def _listener(listener: ListenerSettings, count: int) -> ListenerSettings:
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
        screen=_screen(listener, count),
    )


def _screen(listener: ListenerSettings, count: int) -> ScreenSettings:
    each = count if isinstance(listener.place, UnixSocket) else 1
    screen = listener.screen
    return attrs.evolve(
        screen, rate=screen.rate / each, burst=screen.burst / each, total=screen.total / count
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
