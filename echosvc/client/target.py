"""Who is to be asked, as a user types it. Parsing only: no name is looked up here."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Sequence
from typing import Literal, TypeAlias, cast

import attrs

from echosvc.errors import InvalidTarget
from echosvc.transports import display

__all__ = ["Kind", "Target"]

Kind: TypeAlias = Literal["tcp", "udp"]
"""What carries the bytes."""

_EXAMPLES = "write HOST:PORT, [::1]:PORT or udp:HOST:PORT"

#: ``HOST:PORT`` without the kind; what host and port may be is checked afterwards.
_SHAPE = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):([^:]*)")

#: What the client cannot do, by the kind that an endpoint of the service has, and the command that can.
#: ``tls:8443`` is a host named tls.
_ELSEWHERE = (
    (re.compile(r"(?i:tls|ssl):(.*:.*)", re.DOTALL), "speak TLS yet", "openssl s_client -quiet -connect"),
    (re.compile(r"(?i:unix):(.*/.*)", re.DOTALL), "connect to UNIX sockets", "nc -N -U"),
)


@attrs.frozen
class Target:
    """One echo service.

    Attributes:
        kind: ``"tcp"`` or ``"udp"``.
        host: A name, an IPv4 address or an IPv6 address without brackets (perhaps with ``%scope``).
        port: 1 to 65535.
    """

    kind: Kind
    host: str
    port: int

    @property
    def where(self) -> str:
        """Host and port for a person, without the kind: ``[::1]:8080``."""
        return display(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}"

    @classmethod
    def parse(cls, text: str, *, kind: Kind = "tcp") -> Target:
        """Understand ``HOST:PORT``, ``[::1]:PORT``, ``tcp:HOST:PORT`` or ``udp:HOST:PORT``.

        Args:
            text: The target as typed.
            kind: What carries the bytes if the text does not say.

        Raises:
            InvalidTarget: The text is none of these; the error says what would be.
        """
        _refuse_what_others_do(text)
        said, colon, rest = text.partition(":")
        if colon and said.lower() in {"tcp", "udp"}:
            kind = cast("Kind", said.lower())
        else:
            rest = text
        if (shape := _SHAPE.fullmatch(rest)) is None:
            raise InvalidTarget(text, _what_is_wrong(rest))
        return cls(kind, _host(text, shape[1]), _port(text, shape[2]))

    @classmethod
    def from_arguments(cls, arguments: Sequence[str], *, udp: bool = False) -> Target:
        """Understand a command line's ``HOST PORT``, or one argument as `parse` does.

        Args:
            arguments: One or two arguments as typed. As an argument of its own, an IPv6 address needs no
                brackets.
            udp: ``--udp`` was given.

        Raises:
            InvalidTarget: There are none or more than two arguments, they cannot be understood, or they
                say ``tcp:`` where ``--udp`` was given.
        """
        typed = " ".join(arguments)
        _refuse_what_others_do(":".join(arguments))
        match arguments:
            case [text]:
                target = cls.parse(text, kind="udp" if udp else "tcp")
            case [host, port]:
                target = cls("udp" if udp else "tcp", _host(typed, host), _port(typed, port))
            case _:
                raise InvalidTarget(typed, "a target is HOST PORT or HOST:PORT")
        if udp and target.kind == "tcp":
            raise InvalidTarget(typed, "tcp: and --udp contradict each other; leave one out")
        return target


def _refuse_what_others_do(typed: str) -> None:
    for shape, what, command in _ELSEWHERE:
        if (found := shape.fullmatch(typed)) is not None:
            raise InvalidTarget(
                typed, f"the client does not {what}; `{command} {shlex.quote(found[1])}` does"
            )


def _host(typed: str, host: str) -> str:
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare:
        raise InvalidTarget(typed, f"the host is missing; {_EXAMPLES}")
    if bracketed or ":" in bare:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            raise InvalidTarget(typed, f"{bare} is not an IPv6 address; {_EXAMPLES}") from None
        return bare
    try:
        bare.encode("idna")  # what the resolver will do; it has no way to say that it cannot
    except UnicodeError:
        raise InvalidTarget(typed, f"{bare} cannot be a host name; {_EXAMPLES}") from None
    if not bare.isprintable() or any(character in " /@\\" for character in bare):
        raise InvalidTarget(typed, f"a host name has no spaces, slashes or @; {_EXAMPLES}")
    return bare


def _port(typed: str, port: str) -> int:
    if not port:
        raise InvalidTarget(typed, f"the port is missing; {_EXAMPLES}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise InvalidTarget(typed, f"the port is {port}, and must be a number from 1 to 65535")
    return int(port)


def _what_is_wrong(rest: str) -> str:
    if rest.count(":") > 1 and not rest.startswith("["):
        return "an IPv6 address needs brackets before a port, as in [::1]:8080"
    if ":" not in rest or rest.endswith("]"):
        return f"the port is missing; {_EXAMPLES}"
    return _EXAMPLES
