"""What describes a listener, wherever the description came from."""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = ["ListenerSettings"]


@attrs.frozen(kw_only=True)
class ListenerSettings:
    """One address to listen on, and what to speak there.

    Attributes:
        protocol: Name of a wire protocol, for example ``echo``.
        transport: ``tcp`` or ``udp``.
        port: 1 to 65535, or 0 for a free number; all listeners that ask for 0 share one number.
        interface: An IPv4 or IPv6 literal (``fe80::1%eth0`` for link-local), or ``""`` for every address.
        origin: Who asked for it, as errors name it, for example ``--port 8080``.
        backlog: TCP: connections that may wait to be accepted. Twisted's own default of 50 refuses clients
            in a burst; the kernel caps it at net.core.somaxconn.
        receive_buffer: UDP: bytes of datagrams that may wait in the kernel. A small datagram costs the
            kernel 768 bytes or more, so that the usual default of 208 KiB holds some 270 of them, and
            4 MiB some 5000.
        stall_timeout: TCP: seconds after which a connection is aborted whose peer takes nothing of what waits
            for it.
    """

    protocol: str
    transport: Literal["tcp", "udp"]
    port: int
    interface: str = ""
    origin: str = "listener"
    backlog: int = 1024
    receive_buffer: int = 4 * 1024 * 1024
    stall_timeout: float = 300.0
