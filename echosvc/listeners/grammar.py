r"""Endpoints as text: ``tcp:8080``, ``udp:8080:interface=[::1]``, ``unix:/run/echo.sock:mode=666``.

The grammar is Twisted's (parts between colons; ``\`` before a colon, an equals sign or itself makes it ordinary), and
brackets make everything between them ordinary, too, so that an IPv6 address can be written as it is everywhere else.
A kind means the same in any case, as it does to Twisted. What is not ours is left to Twisted's own parser; only its TLS
is refused, which loses what ours does not.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from typing import Literal, cast, get_args

import attrs

from echosvc.listeners.literals import check_interface, parse_networks, parse_number
from echosvc.listeners.settings import (
    BACKLOG,
    Foreign,
    Inherited,
    Internet,
    Network,
    Place,
    TLSSettings,
    TLSVersion,
    UnixSocket,
)

__all__ = [
    "Endpoint",
    "check_interface",
    "format_endpoint",
    "parse_endpoint",
    "parse_networks",
    "parse_number",
]

#: Who is believed behind ``haproxy:`` if no networks are named: a proxy on this machine.
_THIS_MACHINE = ("127.0.0.0/8", "::1/128")

_EXAMPLE = "an endpoint is KIND:ARGUMENTS, such as tcp:8080"

#: Nothing that Twisted would unescape, or take for a named part before the kind: it would find another kind than we do.
_PLAIN_KIND = re.compile(r"[a-z0-9_.+-]*")

#: UNIX socket addresses have room for 108 bytes, the last of which is a NUL (unix(7)).
_PATH_LIMIT = 107


@attrs.frozen(kw_only=True)
class Endpoint:
    """What an endpoint string says.

    Attributes:
        place: Where to listen.
        tls: Speak TLS there.
        proxy: Expect a PROXY header from these networks.
        backlog: Connections that may wait to be accepted; None if it does not say.
    """

    place: Place
    tls: TLSSettings | None = None
    proxy: tuple[Network, ...] | None = None
    backlog: int | None = None


def parse_endpoint(text: str) -> Endpoint:
    """Understand an endpoint string.

    Args:
        text: The endpoint, for example ``tls:8443:cert=full.pem:key=key.pem``.

    Returns:
        What it says. Nothing has been opened or read.

    Raises:
        ValueError: It cannot be understood; the message says what is wrong and what would be right.
    """
    kind, colon, rest = text.partition(":")
    kind = kind.lower()
    if kind == "haproxy":
        if rest.partition(":")[0].lower() in ("", "haproxy", "udp", "unixgram"):
            raise ValueError("haproxy: goes before a stream endpoint, such as tcp or unix")
        inner = parse_endpoint(rest)
        if inner.proxy is not None:
            return inner
        # On a UNIX socket the proxy has no address: its file says who can be one.
        trusted = () if isinstance(inner.place, UnixSocket) else parse_networks(_THIS_MACHINE)
        return attrs.evolve(inner, proxy=trusted)
    if kind == "ssl":
        raise ValueError(f"endpoint {text!r}: {_instead_of_ssl(rest)}")
    if kind in _KINDS and rest:
        return _KINDS[kind](_Parts(kind, rest))
    if kind in _KINDS:
        raise ValueError(f"{kind}: {_FORMS[kind]}")
    if not _PLAIN_KIND.fullmatch(kind):
        raise ValueError(f"endpoint {text!r}: {_EXAMPLE}")
    return Endpoint(place=_foreign(f"{kind}{colon}{rest}", kind))


def format_endpoint(place: Place) -> str:
    """Write a place as an endpoint string that means it."""
    match place:
        case Internet():
            interface = (
                f":interface=[{place.interface}]"
                if ":" in place.interface
                else f":interface={place.interface}"
            )
            return f"{place.transport}:{place.port}" + (interface if place.interface else "")
        case UnixSocket():
            if place.path.startswith("@"):
                return f"{place.transport}:{_escaped(place.path)}"
            lockfile = ":lockfile=1" if place.lockfile else ""
            return f"{place.transport}:{_escaped(place.path)}:mode={place.mode:03o}{lockfile}"
        case Inherited():
            return (
                f"systemd:index={place.index}"
                if place.name is None
                else f"systemd:name={_escaped(place.name)}"
            )
        case Foreign():
            return place.description


def _escaped(value: str) -> str:
    return re.sub(r"([\\:=\[\]])", r"\\\1", value)


class _Parts:
    """The parts of an endpoint string, each to be taken once.

    Args:
        kind: What stands before the first colon.
        text: What stands after it.
    """

    def __init__(self, kind: str, text: str) -> None:
        self._kind = kind
        self._positional: list[str] = []
        self._named: dict[str, str] = {}
        try:
            parts = _split(text)
        except ValueError as problem:
            raise self.error(str(problem)) from None
        for name, value in parts:
            if name is None:
                self._positional.append(value)
            elif name in self._named:
                raise self.error(f"{name} is given twice")
            else:
                self._named[name] = value

    def error(self, what: str) -> ValueError:
        """Say what is wrong, and what the endpoint looks like."""
        return ValueError(f"{what}; {_FORMS[self._kind]}")

    def first(self, what: str) -> str:
        """Take the one part that has no name."""
        if not self._positional or not self._positional[0]:
            raise self.error(f"the {what} is missing")
        return self._positional.pop(0)

    def named(self, name: str, *, may_be_empty: bool = False) -> str | None:
        """Take a named part; None if there is none. An empty one is a variable that was not set, and not a wish for the default."""
        value = self._named.pop(name, None)
        if value == "" and not may_be_empty:
            raise self.error(f"{name}= is empty: give it a value, or leave it out{self._bracket_hint()}")
        return value

    def number(self, name: str, low: int, high: int) -> int | None:
        """Take a named part that is a number."""
        value = self.named(name)
        return None if value is None else parse_number(name, value, low, high)

    def networks(self, *, may_be_none: bool = False) -> tuple[Network, ...] | None:
        """Take who may send a PROXY header; none is enough where the peer is no address."""
        value = self.named("proxy", may_be_empty=may_be_none)
        if value == "":
            return ()
        try:
            return None if value is None else parse_networks(value.split(","))
        except ValueError as problem:
            raise self.error(f"{problem}{self._bracket_hint()}") from None

    def interface(self) -> str:
        """Take the address to listen on."""
        value = self.named("interface")
        try:
            return check_interface(value or "")
        except ValueError as problem:
            raise self.error(f"interface: {problem}{self._bracket_hint()}") from None

    def done(self) -> None:
        """Refuse what nobody took.

        Raises:
            ValueError: There is something.
        """
        if self._named:
            name = next(iter(self._named))
            near = difflib.get_close_matches(name, re.findall(r"([\w-]+)=", _FORMS[self._kind]), 1)
            raise self.error(f"{name}= is not known here" + (f", did you mean {near[0]}=?" if near else ""))
        if self._positional:
            raise self.error(f"{':'.join(self._positional)!r} has no meaning here{self._bracket_hint()}")

    def _bracket_hint(self) -> str:
        """Say what is missing where nothing stands between two colons: they are an IPv6 address's."""
        return " (an IPv6 address goes in brackets: interface=[::1])" if "" in self._positional else ""


