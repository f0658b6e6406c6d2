"""Receiving many datagrams at once, and sending them back: what a datagram port asks of the system.

`Messages` is the question. `PlainMessages` answers it with one system call for each datagram, on any system and
for any family; `BatchedMessages` does better where the kernel can.
"""

from __future__ import annotations

import abc
import socket
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from echosvc.transports.destinations import Destinations
from echosvc.transports.linux import Control, destination, reply_control
from echosvc.transports.peer import Peer, Source, source_of
from echosvc.transports.screening import Arrival

__all__ = ["BATCH", "CONTROL_ROOM", "CUT", "MAX_DATAGRAM", "Messages", "PlainMessages", "Unsent"]

#: Messages taken at once. Counted in messages, because an empty datagram has no bytes: a flood of them
#: stopped stock Twisted's timers and TCP for as long as it lasted (3.5 s seen).
BATCH = 64

#: Larger than any UDP payload (65 507 bytes over IPv4, 65 527 over IPv6), so that nothing is cut.
MAX_DATAGRAM = 65535

#: Room for a PKTINFO or an extended error with the address of who sent it, for either family.
CONTROL_ROOM = socket.CMSG_SPACE(256)

#: A part of the datagram is missing, or of what came beside it: then perhaps where it was sent to.
CUT = socket.MSG_TRUNC | socket.MSG_CTRUNC

Unsent: TypeAlias = tuple[int, int | str]
"""A datagram that was not sent: how long it was, and the errno, or another reason as it is counted."""


