"""Tests of the PROXY header's parser: what it reads, what it refuses and when, and that pieces make no difference."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable
from itertools import dropwhile, pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.proxy_header import HeaderParser, ProxyHeader, ProxyHeaderError, crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x31

#: Client and server as version 2 has them, IPv4 and IPv6.
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 443)
SIX = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed + FOUR[8:]

CLIENT = IPv4Address("TCP", "192.0.2.1", 56324)
SERVER = IPv4Address("TCP", "198.51.100.2", 443)

#: A whole line, for tests of what surrounds it.
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"


def binary(block: bytes = FOUR, command: int = PROXY, family: int = TCP4) -> bytes:
    """Make a header of version 2; the block is what follows its fixed part."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    """Make one type, length and value."""
    return struct.pack("!BH", kind, len(value)) + value


def summed(before: bytes, after: bytes = b"") -> bytes:
    """Make a header of version 2 with a checksum between two lots of further values."""
    block = FOUR + before + tlv(0x03, bytes(4)) + after
    checksum = crc32c(binary(block))
    return binary(FOUR + before + tlv(0x03, checksum.to_bytes(4, "big")) + after)


def parse(pieces: Iterable[bytes]) -> tuple[ProxyHeader | str, bytes]:
    """Feed pieces; return the header or the reason for refusing it, and what is left over.

    "incomplete" if neither comes.
    """
    parser = HeaderParser()
    left = iter(pieces)
    for piece in left:
        try:
            header = parser.feed(piece)
        except ProxyHeaderError as error:
            return error.reason, b""
        if header is not None:
            return header, parser.rest + b"".join(left)
    return "incomplete", b""


def one_by_one(data: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return [data[index : index + 1] for index in range(len(data))]


class ParserCase(SynchronousTestCase):
    """Feeds a parser both ways."""

    def read(self, data: bytes) -> ProxyHeader:
        """Parse a whole header, in one piece and in single bytes, with something behind it."""
        for rest in (b"", b"hello"):
            self.assertEqual(parse([data + rest]), parse([*one_by_one(data), rest]))
        header, rest = parse([data + b"hello"])
        self.assertEqual(rest, b"hello")
        assert isinstance(header, ProxyHeader), header
        return header

    def assert_refused(self, reason: str, good: bytes, bad: bytes) -> None:
        """Check that nothing is wrong with the good bytes yet, and that the next make it so, however they come."""
        self.assertEqual(parse([good]), ("incomplete", b""), good)
        self.assertEqual(parse([good + bad]), (reason, b""), good + bad)
        self.assertEqual(parse([good, bad]), (reason, b""), good + bad)
        self.assertEqual(parse(one_by_one(good + bad)), (reason, b""), good + bad)


class LineTests(ParserCase):
    """Version 1."""

    def test_ipv4(self) -> None:
        """A line names client and server."""
        self.assertEqual(self.read(LINE), ProxyHeader(1, CLIENT, SERVER))

    def test_ipv6(self) -> None:
        """IPv6 addresses come out in the one way in which everybody writes them."""
        header = self.read(b"PROXY TCP6 2001:DB8:0:0::0001 1:2:3:4:5:6:7:8 0 65535\r\n")

        self.assertEqual(header.source, IPv6Address("TCP", "2001:db8::1", 0))
        self.assertEqual(header.destination, IPv6Address("TCP", "1:2:3:4:5:6:7:8", 65535))

    def test_ipv4_client_of_an_ipv6_server(self) -> None:
        """Where the two families meet a proxy writes IPv4 as IPv6; here it is IPv4 again."""
        header = self.read(b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 443\r\n")

        self.assertEqual(header.source, CLIENT)
        self.assertEqual(header.destination, IPv6Address("TCP", "2001:db8::2", 443))

    def test_the_longest_lines(self) -> None:
        """Any line of up to 107 bytes is taken."""
        longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        for line in (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            f"PROXY TCP6 {longest} {longest} 65535 65535\r\n".encode(),
        ):
            header = self.read(line)
            assert isinstance(header.source, IPv4Address | IPv6Address)
            self.assertEqual(header.source.port, 65535)
        line = f"PROXY UNKNOWN {longest} {longest} 65535 65535\r\n".encode()
        self.assertEqual(len(line), 107)
        self.assertEqual(self.read(line), ProxyHeader(1))

    def test_unknown_says_nothing(self) -> None:
        """A proxy that cannot say who connects says so; whatever else is in the line does not count."""
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 1.2.3.4 \r \n \xff\0\r\n", b"PROXY UNKNOWNS\r\n"):
            self.assertEqual(self.read(line), ProxyHeader(1))

    def test_a_wrong_address(self) -> None:
        """An address that is not one of its family is refused at its first wrong character."""
        four, six = b"PROXY TCP4 ", b"PROXY TCP6 "
        for good, bad in (
            (four, b" "),
            (four, b"\r"),
            (four, b":"),
            (four, b"a"),
            (four, b"\xb2"),
            (four + b"0", b"1"),
            (four + b"25", b"6"),
            (four + b"1.", b"."),
            (four + b"1.2.3", b" "),
            (four + b"1.2.3", b"\r"),
            (four + b"1.2.3.4", b"."),
            (four + b"1.2.3.4", b"\0"),
            (four + b"1.2.3.4", b"\n"),
            (four + b"1.2.3.4 1", b":"),
            (six, b"g"),
            (six + b":", b"1"),
            (six + b"::", b":"),
            (six + b"1::2:", b":"),
            (six + b"ffff", b"f"),
            (six + b"::1", b"%"),
            (six + b"::1", b"/"),
            (six + b"1", b"."),
            (six + b"1:2:3:4:5:6:7:8", b":"),
            (six + b"1:2:3:4:5:6:7:", b" "),
            (six + b"1:2:3:4:5:6:1.2.3", b" "),
            (six + b"1:2:3:4:5:6:7:1", b"."),
            (six + b"::1 1", b"."),
        ):
            self.assert_refused("address", good, bad)

    def test_a_wrong_port(self) -> None:
        """A port is 0 to 65535 and written in the one shortest way."""
        before = b"PROXY TCP4 192.0.2.1 198.51.100.2 "
        for good, bad in (
            (before, b" "),
            (before, b"\r"),
            (before, b"-"),
            (before, b"+"),
            (before, b"x"),
            (before + b"0", b"0"),
            (before + b"0", b"7"),
            (before + b"6553", b"6"),
            (before + b"1000", b"00"),
            (before + b"1", b"_0"),
            (before + b"1 2", b"\n"),
        ):
            self.assert_refused("port", good, bad)

    def test_words_missing_or_too_many(self) -> None:
        """There are two addresses and two ports, with exactly one space between."""
        for good, bad in (
            (b"PROXY TCP4 1.2.3.4", b"\r"),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8", b"\r"),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1", b"\r"),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2", b" "),
        ):
            self.assert_refused("words", good, bad)

    def test_another_family(self) -> None:
        """There are TCP4, TCP6 and UNKNOWN."""
        for good, bad in (
            (b"PROXY ", b" "),
            (b"PROXY ", b"\r"),
            (b"PROXY ", b"t"),
            (b"PROXY TCP", b"5"),
            (b"PROXY TCP", b"\r"),
            (b"PROXY TCP4", b"\r"),
            (b"PROXY TCP4", b"\t"),
            (b"PROXY UNKNOW", b"\r"),
            (b"PROXY U", b"DP4 "),
        ):
            self.assert_refused("family", good, bad)

    def test_a_line_ends_with_cr_and_lf(self) -> None:
        """Neither alone will do, and nothing comes between."""
        for bad in (b"\r", b" ", b"x", b"\0\n"):
            self.assert_refused("line-end", LINE[:-1], bad)
        self.assert_refused("words", b"PROXY TCP6 ::1", b"\r1 ::2 1 2\r\n")

    def test_a_line_without_end(self) -> None:
        """No more than 107 bytes are waited for."""
        unknown = b"PROXY UNKNOWN".ljust(105)

        self.assert_refused("line-length", unknown, b"x")
        self.assert_refused("line-length", unknown + b"\r", b"\r")
        self.assert_refused("line-length", unknown[:-2] + b"\r\r", b"x\r")
        longest = b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
        line = (b"PROXY TCP6 " + longest + b" " + longest + b" 12")[:105]
        self.assert_refused("line-length", line, b"2")
        self.assert_refused("line-length", line, b"2x")
        self.assert_refused("port", line, b"x")

    def test_one_byte_too_many(self) -> None:
        """A line of 107 bytes is taken, one of 108 is not, however good it is otherwise."""
        words = b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255 ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.25"
        line = b"PROXY TCP6 " + words + b" 1 2\r\n"
        self.assertEqual(len(line), 107)
        self.assertIsInstance(self.read(line), ProxyHeader)
        self.assert_refused("line-length", line[:-2], b"3\r\n")

    def test_says_what_is_wrong(self) -> None:
        """The error is a ValueError whose text has the reason."""
        error = self.assertRaises(ProxyHeaderError, HeaderParser().feed, b"GET / HTTP/1.1\r\n")

        self.assertIsInstance(error, ValueError)
        self.assertEqual(str(error), "no PROXY header: signature")


class SignatureTests(ParserCase):
    """Neither version."""

    def test_what_is_no_header_is_refused_at_once(self) -> None:
        """The first byte that neither version has in this place ends the wait."""
        for good, bad in (
            (b"", b"G"),
            (b"", b"\x16\x03\x01"),
            (b"", b"\n"),
            (b"P", b"r"),
            (b"PROXY", b"\r\n"),
            (b"PROXY", b"\t"),
            (b"\r", b"\r"),
            (b"\r\n\r\n", b"PROXY"),
            (SIGNATURE[:-1], b"\r"),
        ):
            self.assert_refused("signature", good, bad)

    def test_nothing_is_no_mistake(self) -> None:
        """An empty piece changes nothing."""
        parser = HeaderParser()
        self.assertIsNone(parser.feed(b""))
        self.assertEqual(parser.rest, b"")
        self.assertEqual(parse([b"", LINE[:9], b"", LINE[9:]]), parse([LINE]))


class BinaryTests(ParserCase):
    """Version 2."""

    def test_ipv4(self) -> None:
        """A header names client and server."""
        self.assertEqual(self.read(binary()), ProxyHeader(2, CLIENT, SERVER))

    def test_ipv6(self) -> None:
        """Likewise for IPv6."""
        source, destination = IPv6Address("TCP", "2001:db8::1", 56324), IPv6Address("TCP", "2001:db8::2", 443)

        self.assertEqual(self.read(binary(SIX, family=TCP6)), ProxyHeader(2, source, destination))

    def test_ipv4_mapped(self) -> None:
        """IPv4 that is written as IPv6 is IPv4."""
        mapped = bytes(10) + b"\xff\xff"

        header = self.read(binary(mapped + FOUR[:4] + mapped + FOUR[4:], family=TCP6))
        self.assertEqual(header, ProxyHeader(2, CLIENT, SERVER))

    def test_unix(self) -> None:
        """UNIX addresses are a path, an abstract name or none; either end may have any."""
        for name, padded in (
            (b"/run/client", b"/run/client"),
            (b"/run/client", b"/run/client\0left over"),
            (b"/" + b"x" * 107, b"/" + b"x" * 107),
            (b"\0abstract\0name", b"\0abstract\0name"),
            (None, b""),
        ):
            block = padded.ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
            header = self.read(binary(block, family=UNIX))
            self.assertEqual(header, ProxyHeader(2, UNIXAddress(name), UNIXAddress(b"/run/server")))

    def test_local_says_nothing(self) -> None:
        """A proxy that connects for itself, to see whether we live, is nobody else; what it says beyond is skipped."""
        for block in (b"", FOUR, b"\xff" * 7):
            for family in (UNSPEC, TCP4, TCP6, 0xFF):
                self.assertEqual(self.read(binary(block, LOCAL, family)), ProxyHeader(2))

    def test_what_a_stream_cannot_stand_for_says_nothing(self) -> None:
        """Datagrams and what the proxy does not know leave the connection its own addresses."""
        for family in (UNSPEC, 0x01, 0x02, 0x10, UDP4, 0x20, 0x22, 0x30, 0x32):
            for block in (b"", FOUR, b"\xff" * 7):
                self.assertEqual(self.read(binary(block, family=family)), ProxyHeader(2))

    def test_another_version_command_or_family(self) -> None:
        """What the specification does not have is refused at its byte."""
        for reason, byte in (
            ("version", 0x11),
            ("version", 0x31),
            ("version", 0x00),
            ("command", 0x22),
            ("command", 0x2F),
        ):
            self.assert_refused(reason, SIGNATURE, bytes([byte]))
        for byte in (0x41, 0x13, 0xF1, 0x1F):
            self.assert_refused("family", SIGNATURE + b"\x21", bytes([byte]))

    def test_too_short_for_its_addresses(self) -> None:
        """A length that has no room for the addresses is refused before they come."""
        for family, size in ((TCP4, 12), (TCP6, 36), (UNIX, 216)):
            start = SIGNATURE + bytes([PROXY, family, 0])
            self.assert_refused("length", start, bytes([size - 1]))
            self.assertEqual(parse([start + bytes([size])]), ("incomplete", b""))

    def test_too_long(self) -> None:
        """At most 16 KiB are held for anybody, and that is said as soon as the length is known."""
        longest = 16 * 1024 - 16
        self.assertEqual(self.read(binary(bytes(longest), LOCAL)), ProxyHeader(2))
        start = SIGNATURE + bytes([PROXY, TCP4])
        self.assert_refused("length", start + b"\x3f", bytes([0xF1]))
        self.assert_refused("length", start, b"\x40")
        self.assert_refused("length", start, b"\xff\xff")


class TLVTests(ParserCase):
    """What follows the addresses."""

    def test_everything_that_is_said_is_kept(self) -> None:
        """Known and unknown types are there in their order, empty ones and repeated ones, too; padding is not."""
        said = (
            (0x02, b"example.org" * 100),
            (0x01, b"h2"),
            (0xEA, b""),
            (0x20, b"\x01" + bytes(4)),
            (0x02, b"again"),
        )
        block = b"".join(tlv(*each) + tlv(0x04, b"padding") + tlv(0x04, b"") for each in said)
        for family, addresses in ((TCP4, FOUR), (TCP6, SIX), (UNIX, bytes(216))):
            self.assertEqual(self.read(binary(addresses + block, family=family)).tlvs, said)

    def test_a_wrong_length(self) -> None:
        """A value that does not end within the header is refused."""
        for block in (b"\x02", b"\x02\0", b"\x02\0\x01", tlv(0x02, b"example")[:-1], tlv(0x02, b"") + b"\0"):
            whole = binary(FOUR + block)
            self.assert_refused("tlv", whole[:-1], whole[-1:])

    def test_a_unique_id_has_up_to_128_bytes(self) -> None:
        """As the specification has it."""
        self.assertEqual(self.read(binary(FOUR + tlv(0x05, bytes(128)))).tlvs, ((0x05, bytes(128)),))
        whole = binary(FOUR + tlv(0x05, bytes(129)))
        self.assert_refused("tlv", whole[:-1], whole[-1:])

    def test_the_checksum(self) -> None:
        """CRC-32C has its well-known check value."""
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(b""), 0)

    def test_a_right_checksum(self) -> None:
        """A header with its checksum anywhere in it is read; the checksum has done its work and is not kept."""
        for before, after in ((b"", b""), (tlv(0x01, b"h2"), b""), (b"", tlv(0x01, b"h2"))):
            header = self.read(summed(before, after))
            self.assertEqual((header.source, header.destination), (CLIENT, SERVER))
            self.assertEqual(header.tlvs, ((0x01, b"h2"),) if before or after else ())

    def test_a_wrong_checksum(self) -> None:
        """A bit that has changed anywhere in addresses, values or checksum is found."""
        whole = summed(tlv(0x04, b"a"), tlv(0x04, b"b"))
        for index in (*range(16, 28), 31, *range(35, 39), len(whole) - 1):
            changed = bytearray(whole)
            changed[index] ^= 1
            self.assert_refused("crc32c", bytes(changed[:-1]), bytes(changed[-1:]))

    def test_a_checksum_of_another_size(self) -> None:
        """A checksum has 4 bytes."""
        for size in (0, 3, 5):
            whole = binary(FOUR + tlv(0x03, bytes(size)))
            self.assert_refused("tlv", whole[:-1], whole[-1:])


def _spellings(packed: bytes) -> st.SearchStrategy[str]:
    """Ways to write an IPv6 address."""
    address = ipaddress.IPv6Address(packed)
    short, full = str(address), address.exploded
    dotted = full.rpartition(":")[0].rpartition(":")[0] + ":" + str(ipaddress.IPv4Address(packed[12:]))
    groups = [f"{int(group, 16):x}" for group in full.split(":")]
    return st.sampled_from([short, short.upper(), full, dotted, ":".join(groups), _shortened(groups, dotted)])


def _shortened(groups: list[str], otherwise: str) -> str:
    """Write the last zeros as ``::``, even if they are few or there are more elsewhere."""
    if groups[-1] != "0":
        return otherwise
    kept = list(dropwhile(lambda group: group == "0", reversed(groups)))
    return ":".join(reversed(kept)) + "::"


_SPARSE = st.lists(st.sampled_from([0, 0, 0, 1, 0x20, 0xFF]), min_size=16, max_size=16).map(bytes)
_SIX = st.one_of(_SPARSE, st.binary(min_size=16, max_size=16)).flatmap(_spellings)
_PORT = st.integers(0, 65535)


def _line(keyword: str, address: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    words = st.tuples(address, address, _PORT, _PORT)
    return words.map(lambda each: f"PROXY {keyword} {' '.join(map(str, each))}\r\n".encode()).filter(
        lambda line: len(line) <= 107
    )


_TLVS = st.lists(st.builds(tlv, st.sampled_from([1, 2, 4, 5, 32, 234]), st.binary(max_size=20)), max_size=4)
_HEADERS = st.one_of(
    _line("TCP4", st.ip_addresses(v=4).map(str)),
    _line("TCP6", _SIX),
    st.binary(max_size=92).map(lambda rest: b"PROXY UNKNOWN" + rest.replace(b"\r", b"") + b"\r\n"),
    _TLVS.map(lambda each: summed(b"".join(each))),
    _TLVS.map(lambda each: summed(b"", b"".join(each))),
    st.builds(
        lambda addresses, tlvs, kind: binary(
            addresses[: {TCP4: 12, TCP6: 36}[kind]] + b"".join(tlvs), family=kind
        ),
        st.binary(min_size=36, max_size=36),
        _TLVS,
        st.sampled_from([TCP4, TCP6]),
    ),
    st.builds(binary, st.binary(max_size=40), st.just(LOCAL), st.integers(0, 255)),
    st.builds(
        lambda source, destination: binary(
            source.ljust(108, b"\0") + destination.ljust(108, b"\0"), family=UNIX
        ),
        st.binary(max_size=108),
        st.binary(max_size=108),
    ),
)


#: What headers are made of, and what looks like it.
_SCRAPS = [
    *(
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"0",
        b"65535",
        b":",
        b".",
        b"::1",
    ),
    *(
        b"1.2.3.4",
        b"::ffff:1.2.3.4",
        b"ffff:ffff:ffff:",
        SIGNATURE,
        b"\x21\x11",
        b"\0\x0c",
        FOUR,
        tlv(3, b"abcd"),
    ),
]


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at some places."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def _bounded(count: int) -> Callable[[Any], Any]:
    return settings(deadline=None, max_examples=count)


class FuzzTests(SynchronousTestCase):
    """Any bytes, in any pieces."""

    @_bounded(300)
    @given(_HEADERS, st.binary(max_size=20), st.lists(st.integers(0, 10_000), max_size=6))
    def test_pieces_make_no_difference(self, header: bytes, rest: bytes, places: list[int]) -> None:
        """A good header is read from any pieces, to its last byte and not before it; what follows is untouched."""
        whole = parse([header + rest])

        self.assertIsInstance(whole[0], ProxyHeader)
        self.assertEqual(whole[1], rest)
        self.assertEqual(parse(_cut(header + rest, places)), whole)
        self.assertEqual(parse(one_by_one(header + rest)), whole)
        self.assertEqual(parse([header[:-1]]), ("incomplete", b""))

    @_bounded(400)
    @given(
        _HEADERS,
        st.lists(
            st.tuples(st.integers(0, 300), st.sampled_from(["set", "add", "cut"]), st.integers(0, 255)),
            max_size=4,
        ),
        st.lists(st.integers(0, 10_000), max_size=6),
    )
    @example(LINE, [(len(LINE) - 1, "set", 13), (len(LINE), "add", 10)], [])
    def test_a_changed_header_is_read_or_refused(
        self, header: bytes, changes: Any, places: list[int]
    ) -> None:
        """Whatever is changed in it, a header is read, waited for or refused, and the same way in any pieces."""
        data = bytearray(header)
        for place, how, byte in changes:
            index = place % (len(data) + 1)
            data[index : index + (how != "add")] = b"" if how == "cut" else bytes([byte])
        whole = parse([bytes(data)])

        self.assertEqual(parse(_cut(bytes(data), places)), whole)
        self.assertEqual(parse(one_by_one(bytes(data))), whole)

    @_bounded(300)
    @given(
        st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1", SIGNATURE, SIGNATURE + b"\x21"]),
        st.lists(st.sampled_from(_SCRAPS) | st.binary(max_size=3), max_size=14).map(b"".join),
    )
    def test_any_bytes_are_read_or_refused(self, start: bytes, data: bytes) -> None:
        """Nothing but a header, a wait or a refusal comes of anything, and the same in any pieces."""
        self.assertEqual(parse(one_by_one(start + data)), parse([start + data]))

    @_bounded(300)
    @given(_line("TCP4", st.ip_addresses(v=4).map(str)) | _line("TCP6", _SIX))
    def test_says_what_was_written(self, line: bytes) -> None:
        """The addresses are those of the line, whichever way they were written."""
        header, _rest = parse([line])
        assert isinstance(header, ProxyHeader)
        words = line.decode().split()
        ends = [(header.source, words[2], words[4]), (header.destination, words[3], words[5])]
        for end, host, port in ends:
            assert isinstance(end, IPv4Address | IPv6Address)
            written = ipaddress.ip_address(host)
            mapped = getattr(written, "ipv4_mapped", None)
            self.assertEqual(ipaddress.ip_address(end.host), mapped or written)
            self.assertEqual(end.port, int(port))
