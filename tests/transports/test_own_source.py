"""Tests of the filter that keeps datagrams in the host's own name away, unless its loopback device has brought them."""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.transports import own_source
from echosvc.transports.linux import LINUX
from echosvc.transports.own_source import MOST, OwnSource, own_addresses, program

OURS = [IPv6Address(each).packed for each in ("fd00:1:2:3::4", "fe80::1", "2001:db8::ffff:ffff")]
LET_IN, DROPPED = 0xFFFFFFFF, 0
LOOPBACK, LINK = 1, 2

TABLE = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 02 40 00 80     eth0
fe800000000000000000000000000002 02 40 20 80     eth0
fd000000000000000000000000000002 03 40 00 80    dummy
"""


def ipv6(source: bytes) -> bytes:
    """Write an IPv6 header."""
    return struct.pack("!IHBB", 6 << 28, 8, 17, 64) + source + bytes(16)


def ipv4(source: str) -> bytes:
    """Write an IPv4 header."""
    return b"\x45" + bytes(11) + socket.inet_aton(source) + bytes(4)


def judge(code: bytes, header: bytes, device: int) -> int:
    """Run a filter as the kernel does; return how many bytes it keeps."""
    instructions: list[tuple[int, int, int, int]] = list(struct.iter_unpack("@HBBI", code))
    number = at = 0
    kept: dict[int, int] = {}
    for _ in instructions:  # it only jumps forward
        kind, if_true, if_false, k = instructions[at]
        at += 1
        match kind:
            case 0x00:
                number = k
            case 0x20 | 0x30:
                words = header[k - 0xFFF00000 :][: 4 if kind == 0x20 else 1]
                number = device if k == 0xFFFFF008 else int.from_bytes(words, "big")
            case 0x60:
                number = kept[k]
            case 0x02:
                kept[k] = number
            case 0x74:
                number >>= k
            case 0x15:
                at += if_true if number == k else if_false
            case 0x06:
                return k
    raise AssertionError("it does not end")


class ProgramTests(SynchronousTestCase):
    """What the filter keeps."""

    code = program(OURS)

    def test_own_addresses_from_another_device(self) -> None:
        """Each is dropped."""
        self.assertEqual([DROPPED] * 3, [judge(self.code, ipv6(each), LINK) for each in OURS])

    def test_own_addresses_from_the_loopback_device(self) -> None:
        """They are the host's own clients."""
        self.assertEqual([LET_IN] * 3, [judge(self.code, ipv6(each), LOOPBACK) for each in OURS])

    def test_other_addresses(self) -> None:
        """Whatever a single byte differs in is let in, from whatever device."""
        for address in OURS:
            for index in range(16):
                other = address[:index] + bytes([address[index] ^ 1]) + address[index + 1 :]

                self.assertEqual(LET_IN, judge(self.code, ipv6(other), LINK))

    def test_ipv4(self) -> None:
        """Only 127.0.0.0/8 is the loopback device's alone."""
        for source, expected in (("127.0.0.1", DROPPED), ("127.255.0.9", DROPPED), ("126.0.0.1", LET_IN)):
            self.assertEqual(expected, judge(self.code, ipv4(source), LINK))
            self.assertEqual(LET_IN, judge(self.code, ipv4(source), LOOPBACK))

    def test_ipv4_in_an_ipv6_header(self) -> None:
        """It would be taken for IPv4, perhaps for 127.0.0.1; no host sends it."""
        for source, expected in (
            ("::ffff:127.0.0.1", DROPPED),
            ("::fffe:127.0.0.1", LET_IN),
            ("1::ffff:0:0", LET_IN),
        ):
            self.assertEqual(expected, judge(self.code, ipv6(IPv6Address(source).packed), LINK))

    def test_something_else(self) -> None:
        """What is neither is not judged."""
        self.assertEqual(LET_IN, judge(self.code, b"\x50" + bytes(39), LINK))

    def test_no_address(self) -> None:
        """A host without IPv6 has a filter all the same."""
        self.assertEqual(LET_IN, judge(program([]), ipv6(OURS[0]), LINK))


class AddressTests(SynchronousTestCase):
    """Which addresses are the host's."""

    def setUp(self) -> None:
        """Make a /sys and a /proc."""
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.root)
        self.patch(own_source, "_DEVICES", self.root)
        self.patch(own_source, "_ADDRESSES", self.root / "if_inet6")

    def enslave(self, device: str, kind: str) -> None:
        """Give a device a master of a kind."""
        (self.root / device / "master").mkdir(parents=True)
        (self.root / device / "master" / "uevent").write_text(f"{kind}INTERFACE=red\nIFINDEX=9\n")

    def read(self) -> list[str]:
        """Find them."""
        return [str(IPv6Address(each)) for each in own_addresses(TABLE)]

    def test_each_once(self) -> None:
        """Global and link-local ones; not ::1, which the kernel sees to."""
        self.assertEqual(["fd00::2", "fe80::2"], self.read())

    def test_of_a_bridge(self) -> None:
        """What it has, or its ports have, are addresses like all others."""
        self.enslave("eth0", "DEVTYPE=bridge\n")
        self.assertEqual(["fd00::2", "fe80::2"], self.read())
        (self.root / "eth0" / "master" / "uevent").write_text("INTERFACE=bond0\n")
        self.assertEqual(["fd00::2", "fe80::2"], self.read())

    def test_of_a_vrf(self) -> None:
        """The host's own clients come in through the VRF's device there: none of these is dropped."""
        self.enslave("eth0", "DEVTYPE=vrf\n")
        self.assertEqual(["fd00::2"], self.read())
        self.enslave("dummy", "DEVTYPE=vrf\n")
        self.assertEqual([], self.read())


