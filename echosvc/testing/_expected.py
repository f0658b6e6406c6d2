"""What a test expects of a protocol, and in which words it says that something else came."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, TypeAlias

__all__ = ["ANYTHING", "Anything", "Expected", "difference", "excerpt"]


class Anything(Enum):
    """The type of `ANYTHING`."""

    ANYTHING = "anything"


ANYTHING: Final = Anything.ANYTHING
"""No statement is made about the answer itself."""

Expected: TypeAlias = bytes | re.Pattern[bytes] | Anything | None
"""An answer: just these bytes; bytes that match the whole pattern; `ANYTHING`; None for no answer at all."""

#: Bytes shown on either side of the first difference.
_AROUND = 20


def excerpt(data: bytes, at: int = 0) -> str:
    """Show the bytes around a place, and how many there are in all."""
    start, end = max(0, at - _AROUND), at + _AROUND
    shown = f"{'…' if start else ''}{data[start:end]!r}{'…' if end < len(data) else ''}"
    return f"{shown} ({len(data)} bytes)"


def difference(
    expected: bytes | re.Pattern[bytes] | None, got: bytes | None, *, beginning: bool = False
) -> str | None:
    """Say how an answer differs from what was expected.

    Args:
        expected: The answer as it should be.
        got: The answer; None for none.
        beginning: Only the beginning of `got` is compared.

    Returns:
        A sentence, or None if it does not differ.
    """
    if expected is None:
        return None if got is None else f"no answer was expected, and it answered {excerpt(got)}"
    if got is None:
        wanted = excerpt(expected) if isinstance(expected, bytes) else f"a match of {expected.pattern!r}"
        return f"expected {wanted}, and it did not answer"
    if isinstance(expected, re.Pattern):
        found = expected.match(got) if beginning else expected.fullmatch(got)
        return None if found else f"the answer {excerpt(got)} does not match {expected.pattern!r}"
    if got == expected or (beginning and got.startswith(expected)):
        return None
    at = next((i for i, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        at = min(len(expected), len(got))
    return f"expected {excerpt(expected, at)}, got {excerpt(got, at)}: they differ from byte {at} on"
