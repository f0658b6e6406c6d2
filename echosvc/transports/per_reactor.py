"""Things of which a reactor has one, however many ports share them."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["per_reactor"]

_T = TypeVar("_T")


def per_reactor(reactor: Any, kind: type[_T]) -> _T:
    """Return what a reactor has one of: always the same one. The reactor itself keeps it, so that both end together.

    Args:
        reactor: Any reactor, or a test's clock; not a hub.
        kind: Its class, which is called with the reactor when it is first asked for.
    """
    name = f"_echosvc_{kind.__name__}"
    kept = vars(reactor)
    if name not in kept:
        make: Any = kind
        setattr(reactor, name, make(reactor))
    found: _T = kept[name]
    return found
