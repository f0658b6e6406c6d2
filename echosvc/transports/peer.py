"""Where a datagram came from, and the way back."""

from __future__ import annotations

import socket
import sys
from typing import TypeAlias

from echosvc.transports.addresses import HostPort, SockAddr, host_port
from echosvc.transports.linux import Control

__all__ = ["Peer", "Source", "sockaddr_from", "source_of"]


class Peer(tuple[str, int]):  # noqa: SLOT001  # a tuple subclass can have attributes only in a dict
    """A datagram's source: ``(host, port)``, which also remembers the way back.

    Attributes:
        sockaddr: The source exactly as the kernel gave it, with scope and mapping.
        control: Control messages that make an answer leave from the address that was asked.
    """

    sockaddr: SockAddr
    control: list[Control]

    @classmethod
    def of(cls, sockaddr: SockAddr, control: list[Control]) -> Peer:
        """Make the peer that a datagram from `sockaddr` came from."""
        self = cls(host_port(sockaddr))
        self.sockaddr = sockaddr
        self.control = control
        return self


Source: TypeAlias = HostPort | str | bytes | None
"""Who sent a datagram: a `Peer`, or the name of a UNIX socket (bytes if abstract, None if it has no name)."""


def source_of(sockaddr: SockAddr | str | bytes | None, control: list[Control]) -> Source:
    """Turn what `socket.recvmsg` says into what a protocol is told."""
    return Peer.of(sockaddr, control) if isinstance(sockaddr, tuple) else sockaddr


def sockaddr_from(raw: bytes) -> SockAddr:
    """Read a ``struct sockaddr_in`` or ``sockaddr_in6`` (ip(7), ipv6(7)).

    Args:
        raw: The structure, from its first byte on.

    Returns:
        The address as the socket module has it.
    """
    port = int.from_bytes(raw[2:4], "big")
    if int.from_bytes(raw[:2], sys.byteorder) == socket.AF_INET:
        return (socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
    flow, scope = int.from_bytes(raw[4:8], "big"), int.from_bytes(raw[24:28], sys.byteorder)
    return (socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, flow, scope)
