"""Which promise rests on what, and how that is switched off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["GUARDS", "guard_of", "replace", "switch_off"]

#: By the name of a promise: what switches its guard off.
GUARDS: dict[str, Callable[[], None]] = {}


def guard_of(*names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Make a function the one that switches off what promises rest on.

    Args:
        names: The promises.
    """

    def register(off: Callable[[], None]) -> Callable[[], None]:
        GUARDS.update(dict.fromkeys(names, off))
        return off

    return register


def replace(owner: Any, name: str, new: Any) -> Any:
    """Put something in the place of what a class or module has.

    Returns:
        What was there.

    Raises:
        AttributeError: There is nothing of that name: the guard is somewhere else now.
    """
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


def switch_off(name: str) -> None:
    """Do without the guard of a promise, from now on and in this process.

    Args:
        name: The promise.

    Raises:
        KeyError: It has none.
    """
    GUARDS[name]()
