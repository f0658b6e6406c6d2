"""``echosvc protocols``: what can be spoken, and who brings it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from echosvc.cli._output import Output

if TYPE_CHECKING:
    from echosvc.protocols import KnownProtocol

__all__ = ["protocols"]


@click.command()
def protocols() -> None:
    """List the protocols that a listener can speak, and which package brings each.

    A package brings one by an entry point in the group echosvc.protocols; see docs/extending.md. One that cannot be
    loaded is listed with the reason.
    """
    from echosvc.protocols import known  # noqa: PLC0415  # a help page need not wait for Twisted

    output = Output()
    rows = [("NAME", "RFC", "FORMS", "FROM", "SUMMARY"), *(_row(each) for each in known())]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for row in rows:
        output.line(_line(row, widths))


def _row(each: KnownProtocol) -> tuple[str, ...]:
    if each.wire is None:
        return each.name, "-", "broken", each.provider, each.problem or ""
    forms = [form for form in ("stream", "datagram") if getattr(each.wire, form) is not None]
    return each.name, each.wire.rfc.removeprefix("RFC "), "+".join(forms), each.provider, each.wire.summary


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, row[-1]])
