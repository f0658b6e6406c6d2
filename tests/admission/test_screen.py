"""Tests of the datagram screen."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import make_screen


class ScreenTests(SynchronousTestCase):
    """Some datagrams are never answered."""

    def test_drops_what_claims_to_come_from_our_own_ports(self) -> None:
        """A datagram from any port that we listen on is dropped, whatever its address."""
        screen = make_screen([7, 8007])

        self.assertEqual(screen([7, 40000, 8007]), {0: "source-port-own", 2: "source-port-own"})

    def test_drops_source_port_zero(self) -> None:
        """Nothing can be answered to port 0."""
        self.assertEqual(make_screen([7])([0]), {0: "source-port-zero"})

    def test_lets_everyone_else_in(self) -> None:
        """An ordinary client's datagram passes."""
        self.assertEqual(make_screen([7])([40000, 1024, 65535]), {})
