"""Tests of the gate: how many may come in, from where, and how fast."""

from __future__ import annotations

from echosvc.admission.quota import overbooked
from tests.admission.gates import STRANGER, UNIX, FakeConnection, GateCase, address


class AdmissionTests(GateCase):
    """Whoever may come in is counted until it leaves."""

    def test_without_limits_everybody_may(self) -> None:
        """As many as come, from one place."""
        door = self.make().door()
        self.entered(door, *["192.0.2.1"] * 100)

        self.assertEqual(100, self.gate.quota.count)
        self.assertEqual({}, door.counts)

    def test_whoever_is_not_allowed_is_refused(self) -> None:
        """And counted; a listener's list is for that listener alone."""
        gate = self.make()
        office = gate.door(["192.0.2.0/24"])
        self.entered(office, "192.0.2.7", None)
        self.entered(gate.door(), "198.51.100.1")

        self.assertIsNone(self.enter(office, "198.51.100.1"))
        self.assertEqual({"access-denied": 1}, office.counts)
        self.assertEqual(3, self.gate.quota.count)

    def test_so_many_and_no_more(self) -> None:
        """Whoever leaves makes room."""
        door = self.make(max_connections=3).door()
        first, *_ = self.entered(door, "192.0.2.1", "192.0.2.2", "192.0.2.3")
        self.assertIsNone(self.enter(door, "192.0.2.4"))
        first.ticket.leave()
        first.ticket.leave()  # twice is once
        self.entered(door, "192.0.2.4")

        self.assertIsNone(self.enter(door, "192.0.2.5"))
        self.assertEqual({"max-connections": 2}, door.counts)

    def test_all_listeners_share_the_places(self) -> None:
        """But each counts whom it has refused."""
        gate = self.make(max_connections=2)
        one, other = gate.door(), gate.door()
        self.entered(one, "192.0.2.1")
        self.entered(other, "192.0.2.2")

        self.assertIsNone(self.enter(one, "192.0.2.3"))
        self.assertEqual(({"max-connections": 1}, {}), (one.counts, other.counts))

    def test_a_listener_may_have_fewer(self) -> None:
        """The others are not concerned."""
        gate = self.make(max_connections=10)
        few, many = gate.door(max_connections=2), gate.door()
        self.entered(few, "192.0.2.1", "192.0.2.2")
        self.assertIsNone(self.enter(few, "192.0.2.3"))
        self.entered(many, *(f"192.0.2.{number}" for number in range(8)))

        self.assertIsNone(self.enter(many, "192.0.2.9"))

    def test_one_source_may_have_three_quarters(self) -> None:
        """So that it keeps nobody out, whatever it tries; if nothing else is said."""
        door = self.make(max_connections=12).door()
        self.entered(door, *["192.0.2.1"] * 9)
        for _ in range(100):
            self.assertIsNone(self.enter(door, "192.0.2.1"))
        self.entered(door, *(f"192.0.2.{number}" for number in range(2, 5)))

        self.assertEqual({"max-per-source": 100}, door.counts)
        for most, part in ((2, 1), (10, 7)):
            door = self.make(max_connections=most).door()
            self.entered(door, *["192.0.2.1"] * part)
            self.assertIsNone(self.enter(door, "192.0.2.1"))

    def test_the_part_of_one_source_can_be_said(self) -> None:
        """Less, or all."""
        for most in (1, 10):
            door = self.make(max_connections=10, max_per_source=most).door()
            self.entered(door, *["192.0.2.1"] * most)

            self.assertIsNone(self.enter(door, "192.0.2.1"))

    def test_one_place_is_for_whoever_comes_first(self) -> None:
        """A part of one would be nobody's."""
        self.entered(self.make(max_connections=1).door(), "192.0.2.1")

    def test_an_ipv6_network_is_one_source(self) -> None:
        """Whoever has a /64 has 2^64 addresses."""
        door = self.make(max_per_source=2).door()
        self.entered(door, "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")

        self.assertIsNone(self.enter(door, "2001:db8::3"))

    def test_a_source_leaves_no_trace(self) -> None:
        """Its count goes with its last connection."""
        door = self.make(max_per_source=2).door(max_connections=5)
        for connection in self.entered(door, "192.0.2.1", "192.0.2.1", "192.0.2.2"):
            connection.ticket.leave()

        self.assertEqual([{}, {}], [quota._sources for quota in door.quotas])
        self.assertEqual([0, 0], [quota.count for quota in door.quotas])
        self.assertEqual([], [each for part in door.sweep._parts for each in part])

    def test_peers_on_unix_sockets_have_no_source(self) -> None:
        """All of them are this machine's; they only take places."""
        door = self.make(max_connections=4, max_per_source=1, accept_rate_per_source=1).door()
        unix = self.entered(door, None, None, None, None)
        self.assertIsNone(self.enter(door, None))
        unix[0].ticket.leave()
        self.entered(door, None)

        self.assertEqual({"max-connections": 1}, door.counts)

    def test_one_that_is_not_made_takes_no_place(self) -> None:
        """Its ticket is given back before there is a connection."""
        door = self.make(max_connections=1).door()
        ticket = door.admit(address("192.0.2.1"))
        assert ticket is not None
        ticket.leave()

        self.entered(door, "192.0.2.2")


