"""Tests of metrics, as Prometheus' own parsers read them."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.trial.unittest import SynchronousTestCase

from echosvc import __version__
from echosvc.admin import metrics
from echosvc.admin.metrics import render
from echosvc.observe import LatenessSnapshot, ListenerSnapshot, Snapshot
from echosvc.observe.process import Usage

TCP = ListenerSnapshot(
    name="echo",
    protocol="echo",
    where="TCP [::]:7 (IPv6 and IPv4)",
    transport="tcp",
    opened=9,
    closed={"peer-closed": 4, "idle-timeout": 2},
    bytes_in=100,
    bytes_out=90,
    dropped={"access-denied": 5, "idle-timeout": 2},
    queued_bytes=10,
    expires={"certificate": 1.7e9, "crl": 1.6e9},
)
UDP = ListenerSnapshot(
    name="echo",
    protocol="echo",
    where="UDP [::]:7",
    transport="udp",
    bytes_in=50,
    bytes_out=40,
    datagrams_in=5,
    datagrams_out=4,
    dropped={"source-port-zero": 3},
    kernel_drops=6,
)
FOREIGN = ListenerSnapshot(
    name="fax", protocol="echo", where="fax:1", transport="foreign", opened=1, bytes_in=None, bytes_out=None
)
SNAPSHOT = Snapshot(
    pid=1,
    started=1e9,
    cpu_seconds=2.5,
    descriptors=17,
    resident_bytes=4096,
    lateness=LatenessSnapshot(bounds=(0.001, 1.0), counts=(5, 3, 2), total=12.5, worst=2.0),
    listeners=(TCP, UDP, FOREIGN),
)


class MetricsCase(SynchronousTestCase):
    """Renders snapshots, and reads what came of it."""

    def samples(self, *snapshots: Snapshot, ready: bool = True) -> dict[str, float]:
        """Render, and read as `name{labels}`, the listener's labels shortened."""
        text, _ = render(snapshots, ready=ready)
        found: dict[str, float] = {}
        for family in parse_text(text.decode()):
            for sample in family.samples:
                labels = dict(sample.labels)
                where = [labels.pop(each, "") for each in ("listener", "protocol", "transport", "where")]
                label = ",".join(
                    [*filter(None, where[2:3]), *(f"{k}={v}" for k, v in sorted(labels.items()))]
                )
                key = f"{sample.name}{{{label}}}"
                self.assertNotIn(key, found)
                found[key] = sample.value
        return found

    def assert_has(self, expected: dict[str, float], found: dict[str, float]) -> None:
        """These must be there, with these values."""
        self.assertEqual(expected, {key: found.get(key) for key in expected})


