"""The control: an echo server as Twisted's own examples write it.

A program of its own. It listens on free ports and says so with the same words as the service.
"""

from __future__ import annotations

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


def main() -> None:
    """Serve until killed."""
    reactor: Any = installed  # typed as a module; it is whichever reactor was installed
    log.startLogging(sys.stdout)
    ports = [reactor.listenTCP(0, Factory.forProtocol(Echo)), reactor.listenUDP(0, DatagramEcho())]
    for port in ports:
        where = port.getHost()
        log.msg(f"echo (RFC 862) listens on {where.type} {where.host}:{where.port}")
    reactor.run()


if __name__ == "__main__":
    main()
