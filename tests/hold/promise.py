"""What a promise is, and how its outcome is written.

A promise is a function that is given a `Run`, uses the service and returns the figures it saw. It raises
`Broken` when the service did something else, and `Skipped` when this machine cannot show it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tests.hold.carriers import Carrier
from tests.hold.run import Run, Subject

__all__ = [
    "KEEPS",
    "Broken",
    "Promise",
    "Result",
    "Skipped",
    "as_is_known",
    "carried",
    "kept",
    "promise",
    "select",
    "summary",
]

#: What the figures of a control begin with that keeps a promise.
KEEPS = "keeps it: "


class Broken(Exception):
    """The promise was not kept; `str()` is the figures."""


class Skipped(Exception):
    """This machine cannot show it; `str()` says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One promise.

    Attributes:
        name: A number, perhaps with a word: ``T01``, ``T11-close``.
        text: What is promised, in one line.
        deadline: Seconds after which it counts as broken and everything it started is killed.
        known: How others come out, the service without its guard among them: a pattern that must be found
            in their figures, so that a control which fails for another reason is noticed.
        keep: Shows it; returns the figures.
        carrier: Over what its clients connect.
    """

    name: str
    text: str
    deadline: float
    known: Mapping[Subject, str]
    keep: Callable[[Run], str]
    carrier: Carrier = Carrier.TCP


@dataclass(frozen=True)
class Result:
    """How one promise came out.

    Attributes:
        name: The promise's name.
        outcome: What is counted.
        figures: What was seen.
        subject: Who was tested: others than the service pass by coming out as is known of them.
    """

    name: str
    outcome: Literal["pass", "fail", "skip"]
    figures: str
    subject: Subject = Subject.SERVICE

    def __str__(self) -> str:
        """Write it as one line."""
        if self.subject is Subject.SERVICE:
            return f"{self.name} {self.outcome} {self.figures}"
        words = {"pass": "as it must", "fail": "NOT as it must", "skip": "skip"}
        return f"{self.name} {self.subject.value}, {words[self.outcome]}: {self.figures}"


def promise(
    name: str,
    text: str,
    *,
    deadline: float,
    stock: str | None = None,
    xinetd: str | None = None,
    unguarded: str | None = None,
    carrier: Carrier = Carrier.TCP,
) -> Callable[[Callable[[Run], str]], Promise]:
    """Make a function a promise.

    Args:
        name: As `Promise` has it, like `text` and `deadline`.
        text: Likewise.
        deadline: Likewise.
        stock: What is known of stock Twisted; None if it is no control of this promise.
        xinetd: What is known of xinetd; `KEEPS` if it keeps it.
        unguarded: What the service does without its guard (`tests.hold.unguarded`).
        carrier: As `Promise` has it.
    """
    patterns = {Subject.STOCK: stock, Subject.XINETD: xinetd, Subject.UNGUARDED: unguarded}
    known = {who: pattern for who, pattern in patterns.items() if pattern is not None}

    def make(keep: Callable[[Run], str]) -> Promise:
        return Promise(name=name, text=text, deadline=deadline, known=known, keep=keep, carrier=carrier)

    return make


F = TypeVar("F")


def carried(
    name: str,
    text: str,
    over: Mapping[Carrier, F],
    *,
    deadline: float,
    stock: str | None = None,
    xinetd: str | None = None,
    unguarded: str | None = None,
) -> Callable[[Callable[[Run, F], str]], tuple[Promise, ...]]:
    """Make a function a promise over each of some carriers (`tests.hold.carriers`).

    Args:
        name: As `promise` has it, like `deadline` and `unguarded`; of others than plain TCP the carrier follows.
        text: Likewise; ``{over}`` says over what, and the attributes of a carrier's figures are there by name.
        over: The figures of each carrier over which this means something.
        deadline: Likewise.
        stock: As `promise` has it. Others serve plain TCP alone.
        xinetd: Likewise.
        unguarded: Likewise.
    """

    def make(keep: Callable[[Run, F], str]) -> tuple[Promise, ...]:
        return tuple(one(carrier, figures, keep) for carrier, figures in over.items())

    def one(carrier: Carrier, figures: F, keep: Callable[[Run, F], str]) -> Promise:
        is_plain = carrier is Carrier.TCP
        return promise(
            carrier.of(name),
            text.format(over=carrier.words, **getattr(figures, "__dict__", {})),
            deadline=deadline,
            stock=stock if is_plain else None,
            xinetd=xinetd if is_plain else None,
            unguarded=unguarded,
            carrier=carrier,
        )(lambda run: keep(run, figures))

    return make


def select(wanted: Iterable[str], among: Sequence[Promise]) -> list[Promise]:
    """Find promises by name.

    Args:
        wanted: Names, in any case. ``T11`` also means every ``T11-…``. None at all means all.
        among: Where to look.

    Returns:
        What was found, in the order of `among`.

    Raises:
        KeyError: One of the names is not known.
    """
    found: set[str] = set()
    for word in wanted:
        matching = {each.name for each in among if _matches(word, each.name)}
        if not matching:
            raise KeyError(word)
        found |= matching
    return [each for each in among if each.name in found or not found]


def _matches(word: str, name: str) -> bool:
    return word.upper() in (name.upper(), name.upper().partition("-")[0])


def kept(condition: object, figures: str) -> None:
    """Go on if the condition holds.

    Raises:
        Broken: It does not.
    """
    if not condition:
        raise Broken(figures)


def as_is_known(each: Promise, subject: Subject, figures: str) -> bool:
    """Tell whether these figures show what is known of a control and not another fault."""
    return re.search(each.known[subject], figures) is not None


def summary(results: Iterable[Result]) -> str:
    """Write the last line: ``5 passed, 0 failed, 1 skipped``."""
    outcomes = [each.outcome for each in results]
    return (
        f"{outcomes.count('pass')} passed, {outcomes.count('fail')} failed, {outcomes.count('skip')} skipped"
    )
