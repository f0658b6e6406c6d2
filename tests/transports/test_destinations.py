"""Tests of what becomes of datagrams that were sent to many hosts at once: none is answered."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.protocols import DatagramEcho
from echosvc.transports import destinations, mmsg
from echosvc.transports.batched_messages import BatchedMessages
from echosvc.transports.destinations import Destinations
from echosvc.transports.linux import LINUX
from tests.machine import family_of, needs_ipv6
from tests.transports.ports import BatchRecorder, PortCase, Recorder

_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK_BROADCAST = "127.255.255.255"
_GROUP = "239.255.7.7"


class DestinationsTests(SynchronousTestCase):
    """Which addresses are one host's."""

    def setUp(self) -> None:
        """Remember nothing."""
        self.destinations = Destinations()

    def packed(self, *hosts: str) -> list[bytes]:
        """Write addresses as the kernel has them, IPv4 both plain and mapped."""
        found = []
        for host in hosts:
            if ":" in host:
                found.append(socket.inet_pton(socket.AF_INET6, host))
            else:
                found += [socket.inet_aton(host), _MAPPED + socket.inet_aton(host)]
        return found

    def test_one_hosts_are_let_in(self) -> None:
        """And one that the kernel did not say."""
        family_of("::")
        ours = self.packed("127.0.0.1", "127.0.0.5", "0.0.0.0", "::1", "::", "fe80::1")

        self.assertEqual(self.destinations.refused([*ours, b""]), {})
        self.assertLessEqual({*ours}, self.destinations.ours)

    def test_groups_are_refused(self) -> None:
        """224/4 and ff00::/8, and nothing next to them."""
        self.assertEqual(
            self.destinations.refused(self.packed("224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::7:7")),
            dict.fromkeys(range(6), "destination-multicast"),
        )
        self.assertEqual(self.destinations.refused(self.packed("fe00::1", "::e000:1")), {})

    def test_broadcast_is_refused(self) -> None:
        """The limited one, and that of a network of ours, wherever they stand; every time."""
        if not LINUX:
            raise SkipTest("needs loopback to be a network")
        family_of("::")
        mixed = self.packed("127.0.0.1", "255.255.255.255", _LOOPBACK_BROADCAST, "127.0.0.2")
        for _ in range(2):
            self.assertEqual(
                self.destinations.refused(mixed), dict.fromkeys(range(2, 6), "destination-broadcast")
            )

    def test_all_hosts_are_many_without_a_route_to_them(self) -> None:
        """Where the kernel would not say so."""
        self.patch(destinations, "_is_broadcast", lambda _: False)

        refused = dict.fromkeys(range(2), "destination-broadcast")
        self.assertEqual(self.destinations.refused(self.packed("255.255.255.255")), refused)

    def test_what_cannot_be_told_is_let_in_and_asked_again(self) -> None:
        """As when there is no descriptor left to ask with: that must not silence the service."""
        (broadcast, _) = self.packed(_LOOPBACK_BROADCAST)

        def full(*_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        patch = self.patch(socket, "socket", full)
        self.assertEqual(self.destinations.refused([broadcast]), {})
        patch.restore()
        self.assertEqual(self.destinations.refused([broadcast]), {0: "destination-broadcast"})

    def test_an_address_that_is_no_longer_there_is_let_in(self) -> None:
        """Whatever else the kernel says: it is not that many hosts have it."""

        def unreachable(*_: object) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

        self.patch(socket.socket, "connect", unreachable)

        self.assertEqual(self.destinations.refused(self.packed("192.0.2.1")), {})

    def test_memory_is_bounded(self) -> None:
        """A whole network may be routed to this host."""
        self.patch(destinations, "_REMEMBERED", 4)
        for number in range(1, 40):
            self.destinations.refused(self.packed(f"2001:db8::{number}"))

        self.assertLessEqual(len(self.destinations.ours), 4)
        self.assertEqual(self.destinations.refused([b""]), {})


class GroupTests(PortCase):
    """Datagrams to a broadcast or multicast address, on real sockets."""

    def setUp(self) -> None:
        """Skip where the system does not say where a datagram was sent to."""
        super().setUp()
        if not LINUX:
            raise SkipTest("needs PKTINFO")

    def check(self, host: str, reason: str) -> None:
        """Send to a group, and to the port itself, first alone and then beside it; only that must be answered."""
        for wildcard in ("0.0.0.0", "::"):
            client = self.client()
            loopback = socket.inet_aton("127.0.0.1")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
            for protocol in (Recorder(), BatchRecorder()):
                port = self.open_port(protocol, wildcard)
                if reason == "destination-multicast":
                    membership = socket.inet_aton(host) + loopback
                    port.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
                for hosts in (["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1", host], [host, "127.0.0.1", host]):
                    for each in hosts:
                        client.sendto(each.encode(), (each, port.getHost().port))
                    port.doRead()

                self.assertEqual([data for data, _ in protocol.received], [b"127.0.0.1"] * 4)
                self.assertEqual(port.drops, {reason: 3})
                self.assertEqual(port.datagrams_in, 4)
            self.assertEqual([client.recv(99) for _ in range(4)], [b"127.0.0.1"] * 4)
            client.setblocking(False)
            self.assertRaises(BlockingIOError, client.recv, 99)

    def test_broadcast(self) -> None:
        """Alike on an IPv4 and on a dual-stack port."""
        self.check(_LOOPBACK_BROADCAST, "destination-broadcast")

    def test_multicast(self) -> None:
        """Of a group that somebody has made the socket a member of."""
        self.check(_GROUP, "destination-multicast")

    def test_many_addresses(self) -> None:
        """Are all answered, while only some are remembered."""
        self.patch(destinations, "_REMEMBERED", 3)
        port: Any = self.open_port(DatagramEcho(), "0.0.0.0")
        client = self.client()
        for number in [*range(1, 40), *range(1, 40)]:
            client.sendto(b"%d" % number, (f"127.0.1.{number}", port.getHost().port))
            port.doRead()

            self.assertEqual(client.recv(9), b"%d" % number)
            self.assertLessEqual(len(getattr(port._messages, "_tails", ())), 4)
        self.assertEqual(port.drops, {})


class PlainGroupTests(GroupTests):
    """The same by one system call for each datagram."""

    plain = True


@needs_ipv6
class Ipv6GroupTests(PortCase):
    """The same over IPv6, where loopback carries no multicast: the destination is put in its place."""

    def test_multicast_by_the_batch(self) -> None:
        """ff02::1 ends as ::1 does, and is not taken for it."""
        port: Any = self.open_port(Recorder(), "::")
        real = mmsg.recvmmsg
        if real is None or not LINUX:
            raise SkipTest("needs recvmmsg")
        client = self.client("::1")
        group = socket.inet_pton(socket.AF_INET6, "ff02::1")

        def receive(*arguments: Any) -> int:
            count = int(real(*arguments))
            if count == 3:
                at = mmsg.DATA + mmsg.ENVELOPE
                port._messages._tables.envelopes[at : at + 16] = group
            return count

        self.patch(mmsg, "recvmmsg", receive)
        for payloads in ([b"1", b"many", b"2"], [b"3"], [b"4"], [b"5", b"many", b"6"]):  # then ::1 is known
            for payload in payloads:
                client.sendto(payload, ("::1", port.getHost().port))
            port.doRead()

        self.assertEqual([data for data, _ in port.protocol.received], [b"%d" % n for n in range(1, 7)])
        self.assertEqual(port.drops, {"destination-multicast": 2})

    def test_what_is_known_is_not_looked_at_again(self) -> None:
        """Nearly every batch was sent to one address, the same as ever: that is seen at a glance."""
        port: Any = self.open_port(DatagramEcho(), "::")
        messages = port._messages
        if not isinstance(messages, BatchedMessages):
            raise SkipTest("needs recvmmsg")
        looked: list[str] = []

        def counted(owner: Any, name: str) -> None:
            real = getattr(owner, name)

            def call(*arguments: Any) -> Any:
                looked.append(name)
                return real(*arguments)

            self.patch(owner, name, call)

        counted(messages, "_refused")
        counted(messages._destinations, "refused")
        found = []
        for hosts in (["::1"], ["::1"], ["::1"], ["127.0.0.1"], ["127.0.0.1", "::1"], ["127.0.0.1"]):
            for host in hosts:
                self.client(host).sendto(b"x", (host, port.getHost().port))
            port.doRead()
            found.append(len(looked))

        self.assertEqual(found, [2, 3, 3, 5, 6, 6])

    def test_multicast_one_by_one(self) -> None:
        """As recvmsg tells it."""
        self.patch(mmsg, "recvmmsg", None)
        recorder = Recorder()
        port: Any = self.open_port(recorder, "::")
        real = port.socket

        class Multicast:
            def recvmsg(self, *sizes: int) -> Any:
                data, _, flags, source = real.recvmsg(*sizes)
                told = struct.pack("@16si", socket.inet_pton(socket.AF_INET6, "ff02::1"), 1)
                return data, [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, told)], flags, source

        self.patch(port._messages, "_socket", Multicast())
        self.client("::1").sendto(b"many", ("::1", port.getHost().port))
        port.doRead()

        self.assertEqual(recorder.received, [])
        self.assertEqual(port.drops, {"destination-multicast": 1})
