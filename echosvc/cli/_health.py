"""From a service's settings to where and what its health check asks."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any, ClassVar

import attrs

from echosvc.admission import AccessList
from echosvc.cli._asking import Place, TLSAsked
from echosvc.cli._questions import (
    CLOSED,
    CONNECTED,
    SILENCE,
    Question,
    datagram_question,
    stream_question,
)
from echosvc.errors import InvalidListener, InvalidOption, UserError
from echosvc.listeners import Internet, ListenerSettings, UnixSocket
from echosvc.protocols import find
from echosvc.tap import Options
from echosvc.transports import display

__all__ = ["HealthOptions", "places_of"]

#: A PROXY header, version 2, of a connection that the proxy makes for itself (LOCAL): a health check, as its section 2.2 says.
_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"

#: Where listeners on every address of a family are asked.
_LOOPBACK = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1",)}  # noqa: S104  # not bound

#: The longest time that can be asked for, in seconds.
_LONGEST = 3600.0


class HealthOptions(Options):
    """What `echosvc health` can be told: all that `twistd echosvc` can, so that one line serves for both, and endpoints.

    Attributes:
        timeout: Seconds in which all must have answered.
        verify: Whose certificate TLS listeners must show; None for anybody's.
        verbose: Tell of those that answer, too.
    """

    optParameters: ClassVar[list[list[object]]] = [
        ["timeout", None, "2", "Seconds in which all listeners must have answered."],
        ["verify", None, None, "Host whose certificate TLS listeners must show; default: not looked at."],
    ]
    optFlags: ClassVar[list[list[object]]] = [["verbose", "v", "Tell of the listeners that answer, too."]]
    reads_files = False

    def parseArgs(self, *args: str) -> None:
        """Take endpoints, each perhaps with the protocol that is spoken there."""
        for each in args:
            _refuse_host(each)
            named = re.match(r"[A-Za-z0-9_.-]+=", each)
            self.opt_listen(_without_files(each if named else f"echo={each}"))

    def postOptions(self) -> None:
        """Check every value.

        Raises:
            UserError: A value makes no sense.
        """
        value = self["timeout"]
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,9})?", value) or not 0.01 <= float(value) <= _LONGEST:
            raise InvalidOption("--timeout", value, f"must be a number of seconds from 0.01 to {_LONGEST:g}")
        self.timeout = float(value)
        self.verify: str | None = self["verify"]
        if self.verify == "":
            raise InvalidOption("--verify", "", "must be the name of a host")
        self.verbose = bool(self["verbose"])
        super().postOptions()


def _refuse_host(endpoint: str) -> None:
    """Refuse ``tls:HOST:PORT``, which is how the other commands are told whom to ask."""
    found = re.fullmatch(
        r"(?:[^:=]+=)?(?i:(tcp|udp|tls)):((?:\[.*\]|[^:=]*[^:=0-9][^:=]*):([0-9]+))", endpoint
    )
    if found is not None:
        kind, there, port = found[1].lower(), shlex.quote(found[2]), found[3]
        elsewhere = {
            "tls": f"openssl s_client -quiet -connect {there}",
            "tcp": f"echosvc ping {there}",
            "udp": f"echosvc ping --udp {there}",
        }
        raise UserError(
            f"{endpoint}: a health check asks this machine, and names no host: {kind}:{port}; "
            f"`{elsewhere[kind]}` asks another"
        )


def _without_files(listener: str) -> str:
    """Let TLS be asked for as ``tls:8443``: a client needs none of the files that an endpoint has to name."""
    if re.match(r"[^=]+=(?i:(haproxy:)?tls):", listener) and not re.search(r":(cert|certdir)=", listener):
        return f"{listener}:certdir=-"
    return listener


def places_of(listeners: Sequence[ListenerSettings], verify: str | None = None) -> list[Place]:
    """Find out where listeners are asked, and what.

    Args:
        listeners: Of the service.
        verify: Whose certificate must be shown over TLS; None for anybody's.

    Returns:
        The places; two of a listener on every address of IPv4 and IPv6.

    Raises:
        InvalidListener: Nobody can know where one listens; or its protocol is not known here.
    """
    return [place for each in listeners for place in _places(each, verify)]


def _places(listener: ListenerSettings, verify: str | None) -> Iterator[Place]:
    place = listener.place
    tls = listener.tls and TLSAsked(host=verify, may_refuse=listener.tls.client_ca is not None)
    common: dict[str, Any] = {"tls": tls, "header": b"" if listener.proxy is None else _LOCAL}
    match place:
        case UnixSocket():
            yield Place(
                label=f"{listener.name} at {place.transport}:{place.path}",
                family=socket.AF_UNIX,
                address=f"\0{place.path[1:]}" if place.path.startswith("@") else place.path,
                question=_question(listener, is_stream=place.transport == "unix", host=None),
                is_stream=place.transport == "unix",
                **common,
            )
        case Internet() if place.port:
            for host in _LOOPBACK.get(place.interface, (place.interface,)):
                yield _internet_place(listener, place, host, common)
        case _:
            raise InvalidListener(
                listener.origin,
                "only the running service knows where that listens; name what it is to be asked, "
                "for example: echosvc health echo=tcp:8007",
            )


def _internet_place(listener: ListenerSettings, place: Internet, host: str, common: dict[str, Any]) -> Place:
    ((family, _, _, _, address), *_) = socket.getaddrinfo(host, place.port, flags=socket.AI_NUMERICHOST)
    is_stream = place.transport == "tcp"
    asked = Place(
        label=f"{listener.name} at {place.transport.upper()} {display(host, place.port)}",
        family=family,
        address=address,
        question=_question(listener, is_stream=is_stream, host=host),
        is_stream=is_stream,
        may_be_missing=place.interface == "" and host == "::1",
        **common,
    )
    if asked.question is CLOSED:
        # It is closed before anything is read, or when we have said that we speak for ourselves.
        return attrs.evolve(
            asked, tls=None, header=common["header"] if _may_announce(listener, host) else b""
        )
    return asked


def _question(listener: ListenerSettings, *, is_stream: bool, host: str | None) -> Question:
    """Choose what to ask, by what is spoken and whether we may come in. Who asks this machine has the address that is asked."""
    if host is not None and not _admits(listener, host.partition("%")[0]):
        return CLOSED if is_stream else SILENCE
    try:
        name = find(listener.protocol).name
    except ValueError as problem:
        raise InvalidListener(listener.origin, str(problem), "protocol") from None
    if is_stream:
        return stream_question(name) or CONNECTED
    return datagram_question(name) or SILENCE


def _admits(listener: ListenerSettings, host: str) -> bool:
    if listener.proxy is not None and not _may_announce(listener, host):
        return False
    try:
        access = AccessList.read(listener.door.allow, listener.door.deny)
    except ValueError as problem:
        raise InvalidListener(listener.origin, str(problem)) from None
    return access.is_empty or access.admits(host)


def _may_announce(listener: ListenerSettings, host: str) -> bool:
    return any(ip_address(host) in network for network in listener.proxy or ())
