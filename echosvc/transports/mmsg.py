"""recvmmsg and sendmmsg: a batch of datagrams in one system call, into buffers made once.

Python's socket module has neither, so that they are called through ctypes. The kernel writes where the
structures here point, and these are made once, each pointing into a room of its own and naming that room's
size; before each call they are restored. Nothing that arrives can change where or how much is written.

Sources: recvmmsg(2), sendmmsg(2), cmsg(3), linux/socket.h, linux/uio.h. Structures of 64-bit Linux.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from ctypes import addressof, c_char, c_int, c_size_t, c_uint, c_void_p, get_errno, sizeof
from typing import Any, TypeAlias

from echosvc.transports.linux import LINUX, SOL_UDP, UDP_SEGMENT
from echosvc.transports.messages import BATCH
from echosvc.transports.screening import Arrival

__all__ = ["DATA", "ENVELOPE", "NAME_ROOM", "Answer", "Rooms", "Tables", "can_batch"]


class _Piece(ctypes.Structure):  # struct iovec
    _fields_ = (("base", c_void_p), ("length", c_size_t))


class _Header(ctypes.Structure):  # struct msghdr
    _fields_ = (
        ("name", c_void_p),
        ("name_length", c_uint),
        ("pieces", c_void_p),
        ("piece_count", c_size_t),
        ("control", c_void_p),
        ("control_length", c_size_t),
        ("flags", c_int),
    )


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (("header", _Header), ("length", c_uint))


# Where fields are, in 4-byte and in 8-byte words: whole columns of a table are read and written at once, as
# slices with a stride, at some 20 ns for a field where a ctypes attribute costs 100.
_WORD = 8
_MESSAGE = sizeof(_Message)
_PIECE = sizeof(_Piece)
_MESSAGE_4, _MESSAGE_8 = _MESSAGE // 4, _MESSAGE // 8
_LENGTH_4 = _Message.length.offset // 4
_FLAGS_4 = _Header.flags.offset // 4
_NAME_8 = _Header.name.offset // 8
_CONTROL_8 = _Header.control.offset // 8
_PIECES_8 = _Header.pieces.offset // 8
_PIECE_COUNT_8 = _Header.piece_count.offset // 8
_CONTROL_LENGTH_8 = _Header.control_length.offset // 8

#: A room holds the largest message. The odd 128 bytes keep all rooms from sharing the same cache lines.
_ROOM = 65536
_STRIDE = _ROOM + 128

#: An envelope is a source address, padded to 32 bytes, and control messages: together, who asked and where.
ENVELOPE = 256
_ENVELOPE_4 = ENVELOPE // 4
NAME_ROOM = 32
_CONTROL_ROOM = ENVELOPE - NAME_ROOM
_PORT = slice(2, 4)  # of either family's address

DATA = NAME_ROOM + socket.CMSG_LEN(0)  # where PKTINFO's own data are in an envelope
_TAIL = DATA + 8  # where the last 8 bytes of an address of IPv6 are, or the 4 of IPv4
_SEGMENT = struct.Struct("@NiiH")  # length, level, type, and UDP_SEGMENT's data
_SEGMENT_SPACE = socket.CMSG_SPACE(2)

#: By family: bytes of a socket address and where in that the host is; bytes of PKTINFO, and where in that the interface
#: index and the address that the datagram was sent to are.
_FAMILIES: dict[int, tuple[int, slice, int, int, slice]] = {
    socket.AF_INET: (16, slice(4, 8), 12, 0, slice(8, 12)),
    socket.AF_INET6: (28, slice(8, 24), 20, 16, slice(0, 16)),
}

_libc = ctypes.CDLL(None, use_errno=True)
recvmmsg: Any = getattr(_libc, "recvmmsg", None)
sendmmsg: Any = getattr(_libc, "sendmmsg", None)
if LINUX and recvmmsg and sendmmsg:
    recvmmsg.argtypes = (c_int, c_void_p, c_uint, c_int, c_void_p)
    sendmmsg.argtypes = (c_int, c_void_p, c_uint, c_int)


class Rooms:
    """The memory for payloads: one for the process (4 MiB, of which only used pages are real).

    Attributes:
        borrowed: Whether somebody's messages are in it.
    """

    def __init__(self) -> None:
        # Private, or a child that is forked would receive into the same memory.
        memory = mmap.mmap(-1, BATCH * _STRIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(memory)
        first = addressof(c_char.from_buffer(memory))
        self.addresses = [first + index * _STRIDE for index in range(BATCH)]
        self.borrowed = False

    def payload(self, index: int, length: int) -> memoryview:
        """Show the first bytes of a room, for reading."""
        start = index * _STRIDE
        return self._view[start : start + length]


_the_rooms: list[Rooms] = []


def _shared_rooms() -> Rooms:
    if not _the_rooms:
        _the_rooms.append(Rooms())
    return _the_rooms[0]


Answer: TypeAlias = tuple[int, int, int, int]
"""Whose envelope it has; its first piece; how many pieces leave with it; and into datagrams of how many bytes the
kernel is to cut it, or 0 if it is one."""


class Tables:
    """What the kernel reads and fills for one socket: a table of messages to receive, and one of answers.

    Row `i` of both is about room `i` and envelope `i`, until an answer is laid out otherwise.

    Args:
        family: The socket's: AF_INET or AF_INET6.

    Attributes:
        rooms: Where the payloads are.
        envelopes: `BATCH` times `ENVELOPE` bytes.
        control_length: Bytes of a PKTINFO with its header and padding.
        sealed_length: Bytes of an envelope that say who asked and where, without that padding.
    """

    def __init__(self, family: int) -> None:
        name_length, self._source, info_length, index_at, self._destination = _FAMILIES[family]
        self.control_length = socket.CMSG_SPACE(info_length)
        self.sealed_length = DATA + info_length
        self._interface_4 = (DATA + index_at) // 4
        self.rooms = _shared_rooms()
        envelopes = (c_char * (BATCH * ENVELOPE))()
        into, back = (_Piece * BATCH)(), (_Piece * BATCH)()
        received, answers = (_Message * BATCH)(), (_Message * BATCH)()
        for index, address in enumerate(self.rooms.addresses):
            into[index] = _Piece(address, _ROOM)
            name = addressof(envelopes) + index * ENVELOPE
            control = name + NAME_ROOM
            piece = addressof(into) + index * _PIECE
            received[index].header = _Header(name, NAME_ROOM, piece, 1, control, _CONTROL_ROOM)
            piece = addressof(back) + index * _PIECE
            answers[index].header = _Header(name, name_length, piece, 1, control, self.control_length)
        self._kept_alive = (envelopes, into, back, received, answers)
        self._received_at, self._answers_at = addressof(received), addressof(answers)
        self._back_at, self._envelopes_at = addressof(back), addressof(envelopes)
        self._received = memoryview(received).cast("B")
        self._received_4, self._received_8 = self._received.cast("I"), self._received.cast("Q")
        self._fresh = bytes(self._received)
        self._answers_8 = memoryview(answers).cast("B").cast("Q")
        self._back_8 = memoryview(back).cast("B").cast("Q")
        self.envelopes = memoryview(envelopes).cast("B")
        self._envelopes_4 = self.envelopes.cast("I")
        self._destination_tails = (
            self._envelopes_4[_TAIL // 4 :: ENVELOPE // 4]
            if family == socket.AF_INET
            else self.envelopes.cast("Q")[_TAIL // 8 :: ENVELOPE // 8]
        )

    # -- receiving

    def receive(self, fd: int) -> int:
        """Receive into all rooms.

        Returns:
            How many messages there are; 0 if nothing was waiting.

        Raises:
            OSError: As recvmmsg(2) says.
        """
        self._received[:] = self._fresh
        count: int = recvmmsg(fd, self._received_at, BATCH, socket.MSG_DONTWAIT, None)
        if count >= 0:
            return count
        if get_errno() == errno.EAGAIN:
            return 0
        raise OSError(get_errno(), os.strerror(get_errno()))

    def lengths(self, count: int) -> list[int]:
        """Read how long the first `count` messages are, in bytes."""
        return _column(self._received_4, _LENGTH_4, _MESSAGE_4, count)

    def flags(self, count: int) -> list[int]:
        """Read the first messages' flags."""
        return _column(self._received_4, _FLAGS_4, _MESSAGE_4, count)

    def control_lengths(self, count: int) -> list[int]:
        """Read how many bytes of control messages the first messages have."""
        return _column(self._received_8, _CONTROL_LENGTH_8, _MESSAGE_8, count)

    def arrival(self, envelope: bytes) -> Arrival:
        """Read who sent a message, and which address was asked, from its envelope."""
        port = int.from_bytes(envelope[_PORT], "big")
        return Arrival.of(envelope[self._source], port, envelope[DATA:][self._destination])

    def destination(self, index: int) -> bytes:
        """Read which address a message was sent to."""
        info = index * ENVELOPE + DATA
        return bytes(self.envelopes[info : info + ENVELOPE][self._destination])

    def destination_heads(self, count: int) -> bytes:
        """Read the first byte of an address of IPv6 that each of the first messages was sent to."""
        return self.envelopes[DATA : count * ENVELOPE : ENVELOPE].tobytes()

    def destination_tails(self, count: int) -> bytes:
        """Read the end of the address that each of the first messages was sent to: IPv4 whole, IPv6 8 bytes."""
        return self._destination_tails[:count].tobytes()

    def interfaces(self, count: int) -> memoryview:
        """Show the first messages' interface indexes, for reading and writing."""
        return self._envelopes_4[self._interface_4 :: _ENVELOPE_4][:count]

    # -- answering

    def lay_pieces(self, order: Sequence[int], lengths: Sequence[int]) -> None:
        """Say which rooms' bytes go out, in which order, and how many of each."""
        addresses, total = self.rooms.addresses, 2 * len(order)
        self._back_8[:total:2] = array("Q", [addresses[index] for index in order])
        self._back_8[1:total:2] = array("Q", [lengths[index] for index in order])

    def lay_answers(self, answers: Sequence[Answer]) -> None:
        """Lay out the answers, one in each row, column by column."""
        envelope, back, plain = self._envelopes_at, self._back_at, self.control_length
        cut = plain + _SEGMENT_SPACE
        names = array("Q", [envelope + index * ENVELOPE for index, _, _, _ in answers])
        controls = array("Q", [name + NAME_ROOM for name in names])
        control_lengths = array("Q", [cut if segment else plain for _, _, _, segment in answers])
        table, end = self._answers_8, len(answers) * _MESSAGE_8
        table[_NAME_8:end:_MESSAGE_8] = names
        table[_PIECES_8:end:_MESSAGE_8] = array("Q", [back + start * _PIECE for _, start, _, _ in answers])
        table[_PIECE_COUNT_8:end:_MESSAGE_8] = array("Q", [count for _, _, count, _ in answers])
        table[_CONTROL_8:end:_MESSAGE_8] = controls
        table[_CONTROL_LENGTH_8:end:_MESSAGE_8] = control_lengths
        for index, _, _, segment in answers:
            if segment:
                at = index * ENVELOPE + NAME_ROOM + plain
                control = _SEGMENT.pack(_SEGMENT.size, SOL_UDP, UDP_SEGMENT, segment)
                self.envelopes[at : at + _SEGMENT.size] = control

    def send(self, fd: int, first: int, count: int) -> int:
        """Send answers.

        Returns:
            How many the kernel took; if it refuses the first one, the errno as a negative number.
        """
        at = self._answers_at + first * _MESSAGE
        sent: int = sendmmsg(fd, at, count, socket.MSG_DONTWAIT)
        return sent if sent > 0 else -get_errno()


def can_batch(sock: socket.socket) -> bool:
    """Tell whether a socket can be served by both calls: a filter of system calls may forbid them."""
    if (
        sock.family not in _FAMILIES
        or not LINUX
        or sizeof(c_void_p) != _WORD
        or recvmmsg is None
        or sendmmsg is None
    ):
        return False
    nothing = (sock.fileno(), None, 0, socket.MSG_DONTWAIT)
    return bool(recvmmsg(*nothing, None) == 0 and sendmmsg(*nothing) == 0)


def _column(table: memoryview, first: int, step: int, count: int) -> list[int]:
    """Read one field of all messages that have come in."""
    return table[first : first + count * step : step].tolist()