class Messages(abc.ABC):
    """What has come in with one `receive`, until `release`.

    A message is what the kernel hands over as one: a datagram, or several of one size from one source that
    were coalesced on the way (UDP_GRO). Messages are known by their index.

    Attributes:
        lengths: Bytes in each message.
        refused: The messages that no protocol may see, and why: ``truncated`` if the system has kept only a part (of it, or of what says where it was sent to),
            ``destination-broadcast`` and ``destination-multicast`` if it was sent to many.
        coalesced: The size of the datagrams in each message that holds several; the last may be shorter.
        tries: How often a datagram is sent before that is a failure. 2 if the socket reports errors: the next
            send is told of one, whomever it is to, and is not carried out.
    """

    lengths: Sequence[int] = ()
    refused: Mapping[int, str] = {}
    coalesced: Mapping[int, int] = {}
    tries = 1

    @abc.abstractmethod
    def receive(self) -> int:
        """Take what is waiting, up to `BATCH` messages.

        Returns:
            How many messages there are now; 0 if nothing was waiting, or there are some that were not released.

        Raises:
            OSError: The system reports an error, and no message.
        """

    @abc.abstractmethod
    def payload(self, index: int) -> memoryview:
        """Show a message's bytes."""

    @abc.abstractmethod
    def source(self, index: int) -> Source:
        """Tell whom a message came from."""

    @abc.abstractmethod
    def envelopes(self) -> Sequence[Hashable]:
        """Tell each message's envelope: who sent it, and which address was asked."""

    @abc.abstractmethod
    def arrival(self, envelope: Hashable) -> Arrival:
        """Describe an envelope (not on UNIX sockets, whose peers have no addresses)."""

    @abc.abstractmethod
    def send_back(self, which: Sequence[int]) -> list[Unsent]:
        """Send messages back to where they came from, each from the address that was asked.

        Args:
            which: Their indexes, rising. Between two peers their order does not matter; for one it is kept.

        Returns:
            Every datagram that was not sent.
        """

    def release(self) -> None:
        """Forget the messages."""
        self.lengths = ()
        self.refused = {}
        self.coalesced = {}

    def counts(self) -> dict[int, int]:
        """Tell how many datagrams there are in each message that holds several."""
        return {index: (self.lengths[index] - 1) // size + 1 for index, size in self.coalesced.items()}

    def count(self, which: Sequence[int]) -> int:
        """Tell how many datagrams there are in some messages."""
        joined = ((self.lengths[i] - 1) // size for i, size in self.coalesced.items() if i in which)
        return len(which) + sum(joined)

    def shorten(self, index: int, count: int) -> None:
        """Forget the datagrams of a coalesced message that come after the first `count`."""
        lengths = list(self.lengths)
        lengths[index] = count * self.coalesced[index]
        self.lengths = lengths

    def datagrams(self, index: int) -> Iterator[memoryview]:
        """Show each datagram of a message."""
        payload = self.payload(index)
        size = self.coalesced.get(index)
        if not size:
            yield payload
            return
        for start in range(0, len(payload), size):
            yield payload[start : start + size]


class PlainMessages(Messages):
    """One recvmsg for each datagram in, one sendmsg for each one out.

    Args:
        sock: A bound datagram socket, non-blocking. Its options are not touched.
    """

    #: Bytes of a datagram, and of its control messages, for which there is room.
    _room: ClassVar[tuple[int, int]] = (MAX_DATAGRAM, CONTROL_ROOM)
    #: Flags of which one says that a datagram cannot be answered.
    _cut: ClassVar[int] = CUT

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received: list[tuple[bytearray, Source]] = []
        self._destinations = Destinations()
        self._envelopes: list[tuple[Source, bytes]] = []
        self._problem: OSError | None = None

    def receive(self) -> int:
        """Take what is waiting; an error that comes after a datagram is told by the next call."""
        if self._received:  # somebody runs the reactor from within a protocol: this waits for its end
            return 0
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        received: list[tuple[bytearray, Source]] = []
        destinations: list[bytes] = []
        refused: dict[int, str] = {}
        while len(received) < BATCH and self._may_receive():
            try:
                data, ancillary, flags, sockaddr = self._socket.recvmsg(*self._room)
            except BlockingIOError:
                break
            except OSError as trouble:
                if not received:
                    raise
                self._problem = trouble
                break
            if flags & self._cut:
                refused[len(received)] = "truncated"
            received.append((bytearray(data), self._source_of(sockaddr, ancillary)))
            destinations.append(destination(ancillary))
        self._received, self.refused = received, {**self._destinations.refused(destinations), **refused}
        self.lengths = [len(data) for data, _ in received]
        sources = [source for _, source in received]
        self._envelopes = list(zip(sources, destinations, strict=True))
        return len(received)

    def _may_receive(self) -> bool:
        """Whether what comes beside one more datagram could be received, too."""
        return True

    def _source_of(self, sockaddr: Any, ancillary: list[Control]) -> Source:
        """Tell whom a datagram came from, and see to its control messages."""
        return source_of(sockaddr, reply_control(ancillary))

    def payload(self, index: int) -> memoryview:
        """Show a message's bytes."""
        return memoryview(self._received[index][0])

    def source(self, index: int) -> Source:
        """Tell whom a message came from."""
        return self._received[index][1]

    def envelopes(self) -> Sequence[Hashable]:
        """Tell each message's envelope: its source, and the bytes of the address that was asked."""
        return self._envelopes

    def arrival(self, envelope: Any) -> Arrival:
        """Describe an envelope."""
        source, asked = envelope
        host, port = source
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return Arrival.of(socket.inet_pton(family, host.partition("%")[0]), port, asked)

    def send_back(self, which: Sequence[int]) -> list[Unsent]:
        """Send messages back, one by one."""
        unsent: list[Unsent] = []
        for index in which:
            data, source = self._received[index]
            try:
                send(self._socket, data, source, tries=self.tries)
            except OSError as problem:
                unsent.append((len(data), problem.errno or 0))
        return unsent

    def release(self) -> None:
        """Forget the messages."""
        super().release()
        self._received = []
        self._envelopes = []


def send(
    sock: socket.socket, data: bytes | bytearray | memoryview, source: Source, *, tries: int = 1
) -> None:
    """Answer a source with one datagram.

    Args:
        sock: The socket that was asked.
        data: The payload.
        source: Whom to answer; a `Peer` is answered from the address it asked.
        tries: How often before that is a failure.

    Raises:
        OSError: The system refuses; ENOTCONN if the source is a UNIX socket without a name.
    """
    try:
        if isinstance(source, Peer):
            sock.sendmsg([data], source.control, 0, source.sockaddr)
        elif source is None:
            sock.send(data)
        else:
            sock.sendto(data, source)
    except OSError:
        if tries == 1:
            raise
        send(sock, data, source, tries=tries - 1)