class OwnSourceTests(AddressTests):
    """A filter is attached, and kept as the host's addresses are."""

    def setUp(self) -> None:
        """Skip where there are no filters; note what is attached."""
        super().setUp()
        if not LINUX:
            raise SkipTest("needs Linux")
        self.attached: list[bytes] = []
        attach = own_source._attach

        def note(sock: socket.socket, code: bytes) -> None:
            self.attached.append(code)
            attach(sock, code)

        self.patch(own_source, "_attach", note)
        own_source._ADDRESSES.write_text(TABLE)

    def sock(self) -> socket.socket:
        """Make a socket."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        return sock

    def of(self, *addresses: str) -> Sequence[bytes]:
        """Write the filter for some addresses."""
        return [program([IPv6Address(each).packed for each in addresses])]

    def test_changes(self) -> None:
        """An address that comes or goes changes the filter, and nothing else does."""
        own = OwnSource(self.sock(), inherited=False)
        for _ in range(3):
            own.refresh()
        self.assertEqual(self.of("fd00::2", "fe80::2"), self.attached)
        own_source._ADDRESSES.write_text(TABLE.splitlines()[1])
        own.refresh()

        self.assertEqual(self.of("fd00::2"), self.attached[1:])
        self.assertIsNone(own.problem)

    def test_is_taken_over(self) -> None:
        """A socket that is passed on has the filter of the process before; it is known, and replaced."""
        sock = self.sock()
        for inherited in (False, True):
            self.assertIsNone(OwnSource(sock, inherited=inherited).problem)
        self.assertEqual(2, len(self.attached))

    def test_a_filter_of_others(self) -> None:
        """It stays."""
        sock = self.sock()
        own_source._attach(sock, program([])[8:])  # without its mark
        self.attached.clear()
        own = OwnSource(sock, inherited=True)
        own.refresh()

        self.assertEqual([], self.attached)
        self.assertEqual("the socket has a filter already, which is left as it is", own.problem)

    def test_no_room_for_two(self) -> None:
        """The first makes room for the second, where the system keeps little memory for filters."""
        sock = self.sock()
        most = int(Path("/proc/sys/net/core/optmem_max").read_text())
        count = next(
            count
            for count in (400, 200, 100, 50)
            if count * 100 < most  # 96 bytes for an address
        )
        code = program([struct.pack("!4I", *[0x80000000 + number] * 4) for number in range(count)])
        for _ in range(2):
            own_source._attach(sock, code)
            self.assertEqual(len(code) // 8, own_source._filter(sock, 0, None))

    def test_a_lock(self) -> None:
        """What cannot be attached is a problem, and no error."""
        sock = self.sock()
        sock.setsockopt(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER
        own = OwnSource(sock, inherited=False)

        self.assertEqual("Operation not permitted (SO_ATTACH_FILTER)", own.problem)

    def test_without_ipv6(self) -> None:
        """The system has no table then, and the filter no address."""
        own_source._ADDRESSES.unlink()
        own = OwnSource(self.sock(), inherited=False)

        self.assertEqual((self.of(), None), (self.attached, own.problem))

    def test_without_proc(self) -> None:
        """As in a chroot."""
        self.patch(own_source, "_ADDRESSES", Path("/nowhere/net/if_inet6"))
        own = OwnSource(self.sock(), inherited=False)
        own.refresh()

        self.assertEqual("No such file or directory (/nowhere/net)", own.problem)

    def test_more_addresses_than_there_is_room_for(self) -> None:
        """As many as there is room for are looked for, and the rest is a problem."""
        lines = [f"{number:032x} 02 40 00 80 eth0" for number in range(2, MOST + 3)]
        own_source._ADDRESSES.write_text("\n".join(lines))
        own = OwnSource(self.sock(), inherited=False)
        self.assertEqual(
            f"the host has {MOST + 1} IPv6 addresses, and a filter has room for {MOST}", own.problem
        )
        own_source._ADDRESSES.write_text("\n".join(lines[1:]))
        own.refresh()

        self.assertIsNone(own.problem)

    def test_a_namespace_that_is_not_ours(self) -> None:
        """Its addresses are not known, and ours are those of its clients."""
        self.patch(own_source, "_SO_NETNS_COOKIE", 9999)  # as on a system that does not tell
        own = OwnSource(self.sock(), inherited=True)
        own.refresh()

        self.assertEqual([], self.attached)
        self.assertIn("another network namespace", str(own.problem))
