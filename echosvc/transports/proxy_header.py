"""The header of the PROXY protocol, versions 1 and 2: bytes in, addresses out.

A proxy that relays a connection sends before anything else for whom it does so and where that client had
connected to. This is the receiver's half, without I/O and without a clock; who may send a header, and how long it
is waited for, is decided above. Sections are those of HAProxy's doc/proxy-protocol.txt.

One rule throughout: what is judged is all that has come so far, from its first byte. A header that comes in
pieces can therefore neither be read nor refused otherwise than one that comes whole.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from echosvc.transports.addresses import internet_address

__all__ = ["HEADER_MAX", "HeaderParser", "ProxyHeader", "ProxyHeaderError"]

Endpoint: TypeAlias = IPv4Address | IPv6Address | UNIXAddress
"""One end of the connection that is relayed, as Twisted has addresses."""

#: How a header begins, in version 1 and in version 2 (2.1 and 2.2).
_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

#: Bytes of the longest line, its end included (2.1).
_LINE_MAX = 107

#: Bytes of the fixed part of a version 2 header (2.2).
_FIXED = 16

#: Bytes of the longest version 2 header. 65551 could be announced, and would be held for whoever announces them. HAProxy
#: makes and takes its headers in one buffer of 16 KiB (tune.bufsize); nginx refuses more than 4 KiB, into which a client's
#: certificate does not always go.
HEADER_MAX = 16 * 1024

#: Bytes of a UNIX address (2.2).
_UNIX_NAME = 108

#: Bytes of the addresses for each kind of connection that a stream can stand for (2.2).
_STREAMS = {0x11: 4 + 4 + 2 + 2, 0x21: 16 + 16 + 2 + 2, 0x31: 2 * _UNIX_NAME}

#: Types of what follows the addresses that mean something here (2.2.3 to 2.2.5).
_CRC32C = 0x03
_NOOP = 0x04
_UNIQUE_ID = 0x05

#: Bytes of the longest unique ID (2.2.5).
_UNIQUE_ID_MAX = 128

#: What comes next in a line: of what family its addresses are, or that the client cannot be named (2.1).
_FAMILIES = {b"TCP4 ": socket.AF_INET, b"TCP6 ": socket.AF_INET6}
_UNKNOWN = b"UNKNOWN"

#: 0 to 99999, without leading zeros.
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,4}")

#: Stand-ins for what of a word is still to come. If none of them completes it to an address (or a port), nothing does:
#: that is how a line is refused at its first wrong byte, without a second grammar for beginnings.
_ENDINGS = (b"", b"0", b":", b"::", b".0", b".0.0", b".0.0.0", b"0.0", b"0.0.0", b"0.0.0.0")


class ProxyHeaderError(ValueError):
    """What came is not a header of the PROXY protocol, and will not become one.

    Args:
        reason: What is wrong with it: ``signature`` (of neither version), ``family``, ``address``, ``port``, ``words``
            (too many or too few), ``line-end``, ``line-length``; ``version``, ``command``, ``length``, ``tlv``, ``crc32c``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"no PROXY header: {reason}")
        self.reason = reason


@attrs.frozen
class ProxyHeader:
    """What a proxy says of the connection that it relays.

    Attributes:
        version: 1 or 2.
        source: The client. None: whoever sent the header is, or speaks for one that it cannot name.
        destination: Where the client had connected to. None if `source` is.
        tlvs: What else is said, as type and value in the order sent: 0x01 is ALPN, 0x02 the authority, 0x05 the unique
            ID, 0x20 TLS (2.2.1 to 2.2.7); types that nobody knows are here, too. Without padding and checksum.
    """

    version: int
    source: Endpoint | None = None
    destination: Endpoint | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()


