"""From a target's host to addresses, as the kernel will name them in what it receives."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from echosvc.errors import NameNotFound
from echosvc.transports import HostPort
from echosvc.transports.addresses import host_port

__all__ = ["literal", "resolve"]

#: Where a system delivers what is sent to "any address", and where the reply therefore comes from.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here


def literal(host: str, port: int) -> HostPort | None:
    """Normalise an address that needs no lookup.

    Args:
        host: What a user wrote.
        port: The port that goes with it.

    Returns:
        The address as the socket will name it as a source: shortest form, IPv4 if it is an IPv4-mapped one,
        scope by name; or None if `host` is a name.
    """
    host = _LOOPBACK.get(host, host)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None
    return host_port(found[0][4])


def resolve(host: str, port: int, reactor: Any) -> Deferred[HostPort]:
    """Find the address to send datagrams to.

    Args:
        host: A name or an address.
        port: The port that goes with it.
        reactor: Its name resolver is asked about names.

    Returns:
        Fires with the first address the system names. Fails with `NameNotFound` if it knows none.
    """
    if (known := literal(host, port)) is not None:
        return succeed(known)
    receiver = _Receiver(host)
    reactor.nameResolver.resolveHostName(receiver, host, port, transportSemantics="UDP")
    return receiver.found


@implementer(IResolutionReceiver)
class _Receiver:
    """Waits for what a name resolver finds, and keeps the first."""

    def __init__(self, name: str) -> None:
        self.found: Deferred[HostPort] = Deferred()
        self._name = name
        self._first: HostPort | None = None

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Nothing to do: the lookup cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        """Take note of an address, in the order in which the system prefers them."""
        if self._first is None:
            self._first = literal(address.host, address.port)  # type: ignore[attr-defined]  # IPv4 or IPv6

    def resolutionComplete(self) -> None:
        """Report."""
        if self._first is None:
            self.found.errback(NameNotFound(self._name))
        else:
            self.found.callback(self._first)
