"""An echo and its client on a reactor that is named: ``python -m tests.transports.echo_on poll``.

``poll`` and ``select`` run as on a system without epoll. Prints how many bytes of each of three messages, and of two
with urgent data between them, came back before the connection closed, and whether a hub served them.
"""

from __future__ import annotations

import importlib
import select
import socket
import sys
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamPort
from echosvc.transports.client import direct
from echosvc.transports.hub import Hub, hub_for

#: A line, a message that a hub reads in several turns, one that fills the queue while nobody reads, and `URGENT`.
SIZES = (64, 1_000_000, 12_000_000, 6)

#: The size that stands for two messages of half of it, urgent data between them and the end right behind them.
URGENT = 6


class Client(Protocol):
    """Writes everything, closes its direction, and counts what comes back.

    Args:
        size: Bytes to write.
        done: Called when the connection has ended.
    """

    transport: Any

    def __init__(self, size: int, done: Any) -> None:
        self.size = size
        self.done = done
        self.got = 0

    def connectionMade(self) -> None:
        """Write."""
        if self.size == URGENT:
            sock = self.transport.socket  # everything at once: it is one event for the echo
            for flags in (0, socket.MSG_OOB, 0):
                sock.send(bytes(1 if flags else URGENT // 2), flags)
            sock.shutdown(socket.SHUT_WR)
            return
        self.transport.write(bytes(self.size))
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Count."""
        self.got += len(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Tell."""
        print(self.got)  # noqa: T201
        self.done()


def install(name: str) -> None:
    """Install a reactor."""
    if name == "uvloop":
        asyncioreactor.install(importlib.import_module("uvloop").new_event_loop())
        return
    if name in ("poll", "select"):
        del select.epoll
    importlib.import_module(f"twisted.internet.{name}reactor").install()


def main(name: str) -> None:
    """Echo every message on a connection of its own."""
    install(name)
    reactor: Any = importlib.import_module("twisted.internet.reactor")
    port = StreamPort(socket.create_server(("127.0.0.1", 0)), EchoFactory(), reactor, stall_timeout=60)
    port.startListening()
    sizes = iter(SIZES)

    def begin() -> None:
        """Connect for the next message, or end."""
        if (size := next(sizes, None)) is None:
            print("hub" if isinstance(hub_for(reactor), Hub) else "no hub")  # noqa: T201
            reactor.stop()
            return
        factory: Any = ClientFactory.forProtocol(lambda: Client(size, begin))
        factory.noisy = False
        direct(reactor).connectTCP("127.0.0.1", port.getHost().port, factory)

    reactor.callWhenRunning(begin)
    reactor.callLater(30, reactor.stop)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