class RateTests(GateCase):
    """So many may come in a second."""

    def test_of_one_source(self) -> None:
        """The others come in."""
        door = self.make(accept_rate_per_source=3).door()
        self.entered(door, *["192.0.2.1"] * 3)
        self.assertIsNone(self.enter(door, "192.0.2.1"))
        self.entered(door, *["192.0.2.2"] * 3)
        self.clock.advance(1 / 3)
        self.entered(door, "192.0.2.1")

        self.assertIsNone(self.enter(door, "192.0.2.1"))
        self.assertEqual({"accept-rate": 2}, door.counts)

    def test_in_all(self) -> None:
        """From wherever, UNIX sockets too; of which one source has three quarters."""
        door = self.make(accept_rate=8).door()
        self.entered(door, *["192.0.2.1"] * 6)
        self.assertIsNone(self.enter(door, "192.0.2.1"))
        self.entered(door, "192.0.2.2", None)
        self.assertIsNone(self.enter(door, "192.0.2.3"))
        self.assertIsNone(self.enter(door, None))
        self.clock.advance(0.375)
        self.entered(door, "192.0.2.3", "192.0.2.4", None)

        self.assertEqual({"accept-rate": 3}, door.counts)

    def test_of_one_listener(self) -> None:
        """Besides what holds for all."""
        gate = self.make(accept_rate=6, accept_rate_per_source=6)
        slow, other = gate.door(accept_rate_per_source=2), gate.door()
        self.entered(slow, *["192.0.2.1"] * 2)
        self.assertIsNone(self.enter(slow, "192.0.2.1"))
        self.entered(other, *["192.0.2.1"] * 3)

        self.assertEqual(({"accept-rate": 1}, {}), (slow.counts, other.counts))

    def test_whoever_has_all_his_places_uses_up_no_rate(self) -> None:
        """Of all: a greedy source could otherwise keep others out by being refused."""
        door = self.make(max_per_source=1, accept_rate=10).door()
        self.entered(door, "192.0.2.1")
        for _ in range(50):
            self.assertIsNone(self.enter(door, "192.0.2.1"))

        self.entered(door, *(f"192.0.2.{number}" for number in range(2, 11)))

    def test_whoever_finds_no_place_uses_up_no_rate(self) -> None:
        """Of all: a listener that is full would otherwise shut the others."""
        gate = self.make(accept_rate=8, accept_rate_per_source=100)
        full, other = gate.door(max_connections=1), gate.door()
        self.entered(full, "192.0.2.1")
        for _ in range(50):
            self.assertIsNone(self.enter(full, "192.0.2.2"))
        self.entered(other, *["192.0.2.3"] * 7)

        self.assertEqual({"max-connections": 50}, full.counts)

    def test_whoever_comes_too_fast_throws_nobody_out(self) -> None:
        """It is not let in, and needs no room."""
        gate = self.make(accept_rate=8, accept_rate_per_source=8)
        full, other = gate.door(max_connections=2, max_per_source=2), gate.door()
        idle = self.entered(full, "192.0.2.1", "192.0.2.1")
        self.wait(15)
        self.entered(other, *["192.0.2.2"] * 8)
        self.assertIsNone(self.enter(full, "192.0.2.3"))

        self.assertEqual(([], []), (idle[0].ended, idle[1].ended))
        self.assertEqual({"accept-rate": 1}, full.counts)


