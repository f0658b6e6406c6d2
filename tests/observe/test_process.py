"""Tests of what the system says of this process."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.observe import LatenessSnapshot, ListenerSnapshot, process, take_snapshot
from echosvc.transports.linux import LINUX
from tests.machine import open_descriptors

LATENESS = LatenessSnapshot(bounds=(), counts=(0,), total=0.0, worst=0.0)


class ProcessTests(SynchronousTestCase):
    """Taking a snapshot."""

    def test_is_of_this_process(self) -> None:
        """With what was counted in it."""
        listener = ListenerSnapshot(name="echo", protocol="echo", where="here", transport="tcp")
        snapshot = take_snapshot(iter([listener]), LATENESS)

        self.assertEqual(
            (0, os.getpid(), LATENESS, (listener,)),
            (snapshot.worker, snapshot.pid, snapshot.lateness, snapshot.listeners),
        )
        self.assertLess(0, snapshot.cpu_seconds)
        self.assertLess(time.time() - 24 * 3600, snapshot.started)
        self.assertLess(snapshot.started, time.time())
        self.assertEqual(3, take_snapshot([], LATENESS, worker=3).worker)

    def test_descriptors_are_counted(self) -> None:
        """But for the one that the counting itself takes."""
        gc.collect()  # what other tests have left is closed now, and not between two counts
        before = take_snapshot([], LATENESS).descriptors
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)

        self.assertEqual(open_descriptors() - 1, take_snapshot([], LATENESS).descriptors)
        self.assertEqual((before or 0) + 2, take_snapshot([], LATENESS).descriptors)

    def test_memory(self) -> None:
        """What grows is seen to grow."""
        if not LINUX:
            raise SkipTest("only Linux tells")
        before = take_snapshot([], LATENESS).resident_bytes or 0
        ballast = bytearray(os.urandom(1)) * 50_000_000

        self.assertLess(before + 40_000_000, take_snapshot([], LATENESS).resident_bytes or 0)
        self.assertEqual(50_000_000, len(ballast))

    def test_where_the_system_does_not_tell(self) -> None:
        """It is not known, and that is said."""
        self.assertEqual(
            (None, None), (process._descriptors("/nowhere", "/nowhere"), process._resident("/nowhere"))
        )

    def test_where_it_tells_in_another_way(self) -> None:
        """Descriptors are listed: on an older Linux, and where there is no /proc."""
        count = open_descriptors() - 1
        self.assertEqual(count, process._descriptors("/nowhere"))
        with TemporaryDirectory() as folder:
            link = Path(folder) / "fd"
            link.symlink_to("/dev/fd/")
            for size in (0, 77):
                stat = mock.Mock(return_value=mock.Mock(st_size=size))
                with mock.patch("os.stat", stat):
                    self.assertEqual(size or count, process._descriptors(str(link)))
