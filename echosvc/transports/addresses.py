"""Socket addresses as the kernel has them and as everybody above the socket sees them.

On a dual-stack socket an IPv4 peer is ``::ffff:192.0.2.1`` to the kernel (RFC 4291, 2.5.5.2) and plain
``192.0.2.1`` everywhere above: in what a protocol is told, in logs and in limits.
"""

from __future__ import annotations

import socket
from typing import Any, TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address

__all__ = ["HostPort", "SockAddr", "display", "from_mapped", "host_port", "internet_address", "to_family"]

SockAddr: TypeAlias = tuple[Any, ...]
"""What the socket module takes and gives: ``(host, port)`` or ``(host, port, flowinfo, scope_id)``."""

HostPort: TypeAlias = tuple[str, int]
"""What Twisted's datagram protocols see: the host as text (with ``%scope`` if link-local), the port."""

_MAPPED = "::ffff:"


def from_mapped(sockaddr: SockAddr) -> SockAddr:
    """Turn the address of an IPv4 peer on an IPv6 socket into a plain IPv4 one.

    Args:
        sockaddr: An address from ``accept``, ``recvmsg``, ``getsockname`` or ``getpeername``.

    Returns:
        ``(host, port)`` if the host is IPv4-mapped, else the address unchanged.
    """
    host = sockaddr[0]
    if host.startswith(_MAPPED) and "." in host:
        return (host[len(_MAPPED) :], sockaddr[1])
    return sockaddr


def to_family(address: HostPort, family: socket.AddressFamily) -> SockAddr:
    """Turn a plain address into one that a socket of this family can send to.

    Args:
        address: Host (a literal) and port.
        family: The family of the socket that will send.

    Returns:
        The same address, IPv4-mapped if the socket is an IPv6 one.
    """
    host, port = address
    if family == socket.AF_INET6 and ":" not in host:
        return (_MAPPED + host, port)
    return (host, port)


def host_port(sockaddr: SockAddr) -> HostPort:
    """Name a peer as protocols see it, keeping the scope of a link-local IPv6 address (RFC 4007, 11).

    Args:
        sockaddr: An address as the socket gave it.

    Returns:
        Host and port; the host carries ``%interface`` if the address means nothing without it.
    """
    plain = from_mapped(sockaddr)
    host: str = plain[0]
    if len(plain) == 4 and plain[3] and "%" not in host:
        host = f"{host}%{_interface_name(plain[3])}"
    return (host, plain[1])


def internet_address(kind: str, sockaddr: SockAddr) -> IPv4Address | IPv6Address:
    """Wrap an address in Twisted's class for its family.

    Args:
        kind: ``"TCP"`` or ``"UDP"``.
        sockaddr: An address as the socket gave it.

    Returns:
        An `IPv4Address` for IPv4 and for IPv4-mapped addresses, else an `IPv6Address`, whose host carries
        its scope if it means nothing without it.
    """
    plain = from_mapped(sockaddr)
    if ":" in plain[0]:
        return IPv6Address(kind, host_port(plain)[0], *plain[1:])  # type: ignore[arg-type]  # Twisted types kind as Literal
    return IPv4Address(kind, *plain[:2])  # type: ignore[arg-type]  # likewise


def display(host: str, port: int) -> str:
    """Write host and port for a person: ``192.0.2.1:7``, ``[2001:db8::1]:7``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)  # gone since: the number is as good an answer as there is
