"""Sockperf's messages: which are answered, and how.

A message is a header of 14 bytes, big-endian, and data:

    0   sequence number, 8 bytes
    8   flags, 2 bytes: 1 the client's, 2 an answer is asked for, 4 sent only to warm up
    10  length of the whole message, 4 bytes

The answer is the message itself with flag 1 cleared; an answer is therefore never answered. What is sent only to warm up
is not answered either.

Sources: Mellanox/sockperf, src/message.h (the header) and src/server.h (what is answered); and what sockperf 3.7 was seen
to send over UDP and TCP.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

__all__ = ["HEADER", "LARGEST", "Buffer", "is_question", "read_header", "turn"]

Buffer: TypeAlias = bytes | bytearray | memoryview

#: Bytes in a header.
HEADER = 14

#: Bytes in the largest message: ``sockperf --tcp --msg-size`` takes no more.
LARGEST = 2**20 - 1

_FIELDS = struct.Struct(">8xHI")  # the sequence number is the client's own affair
_LOW_FLAGS = 9  # the byte that has the flags
_CLIENT, _ASKS, _WARMS_UP = 1, 2, 4


def read_header(data: Buffer, start: int = 0) -> tuple[bool, int]:
    """Read a header.

    Args:
        data: At least `HEADER` bytes from `start` on.
        start: Where the message begins.

    Returns:
        Whether the message is to be answered, and how many bytes it says that it has.
    """
    flags, length = _FIELDS.unpack_from(data, start)
    return flags & (_CLIENT | _ASKS | _WARMS_UP) == _CLIENT | _ASKS, length


def is_question(datagram: Buffer) -> bool:
    """Tell whether a datagram is a message that is to be answered."""
    return len(datagram) >= HEADER and read_header(datagram) == (True, len(datagram))


def turn(data: bytearray | memoryview, start: int = 0) -> None:
    """Turn a message that is to be answered into its answer, where it is.

    Args:
        data: Can be written to.
        start: Where the message begins.
    """
    data[start + _LOW_FLAGS] ^= _CLIENT
