"""The control: an echo server as Twisted's own examples write it, for IPv6 as well where there is any.

A program of its own. It listens on a free port and says so with the same words as the service.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.wire import Echo
from twisted.python import log


class DatagramEcho(DatagramProtocol):
    """What every tutorial shows."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send it back."""
        assert self.transport is not None
        self.transport.write(datagram, addr)


def _everywhere() -> str:
    """The address that means all: of both families with IPv6, else of IPv4."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return "::"
    return ""


def main() -> None:
    """Serve until killed."""
    reactor: Any = installed  # typed as a module; it is whichever reactor was installed
    log.startLogging(sys.stdout)
    everywhere = _everywhere()
    stream = reactor.listenTCP(0, Factory.forProtocol(Echo), interface=everywhere)
    same = stream.getHost().port  # clients know one number for both
    for port in (stream, reactor.listenUDP(same, DatagramEcho(), interface=everywhere)):
        where = port.getHost()
        log.msg(f"echo (RFC 862) listens on {where.type} {where.host}:{where.port}")
    reactor.run()


if __name__ == "__main__":
    main()
