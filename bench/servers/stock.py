"""Twisted as it comes: its own Echo, listenTCP and listenUDP, on its epoll reactor."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import epollreactor

if __name__ == "__main__":
    epollreactor.install()  # before anything imports another one

from twisted.internet.protocol import DatagramProtocol, ServerFactory
from twisted.protocols.wire import Echo

from bench.servers.ports import announce, free_port


class _DatagramEcho(DatagramProtocol):
    def datagramReceived(self, data: bytes, addr: Any) -> None:
        cast(Any, self.transport).write(data, addr)


def _main() -> None:
    from twisted.internet import reactor as installed  # noqa: PLC0415  # after the epoll reactor was installed

    reactor = cast(Any, installed)  # its interfaces demand arguments that have defaults
    port = free_port()
    reactor.listenTCP(port, ServerFactory.forProtocol(Echo), interface="127.0.0.1")
    reactor.listenUDP(port, _DatagramEcho(), interface="127.0.0.1")
    announce(port)
    reactor.run()


if __name__ == "__main__":
    _main()
