"""Snapshots as metrics, in Prometheus' text format or in OpenMetrics.

Labels have few values: listeners come from the settings, reasons from the code, workers are numbered. Needs the package
``prometheus-client``; nothing else imports this module before it is asked for. (Its own module for Twisted installs a reactor
when it is imported, and answers in threads.)
"""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.copyright import version as twisted_version

from echosvc import __version__
from echosvc.observe import LatenessSnapshot, ListenerSnapshot, Snapshot, merge
from echosvc.observe.process import usage

__all__ = ["render"]

_WORDS = {
    "start_time_seconds": "when it began, in seconds since 1970",
    "open_fds": "descriptors that it has open",
    "max_fds": "descriptors that it may have",
    "resident_memory_bytes": "memory that it holds",
}

_LISTENER = ("listener", "protocol", "transport", "where", "worker")


def render(snapshots: Sequence[Snapshot], *, ready: bool, accept: str = "") -> tuple[bytes, str]:
    """Write metrics.

    Args:
        snapshots: One of each process that serves.
        ready: Whether the service is ready.
        accept: What the client can read, as HTTP says it (``Accept``). One that cannot be read is taken for none (RFC 9110, section 12.5.1).

    Returns:
        The text, and its content type.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshots(snapshots, ready=ready))
    try:
        encoder, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encoder, kind = choose_encoder("")
    return encoder(registry), kind


class _Snapshots(Collector):
    """Hands the figures of some snapshots to the library, once."""

    def __init__(self, snapshots: Sequence[Snapshot], *, ready: bool) -> None:
        self._snapshots = snapshots
        self._ready = ready

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: nobody else is in the registry who could use the same name."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Make all metrics."""
        listeners = [
            ([each.name, each.protocol, each.transport, each.where, str(snapshot.worker)], each)
            for snapshot in self._snapshots
            for each in merge(snapshot.listeners)
        ]
        yield InfoMetricFamily(
            "echosvc_build",
            "What runs.",
            {"version": __version__, "twisted": twisted_version, "python": platform.python_version()},
        )
        yield GaugeMetricFamily(
            "echosvc_ready", "Whether every listener is up and the service is not stopping.", int(self._ready)
        )
        yield from _connections(listeners)
        yield from _traffic(listeners)
        yield from _processes(self._snapshots)
        yield from _this_process()


def _connections(listeners: Sequence[tuple[list[str], ListenerSnapshot]]) -> Iterable[Metric]:
    now = GaugeMetricFamily("echosvc_connections_open", "Connections that are in.", labels=_LISTENER)
    opened = CounterMetricFamily(
        "echosvc_connections", "Connections that were accepted and not refused.", labels=_LISTENER
    )
    closed = CounterMetricFamily(
        "echosvc_connections_closed", "Connections that have ended, by reason.", labels=(*_LISTENER, "reason")
    )
    queued = GaugeMetricFamily(
        "echosvc_queued_bytes",
        "Bytes that process and kernel hold for clients, as max-queued counts them.",
        labels=_LISTENER,
    )
    expires = GaugeMetricFamily(
        "echosvc_tls_expires_timestamp_seconds",
        "When the first certificate, client CA or revocation list (CRL) expires, in seconds since 1970.",
        labels=(*_LISTENER, "kind"),
    )
    for labels, each in listeners:
        if each.is_datagram:
            continue
        for kind, when in each.expires.items():
            expires.add_metric([*labels, kind], when)
        now.add_metric(labels, each.open)
        opened.add_metric(labels, each.opened)
        queued.add_metric(labels, each.queued_bytes)
        for reason, count in each.closed.items():
            closed.add_metric([*labels, reason], count)
    return now, opened, closed, queued, expires


def _traffic(listeners: Sequence[tuple[list[str], ListenerSnapshot]]) -> Iterable[Metric]:
    with_direction = (*_LISTENER, "direction")
    moved = CounterMetricFamily(
        "echosvc_bytes",
        "Bytes read and sent; of datagrams, their payload. Unknown for endpoints of Twisted's own.",
        labels=with_direction,
    )
    datagrams = CounterMetricFamily(
        "echosvc_datagrams", "Datagrams that were let in, and that were sent.", labels=with_direction
    )
    dropped = CounterMetricFamily(
        "echosvc_dropped",
        "Connections and datagrams that were refused or given up, by reason.",
        labels=(*_LISTENER, "reason"),
    )
    kernel = CounterMetricFamily(
        "echosvc_kernel_drops",
        "Datagrams that the kernel has dropped: the receive buffer was full, or the source was forged.",
        labels=_LISTENER,
    )
    for labels, each in listeners:
        for direction, count in (("in", each.bytes_in), ("out", each.bytes_out)):
            if count is not None:
                moved.add_metric([*labels, direction], count)
        for reason, count in each.dropped.items():
            dropped.add_metric([*labels, reason], count)
        if each.is_datagram:
            datagrams.add_metric([*labels, "in"], each.datagrams_in)
            datagrams.add_metric([*labels, "out"], each.datagrams_out)
            kernel.add_metric(labels, each.kernel_drops)
    return moved, datagrams, dropped, kernel


def _processes(snapshots: Sequence[Snapshot]) -> Iterable[Metric]:
    late = HistogramMetricFamily(
        "echosvc_reactor_lateness_seconds",
        "How late a timer of the reactor was that is due ten times a second.",
        labels=("worker",),
    )
    gauges: dict[str, Any] = {
        name: GaugeMetricFamily(f"echosvc_{name}", text, labels=("worker",))
        for name, text in (
            ("reactor_lateness_worst_seconds", "The latest that this timer was in the last minute or two."),
            ("start_time_seconds", "When the process began, in seconds since 1970."),
            ("open_descriptors", "Descriptors that the process has open."),
            ("resident_memory_bytes", "Memory that the process holds."),
        )
    }
    cpu = CounterMetricFamily(
        "echosvc_cpu_seconds", "Seconds for which processors have run the process.", labels=("worker",)
    )
    for each in snapshots:
        labels = [str(each.worker)]
        late.add_metric(labels, buckets=_buckets(each.lateness), sum_value=each.lateness.total)
        cpu.add_metric(labels, each.cpu_seconds)
        for name, value in (
            ("reactor_lateness_worst_seconds", each.lateness.worst),
            ("start_time_seconds", each.started),
            ("open_descriptors", each.descriptors),
            ("resident_memory_bytes", each.resident_bytes),
        ):
            if value is not None:
                gauges[name].add_metric(labels, value)
    return late, cpu, *gauges.values()


def _this_process() -> Iterable[Metric]:
    """Tell of the process that answers what Prometheus' clients tell everywhere. The library's own lists all descriptors."""
    used = usage()
    yield CounterMetricFamily(
        "process_cpu_seconds", "Seconds for which processors have run it.", used.cpu_seconds
    )
    for name, value in (
        ("start_time_seconds", used.started),
        ("open_fds", used.descriptors),
        ("max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("resident_memory_bytes", used.resident_bytes),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"process_{name}", f"Of the process that answers: {_WORDS[name]}.", value)


def _buckets(lateness: LatenessSnapshot) -> list[tuple[str, float]]:
    """Add up the classes: Prometheus' buckets hold all that is no later than their bound."""
    bounds = [*map(str, lateness.bounds), "+Inf"]
    return list(zip(bounds, accumulate(lateness.counts), strict=True))
