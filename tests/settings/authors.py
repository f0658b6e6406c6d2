"""Records as the author of a protocol might write them: annotations are text here, and found out later."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs import validators

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "Bare",
    "Checked",
    "Colour",
    "Empty",
    "Inner",
    "NotYetImported",
    "Plain",
    "Related",
    "Rich",
    "Tree",
    "Unsupported",
]


class Colour(enum.Enum):
    """A choice with names."""

    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Empty:
    """Nothing to say."""


@attrs.frozen
class Plain:
    """One attribute of each plain type; the last must be given."""

    text: str = "a"
    whole: int = 1
    real: float = 1.0
    is_on: bool = False
    maybe: int | None = None
    anything: Any = None
    must_be_given: int = attrs.field(kw_only=True)


@attrs.frozen
class Bare:
    """An attribute of which nothing is said."""

    thing = attrs.field(default=None)  # type: ignore[var-annotated]  # it is the point


@attrs.frozen
class Inner:
    """A table within a table."""

    full_size: int
    note: str | None = None


@attrs.frozen
class Rich:
    """Lists, tables and choices."""

    sizes: list[int] = attrs.Factory(list)
    grid: list[list[int]] = attrs.Factory(list)
    words: tuple[str, ...] = ()
    both: tuple[int, str] = (1, "a")
    names: Sequence[str] = ()
    loose: list = attrs.Factory(list)  # type: ignore[type-arg]  # as careless as people are
    loose_tuple: tuple = ()  # type: ignore[type-arg]
    limits: Mapping[str, int] = attrs.Factory(dict)
    loose_table: dict = attrs.Factory(dict)  # type: ignore[type-arg]
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    side: Literal["left", "right"] = "left"
    colour: Colour = Colour.RED
    file: Path = Path("/dev/null")
    _secret: int = 0
    computed: int = attrs.field(default=7, init=False)


@attrs.frozen
class Tree:
    """A table that has tables of its own kind."""

    branches: list[Tree] = attrs.Factory(list)


def _positive(value: int) -> int:
    return abs(value)


@attrs.frozen
class Checked:
    """Values that are checked: by attrs, by the author's own methods, and by the whole class at last."""

    mood: str = attrs.field(default="good", validator=validators.in_(["good", "bad"]))
    max_size: int = attrs.field(default=3, validator=validators.ge(3))
    host_name: str = attrs.field(default="a", validator=validators.matches_re("[a-z]+"))
    day: Any = attrs.field(default=1, validator=validators.instance_of(int))
    a: str = ""  # "a" stands in many a message
    rate: float = attrs.field(default=1.0)
    idle_time: int = attrs.field(default=1)
    port: int = attrs.field(default=1, converter=_positive, validator=validators.lt(10))

    @rate.validator
    def _check_rate(self, attribute: Any, value: float) -> None:
        if value < 0:
            raise ValueError("rate is a number above zero")
        if value > 1000:
            raise KeyError("far too fast")
        if value > 100:
            raise ValueError("too fast")

    @idle_time.validator
    def _check_idle_time(self, attribute: Any, value: int) -> None:
        if value < 0:
            raise ValueError(f"{attribute.name} or idle_time: both are my name")
        if value == 0:
            raise ValueError("an idle_time is more than nothing")

    def __attrs_post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.max_size > 100:
            raise ValueError("mood is spoilt by a max_size above 100;\nuse max_size 100")
        if self.max_size > 75:
            raise ValueError("the max-size's greatest value is 75, as max-size-limit says")
        if self.max_size > 50:
            raise ValueError("that will not do")


@attrs.frozen
class Related:
    """A value whose check looks at another."""

    low: int = attrs.field()
    high: int = 10

    @low.validator
    def _check_low(self, attribute: Any, value: int) -> None:
        if value > self.high:
            raise ValueError("low is above high")


@attrs.frozen
class Unsupported:
    """A type that no table has."""

    when: timedelta = timedelta(0)


@attrs.frozen
class NotYetImported:
    """A type that is there for type checkers alone."""

    amount: Decimal | None = None
