"""Sockperf's messages, and what is expected of a responder, written down a second time and in another way."""

from __future__ import annotations

__all__ = ["CLIENT", "PONG", "WARM_UP", "answer", "answers", "message"]

CLIENT, PONG, WARM_UP = 1, 2, 4


def message(number: int, data: bytes = b"", flags: int = CLIENT | PONG, length: int | None = None) -> bytes:
    """Make a message, as it looks on the wire.

    Args:
        number: Its sequence number.
        data: What follows the header.
        flags: Its flags.
        length: What it says of its length; None for the truth.
    """
    length = 14 + len(data) if length is None else length
    return number.to_bytes(8, "big") + flags.to_bytes(2, "big") + length.to_bytes(4, "big") + data


def answer(sent: bytes) -> bytes | None:
    """What a message is answered with; None if it is not, or is no message."""
    if len(sent) < 14 or int.from_bytes(sent[10:14], "big") != len(sent) or sent[9] & 7 != 3:
        return None
    return sent[:9] + bytes([sent[9] - 1]) + sent[10:]


def answers(sent: bytes) -> bytes | None:
    """What a client is answered that has sent this over a connection; None for nothing."""
    answered, start = bytearray(), 0
    while len(sent) - start >= 14:
        length = int.from_bytes(sent[start + 10 : start + 14], "big")
        if not 14 <= length <= 1048575:
            break
        whole = sent[start : start + length]
        answered += (answer(whole.ljust(length, b"\0")) or b"")[: len(whole)]
        start += length
    return bytes(answered) or None
