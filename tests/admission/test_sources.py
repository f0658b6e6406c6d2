"""Tests of what counts as one source."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.sources import Sources, packed


class SourceTests(SynchronousTestCase):
    """Addresses of one network are one source, others are others."""

    def test_an_ipv4_address_is_a_source_of_its_own(self) -> None:
        """Unless something else is said."""
        sources = Sources()

        self.assertEqual(sources.key_of_host("192.0.2.1"), sources.key(bytes([192, 0, 2, 1])))
        self.assertNotEqual(sources.key_of_host("192.0.2.1"), sources.key_of_host("192.0.2.0"))

    def test_an_ipv6_slash_64_is_one_source(self) -> None:
        """Whoever has it has 2^64 addresses."""
        one, other, outside = map(
            Sources().key_of_host, ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::1")
        )

        self.assertEqual(one, other)
        self.assertNotEqual(one, outside)

    def test_link_local_addresses(self) -> None:
        """Are one source, on whatever link."""
        sources = Sources()

        self.assertEqual(sources.key_of_host("fe80::1%eth0"), sources.key_of_host("fe80::2%eth1"))

    def test_an_ipv4_address_that_is_mapped(self) -> None:
        """Is the IPv4 one: else all of IPv4 would be one source."""
        sources = Sources()

        self.assertEqual(sources.key_of_host("192.0.2.1"), sources.key_of_host("::ffff:192.0.2.1"))
        self.assertEqual(bytes([192, 0, 2, 1]), packed("::ffff:c000:201"))

    def test_what_is_no_address(self) -> None:
        """Is refused, not taken for some source."""
        for wrong in ("localhost", "192.0.2", "2001:db8::x", ""):
            self.assertRaises(OSError, packed, wrong)

    @given(
        st.integers(8, 32),
        st.integers(40, 128),
        st.lists(st.ip_addresses(), min_size=2, max_size=2),
        st.integers(0, 127),
    )
    def test_two_addresses_are_one_source_if_they_are_in_one_network(
        self, ipv4: int, ipv6: int, hosts: list[object], flipped: int
    ) -> None:
        """Of whatever size; and never if they are of different families."""
        sources = Sources(ipv4, ipv6)
        one = ip_address(str(hosts[0]))
        near = type(one)(int(one) ^ 1 << flipped % one.max_prefixlen)  # differs in one bit
        for other in (ip_address(str(hosts[1])), near):
            if getattr(one, "ipv4_mapped", None) or getattr(other, "ipv4_mapped", None):
                continue
            network = ip_network(f"{one}/{ipv4 if one.version == 4 else ipv6}", strict=False)

            self.assertEqual(
                one.version == other.version and other in network,
                sources.key_of_host(str(one)) == sources.key_of_host(str(other)),
            )