class ProxyTests(GateCase):
    """Behind a proxy it is the client that counts."""

    def test_the_proxy_only_takes_places(self) -> None:
        """No list and no limit for a source is for its own address, and no rate; one may be in for whom there is no room yet."""
        gate = self.make(max_connections=5, max_per_source=2, accept_rate=2, accept_rate_per_source=2)
        door = gate.door(["192.0.2.0/24"], proxied=True)
        self.entered(door, *["198.51.100.1"] * (5 + overbooked(5)))

        self.assertIsNone(self.enter(door, "198.51.100.1"))
        self.assertEqual({"max-connections": 1}, door.counts)

    def test_whoever_may_announce_nobody_takes_nothing(self) -> None:
        """No token of the others, and no place of one who is idle."""
        gate = self.make(max_connections=2, max_per_source=2, accept_rate=10, accept_rate_per_source=10)
        proxied, other = gate.door(proxied=True), gate.door()
        idle = self.entered(other, "192.0.2.1", "192.0.2.1")
        self.wait(15)
        for _ in range(50):
            self.assertIsNone(self.enter(proxied, STRANGER))
        self.assertEqual(({"proxy-untrusted": 50}, {}), (proxied.counts, other.counts))
        for connection in idle:
            self.assertEqual([], connection.ended)
            connection.ticket.leave()
        for _ in range(10):
            self.entered(other, "192.0.2.2")[0].ticket.leave()

    def test_clients_come_so_fast_and_no_faster(self) -> None:
        """Of one as many as of one, so that a greedy one behind the proxy keeps none of the others out."""
        door = self.make(accept_rate=8).door(proxied=True)
        hosts = ["192.0.2.1"] * 50 + ["192.0.2.2"] * 3
        let_in = [
            host
            for host, proxy in zip(hosts, self.entered(door, *["198.51.100.1"] * 53), strict=True)
            if proxy.ticket.announce(address(host))
        ]

        self.assertEqual(["192.0.2.1"] * 6 + ["192.0.2.2"] * 2, let_in)
        self.assertEqual({"accept-rate": 45}, door.counts)

    def test_whoever_is_on_a_unix_socket_comes_as_fast_as_others(self) -> None:
        """It has no address, but it comes."""
        door = self.make(accept_rate=2).door(proxied=True)

        self.assertEqual(
            [True, True, False], [each.ticket.announce(UNIX) for each in self.entered(door, *[None] * 3)]
        )

    def test_room_is_made_for_a_client_and_not_for_its_proxy(self) -> None:
        """A client that is refused throws nobody out."""
        gate = self.make(max_connections=24, max_per_source=24)
        door = gate.door(["192.0.2.0/24"], proxied=True)
        idle = self.entered(gate.door(), *["192.0.2.1"] * 24)
        self.wait(15)
        denied, allowed = self.entered(door, *["198.51.100.1"] * 2)
        self.assertFalse(denied.ticket.announce(address("203.0.113.1")))
        denied.ticket.leave()
        self.assertEqual([[]] * 24, [each.ended for each in idle])
        self.assertTrue(allowed.ticket.announce(address("192.0.2.2")))

        self.assertEqual(1, sum(each.ended == ["abort"] for each in idle))
        self.assertEqual({"access-denied": 1}, door.counts)

    def test_a_client_for_whom_nobody_makes_room_is_refused(self) -> None:
        """Nobody has been idle for long."""
        gate = self.make(max_connections=2, max_per_source=2)
        self.entered(gate.door(), *["192.0.2.1"] * 2)
        door = gate.door(proxied=True)
        (late,) = self.entered(door, "198.51.100.1")

        self.assertFalse(late.ticket.announce(address("192.0.2.2")))
        self.assertEqual(({"max-connections": 1}, "max-connections"), (door.counts, late.why))

    def test_whoever_came_in_time_has_a_place(self) -> None:
        """Though others have come since; and so has one for whom one of them has left."""
        gate = self.make(max_connections=16, max_per_source=16)
        (idle,) = self.entered(gate.door(), "192.0.2.1")
        self.wait(15)
        first, *others, late = self.entered(gate.door(proxied=True), *["198.51.100.1"] * 16)
        self.assertTrue(first.ticket.announce(address("192.0.2.2")))
        others[0].ticket.leave()
        self.assertTrue(late.ticket.announce(address("192.0.2.3")))

        self.assertEqual([], idle.ended)

    def test_the_client_is_decided_about_when_it_is_announced(self) -> None:
        """By list and limits; what is refused is counted under its reason."""
        gate = self.make(max_per_source=1)
        door = gate.door(["192.0.2.0/24"], proxied=True)
        one, two, three, four = self.entered(door, *["198.51.100.1"] * 4)

        self.assertTrue(one.ticket.announce(address("192.0.2.1")))
        self.assertFalse(two.ticket.announce(address("203.0.113.1")))
        self.assertFalse(three.ticket.announce(address("192.0.2.1")))
        self.assertTrue(four.ticket.announce(UNIX))
        self.assertEqual({"access-denied": 1, "max-per-source": 1}, door.counts)
        self.assertEqual(
            [None, "access-denied", "max-per-source", None], [each.why for each in (one, two, three, four)]
        )
        unmade = door.admit(address("198.51.100.1"))
        self.assertFalse(unmade and unmade.announce(address("203.0.113.1")))

    def test_a_client_has_one_limit_on_all_ways(self) -> None:
        """Through a proxy or directly; and leaves no trace."""
        gate = self.make(max_per_source=2)
        proxied, direct = gate.door(proxied=True), gate.door()
        (one, two), (three,) = (
            self.entered(proxied, "198.51.100.1", "198.51.100.1"),
            self.entered(direct, "192.0.2.1"),
        )
        self.assertTrue(one.ticket.announce(address("192.0.2.1")))
        self.assertFalse(two.ticket.announce(address("192.0.2.1")))
        self.assertIsNone(self.enter(direct, "192.0.2.1"))
        for connection in (one, two, three):
            connection.ticket.leave()

        self.assertEqual((0, {}), (self.gate.quota.count, self.gate.quota._sources))

    def test_nobody_is_announced_on_a_connection_that_is_gone(self) -> None:
        """It has no place that it could take."""
        gate = self.make()
        (gone,) = self.entered(gate.door(proxied=True), "198.51.100.1")
        gone.ticket.leave()

        self.assertFalse(gone.ticket.announce(address("192.0.2.1")))
        self.assertEqual({}, self.gate.quota._sources)


