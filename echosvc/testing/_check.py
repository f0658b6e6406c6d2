"""What the doubles ask of whoever uses them, and the sentences in which they do."""

from __future__ import annotations

__all__ = ["positive", "raw"]


def raw(what: str, data: object) -> None:
    """Insist on bytes.

    Args:
        what: What was called, for example ``send()``.
        data: What it was called with.

    Raises:
        TypeError: It is not bytes, a bytearray or a memoryview.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        hint = "; write b'…', or encode the text" if isinstance(data, str) else ""
        raise TypeError(f"{what} takes bytes, not {type(data).__name__}{hint}")


def positive(what: str, number: int) -> None:
    """Insist on a number of bytes above zero.

    Args:
        what: The argument's name.
        number: What was given for it.

    Raises:
        ValueError: It is zero or less.
    """
    if number <= 0:
        raise ValueError(f"{what} is a number of bytes above zero, not {number}")