def _split(text: str) -> list[tuple[str | None, str]]:
    """Split at colons, and each part at its first equals sign; see the module."""
    parts: list[tuple[str | None, str]] = []
    name: str | None = None
    value = ""
    brackets = 0
    characters = iter(text)
    for character in characters:
        if character == "\\":
            value += next(characters, "\\")
        elif character in "[]":
            brackets += 1 if character == "[" else -1
            if brackets < 0:
                break
        elif character == ":" and not brackets:
            parts.append((name, value))
            name, value = None, ""
        elif character == "=" and name is None and not brackets:
            name, value = value, ""
        else:
            value += character
    if brackets:
        raise ValueError("the brackets do not match; one that is part of a name is written \\[ or \\]")
    parts.append((name, value))
    return parts


def _internet(parts: _Parts, transport: Literal["tcp", "udp"]) -> Internet:
    return Internet(transport, parse_number("port", parts.first("port"), 0, 65535), parts.interface())


def _tcp(parts: _Parts) -> Endpoint:
    endpoint = Endpoint(
        place=_internet(parts, "tcp"),
        proxy=parts.networks(),
        backlog=parts.number("backlog", BACKLOG.low, BACKLOG.high),
    )
    parts.done()
    return endpoint


def _udp(parts: _Parts) -> Endpoint:
    endpoint = Endpoint(place=_internet(parts, "udp"))
    parts.done()
    return endpoint


def _tls(parts: _Parts) -> Endpoint:
    place = _internet(parts, "tcp")
    alpn = parts.named("alpn")
    tls = TLSSettings(
        cert=parts.named("cert"),
        key=parts.named("key"),
        cert_dir=parts.named("certdir"),
        client_ca=parts.named("clientCA"),
        alpn=() if alpn is None else tuple(alpn.split(",")),
        min_version=_version(parts),
        ciphers=parts.named("ciphers"),
    )
    if (tls.cert is None) != (tls.key is None) or not (tls.cert or tls.cert_dir):
        raise parts.error("cert= and key= go together, or certdir= names a folder")
    endpoint = Endpoint(
        place=place,
        tls=tls,
        proxy=parts.networks(),
        backlog=parts.number("backlog", BACKLOG.low, BACKLOG.high),
    )
    parts.done()
    return endpoint


def _version(parts: _Parts) -> TLSVersion:
    value = parts.named("min-version") or "1.2"
    for version in get_args(TLSVersion):
        if value == version:
            return cast("TLSVersion", version)
    raise parts.error(f"min-version {value}: must be {' or '.join(get_args(TLSVersion))}")


