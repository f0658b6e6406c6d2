"""Tests of what a service has counted, as plain data."""

from __future__ import annotations

import json

from cattrs import BaseValidationError
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import LatenessSnapshot, ListenerSnapshot, Snapshot, merge

counts = st.integers(0, 2**63)
figures = st.floats(0, 1e12)
reasons = st.dictionaries(st.text(max_size=8), st.integers(1, 2**40), max_size=3)

listeners = st.builds(
    ListenerSnapshot,
    name=st.sampled_from(["echo", "lines"]),
    protocol=st.sampled_from(["echo", "daytime"]),
    where=st.sampled_from(["TCP 127.0.0.1:7", "UDP [::1]:7"]),
    transport=st.sampled_from(["tcp", "udp", "unix", "unixgram", "foreign"]),
    opened=counts,
    closed=reasons,
    bytes_in=st.none() | counts,
    bytes_out=st.none() | counts,
    datagrams_in=counts,
    datagrams_out=counts,
    dropped=reasons,
    kernel_drops=counts,
    queued_bytes=counts,
    expires=st.dictionaries(st.sampled_from(["certificate", "crl"]), figures),
)
lateness = st.builds(
    LatenessSnapshot,
    bounds=st.lists(figures, max_size=4).map(tuple),
    counts=st.lists(counts, max_size=5).map(tuple),
    total=figures,
    worst=figures,
)
snapshots = st.builds(
    Snapshot,
    worker=st.integers(0, 256),
    pid=counts,
    started=figures,
    cpu_seconds=figures,
    descriptors=st.none() | counts,
    resident_bytes=st.none() | counts,
    lateness=lateness,
    listeners=st.lists(listeners, max_size=3).map(tuple),
)


def tcp(**counted: object) -> ListenerSnapshot:
    """What a TCP listener has counted."""
    about = {"name": "echo", "protocol": "echo", "where": "TCP 127.0.0.1:7", "transport": "tcp"}
    return ListenerSnapshot(**{**about, **counted})  # type: ignore[arg-type]


class JsonTests(SynchronousTestCase):
    """On the way to another process, or to somebody's script."""

    @given(snapshots)
    def test_goes_through_json_and_back(self, snapshot: Snapshot) -> None:
        """Unchanged."""
        self.assertEqual(snapshot, Snapshot.from_json(json.loads(json.dumps(snapshot.to_json()))))

    def test_something_else_is_refused(self) -> None:
        """A process of another version may say less, or more."""
        for wrong in ({}, {"pid": 1, "surprise": 2}):
            self.assertRaises(BaseValidationError, Snapshot.from_json, wrong)


class ListenerTests(SynchronousTestCase):
    """What follows from what was counted."""

    def test_who_is_open(self) -> None:
        """Whoever was opened and has not ended."""
        self.assertEqual(2, tcp(opened=7, closed={"peer-closed": 4, "lost": 1}).open)

    def test_what_has_datagrams(self) -> None:
        """UDP and its UNIX relative."""
        kinds = ("tcp", "udp", "unix", "unixgram", "foreign")

        self.assertEqual(["udp", "unixgram"], [kind for kind in kinds if tcp(transport=kind).is_datagram])


class MergeTests(SynchronousTestCase):
    """Adding up."""

    def test_the_same_listener_of_several_processes(self) -> None:
        """Is one, with what all have counted; others stay as they are, each in its place."""
        one = tcp(
            opened=3,
            closed={"lost": 1, "closed": 1},
            bytes_in=10,
            bytes_out=20,
            dropped={"memory": 1},
            queued_bytes=5,
            expires={"certificate": 9.0, "crl": 5.0},
        )
        other = tcp(
            opened=4,
            closed={"lost": 2},
            bytes_in=1,
            bytes_out=2,
            dropped={"accept-rate": 7},
            queued_bytes=6,
            expires={"certificate": 8.0, "client-ca": 7.0},
        )
        udp = tcp(transport="udp", datagrams_in=5, datagrams_out=4, kernel_drops=3)

        self.assertEqual(
            (
                tcp(
                    opened=7,
                    closed={"lost": 3, "closed": 1},
                    bytes_in=11,
                    bytes_out=22,
                    dropped={"memory": 1, "accept-rate": 7},
                    queued_bytes=11,
                    expires={"certificate": 8.0, "client-ca": 7.0, "crl": 5.0},
                ),
                tcp(transport="udp", datagrams_in=10, datagrams_out=8, kernel_drops=6),
                tcp(name="lines"),
            ),
            merge([one, udp, other, tcp(name="lines"), udp]),
        )

    def test_whoever_listens_elsewhere_is_another(self) -> None:
        """So is whoever speaks something else, or by another name."""
        different = [tcp(), tcp(where="TCP 127.0.0.1:8"), tcp(protocol="discard"), tcp(name="lines")]

        self.assertEqual(tuple(different), merge(different))

    def test_unknown_and_known_are_unknown(self) -> None:
        """A part is not the whole."""
        for one, other in ((None, 5), (5, None), (None, None)):
            (found,) = merge([tcp(bytes_in=one, bytes_out=1), tcp(bytes_in=other, bytes_out=2)])

            self.assertEqual((None, 3), (found.bytes_in, found.bytes_out))
