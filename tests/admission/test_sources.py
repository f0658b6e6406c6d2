"""Tests of what counts as one source."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.sources import Sources, packed

#: What is not counted by networks of a size.
_SPECIAL = [ip_network(each) for each in ("::ffff:0:0/96", "fe80::/10", "64:ff9b::/96")]


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
        """Are a source each: the hosts of all links have the same /64. Which link it is cannot be told."""
        sources = Sources()

        self.assertNotEqual(sources.key_of_host("fe80::1%eth0"), sources.key_of_host("fe80::2%eth0"))
        self.assertNotEqual(sources.key_of_host("febf::1"), sources.key_of_host("febf::2"))
        self.assertEqual(sources.key_of_host("fe80::1%eth0"), sources.key_of_host("fe80::1%eth1"))
        self.assertEqual(sources.key_of_host("fec0::1"), sources.key_of_host("fec0::2"))
        self.assertEqual(Sources(24).key_of_host("254.128.0.1"), Sources(24).key_of_host("254.128.0.2"))

    def test_an_address_that_stands_for_an_ipv4_one(self) -> None:
        """Is that one (NAT64): else all of IPv4 would be one source."""
        sources = Sources(24)

        self.assertEqual(sources.key_of_host("192.0.2.1"), sources.key_of_host("64:ff9b::192.0.2.2"))
        self.assertNotEqual(
            sources.key_of_host("64:ff9b::192.0.2.1"), sources.key_of_host("64:ff9b::192.0.3.1")
        )
        self.assertEqual(sources.key_of_host("64:ff9b:0:0:1::1"), sources.key_of_host("64:ff9b:0:0:1::2:1"))

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
            if any(each in special for each in (one, other) for special in _SPECIAL):
                continue
            network = ip_network(f"{one}/{ipv4 if one.version == 4 else ipv6}", strict=False)

            self.assertEqual(
                one.version == other.version and other in network,
                sources.key_of_host(str(one)) == sources.key_of_host(str(other)),
            )
