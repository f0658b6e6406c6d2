"""From a TOML file to settings. All mistakes are found at once, each with file and line."""

from __future__ import annotations

import contextlib
import re
import tomllib
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import attrs

from echosvc.admission import DoorSettings, GateSettings, Limits, ScreenSettings, read_networks
from echosvc.errors import InvalidConfig, InvalidListener
from echosvc.listeners import Endpoint, ListenerSettings, TLSSettings, check_listeners, parse_endpoint
from echosvc.listeners.literals import parse_networks
from echosvc.listeners.settings import Inherited, Network
from echosvc.protocols import WireProtocol, find
from echosvc.settings.admin import admin_settings
from echosvc.settings.lines import key_lines
from echosvc.settings.model import (
    Defaults,
    FileTable,
    LimitsTable,
    ListenerTable,
    Settings,
    Strings,
    TLSTable,
)
from echosvc.settings.structure import Key, Mistake, Mistakes, structure
from echosvc.settings.values import share

__all__ = ["read_config"]

T = TypeVar("T")

#: How a file names what settings name otherwise.
_KEYS = {"cert_dir": "certdir", "client_ca": "client-ca"}


def read_config(path: str, *, files: bool = True) -> Settings:
    """Read what a file says.

    Args:
        path: A TOML file with tables ``[[listener]]`` and perhaps ``[limits]`` and ``[defaults]``.
        files: Try whether the listeners can be opened as they are described, by reading the files that they name, for one.

    Returns:
        What to listen on, and how. Nothing has been opened.

    Raises:
        InvalidConfig: The file cannot be read or used; all its mistakes are in the error.
    """
    if not path:
        raise InvalidConfig(["the name of the configuration file is empty: give the path of a TOML file"])
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as problem:  # the latter if no file could have such a name
        raise InvalidConfig([f"{path}: {getattr(problem, 'strerror', problem)}"]) from problem
    try:
        text = data.decode("utf-8-sig")  # Windows' editors begin a file with a mark
        table = tomllib.loads(text)
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise InvalidConfig([f"{path}:{line}: not UTF-8, which TOML is: {problem.reason}"]) from problem
    except (
        ValueError,
        RecursionError,
    ) as problem:  # also a number of 5000 digits, a list in a list in a list ...
        raise InvalidConfig([_not_toml(path, str(problem))]) from problem
    return _Reader(path, text, files=files).read(table)


def _not_toml(path: str, problem: str) -> str:
    """Put the line, which `tomllib` puts last, where it stands in all other messages."""
    said = re.fullmatch(r"(.*) \(at line ([0-9]+), column [0-9]+\)", problem, re.DOTALL)
    return f"{path}:{said[2]}: not TOML: {said[1]}" if said else f"{path}: not TOML: {problem}"


