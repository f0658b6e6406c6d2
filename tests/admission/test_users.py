"""Tests of the screen of UNIX datagram sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import Screens, ScreenSettings
from echosvc.admission.sources import Sources, key_of_user, packed
from echosvc.admission.users import UserScreen
from echosvc.transports import Refusal


class Batch:
    """Datagrams of some users, in some names."""

    coalesced: Mapping[int, int] = {}

    def __init__(self, *envelopes: tuple[int | None, Any]) -> None:
        self._envelopes = envelopes

    def envelopes(self) -> Sequence[tuple[int | None, Any]]:
        """Who has sent each."""
        return self._envelopes

    def arrival(self, envelope: Any) -> Any:
        """Not asked."""
        raise AssertionError(envelope)

    def counts(self) -> Mapping[int, int]:
        """Each is one."""
        return {}


class UserScreenTests(SynchronousTestCase):
    """What is let in of whom."""

    def setUp(self) -> None:
        """Make the screens of a service."""
        self.clock = Clock()
        self.screens = Screens([], ["/run/own", b"\0own"], seconds=self.clock.seconds)

    def screen(self, **settings: Any) -> UserScreen:
        """Make one, without luck in the lottery."""
        made = self.screens.user_screen(ScreenSettings(**settings))
        if made._rate is not None:
            made._rate._until_drawn = 10**9
        return made

    def ask(self, screen: UserScreen, user: int | None, count: int) -> Mapping[int, Refusal]:
        """Send datagrams of one user."""
        return screen(Batch(*[(user, None)] * count))

    def test_a_user_has_a_rate(self) -> None:
        """And takes nothing of another's; all of whom nothing is known have one together."""
        screen = self.screen(rate=8.0, burst=2.0)
        for user in (0, 1, None):
            self.assertEqual({2: ("datagram-rate", 0)}, self.ask(screen, user, 3))
        self.clock.advance(1.0)

        self.assertEqual({}, self.ask(screen, 1, 2))

    def test_all_have_one_together(self) -> None:
        """Whoever they are."""
        screen = self.screen(total=2.0)

        self.assertEqual(
            {2: ("datagram-rate-total", 0)}, screen(Batch(*[(user, None) for user in (1, 2, 3)]))
        )

    def test_any_number(self) -> None:
        """If that is what is said."""
        self.assertEqual({}, self.ask(self.screen(rate=0.0, total=0.0), 1, 10_000))

    def test_our_own_answers(self) -> None:
        """They come back under our own name, and are not answered again."""
        screen = self.screen(rate=0.0, total=0.0)
        refused = ("source-name-own", 0)

        self.assertEqual(
            {0: refused, 2: refused}, screen(Batch((0, "/run/own"), (0, "/run/other"), (5, b"\0own")))
        )

    def test_other_names(self) -> None:
        """A reload opens and removes listeners."""
        screen = self.screen()
        self.screens.change([], ["/run/new"])

        self.assertEqual({1: ("source-name-own", 0)}, screen(Batch((0, "/run/own"), (0, "/run/new"))))

    def test_a_user_is_no_network(self) -> None:
        """No key of a user is that of an address."""
        networks = {
            Sources(bits, other).key(packed(host))
            for bits in (8, 32)
            for other in (40, 128)
            for host in ("192.0.2.1", "2001:db8::1", "fe80::1", "64:ff9b::c000:201")
        }
        longest = max(map(len, networks))

        self.assertTrue(all(len(key_of_user(user)) > longest for user in (None, 0, 2**32 - 2)))
