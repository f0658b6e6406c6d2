"""Tests of what is held for connections: what of it counts, and who goes if it is too much."""

from __future__ import annotations

from echosvc.admission.memory import LOOK, MEMORY, STUCK
from echosvc.admission.sweep import ROUND, SPARE_AFTER
from tests.admission.gates import FakeConnection, GateCase

#: Seconds until the sweep has looked at everyone, and the memory after it.
SOON = 2 * ROUND + LOOK


class HeldTests(GateCase):
    """What counts."""

    def setUp(self) -> None:
        """Let one connection in, where a thousand bytes may be held."""
        super().setUp()
        self.memory_door = self.make(max_queued=1000).door()
        (self.connection,) = self.entered(self.memory_door, "192.0.2.1")

    def held(self) -> int:
        """Tell what counts now."""
        return self.memory_door.queued()

    def send(self, *, undelivered: int, unsent: int) -> None:
        """Have sent something that the kernel still has."""
        self.connection.bytes_out += max(1, undelivered)
        self.connection.left, self.connection.not_sent = undelivered, unsent

    def test_what_is_queued(self) -> None:
        """At once, and together with what the kernel has not sent."""
        self.send(undelivered=100, unsent=100)
        self.connection.waiting = 50
        self.connection.ticket.waits()

        self.assertEqual(150, self.held())

    def test_what_the_kernel_has_not_sent(self) -> None:
        """Though it has taken everything, and nothing is queued."""
        self.send(undelivered=900, unsent=400)
        self.wait(SOON)

        self.assertEqual(400, self.held())

    def test_a_client_that_moves_a_byte_now_and_then_hides_nothing(self) -> None:
        """It is looked at whenever it has moved something."""
        self.send(undelivered=900, unsent=400)
        for _ in range(10):
            self.connection.bytes_in += 1
            self.connection.bytes_out += 1
            self.connection.left += 1
            self.wait(1)

        self.assertEqual(910, self.held())

    def test_what_is_on_its_way_does_not_count_as_long_as_some_arrives(self) -> None:
        """An honest client on a long path always has much on its way, and never counts for that."""
        self.send(undelivered=900, unsent=0)
        for _ in range(20):
            self.send(undelivered=900, unsent=0)
            self.wait(STUCK - LOOK - 0.25)
            self.assertEqual(0, self.held())

        self.assertEqual([], self.connection.ended)

    def test_what_was_sent_counts_once_none_of_it_arrives(self) -> None:
        """It may be a client that acknowledges nothing any more."""
        self.send(undelivered=900, unsent=0)
        self.wait(SOON)
        self.assertEqual(0, self.held())
        self.wait(STUCK)

        self.assertEqual(900, self.held())

    def test_what_is_unread_counts_once_nothing_was_read_for_some_seconds(self) -> None:
        """A client that takes what it is sent is read again long before."""
        self.connection.waiting, self.connection.received = 10, 600
        self.connection.ticket.waits()
        self.wait(STUCK - LOOK)
        self.assertEqual(10, self.held())
        self.wait(2 * LOOK)
        self.assertEqual(610, self.held())
        self.connection.bytes_in += 1
        self.wait(LOOK)

        self.assertEqual(10, self.held())

    def test_what_is_unread_counts_though_nothing_is_queued(self) -> None:
        """A protocol may have stopped reading by itself."""
        self.connection.received = 600
        self.wait(SPARE_AFTER / 2 + SOON + STUCK)

        self.assertEqual(600, self.held())

    def test_all_of_it_is_bounded(self) -> None:
        """Over the bound those that hold the most for the longest are aborted, whichever way it is held."""
        sender, unread, unsent = self.entered(self.memory_door, *["192.0.2.1"] * 3)
        unread.received = 700
        unsent.bytes_out = unsent.left = unsent.not_sent = 500
        sender.bytes_out = sender.left = 5000
        for _ in range(40):
            sender.bytes_out += 1
            self.wait(0.5)

        self.assertEqual(([], ["abort"], []), (sender.ended, unread.ended, unsent.ended))
        self.assertEqual((MEMORY, {MEMORY: 1}), (unread.why, self.memory_door.counts))

    def test_one_that_holds_nothing_is_forgotten(self) -> None:
        """The kernel is asked of it no more."""
        self.send(undelivered=900, unsent=900)
        self.wait(SOON)
        self.assertEqual([self.connection.ticket], self.gate.memory.holders())
        self.connection.left = self.connection.not_sent = 0
        self.wait(SOON)

        self.assertEqual([], self.gate.memory.holders())
        self.assertEqual(0, self.held())

    def test_one_that_ends_is_forgotten(self) -> None:
        """Whatever was held for it then."""
        self.send(undelivered=900, unsent=900)
        self.wait(SOON)
        self.connection.ticket.leave()

        self.assertEqual([], self.gate.memory.holders())

    def test_the_kernel_is_asked_twice_a_second(self) -> None:
        """And not at every look at what is queued here."""
        asked: list[FakeConnection] = []
        connection = self.connection

        def unsent() -> int:
            asked.append(connection)
            return 900

        self.patch(connection, "unsent", unsent)
        self.send(undelivered=900, unsent=900)
        connection.ticket.waits()
        self.wait(10)

        self.assertLessEqual(len(asked), 10 / LOOK + 1)
