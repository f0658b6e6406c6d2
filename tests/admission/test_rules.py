"""Tests of which datagrams are never answered."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.rules import Rules, is_loopback
from echosvc.transports import Arrival
from tests.admission.batches import arrival, packed


class PortTests(SynchronousTestCase):
    """Nobody's client has such a port."""

    def check(self, rules: Rules, verdicts: dict[int, str | None]) -> None:
        """See what is said of each port, of either family."""
        for host in ("192.0.2.1", "2001:db8::1"):
            self.assertEqual(verdicts, {port: rules.refuses(arrival(host, port)) for port in verdicts})

    def test_services(self) -> None:
        """Port 0, what is below 1024, NFS, and our own ports; everybody else is let in."""
        zero, low, own = "source-port-zero", "source-port-low", "source-port-own"
        refused: dict[int, str | None] = {
            0: zero,
            1: low,
            7: own,
            53: low,
            123: low,
            862: low,
            1023: low,
            2049: "source-port-nfs",
            8007: own,
        }

        self.check(
            Rules([7, 8007]), {**refused, 1024: None, 2048: None, 2050: None, 40_000: None, 65_535: None}
        )

    def test_low_ports_that_are_allowed(self) -> None:
        """862, from which STAMP asks (RFC 8762), for example; the others stay refused."""
        self.check(
            Rules([7], [862, 2049]), {861: "source-port-low", 862: None, 863: "source-port-low", 2049: None}
        )

    def test_our_own_ports_cannot_be_allowed(self) -> None:
        """Nor port 0: there would be a loop."""
        self.check(Rules([862], [862, 0]), {862: "source-port-own", 0: "source-port-zero"})


class AddressTests(SynchronousTestCase):
    """Nobody has such an address."""

    def test_ipv4(self) -> None:
        """This network, groups, what is reserved, all hosts; and the first and last address of everybody else."""
        rules = Rules([7])
        expected = {
            "0.0.0.0": "source-unspecified",
            "0.255.255.255": "source-unspecified",
            "1.0.0.0": None,
            "126.255.255.255": None,
            "128.0.0.0": None,
            "192.0.2.255": None,
            "223.255.255.255": None,
            "224.0.0.0": "source-multicast",
            "239.255.255.255": "source-multicast",
            "240.0.0.0": "source-reserved",
            "255.255.255.254": "source-reserved",
            "255.255.255.255": "source-broadcast",
        }

        self.assertEqual(expected, {host: rules.refuses(arrival(host)) for host in expected})
        mapped = {
            host: rules.refuses(arrival(f"::ffff:{host}", asked="::ffff:192.0.2.7")) for host in expected
        }
        self.assertEqual(expected, mapped)

    def test_ipv6(self) -> None:
        """Nobody, and groups; link-local neighbours are everyday."""
        rules = Rules([7])
        expected = {
            "::": "source-unspecified",
            "ff00::": "source-multicast",
            "ff02::1": "source-multicast",
            "2001:db8::1": None,
            "fe80::1": None,
            "fd00::1": None,
            "::2": None,
        }

        self.assertEqual(
            expected, {host: rules.refuses(arrival(host, asked="2001:db8::7")) for host in expected}
        )

    def test_loopback(self) -> None:
        """To itself this machine speaks all day; whoever claims to be it, and asks elsewhere, is not."""
        rules = Rules([7])
        for host, asked, expected in (
            ("127.0.0.1", "127.0.0.1", None),
            ("127.0.0.1", "127.3.2.1", None),
            ("::1", "::1", None),
            ("127.0.0.1", "0.0.0.0", None),  # the system does not say
            ("127.0.0.1", "192.0.2.7", "source-loopback"),
            ("127.255.255.255", "192.0.2.7", "source-loopback"),
            ("::1", "2001:db8::7", "source-loopback"),
            ("::1", "fe80::7", "source-loopback"),
        ):
            self.assertEqual(expected, rules.refuses(arrival(host, asked=asked)), (host, asked))
        self.assertIsNone(rules.refuses(Arrival.of(packed("127.0.0.1"), 40_000, b"")))

    @given(st.ip_addresses(), st.integers(1024, 65_535).filter(lambda port: port != 2049))
    def test_python_knows_the_same(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
    ) -> None:
        """Of any address: what its own library calls a group, unspecified, reserved or loopback, and nothing else."""
        plain = getattr(address, "ipv4_mapped", None) or address
        found = Rules([]).refuses(Arrival.of(address.packed, port, b"\x01" * 4))
        odd = plain.is_multicast or plain.is_unspecified or plain.is_loopback
        if plain.version == 4:
            odd = odd or plain.is_reserved or plain.packed[0] == 0

        self.assertEqual(odd, found is not None)
        self.assertEqual(plain.is_loopback, is_loopback(plain.packed))