class RoomTests(GateCase):
    """When all places are taken, whoever has been idle the longest makes room."""

    def test_the_longest_idle_makes_room(self) -> None:
        """At whatever listener it came in; it is counted there."""
        gate = self.make(max_connections=16, max_per_source=16)
        one, other = gate.door(), gate.door()
        (old,) = self.entered(one, "192.0.2.1")
        self.wait(2)
        self.entered(other, *["192.0.2.2"] * 15)
        self.wait(15)
        new = self.entered(other, "192.0.2.3")

        self.assertEqual((["abort"], "evicted-idle"), (old.ended, old.why))
        self.assertEqual(({"evicted-idle": 1}, {}), (one.counts, other.counts))
        self.assertEqual([], new[0].ended)

    def test_nobody_who_is_busy_makes_room(self) -> None:
        """Then the newcomer is refused."""
        door = self.make(max_connections=2).door()
        busy = self.entered(door, "192.0.2.1", "192.0.2.2")
        for _ in range(20):
            self.wait(5)
            for connection in busy:
                connection.bytes_in += 1

        self.assertIsNone(self.enter(door, "192.0.2.3"))
        self.assertEqual({"max-connections": 1}, door.counts)

    def test_at_a_listeners_own_limit_one_of_its_own_makes_room(self) -> None:
        """Nobody elsewhere is closed for that."""
        gate = self.make(max_connections=100)
        few, other = gate.door(max_connections=8, max_per_source=8), gate.door()
        (elsewhere,) = self.entered(other, "192.0.2.1")
        self.wait(3)
        here = self.entered(few, *["192.0.2.2"] * 8)
        self.wait(15)
        self.entered(few, "192.0.2.3")

        self.assertEqual([], elsewhere.ended)
        self.assertEqual(1, sum(each.ended == ["abort"] for each in here))
        self.assertEqual({"evicted-idle": 1}, few.counts)

    def test_only_a_few_are_in_beyond_the_limit(self) -> None:
        """While those who make room are still being closed: descriptors are counted."""
        door = self.make(max_connections=80, max_per_source=80).door()
        idle = self.entered(door, *["192.0.2.1"] * 80)
        self.wait(15)
        came = sum(self.enter(door, "192.0.2.2") is not None for _ in range(50))
        self.assertEqual(overbooked(80), came)
        for connection in idle:
            if connection.ended:
                connection.ticket.leave()
        self.entered(door, *["192.0.2.2"] * came)

        self.assertEqual({"evicted-idle": 2 * came, "max-connections": 50 - came}, door.counts)

    def test_a_listener_alone_cannot_go_beyond_the_limit_of_all(self) -> None:
        """Whichever of the two is full."""
        gate = self.make(max_connections=16, max_per_source=16)
        doors = [gate.door(max_connections=8, max_per_source=8) for _ in range(2)]
        for door in doors:
            self.entered(door, *["192.0.2.1"] * 8)
        self.wait(15)
        came = sum(self.enter(door, "192.0.2.2") is not None for door in doors for _ in range(5))

        self.assertEqual(overbooked(16), came)

    def test_how_many_that_are(self) -> None:
        """An eighth, of whatever the limit is, and not more than 32."""
        self.assertEqual([1, 1, 2, 32, 32], [overbooked(most) for most in (1, 8, 16, 256, 65536)])


