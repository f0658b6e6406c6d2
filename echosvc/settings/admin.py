"""Where the admin listener listens: an endpoint, on this machine alone unless an address is written out."""

from __future__ import annotations

import re

import attrs

from echosvc.errors import InvalidOption
from echosvc.listeners import Internet, ListenerSettings, UnixSocket, format_endpoint, parse_endpoint

__all__ = ["admin_endpoint", "admin_option", "admin_settings"]

_FORMS = "must be tcp:PORT, tcp:ADDRESS:PORT or unix:PATH"


def admin_settings(text: str, origin: str) -> ListenerSettings:
    """Understand the endpoint of the admin listener.

    Args:
        text: ``tcp:PORT`` on 127.0.0.1, ``tcp:ADDRESS:PORT`` (an IPv6 address in brackets), ``unix:PATH``, with what these
            endpoints can say besides.
        origin: Who asks for it, as errors name it.

    Raises:
        ValueError: It is no such endpoint; the message says what would be right.
    """
    if found := re.fullmatch(r"(?i:tcp):(\[[^\]]+\]|[0-9.]+\.[0-9]+):([0-9]+)((?::.*)?)", text):
        address, port, rest = found.groups()
        text = f"tcp:{port}:interface={address}{rest}"
    endpoint = parse_endpoint(text)
    place = endpoint.place
    if isinstance(place, Internet) and place.transport == "tcp" and endpoint.tls is None:
        place = attrs.evolve(place, interface=place.interface or "127.0.0.1")
    elif not isinstance(place, UnixSocket) or place.transport != "unix":
        raise ValueError(_FORMS)
    if endpoint.tls is not None or endpoint.proxy is not None:
        raise ValueError(f"{_FORMS}; TLS and PROXY headers are not spoken there")
    return ListenerSettings(protocol="http", name="admin", place=place, origin=origin)


def admin_option(given: str | None, otherwise: ListenerSettings | None) -> ListenerSettings | None:
    """Understand the option.

    Args:
        given: Its value as typed; None if it was not given.
        otherwise: What holds then.

    Raises:
        InvalidOption: It makes no sense.
    """
    if given is None:
        return otherwise
    try:
        return admin_settings(given, f"--admin {given}")
    except ValueError as problem:
        raise InvalidOption("--admin", given, str(problem)) from None


def admin_endpoint(settings: ListenerSettings) -> str:
    """Write it as an endpoint string that means it."""
    return format_endpoint(settings.place)
