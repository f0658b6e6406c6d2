"""A datagram port in memory: what a datagram protocol has as its transport, and a test delivers to.

`twisted.internet.testing.FakeDatagramTransport` remembers what is written, whatever it is. This one also refuses what a
real port refuses, hands over batches, and gives each datagram a source that remembers the way back, as real ones do.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address
from twisted.internet.error import InvalidAddressError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

from echosvc.admission.sources import packed
from echosvc.protocols import WireProtocol
from echosvc.testing._check import raw
from echosvc.transports import Arrival, DatagramBatch, IDatagramBatchProtocol, Peer, Source
from echosvc.transports.messages import BATCH, Messages, Unsent

__all__ = ["LARGEST_DATAGRAM", "MemoryDatagramPort", "MemoryMessages"]

#: The largest UDP payload over IPv4: 65535 less 20 for the IP header and 8 for UDP's (RFC 791, RFC 768).
LARGEST_DATAGRAM = 65507

_ASKER = ("192.0.2.1", 49152)  # RFC 5737

_log = Logger()

_Write: TypeAlias = Callable[[bytes, Source], None]


class MemoryMessages(Messages):
    """Datagrams that have come in together, in memory.

    Args:
        datagrams: Each one's payload and source.
        write: Sends one answer.
    """

    def __init__(self, datagrams: Sequence[tuple[bytes, Source]], write: _Write) -> None:
        self._datagrams = [(bytearray(payload), source) for payload, source in datagrams]
        self._write = write

    def receive(self) -> int:
        """Take them all."""
        self.lengths = [len(payload) for payload, _ in self._datagrams]
        return len(self._datagrams)

    def payload(self, index: int) -> memoryview:
        """Show a datagram's bytes."""
        return memoryview(self._datagrams[index][0])

    def source(self, index: int) -> Source:
        """Tell whom a datagram came from."""
        return self._datagrams[index][1]

    def envelopes(self) -> Sequence[Source]:
        """Tell whom all came from; nothing else is on their envelopes."""
        return [source for _, source in self._datagrams]

    def arrival(self, envelope: Any) -> Arrival:
        """Describe a sender."""
        host, port = envelope
        return Arrival.of(packed(host), port, b"")

    def send_back(self, which: Sequence[int]) -> list[Unsent]:
        """Send datagrams back, one by one. The port that writes them counts what cannot be sent."""
        for index in which:
            payload, source = self._datagrams[index]
            self._write(bytes(payload), source)
        return []


