"""From options to what is said about admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from echosvc.admission import DoorSettings, GateSettings, ScreenSettings
from echosvc.errors import InvalidOption
from echosvc.settings.model import MOST_WORKERS
from echosvc.settings.values import number, on_or_off, rate, seconds_or_none, seconds_or_off, share, word

__all__ = [
    "DOOR_OPTIONS",
    "GATE_OPTIONS",
    "SCREEN_OPTIONS",
    "SERVICE_OPTIONS",
    "door_settings",
    "gate_settings",
    "screen_settings",
    "service_settings",
]

#: Options of each listener, besides --allow and --deny.
DOOR_OPTIONS = ("idle-timeout", "lifetime", "user-limits")

_COUNTS = ("max-connections", "max-per-source")
_RATES = ("accept-rate", "accept-rate-per-source")

#: Options of all listeners together.
GATE_OPTIONS = (*_COUNTS, *_RATES)

#: Options of each listener for datagrams.
SCREEN_OPTIONS = ("datagram-rate", "datagram-burst", "datagram-rate-total", "low-ports")

#: Options of the process.
SERVICE_OPTIONS = ("grace", "workers", "log-format", "log-connections")


def door_settings(networks: Mapping[str, Sequence[str]], given: Mapping[str, str]) -> DoorSettings:
    """Make settings of what is said of each listener.

    Args:
        networks: The values of ``allow`` and ``deny``.
        given: Those of `DOOR_OPTIONS` that were given, as typed.

    Raises:
        InvalidOption: One of them makes no sense.
    """
    said: dict[str, Any] = {name: tuple(entries) for name, entries in networks.items()}
    for name, value in given.items():
        read = on_or_off if name == "user-limits" else seconds_or_off
        said[_attribute(name)] = read(f"--{name}", value)
    return DoorSettings(**said)


def gate_settings(given: Mapping[str, str], otherwise: GateSettings) -> GateSettings:
    """Make settings of what is said of all listeners together.

    Args:
        given: Those of `GATE_OPTIONS` that were given, as typed.
        otherwise: What holds for the rest.

    Raises:
        InvalidOption: One of them makes no sense.
    """
    said: dict[str, Any] = {}
    for name, value in given.items():
        option = f"--{name}"
        said[_attribute(name)] = (
            number(option, value, 1, 10_000_000) if name in _COUNTS else rate(option, value)
        )
    return attrs.evolve(otherwise, limits=attrs.evolve(otherwise.limits, **said))


def service_settings(given: Mapping[str, str]) -> dict[str, Any]:
    """Tell what is said of the process, by the names that `echosvc.settings.Settings` has.

    Args:
        given: Those of `SERVICE_OPTIONS` that were given, as typed.

    Raises:
        InvalidOption: One of them makes no sense.
    """
    said: dict[str, Any] = {}
    if "grace" in given:
        said["grace"] = seconds_or_none("--grace", given["grace"])
    if (workers := given.get("workers")) is not None:
        is_auto = word(workers, "auto") == "auto"
        said["workers"] = "auto" if is_auto else number("--workers", workers, 0, MOST_WORKERS, ", or auto")
    if (log_format := given.get("log-format")) is not None:
        said["log_format"] = word(log_format, "text", "json")
        if said["log_format"] not in ("text", "json"):
            raise InvalidOption("--log-format", log_format, "must be text or json")
    if (connections := given.get("log-connections")) is not None:
        try:
            said["log_connections"] = share(word(connections, "on", "off"))
        except ValueError as problem:
            raise InvalidOption("--log-connections", connections, str(problem)) from None
    return said


def screen_settings(given: Mapping[str, str]) -> ScreenSettings:
    """Make settings of what is said of each listener's datagrams.

    Args:
        given: Those of `SCREEN_OPTIONS` that were given, as typed.

    Raises:
        InvalidOption: One of them makes no sense.
    """
    said: dict[str, Any] = {}
    for name, attribute, most in (
        ("datagram-rate", "rate", 1_000_000),
        ("datagram-burst", "burst", 1_000_000),
        ("datagram-rate-total", "total", 10_000_000),
    ):
        if name in given:
            is_off = word(given[name], "off") == "off"
            said[attribute] = 0.0 if is_off else float(number(f"--{name}", given[name], 0, most, ", or off"))
    if "low-ports" in given:
        said["low_ports"] = tuple(_low_port(each) for each in given["low-ports"].split(","))
    return ScreenSettings(**said)


def _low_port(value: str) -> int:
    return 2049 if value == "2049" else number("--low-ports", value, 1, 1023, ", or 2049; others are let in")


def _attribute(name: str) -> str:
    return name.replace("-", "_")
