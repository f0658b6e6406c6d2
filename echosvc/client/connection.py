"""From a target to a client that is ready to be used.

Everything that can go wrong on the way arrives as an error of `echosvc.errors`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure

from echosvc.client._resolve import literal, resolve
from echosvc.client.datagram import DatagramEchoClient
from echosvc.client.stream import EchoClient
from echosvc.client.target import Target
from echosvc.errors import ConnectionFailed, NameNotFound, NoReply, Refused
from echosvc.transports import DatagramPort, HostPort
from echosvc.transports.client import direct

__all__ = ["connect", "connect_datagram", "connect_stream", "open_datagram", "open_stream"]

_P = TypeVar("_P", bound=Protocol)
_D = TypeVar("_D", bound=DatagramProtocol)


def connect(
    target: str | Target, *, reactor: Any = None, timeout: float = 30.0
) -> Deferred[EchoClient | DatagramEchoClient]:
    """Get a client for a target, of the kind that the target names.

    Args:
        target: For example ``localhost:8080``, ``udp:localhost:8080`` or ``[::1]:8080``.
        reactor: Default: the global one.
        timeout: How long the connection may take, in seconds.

    Returns:
        Fires with an `EchoClient` (TCP) or a `DatagramEchoClient` (UDP). Fails with `NameNotFound`,
        `Refused`, `NoReply` or `ConnectionFailed`; nothing is open then.

    Raises:
        InvalidTarget: The target cannot be understood.
    """
    understood = Target.parse(target) if isinstance(target, str) else target
    ready: Deferred[Any] = (
        connect_stream(understood, reactor=reactor, timeout=timeout)
        if understood.kind == "tcp"
        else connect_datagram(understood, reactor=reactor, timeout=timeout)
    )
    return ready


def connect_stream(target: Target, *, reactor: Any = None, timeout: float = 30.0) -> Deferred[EchoClient]:
    """Connect to a target over TCP. As `connect`, with the type known."""
    return open_stream(target, EchoClient(), reactor=reactor, timeout=timeout)


def connect_datagram(
    target: Target, *, reactor: Any = None, timeout: float = 30.0
) -> Deferred[DatagramEchoClient]:
    """Open a socket for a target over UDP. As `connect`, with the type known.

    Nothing is sent: whether somebody listens there shows with the first call.
    """
    reactor = _reactor(reactor)
    return open_datagram(
        target, lambda peer: DatagramEchoClient(peer, reactor), reactor=reactor, timeout=timeout
    )


def open_stream(target: Target, protocol: _P, *, reactor: Any = None, timeout: float) -> Deferred[_P]:
    """Connect a protocol to a target over TCP.

    A name is tried at all its addresses, IPv6 and IPv4, a little apart (RFC 8305).

    Args:
        target: Where to.
        protocol: Gets the connection.
        reactor: Default: the global one.
        timeout: How long the connection may take, in seconds, name lookup included.

    Returns:
        Fires with the protocol, connected. Fails as `connect` does.
    """
    reactor = _reactor(reactor)
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    connecting: Deferred[Any] = _endpoint(target, direct(reactor), timeout).connect(factory)
    connecting.addTimeout(timeout, reactor, lambda *_: Failure(NoReply(target.where, timeout)))
    return connecting.addErrback(_translate, target, timeout)


def open_datagram(
    target: Target, build: Callable[[HostPort], _D], *, reactor: Any = None, timeout: float
) -> Deferred[_D]:
    """Open a UDP socket of a target's family for a protocol.

    The socket is not connect()ed, and bound to any address and a free port.

    Args:
        target: Where datagrams are to go.
        build: Makes the protocol, told the peer's address as the socket will name it.
        reactor: Default: the global one.
        timeout: How long the name lookup may take, in seconds.

    Returns:
        Fires with the protocol, started. Fails as `connect` does.
    """
    reactor = _reactor(reactor)

    def start(peer: HostPort) -> _D:
        protocol = build(peer)
        family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
        with_any_address = socket.socket(family, socket.SOCK_DGRAM)
        with_any_address.bind(("", 0))
        DatagramPort(with_any_address, protocol, reactor, report_errors=True).startListening()
        return protocol

    looking = resolve(target.host, target.port, reactor).addTimeout(
        timeout,
        reactor,
        lambda *_: Failure(NoReply(f"the name service, asked about {target.host},", timeout)),
    )
    return looking.addCallback(start).addErrback(_translate, target, timeout)


def _reactor(reactor: Any) -> Any:
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415  # installs one: only when it is needed
    return reactor


def _endpoint(target: Target, reactor: Any, timeout: float) -> IStreamClientEndpoint:
    """An address is used as it is: looking it up would lose the scope of a link-local one."""
    address = literal(target.host, target.port)
    if address is None:
        return HostnameEndpoint(reactor, target.host, target.port, timeout)
    kind = TCP6ClientEndpoint if ":" in address[0] else TCP4ClientEndpoint
    return kind(reactor, *address, timeout)


def _translate(failure: Failure, target: Target, timeout: float) -> Failure:
    """Say in our words why there is no connection."""
    problem = failure.value
    if isinstance(problem, (error.DNSLookupError, error.UnknownHostError)):
        return Failure(NameNotFound(target.host))
    if isinstance(problem, error.ConnectionRefusedError):
        return Failure(Refused(target.where))
    if isinstance(problem, error.TimeoutError):
        return Failure(NoReply(target.where, timeout))
    if isinstance(problem, (error.ConnectError, OSError)):
        return Failure(ConnectionFailed(target.where, _system_words(problem)))
    return failure


def _system_words(problem: Exception) -> str:
    """The system's own sentence, without Twisted's: ``Network is unreachable``."""
    for part in reversed(problem.args):
        if isinstance(part, OSError):
            return _system_words(part)
        if isinstance(part, str) and part:
            return part
    return str(problem)
