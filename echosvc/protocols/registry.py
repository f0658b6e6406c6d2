"""Which wire protocols there are, by name: ours, those that a program registers, and those that packages bring."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from echosvc.protocols.chargen import CHARGEN
from echosvc.protocols.daytime import DAYTIME
from echosvc.protocols.discard import DISCARD
from echosvc.protocols.echo import ECHO
from echosvc.protocols.qotd import QOTD
from echosvc.protocols.time import TIME
from echosvc.protocols.wire import WireProtocol

__all__ = ["GROUP", "KnownProtocol", "find", "known", "register"]

GROUP = "echosvc.protocols"
"""The group of entry points by which a package brings protocols."""

_registered: dict[str, WireProtocol] = {}


@attrs.frozen(kw_only=True)
class KnownProtocol:
    """A name under which a protocol can be asked for.

    Attributes:
        name: The name.
        wire: The protocol; None if it cannot be had.
        provider: Which package brings it, with its version.
        problem: Why it cannot be had; None if it can.
    """

    name: str
    wire: WireProtocol | None
    provider: str
    problem: str | None = None


def register(wire: WireProtocol) -> WireProtocol:
    """Make a wire protocol known, so that a listener can name it.

    Args:
        wire: The protocol. It must have a stream or a datagram form.

    Returns:
        The same protocol.

    Raises:
        ValueError: The name is taken by another protocol, or the protocol has neither form.
    """
    if wire.stream is None and wire.datagram is None:
        raise ValueError(f"{wire.name}: a wire protocol needs a stream or a datagram form")
    if _registered.setdefault(wire.name, wire) is not wire:
        raise ValueError(f"{wire.name}: there is already a protocol of this name")
    return wire


def find(name: str) -> WireProtocol:
    """Look up a wire protocol.

    Args:
        name: Its name, for example ``echo``; or ``package.module:object``, which is imported. The object is a
            `WireProtocol`, or a Twisted protocol or factory class, which is made one.

    Raises:
        ValueError: There is none, or it cannot be had; the message says why, and which names are near.
    """
    if ":" in name:
        return _imported(name)
    if name in _registered:
        return _registered[name]
    for point in _entry_points(name):
        return _loaded(point)
    names = [*_registered, *(point.name for point in _entry_points())]
    near = difflib.get_close_matches(name.lower(), names, 1)
    hint = f"did you mean {near[0]}?" if near else "`echosvc protocols` lists them"
    raise ValueError(f"there is no protocol {name!r}; {hint}")


def known() -> list[KnownProtocol]:
    """List all names, sorted. One that cannot be had is listed with the reason, and stops nothing."""
    found = [
        KnownProtocol(name=name, wire=wire, provider="echosvc" if wire in _BUILT_IN else "this program")
        for name, wire in _registered.items()
    ]
    for point in _entry_points():
        provider = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        if any(each.name == point.name for each in found):
            found.append(_broken(point.name, provider, "the name is taken by the one above"))
            continue
        try:
            found.append(KnownProtocol(name=point.name, wire=_loaded(point), provider=provider))
        except ValueError as problem:
            found.append(_broken(point.name, provider, str(problem)))
    return sorted(found, key=lambda each: each.name)


def _entry_points(name: str | None = None) -> Iterator[EntryPoint]:
    return iter(entry_points(group=GROUP) if name is None else entry_points(group=GROUP, name=name))


def _broken(name: str, provider: str, problem: str) -> KnownProtocol:
    return KnownProtocol(name=name, wire=None, provider=provider, problem=problem)


def _loaded(point: EntryPoint) -> WireProtocol:
    try:
        found = point.load()
    except (Exception, SystemExit) as problem:  # a script that ends itself must not end us
        raise _unusable(point.name, problem) from problem
    return _as_wire(found, point.name)


def _imported(path: str) -> WireProtocol:
    """Import ``package.module:object``, also from the folder we were started in."""
    module_name, _, attribute = path.partition(":")
    sys.path.insert(0, "")  # twistd's own script does not look here
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as problem:  # a script that ends itself must not end us
        raise _unusable(path, problem) from problem
    finally:
        sys.path.remove("")
    return _as_wire(found, attribute)


def _unusable(name: str, problem: BaseException) -> ValueError:
    """Whatever somebody else's module raises when it is imported, in one line."""
    words = [f"protocol {name} cannot be loaded", type(problem).__name__, " ".join(str(problem).split())]
    return ValueError(": ".join(filter(None, words)))


def _as_wire(found: Any, name: str) -> WireProtocol:
    """Take an object for a wire protocol, whichever of the usual things it is."""
    if isinstance(found, WireProtocol):
        if found.stream is None and found.datagram is None:
            raise ValueError(f"{name}: a wire protocol needs a stream or a datagram form")
        return found
    make = functools.partial(
        WireProtocol, name=name, rfc="none", summary=(found.__doc__ or "").strip().partition("\n")[0]
    )
    if isinstance(found, type) and issubclass(found, DatagramProtocol):
        return make(datagram=found)
    if isinstance(found, type) and issubclass(found, Protocol):
        return make(stream=lambda: _quiet(Factory.forProtocol(found)))
    if isinstance(found, type) and IProtocolFactory.implementedBy(found):
        return make(stream=found)
    raise ValueError(
        f"{name} is {found!r:.60}, not a WireProtocol, nor a class of Protocol, Factory or DatagramProtocol"
    )


def _quiet(factory: Any) -> IProtocolFactory:
    factory.noisy = False
    made: IProtocolFactory = factory
    return made


_BUILT_IN = (CHARGEN, DAYTIME, DISCARD, ECHO, QOTD, TIME)
for _each in _BUILT_IN:
    register(_each)
