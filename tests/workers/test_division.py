"""Tests of what each worker has of the limits."""

from __future__ import annotations

import os

import attrs
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import DoorSettings, GateSettings, Limits, ScreenSettings
from echosvc.listeners import Internet, ListenerSettings
from echosvc.settings import Settings
from echosvc.workers.division import LEAST_QUEUED, count_of, part_of

LISTENER = ListenerSettings(
    protocol="echo",
    place=Internet("tcp", 7),
    answer_rate=100.0,
    door=DoorSettings(limits=Limits(max_connections=10), byte_rate=5000.0, byte_rate_total=9000.0),
    screen=ScreenSettings(rate=1000.0, burst=50.0, total=4000.0),
)


class PartTests(SynchronousTestCase):
    """What is divided, and what is not."""

    def test_limits_of_all_are_divided_and_rounded_up(self) -> None:
        """Three workers with 10 connections have 4 each: never fewer than asked for."""
        limits = Limits(max_connections=10, max_per_source=1, accept_rate=30.0, accept_rate_per_source=6.0)
        settings = Settings(
            listeners=(LISTENER,), gate=GateSettings(limits=limits, max_queued=6 * LEAST_QUEUED), workers=3
        )

        part = part_of(settings, 3)

        self.assertEqual(
            part.gate.limits,
            Limits(max_connections=4, max_per_source=1, accept_rate=10.0, accept_rate_per_source=2.0),
        )
        self.assertEqual(part.gate.max_queued, 2 * LEAST_QUEUED)
        self.assertEqual(part.listeners[0].door.limits.max_connections, 4)
        self.assertEqual(part.listeners[0].door.byte_rate_total, 3000.0)

    def test_a_pace_has_a_least(self) -> None:
        """A worker that may read less than a byte in a second would never read; no limit stays none."""
        for whole, part in ((2.0, 1.0), (0.0, 0.0)):
            paced = attrs.evolve(LISTENER, door=DoorSettings(byte_rate_total=whole))
            (divided,) = part_of(Settings(listeners=(paced,)), 4).listeners

            self.assertEqual(part, divided.door.byte_rate_total)

    def test_datagrams_of_all_are_divided_those_of_a_source_are_not(self) -> None:
        """A flow stays with one worker, which has to let it in as fast as was said."""
        (part,) = part_of(Settings(listeners=(LISTENER,)), 4).listeners

        self.assertEqual(part.screen, ScreenSettings(rate=1000.0, burst=50.0, total=1000.0))
        self.assertEqual(part.answer_rate, 25.0)

    def test_datagrams_of_a_source_are_divided_where_all_read_one_socket(self) -> None:
        """Each worker sees a part of them; other listeners are left alone."""
        other, common = part_of(Settings(listeners=(LISTENER, LISTENER)), 4, {1}).listeners

        self.assertEqual(common.screen, ScreenSettings(rate=250.0, burst=12.5, total=1000.0))
        self.assertEqual(other.screen, ScreenSettings(rate=1000.0, burst=50.0, total=1000.0))

    def test_what_one_connection_has_is_not_divided(self) -> None:
        """Its pace, and what was not limited at all."""
        part = part_of(Settings(listeners=(LISTENER,)), 4)

        self.assertEqual(part.listeners[0].door.byte_rate, 5000.0)
        self.assertEqual(part.gate.limits, Limits())

    def test_memory_has_a_least(self) -> None:
        """However many workers there are, each can serve somebody."""
        settings = Settings(listeners=(), gate=GateSettings(max_queued=LEAST_QUEUED))

        self.assertEqual(part_of(settings, 9).gate.max_queued, LEAST_QUEUED)

    def test_a_worker_has_no_workers(self) -> None:
        """Nor does it show what was counted, nor write the log: the parent does."""
        part = part_of(Settings(listeners=(), workers=3, admin=LISTENER, log_format="json"), 3)

        self.assertEqual((part.workers, part.admin, part.log_format), (0, None, "text"))


class CountTests(SynchronousTestCase):
    """How many there are."""

    def test_auto_is_the_processors(self) -> None:
        """Those that this process may use, not those of the machine."""
        self.assertEqual(count_of(Settings(listeners=(), workers="auto")), len(os.sched_getaffinity(0)))

    def test_a_number_is_itself(self) -> None:
        """As it was given."""
        self.assertEqual(count_of(Settings(listeners=(), workers=5)), 5)
