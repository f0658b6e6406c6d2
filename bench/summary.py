"""From what was measured in every round to medians, spreads and ratios. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import attrs

from bench.measure import Figures
from bench.rivals import C

__all__ = ["Results", "Rounds", "Row", "ratio", "rows"]

Rounds = Mapping[str, Sequence[Figures | str]]
"""From rival to what each round of one work gave: figures, or the sentence that says why there are none."""

Results = Mapping[str, Rounds]
"""The same for every work, by name."""


@attrs.frozen
class Row:
    """What all rounds say about one rival at one work.

    Attributes:
        rival: Its name.
        median: Of every figure.
        spread: Of every figure: half the distance from the lowest to the highest, as a share of the median;
            empty after a single round.
        ratio: Of every figure to C's.
        problem: Why there are no figures; empty if there are.
    """

    rival: str
    median: Figures = attrs.field(factory=dict[str, float])
    spread: Figures = attrs.field(factory=dict[str, float])
    ratio: Figures = attrs.field(factory=dict[str, float])
    problem: str = ""


def rows(results: Rounds) -> list[Row]:
    """Summarise one work.

    Args:
        results: From rival to what each round gave.

    Returns:
        A row for each rival, in the same order.
    """
    return [_row(rival, results) for rival in results]


def ratio(results: Rounds, figure: str, rival: str, base: str) -> float | None:
    """Compare two rivals at one work.

    The ratio is taken within each round, where the two were measured within a minute of each other, and the
    median of these is the answer: what changes slowly about a machine cancels out.

    Args:
        results: From rival to what each round gave.
        figure: Which figure.
        rival: Whose figure is divided.
        base: By whose.

    Returns:
        The ratio; None if they have no round in common.
    """
    pairs = zip(results.get(rival, []), results.get(base, []), strict=False)
    quotients = [
        one[figure] / other[figure]
        for one, other in pairs
        if not isinstance(one, str) and not isinstance(other, str) and figure in one and other.get(figure)
    ]
    return statistics.median(quotients) if quotients else None


def _row(rival: str, results: Rounds) -> Row:
    measured = [figures for figures in results[rival] if not isinstance(figures, str)]
    if not measured:
        return Row(rival, problem=next((str(problem) for problem in results[rival]), "not measured"))
    names = list(measured[0])
    return Row(
        rival,
        median={name: statistics.median(_values(measured, name)) for name in names},
        spread={name: _spread(_values(measured, name)) for name in names if len(measured) > 1},
        ratio={name: quotient for name in names if (quotient := ratio(results, name, rival, C)) is not None},
    )


def _values(measured: Iterable[Figures], name: str) -> list[float]:
    return [figures[name] for figures in measured]


def _spread(values: list[float]) -> float:
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0
