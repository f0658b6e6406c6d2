"""The first flight of a TLS client: gathered until it is whole, and what it asks for.

A TLS object of OpenSSL costs 30 KiB and more from its first byte on, and some versions allocate what the length field of an
unfinished message announces. So the message is gathered here first, in as many bytes as have come, and OpenSSL sees it whole.
No judgement is made: what is no ClientHello is handed on at once, and OpenSSL answers it with the right alert.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import attrs

from echosvc.transports.tls_session import HEADER, RECORD

__all__ = ["HELLO", "RECORDS", "ClientHello", "HelloGatherer"]

#: Bytes of records that a ClientHello may take, their headers included. With post-quantum keys it has 1.8 KB; a ticket with a client's certificate in it
#: adds as much again. OpenSSL itself takes 128 KiB.
HELLO = 16 * 1024

#: Records that it may be cut into: each costs 10 us.
RECORDS = 64

#: Bytes of a handshake message's header (RFC 8446 section 4).
MESSAGE_HEADER = 4

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _TICKET, _VERSIONS = 0, 16, 35, 43
_TLS_1_3 = 0x0304


@attrs.frozen
class ClientHello:
    """What a client asks for in its first message.

    Attributes:
        server_name: The host that it wants to reach (RFC 6066 section 3), in lower case; None if it names none, or one
            that is not ASCII.
        protocols: What it offers to speak (ALPN, RFC 7301), the dearest first.
        has_tickets: It keeps its sessions itself, as tickets: by TLS 1.3, or by RFC 5077. Of others the server keeps them.
    """

    server_name: str | None = None
    protocols: tuple[bytes, ...] = ()
    has_tickets: bool = False


#: Most clients ask for the same, and each idle connection keeps what was asked for.
_shared = lru_cache(maxsize=16)(ClientHello)


class HelloGatherer:
    """Gathers the records of a ClientHello.

    Every byte is looked at once, however small the pieces are in which it comes.

    Attributes:
        data: All bytes that have come, those behind the message too.
        is_too_long: The message or one of its records announces that more than `HELLO` bytes are to come, or there are more than
            `RECORDS` records. So an unfinished message never has more than `HELLO` bytes and a header.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_too_long = False
        self._count = 0  # of records
        self._next = 0  # where the next record begins
        self._carried = 0  # bytes of the message in the records before it
        self._head = b""  # the header of the message, as far as they carry it

    def feed(self, data: bytes) -> bool:
        """Take what has come.

        Args:
            data: Bytes of the stream.

        Returns:
            Whether OpenSSL may have `data` now: the message is whole, or is no ClientHello. Never if it is too long.
        """
        raw = self.data
        raw += data
        while len(raw) >= (start := self._next + HEADER):
            end = start + (raw[start - 2] << 8 | raw[start - 1])
            if raw[self._next] != _HANDSHAKE or not start < end <= start + RECORD:
                return True
            head = (self._head + raw[start : min(end, start + MESSAGE_HEADER)])[:MESSAGE_HEADER]
            if head and head[0] != _CLIENT_HELLO:
                return True
            whole = MESSAGE_HEADER + (int.from_bytes(head[1:]) if len(head) == MESSAGE_HEADER else 1)
            if max(HEADER + whole, end) > HELLO or self._count == RECORDS:
                self.is_too_long = True
                return False
            if len(raw) < end:
                return False
            self._head = head
            self._carried += end - start
            self._next = end
            self._count += 1
            if self._carried >= whole:
                return True
        return False

    def hello(self) -> ClientHello:
        """Return what the message asks for; of one that makes no sense, nothing."""
        try:
            return _parsed(self._message())
        except IndexError:
            return ClientHello()

    def _message(self) -> bytes:
        """Join what the records carry."""
        raw, parts, at = self.data, [], 0
        while at < self._next:
            start = at + HEADER
            at = start + (raw[start - 2] << 8 | raw[start - 1])
            parts.append(raw[start:at])
        return b"".join(parts)


def _parsed(message: bytes) -> ClientHello:
    """Read a ClientHello (RFC 8446 section 4.1.2).

    Raises:
        IndexError: It is cut short.
    """
    message = message[
        : MESSAGE_HEADER + int.from_bytes(message[1:MESSAGE_HEADER])
    ]  # not what a record has behind it
    at = MESSAGE_HEADER + 2 + 32  # version, random
    at += 1 + message[at]  # session
    at += 2 + int.from_bytes(message[at : at + 2])  # ciphers
    at += 1 + message[at]  # compression
    name = None
    protocols: tuple[bytes, ...] = ()
    has_tickets = False
    for kind, body in _extensions(message[at + 2 :]):
        if kind == _SERVER_NAME and body[2:3] == b"\0":
            length = int.from_bytes(body[3:5])
            host = body[5 : 5 + length]
            name = host.decode("ascii").lower() if host.isascii() else None
        elif kind == _ALPN:
            protocols = tuple(_names(body[2:]))
        elif kind == _TICKET:
            has_tickets = True
        elif kind == _VERSIONS:
            offered = {int.from_bytes(body[start : start + 2]) for start in range(1, len(body), 2)}
            has_tickets = has_tickets or _TLS_1_3 in offered
    return _shared(name, protocols, has_tickets)


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at + 2 : at + 4])
        yield int.from_bytes(data[at : at + 2]), data[at + 4 : at + 4 + length]
        at += 4 + length


def _names(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