class TimeTests(GateCase):
    """Connections are looked at for as long as there are any."""

    def test_whoever_stays_too_long_is_ended(self) -> None:
        """As its listener says."""
        gate = self.make()
        short, long = gate.door(idle_timeout=5), gate.door(lifetime=12)
        one, two = self.entered(short, "192.0.2.1")[0], self.entered(long, "192.0.2.1")[0]
        self.wait(4)
        self.assertEqual([], one.ended)
        self.wait(2)
        self.assertEqual((["end"], []), (one.ended, two.ended))
        self.wait(7)

        self.assertEqual(["end"], two.ended)
        self.assertEqual(({"idle-timeout": 1}, {"lifetime": 1}), (short.counts, long.counts))
        self.assertEqual(0, self.gate.quota.count)

    def test_whoever_does_not_end_is_aborted(self) -> None:
        """What it has queued does not keep it here."""
        (connection,) = self.entered(self.make().door(idle_timeout=5), "192.0.2.1")
        connection.waiting = 100
        self.wait(12)

        self.assertEqual(["end", "abort"], connection.ended[:2])

    def test_an_empty_gate_has_no_timer(self) -> None:
        """Soon after the last has left; the next begins another."""
        gate = self.make()
        door = gate.door(idle_timeout=3)
        for _ in range(2):
            self.assertEqual([], self.clock.getDelayedCalls())
            (connection,) = self.entered(door, "192.0.2.1")
            self.entered(door, "192.0.2.2")[0].ticket.leave()
            self.assertEqual(1, len(self.clock.getDelayedCalls()))
            self.wait(5)
            self.assertEqual(["end"], connection.ended)

    def test_a_gate_that_is_stopped_looks_at_nobody(self) -> None:
        """Its connections end with the process."""
        gate = self.make()
        self.gate.stop()
        (connection,) = self.entered(gate.door(idle_timeout=3), "192.0.2.1")
        self.gate.stop()
        self.wait(10)

        self.assertEqual([], connection.ended)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_fails_does_not_keep_the_others_for_ever(self) -> None:
        """What a connection raises is the reactor's to log; the next look comes all the same."""
        broken, sound = self.entered(self.make().door(idle_timeout=5), *["192.0.2.1"] * 2)

        def fail() -> None:
            raise RuntimeError("bug")

        broken.end = fail  # type: ignore[method-assign]
        for _ in range(80):
            try:
                self.wait(0.125)
            except RuntimeError:
                continue

        self.assertEqual(["end"], sound.ended)

    def test_time_in_which_we_did_not_run_is_nobodys_idleness(self) -> None:
        """A process that was stopped, or a machine that slept, has heard nobody: it does not close them all."""
        door = self.make().door(idle_timeout=10)
        (connection,) = self.entered(door, "192.0.2.1")
        self.wait(5)
        self.clock.advance(3600.0)
        self.wait(3.5)
        self.assertEqual([], connection.ended)
        self.clock.rightNow -= 500.0  # nor does a clock that is set back keep them for ever
        for call in self.clock.getDelayedCalls():
            call.reset(0.125)
        self.wait(4)

        self.assertEqual(["end"], connection.ended)


