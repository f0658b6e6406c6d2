"""What to ask each protocol, and which answer shows that it is the one that answers. No I/O here."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from typing import TypeAlias

import attrs

from echosvc.protocols.chargen import PATTERN
from echosvc.protocols.time import time_octets

__all__ = ["CLOSED", "CONNECTED", "SILENCE", "Question", "datagram_question", "stream_question"]

Judge: TypeAlias = Callable[[bytes, bool], bool | None]
"""Is handed what has come so far, and whether the peer has ended; says whether that is right, or None to wait for more."""

#: Seconds by which clocks may differ before something is no time but four other bytes.
_DAY = 86_400

#: A quote is shorter (RFC 865).
_QUOTE = 512

_DAYTIME = re.compile(rb"[A-Z][a-z]+day, [A-Z][a-z]+ \d{1,2}, \d{4} \d\d:\d\d:\d\d-UTC\r\n")


@attrs.frozen
class Question:
    """What is said, and what must come back.

    Attributes:
        says: What is sent.
        judge: Tells whether what came is right. Of datagrams it is handed one, as ended.
        ends: Our direction is ended when it is said.
        silent: Datagrams: none must come, and that none comes is all that can be seen.
        may_be_reset: The connection may be reset in place of being ended.
    """

    says: bytes
    judge: Judge
    ends: bool = False
    silent: bool = False
    may_be_reset: bool = False


def _nothing(came: bytes, ended: bool) -> bool | None:  # noqa: FBT001  # as `Judge` has it
    return False if came else ended or None


CLOSED = Question(b"", _nothing, may_be_reset=True)
"""For a listener that serves us nothing, because we are not among those whom it serves: it must close, without a word."""

CONNECTED = Question(b"", lambda _, ended: not ended)
"""For a protocol of which nothing is known here: to be connected is enough."""

SILENCE = Question(b"", lambda _, __: False, silent=True)
"""The same for datagrams, as for a listener that answers others: that nobody refuses them is enough."""


def stream_question(protocol: str) -> Question | None:
    """Tell what to ask over a connection; None for a protocol that is not known here."""
    token = secrets.token_hex(16).encode()
    line = PATTERN[:74]
    return {
        "echo": Question(token, lambda came, ended: _is_whole(token, came, ended=ended)),
        "discard": Question(token, _nothing, ends=True),
        "chargen": Question(b"", lambda came, ended: _is_whole(line, came[:74], ended=ended)),
        "daytime": Question(b"", _at_the_end(_is_daytime)),
        "qotd": Question(b"", _at_the_end(_is_quote)),
        "time": Question(b"", _at_the_end(_is_time)),
    }.get(protocol)


def datagram_question(protocol: str) -> Question | None:
    """Tell what to ask with a datagram; None for a protocol that is not known here."""
    token = secrets.token_hex(16).encode()
    return {
        "echo": Question(token, lambda came, _: came == token),
        "discard": attrs.evolve(SILENCE, says=token),
        # Its answer is not longer than this, and may be empty (RFC 864).
        "chargen": Question(token, lambda came, _: PATTERN.startswith(came)),
        "daytime": Question(b"", lambda came, _: _is_daytime(came)),
        "qotd": Question(b"", lambda came, _: _is_quote(came)),
        "time": Question(b"", lambda came, _: _is_time(came)),  # RFC 868: an empty one
    }.get(protocol)


def _is_whole(expected: bytes, came: bytes, *, ended: bool) -> bool | None:
    if came == expected:
        return True
    return None if expected.startswith(came) and not ended else False


def _at_the_end(judge: Callable[[bytes], bool]) -> Judge:
    """Wait for the end, but not for more than any of these would say."""
    return lambda came, ended: judge(came) if ended else (False if len(came) >= _QUOTE else None)


def _is_daytime(came: bytes) -> bool:
    return _DAYTIME.fullmatch(came) is not None


def _is_quote(came: bytes) -> bool:
    printing = re.fullmatch(rb"[\r\n -~]+\r\n", came) is not None
    return printing and len(came) < _QUOTE and not _is_daytime(came)


def _is_time(came: bytes) -> bool:
    now = int.from_bytes(time_octets(time.time()), "big")
    # The difference goes the short way round: in 2036 it begins again at zero.
    late = (int.from_bytes(came, "big") - now + _DAY) % 2**32
    return len(came) == 4 and late <= 2 * _DAY