def _unix_socket(parts: _Parts, transport: Literal["unix", "unixgram"]) -> UnixSocket:
    path = parts.first("path")
    if "\0" in path:
        raise parts.error("the path has a NUL in it")
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise parts.error(f"the path is longer than {_PATH_LIMIT} bytes, which is all that the system takes")
    mode = parts.named("mode")
    lockfile = parts.named("lockfile") if transport == "unix" else None
    if path.startswith("@") and (mode or lockfile):
        raise parts.error(f"{path} is a name and no file, so that it has neither mode= nor lockfile=")
    mode, lockfile = mode or "660", lockfile or "0"
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise parts.error(f"mode {mode}: must be three octal digits, such as 660")
    if lockfile not in ("0", "1"):
        raise parts.error(f"lockfile {lockfile}: must be 0 or 1")
    return UnixSocket(transport, path, int(mode, 8), lockfile == "1")


def _unix(parts: _Parts) -> Endpoint:
    endpoint = Endpoint(
        place=_unix_socket(parts, "unix"),
        proxy=parts.networks(may_be_none=True),
        backlog=parts.number("backlog", BACKLOG.low, BACKLOG.high),
    )
    parts.done()
    return endpoint


def _unixgram(parts: _Parts) -> Endpoint:
    endpoint = Endpoint(place=_unix_socket(parts, "unixgram"))
    parts.done()
    return endpoint


def _systemd(parts: _Parts) -> Endpoint:
    name, index = parts.named("name"), parts.number("index", 0, 9999)
    if (name is None) == (index is None):
        raise parts.error("either the name or the index says which socket it is")
    endpoint = Endpoint(place=Inherited(name, index), proxy=parts.networks())
    parts.done()
    return endpoint


_KINDS: dict[str, Callable[[_Parts], Endpoint]] = {
    "tcp": _tcp,
    "udp": _udp,
    "unix": _unix,
    "unixgram": _unixgram,
    "tls": _tls,
    "systemd": _systemd,
}

_FORMS = {
    "tcp": "it is tcp:PORT[:interface=ADDRESS][:backlog=N][:proxy=NETWORKS]",
    "udp": "it is udp:PORT[:interface=ADDRESS]",
    "unix": "it is unix:PATH[:mode=660][:lockfile=1][:backlog=N][:proxy=], or unix:@NAME",
    "unixgram": "it is unixgram:PATH[:mode=660], or unixgram:@NAME",
    "tls": "it is tls:PORT:cert=FULLCHAIN.pem:key=KEY.pem[:clientCA=CA.pem][:certdir=DIR][:alpn=NAMES]"
    "[:min-version=1.3][:ciphers=NAMES][:interface=ADDRESS][:backlog=N][:proxy=NETWORKS]",
    "systemd": "it is systemd:name=NAME[:proxy=NETWORKS] or systemd:index=N",
}


def _foreign(text: str, kind: str) -> Foreign:
    """Let Twisted, and whatever plugin of it is installed, say whether it knows an endpoint."""
    # Not before it is needed: this import takes the service manager's sockets out of the environment.
    from echosvc.listeners import inherited  # noqa: PLC0415

    inherited.remember()
    from twisted.internet.endpoints import serverFromString  # noqa: PLC0415

    try:
        serverFromString(cast("None", object()), text)
    except Exception as problem:  # noqa: BLE001  # whatever a plugin of Twisted raises
        near = difflib.get_close_matches(kind, [*_KINDS, "haproxy"], 1)
        if not text.strip() or ":" not in text:
            hint = _EXAMPLE
        elif near and "Unknown endpoint type" in str(problem):
            hint = f"did you mean {near[0]}:?"
        elif "[" in text:
            escaped = re.sub(r"\[([^]]*)\]", lambda found: found[1].replace(":", r"\:"), text)
            hint = f"Twisted's own endpoints know no brackets; write {escaped} ({_one_line(problem)})"
        else:
            hint = f"there are {', '.join(_KINDS)}, haproxy, and what Twisted knows ({_one_line(problem)})"
        raise ValueError(f"endpoint {text!r}: {hint}") from None
    return Foreign(text)


def _instead_of_ssl(rest: str) -> str:
    """Say what to write in place of ``ssl:``, with what it says of files and port, as far as that can be read."""
    try:
        parts = _split(rest)
    except ValueError:
        parts = []
    port = next((value for name, value in parts if name is None), "") or "PORT"
    named = dict(parts)
    key = named.get("privateKey") or "FILE"
    cert = named.get("certKey") or key
    return (
        f"Twisted's own TLS loses bytes when a client half-closes; use tls:{_escaped(port)}:cert={_escaped(cert)}:"
        f"key={_escaped(key)}, which loses nothing"
    )


def _one_line(problem: Exception) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())