class MemoryTests(GateCase):
    """All together have so much queued, and no more."""

    def queue(self, connection: FakeConnection, size: int) -> None:
        """Have something wait on a connection."""
        connection.waiting = size
        connection.ticket.waits()

    def test_within_bounds_nobody_is_aborted(self) -> None:
        """Whatever each has."""
        connections = self.entered(self.make(max_queued=1000).door(), *["192.0.2.1"] * 2)
        for connection, size in zip(connections, (999, 1), strict=True):
            self.queue(connection, size)
        self.wait(5)

        self.assertEqual([[], []], [each.ended for each in connections])

    def test_over_them_the_largest_are_aborted(self) -> None:
        """As many as are needed."""
        gate = self.make(max_queued=1000)
        door, other = gate.door(), gate.door()
        connections = [*self.entered(door, *["192.0.2.1"] * 3), *self.entered(other, "192.0.2.1")]
        for connection, size in zip(connections, (300, 500, 300, 400), strict=True):
            self.queue(connection, size)
        self.wait(0.125)

        self.assertEqual([[], ["abort"], [], []], [each.ended for each in connections])
        self.assertEqual([None, "memory", None, None], [each.why for each in connections])
        self.assertEqual(({"memory": 1}, {}), (door.counts, other.counts))

    def test_whoever_takes_nothing_goes_before_whoever_is_slow(self) -> None:
        """Of two that have about as much."""
        door = self.make(max_queued=1000).door()
        stalled, *slow = connections = self.entered(door, *["192.0.2.1"] * 3)
        for _ in range(20):
            for each in slow:
                each.bytes_out += 1
            self.wait(1)
        for connection, size in zip(connections, (300, 400, 350), strict=True):
            self.queue(connection, size)
        self.wait(1)

        self.assertEqual(["abort"], stalled.ended)
        self.assertEqual([[], []], [each.ended for each in slow])

    def test_whoever_has_nothing_any_more_is_forgotten(self) -> None:
        """And whoever has left: only those that wait are ever summed up."""
        gate = self.make(max_queued=1000)
        door = gate.door()
        sent, gone, waits = self.entered(door, *["192.0.2.1"] * 3)
        for connection in (sent, gone, waits):
            self.queue(connection, 600)
        sent.waiting = 0
        gone.ticket.leave()
        self.wait(0.125)
        gone.ticket.waits()  # it may close with something queued
        gone.ticket.count("memory")

        self.assertEqual([waits.ticket], self.gate.memory.holders())
        self.assertEqual([], waits.ended)
        self.assertEqual({}, door.counts)
