"""What a service is, and what a configuration file says, as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NewType, TypeAlias

import attrs
from attrs.validators import optional

from echosvc.admission import GateSettings, ScreenSettings
from echosvc.listeners import ListenerSettings
from echosvc.listeners.settings import ANSWER_RATE, BACKLOG, RECEIVE_BUFFER, STALL_TIMEOUT, Limits, TLSVersion
from echosvc.settings.values import share

__all__ = [
    "GRACE",
    "AdminTable",
    "Defaults",
    "FileTable",
    "LimitsTable",
    "ListenerTable",
    "ServiceTable",
    "Settings",
    "Strings",
    "TLSTable",
]

GRACE = 10.0
"""Seconds that connections have to finish. Service managers wait for longer (systemd 90, Kubernetes 30)."""

#: More than there are processors on any machine that anybody would serve echo on.
MOST_WORKERS = 256

LogFormat: TypeAlias = Literal["text", "json"]

Strings = NewType("Strings", tuple[str, ...])
"""One string, or a list of them."""


@attrs.frozen(kw_only=True)
class Settings:
    """A service.

    Attributes:
        listeners: What to listen on, and how.
        gate: What holds for the connections of all listeners together.
        admin: Where metrics, health and status are served; None: nowhere.
        grace: Seconds that connections have to finish when the service is stopped, or their listener is removed.
        workers: Processes that serve; ``auto`` for one on each processor, 0 for none but the service's own.
        log_format: How the log is written.
        log_connections: Of so many connections that end one has a line in the log; 0 for none.
    """

    listeners: tuple[ListenerSettings, ...]
    gate: GateSettings = attrs.field(factory=GateSettings)
    admin: ListenerSettings | None = None
    grace: float = GRACE
    workers: int | Literal["auto"] = 0
    log_format: LogFormat = "text"
    log_connections: int = 0


def _between(low: float, high: float, unit: str = "a number") -> Callable[[Any, Any, Any], None]:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} {value}: must be {unit} from {low:.10g} to {high:.10g}")

    return check


def _within(limits: Limits, unit: str = "a number") -> Callable[[Any, Any, Any], None]:
    return _between(limits.low, limits.high, unit)


_backlog = _within(BACKLOG)
_rcvbuf = _within(RECEIVE_BUFFER, "a number of bytes")
_answer_rate = _within(ANSWER_RATE)


def _not_empty(_: Any, attribute: Any, value: Any) -> None:
    if not value:
        raise ValueError(f"{attribute.name} is empty: there must be one at least")


def _said(_: Any, attribute: Any, value: Any) -> None:
    if not value:
        raise ValueError(f"{attribute.name} is empty: give it a value, or leave it out")


_text = optional(_said)


def _seconds(_: Any, attribute: Any, value: float) -> None:
    if not 0 < value < 1e9:  # thirty years; no infinity, no NaN
        raise ValueError(f"{attribute.name} {value}: must be a number of seconds above 0")


def _bytes_or_any(_: Any, attribute: Any, value: float) -> None:
    if value and not 1 <= value < 1e12:
        raise ValueError(f"{attribute.name} {value}: must be a number of bytes from 1; 0 for any number")


def _seconds_or_never(_: Any, attribute: Any, value: float) -> None:
    if value and not 1 <= value < 1e9:
        raise ValueError(
            f"{attribute.name} {value}: must be a number of seconds from 1, to which it is exact; 0 for never"
        )


def _low_ports(_: Any, attribute: Any, value: Any) -> None:
    for port in value:
        if not 0 < port < 1024 and port != 2049:
            raise ValueError(
                f"{attribute.name} {port}: must be ports from 1 to 1023, or 2049; others are let in"
            )


def _share(_: Any, attribute: Any, value: str) -> None:
    try:
        share(value)
    except ValueError as problem:
        raise ValueError(f"{attribute.name} {value}: {problem}") from None


def _workers(_: Any, attribute: Any, value: Any) -> None:
    if value != "auto" and not (type(value) is int and 0 <= value <= MOST_WORKERS):
        raise ValueError(
            f"{attribute.name} {value}: must be auto, or a number from 0 (none) to {MOST_WORKERS}"
        )


_a_count = optional(_between(1, 10_000_000))
_a_rate = optional(_between(0.001, 1e6))


@attrs.frozen(kw_only=True)
class _Limits:
    """How many connections there may be, and may come: of the service, or of one listener.

    Attributes:
        max_connections: At once.
        max_per_source: Of them, from one source.
        accept_rate: In a second.
        accept_rate_per_source: Of them, from one source.
    """

    max_connections: int | None = attrs.field(default=None, validator=_a_count)
    max_per_source: int | None = attrs.field(default=None, validator=_a_count)
    accept_rate: float | None = attrs.field(default=None, validator=_a_rate)
    accept_rate_per_source: float | None = attrs.field(default=None, validator=_a_rate)


@attrs.frozen(kw_only=True)
class LimitsTable(_Limits):
    """The table ``[limits]``: what holds for all listeners together.

    Attributes:
        max_queued: Bytes that process and kernel may hold for all connections, as `echosvc.admission.memory` counts them.
        ipv4_prefix: Bits of an IPv4 address that make a source.
        ipv6_prefix: Bits of an IPv6 address that make a source.
    """

    max_queued: int = attrs.field(
        default=64 * 1024 * 1024, validator=_between(1024 * 1024, 2**40, "a number of bytes")
    )
    ipv4_prefix: int = attrs.field(default=32, validator=_between(8, 32, "a number of bits"))
    ipv6_prefix: int = attrs.field(default=64, validator=_between(40, 128, "a number of bits"))


@attrs.frozen(kw_only=True)
class ServiceTable:
    """The table ``[service]``: what holds for the process.

    Attributes:
        grace: Seconds that connections have to finish when it is stopped; 0 for none.
        workers: As `Settings` has it. (A union would have its own words for what is wrong.)
        log_format: As `Settings` has it.
        log_connections: ``off``, ``on`` or ``1/N``.
    """

    grace: float = attrs.field(default=GRACE, validator=_between(0, 86_400, "a number of seconds"))
    workers: Any = attrs.field(default=0, validator=_workers)
    log_format: LogFormat = "text"
    log_connections: str = attrs.field(default="off", validator=_share)


@attrs.frozen(kw_only=True)
class Defaults:
    """The table ``[defaults]``: what listeners have that do not say otherwise.

    Attributes:
        backlog: Connections that may wait to be accepted.
        rcvbuf: Bytes of datagrams that may wait to be read.
        stall_timeout: Seconds after which a connection is aborted whose peer takes nothing of what waits for it.
        answer_rate: Datagrams let in in a second, by a protocol whose answers may be longer than what they answer.
        datagram_rate: Datagrams let in in a second from one source; 0 for any number.
        datagram_burst: Of them, at once; 0 for a second's worth.
        datagram_rate_total: Datagrams let in in a second from all sources; 0 for any number.
        low_ports: Source ports that are let in though clients do not have such.
        allow: Networks that may connect.
        deny: Networks that may not.
        idle_timeout: Seconds without a byte after which a connection is ended.
        lifetime: Seconds after which a connection is ended in any case.
        byte_rate: Bytes in a second that are read of a connection.
        byte_rate_total: Bytes in a second that are read of all connections of the listener.
        user_limits: Whether each user is a source on UNIX sockets.
    """

    backlog: int = attrs.field(default=BACKLOG.default, validator=_backlog)
    rcvbuf: int = attrs.field(default=RECEIVE_BUFFER.default, validator=_rcvbuf)
    stall_timeout: float = attrs.field(default=STALL_TIMEOUT, validator=_seconds)
    answer_rate: float = attrs.field(default=float(ANSWER_RATE.default), validator=_answer_rate)
    datagram_rate: float = attrs.field(default=ScreenSettings().rate, validator=_between(0, 1e6))
    datagram_burst: float = attrs.field(default=ScreenSettings().burst, validator=_between(0, 1e6))
    datagram_rate_total: float = attrs.field(default=ScreenSettings().total, validator=_between(0, 1e7))
    low_ports: tuple[int, ...] = attrs.field(default=(), validator=_low_ports)
    allow: Strings = Strings(())
    deny: Strings = Strings(())
    idle_timeout: float = attrs.field(default=3600.0, validator=_seconds_or_never)
    lifetime: float = attrs.field(default=0.0, validator=_seconds_or_never)
    byte_rate: float = attrs.field(default=0.0, validator=_bytes_or_any)
    byte_rate_total: float = attrs.field(default=0.0, validator=_bytes_or_any)
    user_limits: bool = True


@attrs.frozen(kw_only=True)
class TLSTable:
    """The table ``[listener.tls]``; see `echosvc.listeners.TLSSettings`."""

    cert: str | None = attrs.field(default=None, validator=_text)
    key: str | None = attrs.field(default=None, validator=_text)
    certdir: str | None = attrs.field(default=None, validator=_text)
    client_ca: str | None = attrs.field(default=None, validator=_text)
    alpn: Strings | None = attrs.field(default=None, validator=_text)
    min_version: TLSVersion = "1.2"
    ciphers: str | None = attrs.field(default=None, validator=_text)


@attrs.frozen(kw_only=True)
class ListenerTable(_Limits):
    """A table ``[[listener]]``. What is None is as ``[defaults]`` have it.

    Attributes:
        protocol: Name of a wire protocol, or ``package.module:object``.
        endpoint: Where to listen; several places are several listeners.
        name: How logs name it.
        proxy: Networks from which a PROXY header is expected.
        tls: Speak TLS.
        options: The protocol's own settings.
        log_connections: As ``[service]`` has it.
    """

    protocol: str
    endpoint: Strings = attrs.field(validator=_not_empty)
    name: str | None = None
    proxy: Strings | None = None
    tls: TLSTable | None = None
    options: Mapping[str, Any] = attrs.Factory(dict)
    log_connections: str | None = attrs.field(default=None, validator=optional(_share))
    backlog: int | None = attrs.field(default=None, validator=optional(_backlog))
    rcvbuf: int | None = attrs.field(default=None, validator=optional(_rcvbuf))
    stall_timeout: float | None = attrs.field(default=None, validator=optional(_seconds))
    answer_rate: float | None = attrs.field(default=None, validator=optional(_answer_rate))
    datagram_rate: float | None = attrs.field(default=None, validator=optional(_between(0, 1e6)))
    datagram_burst: float | None = attrs.field(default=None, validator=optional(_between(0, 1e6)))
    datagram_rate_total: float | None = attrs.field(default=None, validator=optional(_between(0, 1e7)))
    low_ports: tuple[int, ...] | None = attrs.field(default=None, validator=optional(_low_ports))
    allow: Strings | None = None
    deny: Strings | None = None
    idle_timeout: float | None = attrs.field(default=None, validator=optional(_seconds_or_never))
    lifetime: float | None = attrs.field(default=None, validator=optional(_seconds_or_never))
    byte_rate: float | None = attrs.field(default=None, validator=optional(_bytes_or_any))
    byte_rate_total: float | None = attrs.field(default=None, validator=optional(_bytes_or_any))
    user_limits: bool | None = None


@attrs.frozen(kw_only=True)
class AdminTable:
    """The table ``[admin]``.

    Attributes:
        endpoint: Where metrics, health and status are served.
    """

    endpoint: str


@attrs.frozen(kw_only=True)
class FileTable:
    """A configuration file.

    Attributes:
        service: What holds for the process.
        limits: What holds for all listeners together.
        defaults: For listeners that do not say otherwise.
        listener: Tables, each to be made a `ListenerTable`.
        admin: How the service is watched.
    """

    service: ServiceTable = attrs.Factory(ServiceTable)
    limits: LimitsTable = attrs.Factory(LimitsTable)
    defaults: Defaults = attrs.Factory(Defaults)
    listener: Any = ()
    admin: AdminTable | None = None