class FiguresTests(MetricsCase):
    """What is told."""

    def test_connections(self) -> None:
        """Those that are open, were opened, and have ended, by reason."""
        found = self.samples(SNAPSHOT)

        self.assert_has(
            {
                "echosvc_connections_open{tcp,worker=0}": 3,
                "echosvc_connections_total{tcp,worker=0}": 9,
                "echosvc_connections_closed_total{tcp,reason=peer-closed,worker=0}": 4,
                "echosvc_connections_closed_total{tcp,reason=idle-timeout,worker=0}": 2,
                "echosvc_queued_bytes{tcp,worker=0}": 10,
                "echosvc_tls_expires_timestamp_seconds{tcp,kind=certificate,worker=0}": 1.7e9,
                "echosvc_tls_expires_timestamp_seconds{tcp,kind=crl,worker=0}": 1.6e9,
                "echosvc_connections_open{foreign,worker=0}": 1,
            },
            found,
        )
        self.assertNotIn("echosvc_connections_total{udp,worker=0}", found)

    def test_traffic(self) -> None:
        """Bytes and datagrams, in and out, and what was dropped, by reason."""
        found = self.samples(SNAPSHOT)

        self.assert_has(
            {
                "echosvc_bytes_total{tcp,direction=in,worker=0}": 100,
                "echosvc_bytes_total{tcp,direction=out,worker=0}": 90,
                "echosvc_bytes_total{udp,direction=in,worker=0}": 50,
                "echosvc_bytes_total{udp,direction=out,worker=0}": 40,
                "echosvc_datagrams_total{udp,direction=in,worker=0}": 5,
                "echosvc_datagrams_total{udp,direction=out,worker=0}": 4,
                "echosvc_dropped_total{tcp,reason=access-denied,worker=0}": 5,
                "echosvc_dropped_total{udp,reason=source-port-zero,worker=0}": 3,
                "echosvc_kernel_drops_total{udp,worker=0}": 6,
            },
            found,
        )
        for unknown in (
            "echosvc_bytes_total{foreign,direction=in,worker=0}",
            "echosvc_datagrams_total{tcp,direction=in,worker=0}",
            "echosvc_kernel_drops_total{tcp,worker=0}",
        ):
            self.assertNotIn(unknown, found)

    def test_processes(self) -> None:
        """How late each was, and what it uses; buckets hold all that is no later than their bound."""
        other = attrs.evolve(SNAPSHOT, worker=2, descriptors=None, resident_bytes=None)
        found = self.samples(SNAPSHOT, other)

        self.assert_has(
            {
                "echosvc_reactor_lateness_seconds_bucket{le=0.001,worker=0}": 5,
                "echosvc_reactor_lateness_seconds_bucket{le=1.0,worker=0}": 8,
                "echosvc_reactor_lateness_seconds_bucket{le=+Inf,worker=0}": 10,
                "echosvc_reactor_lateness_seconds_count{worker=0}": 10,
                "echosvc_reactor_lateness_seconds_sum{worker=2}": 12.5,
                "echosvc_reactor_lateness_worst_seconds{worker=0}": 2.0,
                "echosvc_cpu_seconds_total{worker=0}": 2.5,
                "echosvc_start_time_seconds{worker=2}": 1e9,
                "echosvc_open_descriptors{worker=0}": 17,
                "echosvc_resident_memory_bytes{worker=0}": 4096,
            },
            found,
        )
        self.assertNotIn("echosvc_open_descriptors{worker=2}", found)
        self.assertNotIn("echosvc_resident_memory_bytes{worker=2}", found)

    def test_where_the_system_does_not_tell(self) -> None:
        """Nothing is made up."""
        nothing = Usage(started=5.0, cpu_seconds=1.0, descriptors=None, resident_bytes=None)
        self.patch(metrics, "usage", lambda: nothing)
        found = self.samples()

        self.assert_has({"process_start_time_seconds{}": 5, "process_cpu_seconds_total{}": 1}, found)
        self.assertNotIn("process_open_fds{}", found)
        self.assertNotIn("process_resident_memory_bytes{}", found)

    def test_the_service(self) -> None:
        """What runs, and whether it is ready."""
        self.assert_has({"echosvc_ready{}": 1}, self.samples(SNAPSHOT))
        found = self.samples(ready=False)
        self.assert_has({"echosvc_ready{}": 0}, found)
        (build,) = [key for key in found if key.startswith("echosvc_build_info")]
        self.assertIn(f"version={__version__}", build)

    def test_two_records_of_one_listener_are_one_series(self) -> None:
        """Prometheus refuses a scrape in which one stands twice."""
        twice = attrs.evolve(SNAPSHOT, listeners=(TCP, TCP))

        self.assert_has({"echosvc_connections_total{tcp,worker=0}": 18}, self.samples(twice))


class FormatTests(MetricsCase):
    """How it is written."""

    def test_as_asked_for(self) -> None:
        """OpenMetrics for who asks for it, and the text format for all others; both are well formed."""
        for accept, kind in (
            ("", "text/plain; version=0.0.4"),
            ("*/*", "text/plain; version=0.0.4"),
            ("nonsense;;q=,", "text/plain; version=0.0.4"),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        ):
            text, found = render([SNAPSHOT], ready=True, accept=accept)
            self.assertTrue(found.startswith(kind), (accept, found))
            parse = parse_openmetrics if "openmetrics" in kind else parse_text

            self.assertLess(20, len(list(parse(text.decode()))))

    def test_asked_for_oddly(self) -> None:
        """A version that is no number is passed over: the answer is in the text format."""
        for version in ("\xff;q=x,,;=", "x", "1.x", "", "\xb2", "9" * 5000, "1.0.0;escaping=\xff"):
            for kind in ("application/openmetrics-text", "text/plain"):
                text, found = render([SNAPSHOT], ready=True, accept=f"{kind};version={version}")

                self.assertIn(b"echosvc_ready 1.0", text)
                self.assertTrue(
                    found.startswith(("text/plain", "application/openmetrics-text; version=1.0.0")), found
                )

    @given(st.text(st.characters(max_codepoint=255) | st.sampled_from(",;=."), max_size=40), st.booleans())
    def test_whatever_is_asked_for(self, end: str, is_open: bool) -> None:  # noqa: FBT001  # hypothesis passes it so
        """Nothing is raised."""
        kind = "application/openmetrics-text" if is_open else "text/plain"
        render([], ready=True, accept=f"{kind};version=1{end}")
        render([], ready=True, accept=f"{kind};version={end};escaping={end}")

    def test_names_are_odd(self) -> None:
        """Quotes, line ends and backslashes in a socket's name are told as they are."""
        odd = attrs.evolve(TCP, where='unix:/a"b\\c\nd', name="\u20ac")
        text, _ = render([attrs.evolve(SNAPSHOT, listeners=(odd,))], ready=True)
        found = {
            sample.labels["where"]
            for family in parse_text(text.decode())
            for sample in family.samples
            if "where" in sample.labels
        }

        self.assertEqual({odd.where}, found)
