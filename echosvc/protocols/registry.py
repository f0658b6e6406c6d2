"""Which wire protocols there are, by name: ours, those that a program registers, and those that packages bring."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
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
        ValueError: The name is taken by another protocol, or the protocol has neither form, or its options are of
            no attrs class.
    """
    _check(wire, wire.name)
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
    points = [point for package in _packages() for point in package.points]
    for point in points:
        if point.name == name:
            return _loaded(point)
    names = [*_registered, *(point.name for point in points)]
    near = difflib.get_close_matches(name.lower(), names, 1)
    hint = f"did you mean {near[0]}?" if near else "`echosvc protocols` lists them"
    raise ValueError(f"there is no protocol {name!r}; {hint}")


def known() -> list[KnownProtocol]:
    """List all names, sorted. One that cannot be had is listed with the reason, and stops nothing."""
    found = [
        KnownProtocol(name=name, wire=wire, provider="echosvc" if wire in _BUILT_IN else "this program")
        for name, wire in _registered.items()
    ]
    damaged = []
    for package in _packages():
        if package.problem is not None:
            damaged.append(_broken(package.name, package.provider, package.problem))
        for point in package.points:
            if any(each.name == point.name for each in found):
                found.append(_broken(point.name, package.provider, "the name is taken by the one above"))
                continue
            try:
                found.append(KnownProtocol(name=point.name, wire=_loaded(point), provider=package.provider))
            except ValueError as problem:
                found.append(_broken(point.name, package.provider, str(problem)))
    return sorted(found + damaged, key=lambda each: each.name)


@attrs.frozen
class _Package:
    """An installed package that brings protocols, or says that it does in a way that nobody understands."""

    name: str
    provider: str
    points: Sequence[EntryPoint] = ()
    problem: str | None = None


def _packages() -> Iterator[_Package]:
    """Ask every package by itself: `importlib.metadata.entry_points` gives nothing at all if one is damaged."""
    seen = set()
    for package in distributions():
        if not _names_our_group(package):
            continue
        name, version = _name_and_version(package)
        if name in seen:  # an older one, further back on the path
            continue
        if name is not None:
            seen.add(name)
        name = name or "unknown"
        provider = f"{name} {version or '?'}"
        try:
            points = [point for point in package.entry_points if point.group == GROUP]
        except Exception as problem:  # noqa: BLE001  # whatever the parser meets in what somebody wrote
            said = f"its entry_points.txt is damaged: {_one_line(problem)}"
            yield _Package(name, provider, problem=said)
        else:
            yield _Package(name, provider, points)


def _names_our_group(package: Distribution) -> bool:
    try:
        return GROUP in (package.read_text("entry_points.txt") or "")
    except UnicodeDecodeError as problem:
        return GROUP.encode() in problem.object
    except Exception:  # noqa: BLE001  # nothing of it can be read
        return False


def _name_and_version(package: Distribution) -> tuple[str | None, str | None]:
    """Return what a package's METADATA says of it; None for what it does not say, or if there is none.

    `Distribution.name` does not: without METADATA it is a DeprecationWarning since Python 3.12, and an error later.
    """
    try:
        said = package.metadata
    except Exception:  # noqa: BLE001  # it cannot be read, or there is none
        return None, None
    found = {key: said[key] for key in ("Name", "Version") if key in said}
    return found.get("Name"), found.get("Version")


def _broken(name: str, provider: str, problem: str) -> KnownProtocol:
    return KnownProtocol(name=name, wire=None, provider=provider, problem=problem)


def _loaded(point: EntryPoint) -> WireProtocol:
    try:
        found = point.load()
    except (Exception, SystemExit) as problem:  # a script that ends itself must not end us
        raise _unusable(point.name, problem) from problem
    return _as_wire(found, point.name)


def _imported(path: str) -> WireProtocol:
    """Import ``package.module:object``, also from the folder we were started in.

    That folder stays at the end of the path, for what the module imports later.
    """
    module_name, _, attribute = path.partition(":")
    here = ""
    with contextlib.suppress(FileNotFoundError):  # the folder is gone
        here = str(Path.cwd())  # twistd is in another folder later
    sys.path.insert(0, here)  # twistd's own script does not look here
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as problem:  # a script that ends itself must not end us
        raise _unusable(path, problem) from problem
    finally:
        with contextlib.suppress(ValueError):  # the module has done it
            sys.path.remove(here)
    if here and here not in sys.path:
        sys.path.append(here)
    return _as_wire(found, attribute)


def _unusable(name: str, problem: BaseException) -> ValueError:
    """Whatever somebody else's module raises when it is imported, in one line."""
    return ValueError(f"protocol {name} cannot be loaded: {_one_line(problem)}")


def _one_line(problem: BaseException) -> str:
    return ": ".join(filter(None, [type(problem).__name__, " ".join(str(problem).split())]))


def _check(wire: WireProtocol, name: str) -> None:
    if wire.stream is None and wire.datagram is None:
        raise ValueError(f"{name}: a wire protocol needs a stream or a datagram form")
    if wire.options is not None and not attrs.has(wire.options):
        raise ValueError(f"{name}: its options are {wire.options!r:.60}, which is no attrs class")


def _as_wire(found: Any, name: str) -> WireProtocol:
    """Take an object for a wire protocol, whichever of the usual things it is."""
    if isinstance(found, WireProtocol):
        _check(found, name)
        return found
    make = functools.partial(
        WireProtocol, name=name, rfc="none", summary=(found.__doc__ or "").strip().partition("\n")[0]
    )
    if isinstance(found, type) and issubclass(found, DatagramProtocol):
        return make(datagram=found)
    if isinstance(found, type) and issubclass(found, Protocol):
        return make(stream=functools.partial(_factory_of, found))
    if isinstance(found, type) and IProtocolFactory.implementedBy(found):
        return make(stream=found)
    raise ValueError(
        f"{name} is {found!r:.60}, not a WireProtocol, nor a class of Protocol, Factory or DatagramProtocol"
    )


def _factory_of(protocol: type[Protocol]) -> IProtocolFactory:
    protocol()  # one that needs arguments is found now, and not by the first client
    factory: Any = Factory.forProtocol(protocol)
    factory.noisy = False
    made: IProtocolFactory = factory
    return made


_BUILT_IN = (CHARGEN, DAYTIME, DISCARD, ECHO, QOTD, TIME)
for _each in _BUILT_IN:
    register(_each)
