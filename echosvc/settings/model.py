"""What a service is, and what a configuration file says, as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NewType

import attrs
from attrs.validators import optional

from echosvc.listeners import ListenerSettings
from echosvc.listeners.settings import ANSWER_RATE, BACKLOG, RECEIVE_BUFFER, STALL_TIMEOUT, Limits

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


def _within(limits: Limits, unit: str = "a number") -> Callable[[Any, Any, Any], None]:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if not limits.low <= value <= limits.high:
            raise ValueError(f"{attribute.name} {value}: must be {unit} from {limits.low} to {limits.high}")

    return check


_backlog = _within(BACKLOG)
_rcvbuf = _within(RECEIVE_BUFFER, "a number of bytes")
_answer_rate = _within(ANSWER_RATE)


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

    backlog: int = attrs.field(default=BACKLOG.default, validator=_backlog)
    rcvbuf: int = attrs.field(default=RECEIVE_BUFFER.default, validator=_rcvbuf)
    stall_timeout: float = attrs.field(default=STALL_TIMEOUT, validator=_seconds)
    answer_rate: float = attrs.field(default=float(ANSWER_RATE.default), validator=_answer_rate)


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
    backlog: int | None = attrs.field(default=None, validator=optional(_backlog))
    rcvbuf: int | None = attrs.field(default=None, validator=optional(_rcvbuf))
    stall_timeout: float | None = attrs.field(default=None, validator=optional(_seconds))
    answer_rate: float | None = attrs.field(default=None, validator=optional(_answer_rate))


@attrs.frozen(kw_only=True)
class FileTable:
    """A configuration file.

    Attributes:
        defaults: For listeners that do not say otherwise.
        listener: Tables, each to be made a `ListenerTable`.
    """

    defaults: Defaults = attrs.Factory(Defaults)
    listener: Any = ()
