"""What a service has counted, as plain data: read when somebody asks, and never kept up to date for a message.

Metrics, the status page and the conversation between processes all use it. It goes through JSON and back unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from cattrs import Converter

__all__ = ["LatenessSnapshot", "ListenerSnapshot", "Snapshot", "merge"]


@attrs.frozen(kw_only=True)
class ListenerSnapshot:
    """What one listener has counted since it began.

    Attributes:
        name: How logs name it.
        protocol: The wire protocol that it speaks.
        where: Where it listens, as logs show it.
        transport: ``tcp``, ``udp``, ``unix``, ``unixgram``, or ``foreign`` where Twisted's own endpoint listens.
        opened: Connections that were accepted and not refused.
        closed: How many of them have ended, by reason.
        bytes_in: Bytes read, of connections that are open and that have ended, or payload bytes of datagrams. None: not known.
        bytes_out: Bytes that the kernel has taken. None: not known.
        datagrams_in: Datagrams that the protocol was given.
        datagrams_out: Datagrams that the kernel has taken.
        dropped: Connections and datagrams that were refused or given up, by reason, as the log says once a minute; but for
        kernel_drops: datagrams that the kernel has dropped before we could read them.
        queued_bytes: Bytes that process and kernel hold for clients, as ``max-queued`` counts them.
        expires: When the first of its certificates or revocation lists (CRLs) expires, in seconds since 1970, by kind. Of a
            listener that a reload has replaced, none.
    """

    name: str
    protocol: str
    where: str
    transport: str
    opened: int = 0
    closed: dict[str, int] = attrs.Factory(dict)
    bytes_in: int | None = 0
    bytes_out: int | None = 0
    datagrams_in: int = 0
    datagrams_out: int = 0
    dropped: dict[str, int] = attrs.Factory(dict)
    kernel_drops: int = 0
    queued_bytes: int = 0
    expires: dict[str, float] = attrs.Factory(dict)

    @property
    def is_datagram(self) -> bool:
        """Whether it has datagrams and no connections."""
        return self.transport in ("udp", "unixgram")

    @property
    def open(self) -> int:
        """Connections that are in now."""
        return self.opened - sum(self.closed.values())


@attrs.frozen(kw_only=True)
class LatenessSnapshot:
    """How late a timer of the reactor was, each time that it came.

    Attributes:
        bounds: Upper bounds of classes, in seconds, ascending.
        counts: How often it was that late and no less than the bound before; one more, for what is above all bounds.
        total: All of it, in seconds.
        worst: The worst in the last minute or two, in seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    worst: float


@attrs.frozen(kw_only=True)
class Snapshot:
    """What one process has counted since it began.

    Attributes:
        worker: Which worker it is, from 1; 0 where there are none.
        pid: Its number.
        started: When it began, in seconds since 1970.
        cpu_seconds: Seconds for which processors have run it.
        descriptors: Descriptors that it has open; None where the system does not tell.
        resident_bytes: Memory that it holds; None likewise.
        lateness: How late its reactor was.
        listeners: Its listeners.
    """

    worker: int = 0
    pid: int
    started: float
    cpu_seconds: float
    descriptors: int | None
    resident_bytes: int | None
    lateness: LatenessSnapshot
    listeners: tuple[ListenerSnapshot, ...]

    def to_json(self) -> dict[str, Any]:
        """Write it as what `json` takes."""
        written: dict[str, Any] = _converter.unstructure(self)
        return written

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Snapshot:
        """Read what `to_json` has written.

        Raises:
            cattrs.BaseValidationError: It is something else.
        """
        return _converter.structure(written, cls)


def merge(listeners: Iterable[ListenerSnapshot]) -> tuple[ListenerSnapshot, ...]:
    """Add up what several processes have counted, listener by listener.

    Args:
        listeners: Those of all processes. One process, too, can have several records of one listener: what a reload has
            replaced may still have connections.

    Returns:
        One record for each listener, in the order in which they were met.
    """
    found: dict[tuple[str, ...], ListenerSnapshot] = {}
    for each in listeners:
        key = (each.name, each.protocol, each.where, each.transport)
        found[key] = _sum(found[key], each) if key in found else each
    return tuple(found.values())


def _sum(one: ListenerSnapshot, other: ListenerSnapshot) -> ListenerSnapshot:
    return attrs.evolve(
        one,
        opened=one.opened + other.opened,
        closed=_sums(one.closed, other.closed),
        bytes_in=_sum_if_known(one.bytes_in, other.bytes_in),
        bytes_out=_sum_if_known(one.bytes_out, other.bytes_out),
        datagrams_in=one.datagrams_in + other.datagrams_in,
        datagrams_out=one.datagrams_out + other.datagrams_out,
        dropped=_sums(one.dropped, other.dropped),
        kernel_drops=one.kernel_drops + other.kernel_drops,
        queued_bytes=one.queued_bytes + other.queued_bytes,
        expires={
            kind: min(each.expires[kind] for each in (one, other) if kind in each.expires)
            for kind in {**one.expires, **other.expires}
        },
    )


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def _sum_if_known(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


_converter = Converter(forbid_extra_keys=True)
