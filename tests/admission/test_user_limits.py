"""Tests of limits for this machine's users, who connect to UNIX sockets."""

from __future__ import annotations

from tests.admission.gates import GateCase, address


class UserTests(GateCase):
    """A user is a source, as a host is."""

    def test_a_user_keeps_nobody_out(self) -> None:
        """One has three quarters of all places; other users and hosts have the rest."""
        door = self.make(max_connections=4).door()
        self.entered(door, *["user 5"] * 3)
        self.assertIsNone(self.enter(door, "user 5"))
        self.entered(door, "user 6")

        self.assertEqual({"max-per-source": 1}, door.counts)

    def test_nor_is_one_kept_out_by_a_host(self) -> None:
        """Places of a host are not those of a user."""
        door = self.make(max_per_source=1).door()
        self.entered(door, "192.0.2.1", "2001:db8::1", "user 0")

        self.assertIsNone(self.enter(door, "user 0"))

    def test_a_user_who_leaves_makes_room(self) -> None:
        """For one of that user's own."""
        door = self.make(max_per_source=1).door()
        (first,) = self.entered(door, "user 5")
        self.assertIsNone(self.enter(door, "user 5"))
        first.ticket.leave()

        self.entered(door, "user 5")

    def test_a_user_has_a_rate(self) -> None:
        """So many may come in a second; another takes none of them away."""
        door = self.make(accept_rate_per_source=2.0).door()
        self.entered(door, *["user 5"] * 2)
        self.assertIsNone(self.enter(door, "user 5"))
        self.entered(door, "user 6")
        self.wait(1.0)
        self.entered(door, "user 5")

        self.assertEqual({"accept-rate": 1}, door.counts)

    def test_access_lists_are_for_hosts(self) -> None:
        """Who may open the socket, its mode says."""
        door = self.make().door(["192.0.2.0/24"])

        self.entered(door, "user 5", "192.0.2.1")

    def test_a_local_proxy_brings_all_clients_under_one_user(self) -> None:
        """Where that is said, a user has no limits; the places are as many as ever."""
        door = self.make(max_connections=4, accept_rate_per_source=1.0).door(user_limits=False)
        self.entered(door, *["user 5"] * 4)

        self.assertIsNone(self.enter(door, "user 5"))
        self.assertEqual({"max-connections": 1}, door.counts)

    def test_a_proxy_is_not_its_clients(self) -> None:
        """Behind a PROXY header the client counts, and the proxy only takes a place. Who names nobody is its own client."""
        door = self.make(max_per_source=1).door(proxied=True)
        first, second, third = self.entered(door, *["user 5"] * 3)

        self.assertTrue(first.ticket.announce(address("192.0.2.1")))
        self.assertTrue(second.ticket.announce(address("user 5")))
        self.assertFalse(third.ticket.announce(address("user 5")))
