"""Numbers as options have them: text, of which everything that is not meant is refused with the option's name."""

from __future__ import annotations

import re

from echosvc.errors import InvalidOption

__all__ = [
    "number",
    "on_or_off",
    "port",
    "rate",
    "seconds",
    "seconds_or_none",
    "seconds_or_off",
    "share",
    "share_text",
    "word",
]


def number(option: str, value: str, low: int, high: int, also: str = "") -> int:
    """Read a whole number in ASCII digits; `int` alone would take "1_0", " 1" and other scripts' digits.

    Args:
        option: As typed, for example ``--port``.
        value: As typed.
        low: The least.
        high: The most.
        also: What else would be right, for the error.

    Raises:
        InvalidOption: It is none, or out of these bounds.
    """
    if re.fullmatch(r"[0-9]{1,12}", value) and low <= int(value) <= high:
        return int(value)
    raise InvalidOption(option, value, f"must be a number from {low} to {high}{also}")


def word(value: str, *words: str) -> str:
    """Return the word that an option's value is, in any case; a value that is none of them as it is.

    A configuration file is as exact about words as TOML is about its own (``true``).
    """
    return value.lower() if value.lower() in words else value


def on_or_off(option: str, value: str) -> bool:
    """Read whether something is wanted.

    Raises:
        InvalidOption: It is neither ``on`` nor ``off``.
    """
    if (said := word(value, "on", "off")) not in ("on", "off"):
        raise InvalidOption(option, value, "must be on or off")
    return said == "on"


def port(option: str, value: str, *, off: bool = False) -> int:
    """Read the number of a port; ``off`` is for the error."""
    return number(option, value, 0, 65535, ", or off" if off else "")


def seconds(option: str, value: str) -> float:
    """Read a time in seconds.

    Raises:
        InvalidOption: It is none, or not above 0.
    """
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) and float(value) > 0:
        return float(value)
    raise InvalidOption(option, value, "must be a number of seconds above 0, for example 60 or 0.5")


def seconds_or_none(option: str, value: str) -> float:
    """Read a time in seconds, which may be 0.

    Raises:
        InvalidOption: It is none.
    """
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", value):
        return float(value)
    raise InvalidOption(option, value, "must be a number of seconds, for example 30; 0 waits for nobody")


def seconds_or_off(option: str, value: str) -> float:
    """Read a time that is exact to a second; 0 and ``off`` are 0.

    Raises:
        InvalidOption: It is none, or less than a second.
    """
    if word(value, "off") == "off":
        return 0.0
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) and not 0 < float(value) < 1:
        return float(value)
    raise InvalidOption(option, value, "must be a number of seconds from 1, to which it is exact, or off")


def rate(option: str, value: str) -> float:
    """Read how many there may be in a second.

    Raises:
        InvalidOption: It is no number, or too small or too large for one.
    """
    if re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", value) and 0.001 <= float(value) <= 1e6:
        return float(value)
    raise InvalidOption(option, value, "must be a number from 0.001 to 1000000")


def share(value: str) -> int:
    """Read of how many one is meant: ``on`` is 1, ``1/100`` is 100, ``off`` is 0.

    Raises:
        ValueError: It is none of these.
    """
    if value in ("off", "on"):
        return int(value == "on")
    if re.fullmatch(r"1/[1-9][0-9]{0,6}", value):
        return int(value[2:])
    raise ValueError("must be off, on, or 1/N for one in N, such as 1/100")


def share_text(one_in: int) -> str:
    """Write what `share` would read."""
    return ("off", "on")[one_in] if one_in < 2 else f"1/{one_in}"