class _Reader:
    """Reads one file.

    Args:
        path: Its name.
        text: What stands in it.
        files: As in `read_config`.
    """

    def __init__(self, path: str, text: str, *, files: bool = True) -> None:
        self._files = files
        self._path = path
        self._text = text
        self._mistakes: list[Mistake] = []
        self._origins: dict[str, Key] = {}

    def read(self, table: dict[str, Any]) -> Settings:
        """Make settings of the whole, or tell all mistakes."""
        listeners: list[ListenerSettings] = []
        file = self._structured(table, FileTable, ()) or FileTable()
        for name in ("allow", "deny"):  # what is wrong with them, once, and not for each listener
            self._access(getattr(file.defaults, name), ("defaults", name))
        tables = table.get("listener", [])
        if not isinstance(tables, list):
            self._mistake(("listener",), "listener is a list of tables: write [[listener]]")
        elif not tables:
            self._mistake((), "nothing to serve; a table [[listener]] says what")
        else:
            for index, each in enumerate(tables):
                key = ("listener", index)
                if (listener := self._structured(each, ListenerTable, key)) is not None:
                    listeners += self._listeners(listener, key, file.defaults)
        admin = None if file.admin is None else self._admin(file.admin.endpoint)
        found = [(self._line(each.key), each.problem) for each in self._mistakes]
        wrong = check_listeners(listeners) if self._files else []
        found += [(self._line_of(each), each.problem) for each in wrong]
        if found:
            raise InvalidConfig(
                [self._say(*each) for each in sorted(dict.fromkeys(found), key=itemgetter(0))]
            )
        return Settings(
            listeners=tuple(listeners),
            gate=_gate(file.limits),
            admin=admin,
            **{
                **attrs.asdict(file.service, recurse=False),
                "log_connections": share(file.service.log_connections),
            },
        )

    def _structured(self, table: Any, kind: type[T], key: Key) -> T | None:
        """Make a record of a table; of what is left of it without its mistakes, so that more are found."""
        try:
            return structure(table, kind, key)
        except Mistakes as problem:
            self._mistakes += problem.found
            wrong = [each.key[len(key) :] for each in problem.found]
        for depth in (
            None,
            1,
        ):  # without the keys that are wrong, or, if that is not enough, without all that they stand in
            with contextlib.suppress(Mistakes, AttributeError):
                return structure(_without(table, [each[:depth] for each in wrong]), kind, key)
        return None

    def _mistake(self, key: Key, problem: str) -> None:
        self._mistakes.append(Mistake(key, problem))

    def _listeners(self, table: ListenerTable, key: Key, defaults: Defaults) -> list[ListenerSettings]:
        """Make a listener of each endpoint."""
        wire = self._wire(table.protocol, (*key, "protocol"))
        options = self._options(table, wire, (*key, "options"))
        proxy = self._networks(table.proxy, (*key, "proxy"))
        door = self._door(table, key, defaults)
        found = []
        for index, text in enumerate(table.endpoint):
            place = (*key, "endpoint", index)
            try:
                endpoint = parse_endpoint(text)
            except ValueError as problem:
                self._mistake(place, str(problem))
                # Like an inherited socket, it may be of any form: all else that its table says is still checked.
                endpoint = Endpoint(place=Inherited(name=f"{place}"))
            found.append(
                ListenerSettings(
                    protocol=table.protocol,
                    place=endpoint.place,
                    name=table.name or table.protocol,
                    origin=self._origin(key, place),
                    tls=self._tls(table.tls, endpoint, (*key, "tls")),
                    proxy=endpoint.proxy if proxy is None else proxy,
                    options=options,
                    backlog=_first(endpoint.backlog, table.backlog, defaults.backlog),
                    receive_buffer=_first(table.rcvbuf, defaults.rcvbuf),
                    stall_timeout=_first(table.stall_timeout, defaults.stall_timeout),
                    answer_rate=_first(table.answer_rate, defaults.answer_rate),
                    door=door,
                    screen=_screen(table, defaults),
                    log_connections=None if table.log_connections is None else share(table.log_connections),
                )
            )
        return found

    def _admin(self, text: str) -> ListenerSettings | None:
        key = ("admin", "endpoint")
        try:
            return admin_settings(text, f"{self._path}:{self._line(key)}")
        except ValueError as problem:
            self._mistake(key, f"endpoint {text!r}: {problem}")
            return None

    def _wire(self, name: str, key: Key) -> WireProtocol | None:
        try:
            return find(name)
        except ValueError as problem:
            self._mistake(key, str(problem))
            return None

    def _networks(self, values: Strings | None, key: Key) -> tuple[Network, ...] | None:
        if values is None:
            return None
        found: list[Network] = []
        for index, value in enumerate(values):
            try:
                found += parse_networks([value])
            except ValueError as problem:
                self._mistake((*key, index), str(problem))
        return tuple(found) if len(found) == len(values) else None

    def _door(self, table: ListenerTable, key: Key, defaults: Defaults) -> DoorSettings:
        return DoorSettings(
            allow=self._access(_first(table.allow, defaults.allow), (*key, "allow")),
            deny=self._access(_first(table.deny, defaults.deny), (*key, "deny")),
            limits=_limits(table),
            idle_timeout=_first(table.idle_timeout, defaults.idle_timeout),
            lifetime=_first(table.lifetime, defaults.lifetime),
            byte_rate=_first(table.byte_rate, defaults.byte_rate),
            byte_rate_total=_first(table.byte_rate_total, defaults.byte_rate_total),
            user_limits=_first(table.user_limits, defaults.user_limits),
        )

    def _access(self, values: Strings, key: Key) -> tuple[str, ...]:
        """Find out which of the values are good; files among them are read here, and again when they are used."""
        good = []
        for index, value in enumerate(values):
            try:
                read_networks([value])
            except ValueError as problem:
                if key in self._lines:  # else they are those of [defaults], and told there
                    self._mistake((*key, index), str(problem))
            else:
                good.append(value)
        return tuple(good)

    def _options(self, table: ListenerTable, wire: WireProtocol | None, key: Key) -> Any:
        """Make the protocol's own settings; None for its defaults."""
        if wire is None:
            return None
        if wire.options is None:
            if table.options:
                self._mistake(key, f"{wire.name} has no options")
            return None
        return self._structured(table.options, wire.options, key)

    def _tls(self, table: TLSTable | None, endpoint: Endpoint, key: Key) -> TLSSettings | None:
        if table is None:
            return endpoint.tls
        if endpoint.tls is not None:
            self._mistake(key, "the endpoint says tls: already; say it in one of the two places")
        if (table.cert is None) != (table.key is None) or not (table.cert or table.certdir):
            if not any(
                each.key[: len(key)] == key for each in self._mistakes
            ):  # else they may be there, and wrong
                self._mistake(key, "cert and key go together, or certdir names a folder")
            return None
        return TLSSettings(
            cert=table.cert,
            key=table.key,
            cert_dir=table.certdir,
            client_ca=table.client_ca,
            alpn=tuple(table.alpn or ()),
            min_version=table.min_version,
            ciphers=table.ciphers,
        )

    def _origin(self, key: Key, place: Key) -> str:
        origin = f"{self._path}:{self._line(place)}"
        self._origins[origin] = key
        return origin

    def _line_of(self, mistake: InvalidListener) -> int:
        """Find the line of the key that is wrong; of the endpoint, if that says it, or if several keys are wrong."""
        path = (_KEYS.get(name, name) for name in mistake.setting.split("."))
        line = self._lines.get((*self._origins[mistake.origin], *path))
        return int(mistake.origin.rpartition(":")[2]) if line is None else line

    def _say(self, line: int, problem: str) -> str:
        return f"{self._path}:{line}: {problem}" if line else f"{self._path}: {problem}"

    @cached_property
    def _lines(self) -> dict[Key, int]:
        return key_lines(self._text)

    def _line(self, key: Key) -> int:
        """Find the line on which a key stands, or the table that should have it; 0 if neither does."""
        while key and key not in self._lines:
            key = key[:-1]
        return self._lines.get(key, 0)


