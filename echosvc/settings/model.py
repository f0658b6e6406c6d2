"""What a service is, and what a configuration file says, as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NewType

import attrs

from echosvc.listeners import ListenerSettings

__all__ = ["Defaults", "FileTable", "ListenerTable", "Settings", "Strings", "TLSTable"]

Strings = NewType("Strings", tuple[str, ...])
"""One string, or a list of them."""


@attrs.frozen(kw_only=True)
class Settings:
    """A service.

    Attributes:
        listeners: What to listen on, and how.
    """

    listeners: tuple[ListenerSettings, ...]


def _between(low: float, high: float, unit: str) -> Callable[[Any, Any, Any], None]:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} {value}: must be {unit} from {low:.12g} to {high:.12g}")

    return check


def _not_empty(_: Any, attribute: Any, value: Any) -> None:
    if not value:
        raise ValueError(f"{attribute.name} is empty: there must be one at least")


def _seconds(_: Any, attribute: Any, value: float) -> None:
    if not 0 < value < 1e9:  # thirty years; no infinity, no NaN
        raise ValueError(f"{attribute.name} {value}: must be a number of seconds above 0")


@attrs.frozen(kw_only=True)
class Defaults:
    """The table ``[defaults]``: what listeners have that do not say otherwise.

    Attributes:
        backlog: Connections that may wait to be accepted.
        rcvbuf: Bytes of datagrams that may wait to be read.
        stall_timeout: Seconds after which a connection is aborted whose peer takes nothing of what waits for it.
        answer_rate: Datagrams let in in a second, by a protocol whose answers may be longer than what they answer.
    """

    backlog: int = attrs.field(default=1024, validator=_between(1, 65535, "a number"))
    rcvbuf: int = attrs.field(default=4 * 1024 * 1024, validator=_between(2048, 2**30, "a number of bytes"))
    stall_timeout: float = attrs.field(default=300.0, validator=_seconds)
    answer_rate: float = attrs.field(default=100.0, validator=_between(1, 1e6, "a number"))


@attrs.frozen(kw_only=True)
class TLSTable:
    """The table ``[listener.tls]``; see `echosvc.listeners.TLSSettings`."""

    cert: str | None = None
    key: str | None = None
    certdir: str | None = None
    client_ca: str | None = None
    alpn: Strings = Strings(())


@attrs.frozen(kw_only=True)
class ListenerTable:
    """A table ``[[listener]]``.

    Attributes:
        protocol: Name of a wire protocol, or ``package.module:object``.
        endpoint: Where to listen; several places are several listeners.
        name: How logs name it.
        proxy: Networks from which a PROXY header is expected.
        tls: Speak TLS.
        options: The protocol's own settings.
    """

    protocol: str
    endpoint: Strings = attrs.field(validator=_not_empty)
    name: str | None = None
    proxy: Strings | None = None
    tls: TLSTable | None = None
    options: Mapping[str, Any] = attrs.Factory(dict)
    backlog: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_between(1, 65535, "a number"))
    )
    rcvbuf: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_between(2048, 2**30, "a number of bytes"))
    )
    stall_timeout: float | None = attrs.field(default=None, validator=attrs.validators.optional(_seconds))
    answer_rate: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_between(1, 1e6, "a number"))
    )


@attrs.frozen(kw_only=True)
class FileTable:
    """A configuration file.

    Attributes:
        defaults: For listeners that do not say otherwise.
        listener: Tables, each to be made a `ListenerTable`.
    """

    defaults: Defaults = attrs.Factory(Defaults)
    listener: Any = ()
