"""Tests of draining: who is finished, who is waited for, who is cut off."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.service.draining import LINGER, QUIET, TICK, Drain, Drained


class FakeConnection:
    """A connection that does what the test says."""

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = 0
        self.why: str | None = None
        self.waiting = self.held = 0
        self.done: list[str] = []

    def queued(self) -> int:
        """What waits to be sent."""
        return self.held

    def unread(self) -> int:
        """What waits to be read."""
        return self.waiting

    def finish(self) -> None:
        """Take notice."""
        self.done.append("finish")

    def end(self) -> None:
        """Likewise."""
        self.done.append("end")

    def abortConnection(self) -> None:
        """Likewise."""
        self.done.append("abort")


class DrainTests(SynchronousTestCase):
    """A drain with a fake clock."""

    def setUp(self) -> None:
        """Have one connection."""
        self.clock = Clock()
        self.connection = FakeConnection()
        self.connections = [self.connection]
        self.others = 0
        self.ticks: list[int] = []
        self.drain = Drain(
            lambda: self.connections,
            lambda: len(self.connections) + self.others,
            self.clock,
            grace=10.0,
            every_tick=self.ticks.append,
        )

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)

    def test_nobody_is_there(self) -> None:
        """Where nobody is connected, nobody is waited for."""
        self.connections.clear()

        self.assertEqual(Drained(0, 0, 0.0), self.successResultOf(self.drain.start()))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_quiet(self) -> None:
        """Whoever has been quiet for a second is finished, not before and not twice."""
        self.drain.start()
        self.wait(QUIET - TICK)
        before = list(self.connection.done)
        self.wait(2 * TICK)
        self.wait(0.5)

        self.assertEqual(([], ["finish"]), (before, self.connection.done))
        self.assertEqual("drained", self.connection.why)

    def test_gone(self) -> None:
        """When the last one has gone, it is over, and says how many there were and how long it took."""
        waited = self.drain.start()
        self.wait(QUIET + 2 * TICK)
        self.assertNoResult(waited)
        self.connections.clear()
        self.wait(TICK)
        drained = self.successResultOf(waited)

        self.assertEqual((1, 0), (drained.finished, drained.aborted))
        self.assertEqual("1 connections finished, in 1.3 s", str(drained))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_busy(self) -> None:
        """Whoever moves a byte now and then is served on."""
        self.drain.start()
        for _ in range(8):
            self.wait(QUIET - 2 * TICK)
            self.connection.bytes_in += 1

        self.assertEqual([], self.connection.done)

    def test_answers_count(self) -> None:
        """Taking an answer is not being quiet."""
        self.drain.start()
        self.wait(QUIET - TICK)
        self.connection.bytes_out += 1
        self.wait(QUIET - TICK)

        self.assertEqual([], self.connection.done)

    def test_something_to_read(self) -> None:
        """A connection of which something was received and not read yet is not quiet."""
        self.connection.waiting = 1
        self.drain.start()
        self.wait(5)
        before = list(self.connection.done)
        self.connection.waiting = 0
        self.wait(TICK)

        self.assertEqual(([], ["finish"]), (before, self.connection.done))

    def test_something_to_send(self) -> None:
        """Nor is one whose peer has not taken everything."""
        self.connection.held = 1
        self.drain.start()
        self.wait(5)

        self.assertEqual([], self.connection.done)

    def test_a_peer_that_stays(self) -> None:
        """A peer that does not end its own direction is not waited for long."""
        self.drain.start()
        self.wait(QUIET + TICK)
        self.wait(LINGER)

        self.assertEqual("end", self.connection.done[1])

    def test_newcomers(self) -> None:
        """Whoever was in the kernel's queue is drained as all others."""
        self.drain.start()
        self.wait(3 * TICK)
        newcomer = FakeConnection()
        self.connections.append(newcomer)
        self.wait(QUIET + TICK)

        self.assertEqual(["finish"], newcomer.done)

    def test_grace(self) -> None:
        """After the grace period whoever is left is cut off, and is counted."""
        self.connection.waiting = 1
        waited = self.drain.start()
        self.wait(10 - TICK)
        self.assertNoResult(waited)
        self.wait(2 * TICK)
        drained = self.successResultOf(waited)

        self.assertEqual((["abort"], 0, 1), (self.connection.done, drained.finished, drained.aborted))
        self.assertEqual("cut-off", self.connection.why)
        self.assertIn("1 were cut off", str(drained))

    def test_others(self) -> None:
        """Connections of which only the number is known are waited for."""
        self.connections.clear()
        self.others = 1
        waited = self.drain.start()
        self.wait(3)
        self.assertNoResult(waited)
        self.others = 0
        self.wait(TICK)

        self.successResultOf(waited)

    def test_hurry(self) -> None:
        """Whoever asks again is not made to wait; and asking a third time changes nothing."""
        waited = self.drain.start()
        self.drain.hurry()
        self.drain.hurry()

        self.assertEqual(1, self.successResultOf(waited).aborted)
        self.assertEqual(["abort"], self.connection.done)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_is_told(self) -> None:
        """Whoever wants to know how many are left is told at every look."""
        self.drain.start()
        self.wait(2 * TICK)

        self.assertEqual([1, 1, 1], self.ticks)
