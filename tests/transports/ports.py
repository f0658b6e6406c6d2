"""What the tests of datagram ports share: protocols that remember, and ports that are closed at the end."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from echosvc.transports import (
    DatagramBatch,
    DatagramPort,
    IDatagramBatchProtocol,
    IUndeliverable,
    batched_messages,
)
from tests.doubles import FakeReactor, udp_socket
from tests.machine import family_of

__all__ = ["BatchRecorder", "PortCase", "Recorder"]


@implementer(IUndeliverable)
class Recorder(DatagramProtocol):
    """Remembers everything a port tells it."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []
        self.failed: list[tuple[bytes, tuple[str, int], int]] = []
        self.refused = 0
        self.stopped = 0

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Remember a datagram."""
        self.received.append((datagram, addr))

    def undeliverable(self, payload: bytes, addr: tuple[str, int], number: int) -> None:
        """Remember a failure."""
        self.failed.append((payload, addr, number))

    def connectionRefused(self) -> None:
        """Remember a refusal."""
        self.refused += 1

    def stopProtocol(self) -> None:
        """Remember the end."""
        self.stopped += 1


@implementer(IDatagramBatchProtocol)
class BatchRecorder(Recorder):
    """Takes datagrams by the batch, sends them back, and remembers the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[DatagramBatch] = []

    def batch_received(self, batch: DatagramBatch) -> None:
        """Remember what came, and send it back."""
        self.batches.append(batch)
        self.received += [(bytes(payload), source) for payload, source in batch]  # type: ignore[misc]  # UDP
        batch.send_back()


class PortCase(SynchronousTestCase):
    """Opens ports and clients, and closes them."""

    #: Whether to do without recvmmsg, as where the system does not have it.
    plain = False

    def setUp(self) -> None:
        """Choose how datagrams are received."""
        if self.plain:
            self.patch(batched_messages, "can_batch", lambda _: False)

    def open_port(self, protocol: DatagramProtocol, host: str = "127.0.0.1", **options: Any) -> DatagramPort:
        """Open a port for a protocol."""
        self.reactor = FakeReactor()
        sock = socket.socket(family_of(host), socket.SOCK_DGRAM)
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        port = DatagramPort(sock, protocol, self.reactor, **options)
        port.startListening()
        self.addCleanup(self.close, port)
        return port

    def close(self, port: DatagramPort) -> None:
        """Close a port that the test has not closed."""
        if port.connected:
            port.connectionLost()

    def client(self, host: str = "127.0.0.1") -> socket.socket:
        """Open a client's socket."""
        sock = udp_socket(host)
        self.addCleanup(sock.close)
        return sock

    def closed_port(self, host: str = "127.0.0.1") -> int:
        """A port where nobody listens."""
        with udp_socket(host) as sock:
            number: int = sock.getsockname()[1]
            return number
