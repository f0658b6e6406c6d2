"""What the Linux kernel says about sockets, from outside the process that owns them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.hold.carriers import Carrier, Place
from tests.hold.promise import Skipped

__all__ = ["Connection", "connection", "datagrams_sent", "held_memory", "parse_connection", "parse_memory"]

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_SOCK_DIAG = 4
_BY_FAMILY = 20
_ERROR = 2
_DONE = 3
_REQUEST, _DUMP = 1, 0x300
_SKMEMINFO = 7
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, sender
_QUESTION = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_ENDS = struct.Struct("!HH16s16s")  # ports and addresses, as on the wire
_ANY_LINK = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # interface, and the cookie that means none
_ANSWER = struct.Struct("=xB2x48x4xII4xI")  # state, unread, unacknowledged, inode
_LISTENS = 10
_STATE, _ATTRIBUTES = 1, 72  # where they begin in an answer
_ATTRIBUTE = struct.Struct("=HH")  # length with this, kind
_MEMINFO = struct.Struct("=6I")  # received, its bound, on its way, its bound, reserved, queued to be sent


@dataclass(frozen=True)
class Connection:
    """One end of a TCP connection.

    Attributes:
        unacknowledged: Bytes the owner has written that the peer's kernel has not acknowledged.
        unread: Bytes that came and that the owner has not read.
        owned: A process still holds it; otherwise the kernel finishes it alone.
    """

    unacknowledged: int
    unread: int
    owned: bool


def connection(here: tuple[str, int], there: tuple[str, int]) -> Connection | None:
    """Find one end of an IPv4 connection.

    The kernel is asked for this one alone (sock_diag(7)). To read ``/proc/net/tcp`` takes as long as all connections
    of all namespaces are many: 30 ms after somebody else's benchmark, for whoever must know at once.

    Args:
        here: Address and port of that end.
        there: Address and port of the other.

    Raises:
        Skipped: The kernel cannot be asked.
    """
    ends = _ENDS.pack(here[1], there[1], socket.inet_aton(here[0]), socket.inet_aton(there[0])) + _ANY_LINK
    question = _QUESTION.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as sock:
            sock.settimeout(5)
            sock.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 0, 0) + question)
            return parse_connection(sock.recv(8192))
    except OSError as problem:
        raise Skipped(f"needs NETLINK_SOCK_DIAG: {problem.strerror}") from problem


def held_memory(place: Place) -> int:
    """How much memory the kernel holds for all TCP connections at one place, in bytes: ours alone, not their peers'.

    Args:
        place: Where they are accepted; at a UNIX socket there are none.

    Raises:
        Skipped: The kernel cannot be asked.
    """
    total = 0
    if place.carrier is Carrier.UNIX:
        return total
    port = int(place.where)
    for family in (socket.AF_INET, socket.AF_INET6):
        ends = _ENDS.pack(port, 0, bytes(16), bytes(16)) + _ANY_LINK
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 1 << (_SKMEMINFO - 1), 0xFFFFFFFF) + ends
        header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST | _DUMP, 0, 0)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as sock:
                sock.settimeout(5)
                sock.send(header + question)
                while (found := parse_memory(sock.recv(1 << 16))) is not None:
                    total += found
        except OSError as problem:
            raise Skipped(f"needs NETLINK_SOCK_DIAG: {problem.strerror}") from problem
    return total


def parse_memory(answers: bytes) -> int | None:
    """Read a part of the kernel's answers: memory received, queued and reserved; None if they have come to their end.

    Raises:
        OSError: It did not understand the question.
    """
    total = at = 0
    while at + _HEADER.size <= len(answers):
        length, kind, *_ = _HEADER.unpack_from(answers, at)
        body = answers[at + _HEADER.size : at + length]
        at += -(-length // 4) * 4
        if kind == _DONE:
            return None
        if kind == _ERROR:
            code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
            raise OSError(code, os.strerror(code))
        where = _ATTRIBUTES if body[_STATE] != _LISTENS else len(body)
        while where + _ATTRIBUTE.size <= len(body):
            size, name = _ATTRIBUTE.unpack_from(body, where)
            if name == _SKMEMINFO:
                received, _, _, _, reserved, queued = _MEMINFO.unpack_from(body, where + _ATTRIBUTE.size)
                total += received + reserved + queued
            where += max(4, -(-size // 4) * 4)
    return total


def parse_connection(answer: bytes) -> Connection | None:
    """Read the kernel's answer, or None if it knows no such connection.

    Raises:
        OSError: It did not understand the question.
    """
    if _HEADER.unpack_from(answer)[1] == _ERROR:
        code = -int.from_bytes(answer[_HEADER.size : _HEADER.size + 4], sys.byteorder, signed=True)
        if code == errno.ENOENT:
            return None
        raise OSError(code, os.strerror(code))
    state, unread, unacknowledged, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    if state == _LISTENS:  # where a connection would be that there is not
        return None
    return Connection(unacknowledged, unread, inode != 0)


def datagrams_sent() -> int:
    """How many UDP datagrams this machine's sockets have sent (raw ones do not count), IPv4 and IPv6."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    )
    sent = int(values[names.index("OutDatagrams")])
    with contextlib.suppress(FileNotFoundError):
        found = re.search(r"^Udp6OutDatagrams\s+(\d+)", Path("/proc/net/snmp6").read_text(), re.MULTILINE)
        sent += int(found.group(1)) if found else 0
    return sent
