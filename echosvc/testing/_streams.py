"""Stream connections in memory: a listener without a socket, and clients that a test drives."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python import log
from twisted.python.failure import Failure

from echosvc.protocols import WireProtocol
from echosvc.testing._check import positive, raw
from echosvc.testing._transport import MemoryTransport, Pipe

__all__ = ["WINDOW", "MemoryClient", "MemoryListener"]

#: How many bytes a client has room for, if nothing else is said.
WINDOW = 64 * 1024

_HOST = IPv4Address("TCP", "198.51.100.1", 7)  # RFC 5737, as are the clients' addresses


class MemoryClient:
    """The client of a connection in memory. `MemoryListener.connect` makes one.

    Everything that can happen has happened when a method returns. The client reads only when it is told to: while more
    than its window waits for it, the server's transport queues, and pauses its producer.

    Attributes:
        transport: The server's side.
        protocol: What the server's factory has built for this client.
    """

    def __init__(self, pipe: Pipe, transport: MemoryTransport) -> None:
        self.transport = transport
        self.protocol = transport.protocol
        self._pipe = pipe

    def send(self, data: bytes) -> None:
        """Send one segment: the server's ``dataReceived`` is called with just this, if it is reading.

        What is sent after the server has closed is lost, as on a network.

        Args:
            data: What to send. More than 64 KiB arrive in several pieces.

        Raises:
            TypeError: It is not bytes.
            ValueError: The client has finished or aborted.
        """
        raw("send()", data)
        self._must_be_open("send")
        if data and not self.transport.disconnected:
            self._pipe.to_server.append(bytes(data))
            self.transport.turn()

    def send_eof(self) -> None:
        """Say that the client will send no more (FIN), as ``nc -N`` does. It still receives.

        Raises:
            ValueError: The client has finished or aborted.
        """
        self._must_be_open("send_eof")
        self._pipe.client_finished = True
        self.transport.turn()

    def receive(self, limit: int | None = None) -> bytes:
        """Take what has arrived, and so make room for more.

        Args:
            limit: The most bytes to take; None for all that have arrived, which is at most the client's window.

        Returns:
            What has arrived; empty if nothing has. `is_finished` tells whether more can come.

        Raises:
            ValueError: `limit` is not positive.
        """
        if limit is not None:
            positive("limit", limit)
        self.transport.turn()
        arrived = self._pipe.to_client
        data = bytes(arrived[:limit])
        del arrived[: len(data)]
        self.transport.turn()
        return data

    def abort(self) -> None:
        """Reset the connection (RST), as a client that crashes does.

        What either side has not read is lost. The server learns of it when it reads or writes next: at once, unless it
        is paused and has nothing to send. Does nothing a second time.
        """
        self._pipe.client_aborted = True
        self._pipe.to_client.clear()
        self._pipe.to_server.clear()
        self.transport.turn()

    @property
    def waiting(self) -> int:
        """How many bytes were sent that the server has not read."""
        self.transport.turn()
        return sum(map(len, self._pipe.to_server))

    @property
    def is_finished(self) -> bool:
        """Whether the server has said that it will send no more. What has arrived can still be received."""
        self.transport.turn()
        return self._pipe.server_finished

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed both directions, and its protocol was told."""
        self.transport.turn()
        return bool(self.transport.disconnected)

    @property
    def is_reset(self) -> bool:
        """Whether the server has aborted, or closed with something unread; over a network, data may be lost then."""
        self.transport.turn()
        return self._pipe.server_aborted

    def _must_be_open(self, what: str) -> None:
        if self._pipe.client_aborted:
            raise ValueError(f"{what}() after abort(): this client is gone; connect() another one")
        if self._pipe.client_finished:
            raise ValueError(f"{what}() after send_eof(): this client has finished; connect() another one")


class MemoryListener:
    """Serves connections in memory, as a listener serves them on a socket.

        listener = MemoryListener(SHOUT)
        client = listener.connect()
        client.send(b"hello")
        self.assertEqual(client.receive(), b"HELLO")

    Args:
        what: A wire protocol with a stream form, or a factory.
        options: The wire protocol's options; None for their defaults.
        clock: Keeps the time of the protocols; None for one of its own.

    Attributes:
        clock: As given. Time passes by ``listener.clock.advance(seconds)``.
        clients: All that have connected.

    Raises:
        TypeError: `what` is something else, for example a protocol class.
        ValueError: The wire protocol has no stream form.
    """

    def __init__(
        self,
        what: WireProtocol | IProtocolFactory,
        *,
        options: Any = None,
        clock: Clock | None = None,
    ) -> None:
        factory: Any = what.make_stream(options) if isinstance(what, WireProtocol) else what
        if not IProtocolFactory.providedBy(factory):
            raise TypeError(
                f"a listener serves a WireProtocol or a factory, not {factory!r}; "
                f"Factory.forProtocol(…) makes a factory of a protocol class"
            )
        self.clock = Clock() if clock is None else clock
        self.clients: list[MemoryClient] = []
        self._factory: IProtocolFactory = factory
        self._factory.doStart()

    def connect(self, *, window: int = WINDOW, peer: IPv4Address | IPv6Address | None = None) -> MemoryClient:
        """Connect a client.

        A factory that refuses it (``buildProtocol`` returns None) or raises closes the connection at once.

        Args:
            window: How many bytes the client has room for.
            peer: The client's address; None for one that no other client has.

        Raises:
            ValueError: `window` is not positive.
        """
        positive("window", window)
        peer = peer or IPv4Address("TCP", "192.0.2.1", 49152 + len(self.clients))
        try:
            protocol = self._factory.buildProtocol(peer)
        except Exception:  # noqa: BLE001  # as a port does: whatever it raises, others are still served
            log.err()
            protocol = None
        pipe = Pipe(window)
        transport = MemoryTransport(pipe, protocol or Protocol(), self.clock, _HOST, peer)
        client = MemoryClient(pipe, transport)
        self.clients.append(client)
        if protocol is None:
            transport.connectionLost(Failure(CONNECTION_DONE))
        else:
            transport.turn(lambda: self._begin(transport))
        return client

    def _begin(self, transport: MemoryTransport) -> None:
        transport.startReading()
        transport.protocol.makeConnection(transport)

    def stop(self) -> None:
        """Tell the factory that nobody listens any more. Connections live on."""
        self._factory.doStop()