@implementer(IUDPTransport)
class MemoryDatagramPort:
    """Serves datagrams in memory, as a listener serves them on a socket.

        port = MemoryDatagramPort(SHOUT)
        port.deliver(b"hello", ("192.0.2.1", 1025))
        self.assertEqual(port.take(), [(b"HELLO", ("192.0.2.1", 1025))])

    What a protocol raises is logged, and the port lives on, as a real one does.

    Args:
        what: A wire protocol with a datagram form, or a datagram protocol.
        options: The wire protocol's options; None for their defaults.
        clock: Keeps the protocol's time; None for one of its own.

    Attributes:
        clock: As given. Time passes by ``port.clock.advance(seconds)``.
        protocol: What serves the datagrams.
        sent: What was sent and not taken: payload, and the address it was written to.
        drops: How many could not be sent, by reason, as a real port counts them.

    Raises:
        TypeError: `what` is something else, for example a protocol class.
        ValueError: The wire protocol has no datagram form.
    """

    def __init__(
        self,
        what: WireProtocol | AbstractDatagramProtocol,
        *,
        options: Any = None,
        clock: Clock | None = None,
    ) -> None:
        protocol: Any = what.make_datagram(options) if isinstance(what, WireProtocol) else what
        if not isinstance(protocol, AbstractDatagramProtocol):
            raise TypeError(f"a datagram port serves a WireProtocol or a DatagramProtocol, not {protocol!r}")
        self.clock = Clock() if clock is None else clock
        self.protocol: Any = protocol
        self.sent: list[tuple[bytes, Source]] = []
        self.drops: Counter[str] = Counter()
        self._connected_to: Source = None
        self._broadcast = False
        self._open = True
        protocol.makeConnection(self)

    # -- for the test

    def deliver(self, payload: bytes, addr: Source = _ASKER) -> Source:
        """Let one datagram arrive.

        Args:
            payload: 0 to 65507 bytes.
            addr: Who sends it: host (a literal) and port; or, as on a UNIX socket, a path, or None for one without.

        Returns:
            The address that the protocol was handed. An answer is to be written to just this.

        Raises:
            TypeError: The payload is not bytes.
            ValueError: It is longer than any datagram, `addr` is no such address, or the port was closed.
        """
        datagram, source = self._checked("deliver()", payload, addr)
        self._call(self.protocol.datagramReceived, datagram, source)
        return source

    def deliver_batch(self, datagrams: Iterable[tuple[bytes, Source]]) -> list[Source]:
        """Let datagrams arrive together, up to 64 at once.

        A protocol that does not provide `IDatagramBatchProtocol` is handed them one by one.

        Args:
            datagrams: Each one's payload and sender, as for `deliver`.

        Returns:
            The addresses that the protocol was handed, one for each datagram.

        Raises:
            TypeError: A payload is not bytes.
            ValueError: One is longer than any datagram, a sender is no address, or the port was closed.
        """
        checked = [self._checked("deliver_batch()", *each) for each in datagrams]
        for start in range(0, len(checked), BATCH):
            self._serve(MemoryMessages(checked[start : start + BATCH], self.write))
        return [source for _, source in checked]

    def take(self) -> list[tuple[bytes, Source]]:
        """Return what was sent since the last time, in order, and forget it."""
        sent, self.sent = self.sent, []
        return sent

    def _checked(self, what: str, payload: bytes, addr: Source) -> tuple[bytes, Source]:
        raw(what, payload)
        if not self._open:
            raise ValueError(f"{what} after stopListening(): nobody listens; make another port")
        if len(payload) > LARGEST_DATAGRAM:
            raise ValueError(f"no datagram has {len(payload)} bytes; {LARGEST_DATAGRAM} are the most")
        if not isinstance(addr, tuple):
            return bytes(payload), addr
        if not _is_literal(addr[0]):
            raise ValueError(f"{what} takes a sender such as ('192.0.2.1', 1025), not {addr!r}")
        return bytes(payload), addr if isinstance(addr, Peer) else Peer.of(addr, [])

    def _serve(self, messages: MemoryMessages) -> None:
        def send_back(which: Sequence[int]) -> None:
            messages.send_back(which)

        batch = DatagramBatch(messages, range(messages.receive()), send_back)
        try:
            if IDatagramBatchProtocol.providedBy(self.protocol):
                self._call(self.protocol.batch_received, batch)
                return
            for payload, source in batch:
                if self._open:
                    self._call(self.protocol.datagramReceived, bytes(payload), source)
        finally:
            batch.end()

    def _call(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception:  # noqa: BLE001  # whatever a protocol raises
            _log.failure("{protocol} failed on a datagram", protocol=self.protocol)

    # -- IUDPTransport

    def write(self, packet: bytes, addr: Source = None) -> None:
        """Send a datagram; what no kernel would send is counted in `drops`.

        Args:
            packet: The payload.
            addr: Whom to. None if connected.

        Raises:
            TypeError: The payload is not bytes.
            twisted.internet.error.InvalidAddressError: `addr` has a name in place of an address.
        """
        raw("write()", packet)
        if isinstance(addr, tuple) and not _is_literal(addr[0]):
            raise InvalidAddressError(addr[0], "write() takes an address, not a name")
        if addr is None:
            addr = self._connected_to
        if not self._open:
            return
        if addr is None:
            self._unsent(errno.ENOTCONN)
        elif len(packet) > LARGEST_DATAGRAM:
            self._unsent(errno.EMSGSIZE)
        else:
            self.sent.append((bytes(packet), addr))

    def _unsent(self, number: int) -> None:
        self.drops[f"send-{errno.errorcode[number]}"] += 1

    def connect(self, host: str, port: int) -> None:
        """Let `write` do without an address from here on.

        Raises:
            twisted.internet.error.InvalidAddressError: `host` is a name.
        """
        if not _is_literal(host):
            raise InvalidAddressError(host, "connect() takes an address, not a name")
        self._connected_to = (host, port)

    def getHost(self) -> IPv4Address:
        """Return the server's address."""
        return IPv4Address("UDP", "198.51.100.1", 7)

    def stopListening(self) -> None:
        """Close the port, and tell the protocol. Does nothing a second time."""
        if self._open:
            self._open = False
            self.protocol.doStop()

    def setBroadcastAllowed(self, enabled: bool) -> None:  # noqa: FBT001  # Twisted's
        """Remember it."""
        self._broadcast = bool(enabled)

    def getBroadcastAllowed(self) -> bool:
        """Return what was set; at first False."""
        return self._broadcast


def _is_literal(host: str) -> bool:
    return isIPAddress(host) or isIPv6Address(host)
