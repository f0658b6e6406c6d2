"""Tests of how addresses are shown and turned."""

from __future__ import annotations

import socket

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.addresses import display, from_mapped, host_port, internet_address, to_family


class AddressTests(SynchronousTestCase):
    """IPv4 is IPv4 above the socket, and link-local addresses keep their link."""

    def test_ipv4_peer_of_a_dual_stack_socket_is_ipv4(self) -> None:
        """`::ffff:192.0.2.1` is never shown."""
        self.assertEqual(from_mapped(("::ffff:192.0.2.1", 7, 0, 0)), ("192.0.2.1", 7))
        self.assertEqual(host_port(("::ffff:192.0.2.1", 7, 0, 0)), ("192.0.2.1", 7))
        self.assertEqual(
            internet_address("TCP", ("::ffff:192.0.2.1", 7, 0, 0)), IPv4Address("TCP", "192.0.2.1", 7)
        )

    def test_other_addresses_stay_as_they_are(self) -> None:
        """Real IPv6 and real IPv4 addresses pass unchanged, `::ffff:0:1` too, which maps nothing."""
        for sockaddr in (("2001:db8::1", 7, 0, 0), ("192.0.2.1", 7), ("::ffff:0:1", 7, 0, 0)):
            self.assertEqual(from_mapped(sockaddr), sockaddr)

    def test_link_local_peer_keeps_its_scope(self) -> None:
        """Without the link, an answer to fe80::1 cannot be sent."""
        loopback = socket.if_nametoindex(socket.if_indextoname(1))

        self.assertEqual(host_port(("fe80::1", 7, 0, loopback)), (f"fe80::1%{socket.if_indextoname(1)}", 7))
        self.assertEqual(
            internet_address("UDP", ("fe80::1", 7, 0, loopback)),
            IPv6Address("UDP", f"fe80::1%{socket.if_indextoname(1)}", 7, 0, loopback),
        )

    def test_scope_of_an_interface_that_is_gone_is_its_number(self) -> None:
        """An interface can vanish while its datagram waits."""
        self.assertEqual(host_port(("fe80::1", 7, 0, 999999)), ("fe80::1%999999", 7))

    def test_address_fits_the_socket_that_sends_to_it(self) -> None:
        """A dual-stack socket reaches IPv4 by mapped addresses."""
        self.assertEqual(to_family(("192.0.2.1", 7), socket.AF_INET6), ("::ffff:192.0.2.1", 7))
        self.assertEqual(to_family(("192.0.2.1", 7), socket.AF_INET), ("192.0.2.1", 7))
        self.assertEqual(to_family(("::1", 7), socket.AF_INET6), ("::1", 7))

    def test_ipv6_is_shown_in_brackets(self) -> None:
        """The port of an IPv6 address can be told from the address."""
        self.assertEqual(display("::1", 7), "[::1]:7")
        self.assertEqual(display("192.0.2.1", 7), "192.0.2.1:7")