class HeaderParser:
    """Reads one header, in as many pieces as it comes.

    Attributes:
        rest: What came after the header, once it is complete.
    """

    def __init__(self) -> None:
        self.rest = b""
        self._data = bytearray()

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes of a connection.

        Args:
            data: Any number of bytes. No more than 16 KiB of them are ever held, beside the last that came.

        Returns:
            The header, if it is complete: feed no more then. None if more is needed.

        Raises:
            ProxyHeaderError: No header begins like this. It is raised at the first wrong byte, or at the one too many;
                of version 2 all that follows the first 16 bytes must have come to be judged. Feed no more then.
        """
        self._data += data
        found = _parse(self._data)
        if found is None:
            return None
        header, size = found
        self.rest = bytes(self._data[size:])
        return header


def _parse(data: bytearray) -> tuple[ProxyHeader, int] | None:
    """Return the header that the data begin with, and its size; None if it is not complete."""
    if data.startswith(_SIGNATURE):
        return _parse_binary(data)
    if data.startswith(_LINE):
        return _parse_line(data)
    if not _SIGNATURE.startswith(data) and not _LINE.startswith(data):
        raise ProxyHeaderError("signature")
    return None


# -- version 1: a line (2.1)


def _parse_line(data: bytearray) -> tuple[ProxyHeader, int] | None:
    if data.startswith(_LINE + _UNKNOWN):
        return _parse_unknown(data)
    end = data.find(b"\r", 0, _LINE_MAX - 1)
    line = data[len(_LINE) : end if end >= 0 else _LINE_MAX - 1]
    header = _read_line(bytes(line), ended=end >= 0)
    if header is None:
        if len(data) >= _LINE_MAX - 1:
            raise ProxyHeaderError("line-length")
    elif len(data) > end + 1:
        if data[end + 1] != ord("\n"):
            raise ProxyHeaderError("line-end")
        return header, end + 2
    return None


def _parse_unknown(data: bytearray) -> tuple[ProxyHeader, int] | None:
    """Ignore everything up to the end of the line: a CR or LF alone, too."""
    end = data.find(b"\r\n", 0, _LINE_MAX)
    if end >= 0:
        return ProxyHeader(1), end + 2
    if len(data) >= _LINE_MAX - 1 + data.startswith(b"\r", _LINE_MAX - 2):
        raise ProxyHeaderError("line-length")
    return None


def _read_line(line: bytes, *, ended: bool) -> ProxyHeader | None:
    """Read what stands between ``PROXY`` and the end of the line; None if that has not come, and it may go on like this."""
    if (family := _FAMILIES.get(line[:5])) is not None:
        return _read_words(family, line[5:].split(b" "), ended=ended)
    if ended or not any(keyword.startswith(line) for keyword in (*_FAMILIES, _UNKNOWN)):
        raise ProxyHeaderError("family")
    return None


def _read_words(family: socket.AddressFamily, words: Sequence[bytes], *, ended: bool) -> ProxyHeader | None:
    """Read two addresses and two ports; if the line has not ended, the last word may be a beginning."""
    packed: Callable[[bytes], Any] = partial(_packed, family)
    values: list[Any] = []
    for word, read in zip(words, (packed, packed, _port, _port), strict=False):
        value = read(word)
        whole = ended or len(values) + 1 < len(words)
        if value is None and (whole or all(read(word + each) is None for each in _ENDINGS)):
            raise ProxyHeaderError("address" if read is packed else "port")
        values.append(value)
    if len(words) > 4 or (ended and len(words) < 4):
        raise ProxyHeaderError("words")
    if not ended:
        return None
    source, destination, source_port, destination_port = values
    return ProxyHeader(
        1, _endpoint(family, source, source_port), _endpoint(family, destination, destination_port)
    )


def _packed(family: socket.AddressFamily, word: bytes) -> bytes | None:
    try:
        return socket.inet_pton(family, word.decode("ascii"))
    except (OSError, ValueError):  # ValueError: not ASCII, or with a NUL
        return None


def _port(word: bytes) -> int | None:
    return number if _NUMBER.fullmatch(word) and (number := int(word)) <= 65535 else None


# -- version 2: binary (2.2)


def _parse_binary(data: bytearray) -> tuple[ProxyHeader, int] | None:
    fixed = data[len(_SIGNATURE) : _FIXED]
    if fixed and fixed[0] >> 4 != 2:
        raise ProxyHeaderError("version")
    if fixed and fixed[0] & 15 > 1:
        raise ProxyHeaderError("command")
    relayed = bool(fixed and fixed[0] & 15)  # not LOCAL, for which everything but the length is to be ignored
    if relayed and len(fixed) > 1 and (fixed[1] >> 4 > 3 or fixed[1] & 15 > 2):
        raise ProxyHeaderError("family")
    # Or more, as long as the last byte of the length is to come.
    size = _FIXED + int.from_bytes(fixed[2:].ljust(2, b"\0"), "big")
    if size > HEADER_MAX:
        raise ProxyHeaderError("length")
    if len(data) < _FIXED:
        return None
    # What a stream cannot stand for (datagrams, nothing known) is skipped unread like LOCAL, as the specification lets us
    # and HAProxy does: the connection is its sender's, then.
    addresses = _STREAMS.get(fixed[1]) if relayed else None
    if addresses is not None and size < _FIXED + addresses:
        raise ProxyHeaderError("length")
    if len(data) < size:
        return None
    if addresses is None:
        return ProxyHeader(2), size
    header = bytes(data[:size])
    source, destination = _read_addresses(fixed[1] >> 4, header[_FIXED : _FIXED + addresses])
    return ProxyHeader(2, source, destination, _read_tlvs(header, _FIXED + addresses)), size


def _read_addresses(family: int, block: bytes) -> tuple[Endpoint, Endpoint]:
    if family == 3:
        return _unix_endpoint(block[:_UNIX_NAME]), _unix_endpoint(block[_UNIX_NAME:])
    size = 4 if family == 1 else 16
    kind = socket.AF_INET if family == 1 else socket.AF_INET6
    source_port, destination_port = struct.unpack("!HH", block[2 * size :])
    return (
        _endpoint(kind, block[:size], source_port),
        _endpoint(kind, block[size : 2 * size], destination_port),
    )


def _endpoint(family: socket.AddressFamily, packed: bytes, port: int) -> IPv4Address | IPv6Address:
    """Name an end as a socket would: in the one way of writing each address, IPv4 as IPv4."""
    return internet_address("TCP", (socket.inet_ntop(family, packed), port))


def _unix_endpoint(padded: bytes) -> UNIXAddress:
    """Name an end as a socket would: a path ends at its first NUL, an abstract name begins with one."""
    name = padded.rstrip(b"\0") if padded.startswith(b"\0") else padded.partition(b"\0")[0]
    return UNIXAddress(name or None)


def _read_tlvs(header: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    """Read what follows the addresses up to the end of the header, and verify its checksum if there is one."""
    tlvs = []
    while start < len(header):
        kind, begin = header[start], start + 3
        end = begin + int.from_bytes(header[start + 1 : begin], "big")
        value = header[begin:end]
        if end > len(header) or (kind == _UNIQUE_ID and len(value) > _UNIQUE_ID_MAX):
            raise ProxyHeaderError("tlv")
        if kind == _CRC32C:
            _verify(header, begin, end)
        elif kind != _NOOP:
            tlvs.append((kind, value))
        start = end
    return tuple(tlvs)


def _verify(header: bytes, begin: int, end: int) -> None:
    """Compare a checksum with that of the header in which its own 32 bits are zero (2.2.3)."""
    if end - begin != 4:
        raise ProxyHeaderError("tlv")
    if crc32c(header[:begin] + bytes(4) + header[end:]) != int.from_bytes(header[begin:end], "big"):
        raise ProxyHeaderError("crc32c")


def _crc32c_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, its bits reversed
    return byte


_CRC32C_TABLE = [_crc32c_of(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes (RFC 4960, appendix B). The standard library has only other CRCs.

    Args:
        data: What is summed: 0.1 us for each byte.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
