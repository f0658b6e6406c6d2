"""What echosvc has promised to reach, and whether it has. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from bench.rivals import C_AGAIN, ECHOSVC, TWISTED, UVLOOP, C
from bench.summary import Results, ratio, rows

__all__ = ["GOALS", "Goal", "Verdict", "judge"]


@attrs.frozen
class Goal:
    """A limit for one figure of echosvc.

    Attributes:
        work: The name of the work.
        figure: Which figure.
        sense: Whether it may be at most or must be at least the limit.
        limit: A ratio; or the figure itself where `against` is None.
        against: The rival by whose figure echosvc's is divided.
    """

    work: str
    figure: str
    sense: Literal["<=", ">="]
    limit: float
    against: str | None = C


@attrs.frozen
class Verdict:
    """What a run says about a goal.

    Attributes:
        goal: The goal.
        value: What was measured, in the goal's terms.
        noise: The same ratio between C and C; None where the goal is not a ratio to C or it was not measured.
    """

    goal: Goal
    value: float
    noise: float | None

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal.limit if self.goal.sense == "<=" else self.value >= self.goal.limit


GOALS: tuple[Goal, ...] = (
    Goal("tcp-1", "p50", "<=", 1.20),
    Goal("tcp-50", "cpu", "<=", 1.20),
    Goal("tcp-50", "cpu", "<=", 1.03, UVLOOP),
    Goal("tcp-50", "rate", ">=", 2.20, TWISTED),
    Goal("tcp-200", "cpu", "<=", 1.20),
    Goal("tcp-200", "cpu", "<=", 1.03, UVLOOP),
    Goal("tcp-200", "rate", ">=", 2.20, TWISTED),
    Goal("tcp-64k", "rate", ">=", 0.95),
    Goal("tcp-1m", "rate", ">=", 0.95),
    Goal("connect", "cpu", "<=", 1.50),
    Goal("idle", "memory", "<=", 2048, None),
    Goal("udp-1", "rate", ">=", 1.15),
    Goal("udp-1", "cpu", "<=", 0.85),
    Goal("udp-50", "rate", ">=", 1.00),
    Goal("udp-50", "cpu", "<=", 1.00),
    Goal("udp-segments", "rate", ">=", 3.00),
)


def judge(results: Results, goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """Hold a run against the goals.

    Args:
        results: What the run has measured.
        goals: The goals.

    Returns:
        A verdict for each goal for which this run has the figures.
    """
    verdicts = []
    for goal in goals:
        work = results.get(goal.work, {})
        noise = None
        if goal.against is None:
            value = next((row.median.get(goal.figure) for row in rows(work) if row.rival == ECHOSVC), None)
        else:
            value = ratio(work, goal.figure, ECHOSVC, goal.against)
            noise = ratio(work, goal.figure, C_AGAIN, C) if goal.against == C else None
        if value is not None:
            verdicts.append(Verdict(goal, value, noise))
    return verdicts
