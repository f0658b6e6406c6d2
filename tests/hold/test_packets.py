"""Tests of packets that are written byte by byte."""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from tests.hold.packets import ipv4_packet, ipv4_syn, ipv6_packet

HERE, THERE = "10.0.0.1", "10.0.0.2"


def sum_of(data: bytes) -> int:
    """Add up as RFC 1071 has it: of what has a right checksum it is 0xffff."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    return total


class PacketTests(SynchronousTestCase):
    """What others take for real."""

    def test_asks_for_a_connection(self) -> None:
        """With the flag for that and no other, between the right ports, and with both checksums."""
        packet = ipv4_syn(THERE, 40_000, HERE, 7)
        header, tcp = packet[:20], packet[20:]

        self.assertEqual((40_000, 7), struct.unpack_from("!HH", tcp))
        self.assertEqual((5 << 4, 2), (tcp[12], tcp[13]))
        self.assertEqual((len(packet), socket.IPPROTO_TCP), (int.from_bytes(header[2:4], "big"), header[9]))
        self.assertEqual(
            (0xFFFF, 0xFFFF), (sum_of(header), sum_of(header[12:] + struct.pack("!HH", 6, len(tcp)) + tcp))
        )

    def test_datagrams(self) -> None:
        """Over IPv4 the checksum may be left out, over IPv6 it may not."""
        ipv4 = ipv4_packet(THERE, 40_000, HERE, 7, b"odd")
        ipv6 = ipv6_packet("fd00::2", 40_000, "fd00::1", 7, b"even")
        udp = ipv6[40:]

        self.assertEqual((0xFFFF, b"odd"), (sum_of(ipv4[:20]), ipv4[28:]))
        self.assertEqual(b"even", udp[8:])
        self.assertEqual(0xFFFF, sum_of(ipv6[8:40] + struct.pack("!II", len(udp), 17) + udp))
