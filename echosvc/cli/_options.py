"""What the commands have in common on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["CONNECT_TIMEOUT", "Seconds", "exit_codes", "target_argument", "udp_option"]

_C = TypeVar("_C", bound=Callable[..., Any])

#: Seconds for a name lookup and a connection together.
CONNECT_TIMEOUT = 10.0

#: The longest time that can be asked for, in seconds: a day.
_LONGEST = 86_400.0


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A time span in seconds: a number of at least a millisecond and at most a day."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Turn what was typed into seconds, or end with a usage error."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0.001 <= seconds <= _LONGEST:  # false for NaN, too
            self.fail(f"{value} is not a number of seconds from 0.001 to {_LONGEST:g}", param, ctx)
        return seconds


def target_argument(command: _C) -> _C:
    """Add the target: ``HOST PORT`` or one argument."""
    return click.argument("target", nargs=-1, required=True, metavar="HOST PORT")(command)


def udp_option(command: _C) -> _C:
    """Add ``--udp``."""
    return click.option("--udp", is_flag=True, help="Ask over UDP. The same as udp:HOST:PORT.")(command)


def exit_codes(*unusual: str) -> str:
    """Write the part of a help page that tells the exit codes."""
    lines = (
        "0   every byte came back the same",
        "1   something did not come back: lost, late, or the connection ended first",
        "64  an option or the target makes no sense",
        "68  the host name has no address",
        "69  refused, or not reachable",
        "74  standard input or output failed",
        "76  what came back is not what was sent",
        *unusual,
    )
    return "\b\nExit codes:\n" + "\n".join(f"  {line}" for line in lines)