def _without(table: dict[str, Any], wrong: list[Key]) -> dict[str, Any]:
    """Copy a table without some keys of it, and of the tables in it. Of a list all is left out."""
    kept = {}
    for name, value in table.items():
        inside = [each[1:] for each in wrong if each[:1] == (name,)]
        if not inside:
            kept[name] = value
        elif isinstance(value, dict) and all(inside):
            kept[name] = _without(value, inside)
    return kept


def _limits(table: Any) -> Limits:
    return Limits(**{each.name: getattr(table, each.name) for each in attrs.fields(Limits)})


def _screen(table: ListenerTable, defaults: Defaults) -> ScreenSettings:
    return ScreenSettings(
        low_ports=_first(table.low_ports, defaults.low_ports),
        rate=_first(table.datagram_rate, defaults.datagram_rate),
        burst=_first(table.datagram_burst, defaults.datagram_burst),
        total=_first(table.datagram_rate_total, defaults.datagram_rate_total),
    )


def _gate(table: LimitsTable) -> GateSettings:
    return GateSettings(
        limits=_limits(table),
        max_queued=table.max_queued,
        ipv4_prefix=table.ipv4_prefix,
        ipv6_prefix=table.ipv6_prefix,
    )


def _first(*values: Any) -> Any:
    return next(each for each in values if each is not None)
