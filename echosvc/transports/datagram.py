"""A datagram port that answers from the address it was asked at, cuts nothing, and never dies of an error.

What stock Twisted's port does differently, each measured (`docs/architecture.md`): it reads 8192 bytes of a
datagram and calls that the datagram; it answers from whatever address routing picks; it counts bytes per
turn, so that a flood of empty datagrams never ends a turn; it logs a traceback for every send error; it
strips the scope of link-local peers; and an ICMP error on the error queue closes it.

A protocol on this port is an ordinary `DatagramProtocol`. The address it is handed is an ordinary
``(host, port)`` tuple that also remembers which local address was asked (`Peer`), so that an answer
written to it, now or later, leaves from there. A protocol that provides `IDatagramBatchProtocol` is handed
all that came in together, and can answer it in one system call.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from twisted.internet import error, udp
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from echosvc.transports.addresses import (
    HostPort,
    SockAddr,
    from_mapped,
    host_port,
    internet_address,
    to_family,
)
from echosvc.transports.batch import DatagramBatch, IDatagramBatchProtocol
from echosvc.transports.batched_messages import messages_for
from echosvc.transports.linux import ERROR_QUEUE_OPTIONS, PKTINFO_OPTIONS, kernel_drops, queued_errno
from echosvc.transports.messages import BATCH, CONTROL_ROOM, MAX_DATAGRAM, Messages, send
from echosvc.transports.peer import Peer, Source
from echosvc.transports.screening import Refusal, Screen

__all__ = ["RECEIVE_QUEUE_FULL", "DatagramPort", "IUndeliverable"]

RECEIVE_QUEUE_FULL = "receive-queue-full"
"""The kernel has dropped it: more waited to be read than there is room for, or the source was forged (`own_source.py`)."""

_RESOLVER_ERRORS = {
    getattr(socket, name): name
    for name in dir(socket)
    if name.startswith("EAI_") and getattr(socket, name) < 0
}

_log = Logger()

#: Datagrams that may wait in the kernel: more than any receive buffer holds of small ones (5000 in 4 MiB).
WAITING = 16_384


class IUndeliverable(Interface):
    """A datagram protocol that wants to hear that a datagram it sent could not be delivered."""

    def undeliverable(payload: bytes, addr: HostPort, number: int) -> None:  # noqa: N805  # zope's way
        """Take notice that a datagram was not delivered.

        Args:
            payload: What came back of it: at least its first bytes, perhaps all; it may be empty.
            addr: Where it was sent to.
            number: The errno: ECONNREFUSED for a port where nobody listens.
        """


class DatagramPort(udp.Port):
    """A bound UDP or UNIX datagram socket, served by one datagram protocol.

    Args:
        sock: A bound UDP socket. The port owns it from now on and makes it non-blocking (a blocking
            one, as systemd passes, would stop the whole reactor after its first datagram).
        protocol: Told of every datagram that the screen lets in.
        reactor: Watches the socket.
        screen: Asked about every batch first. What it refuses is dropped and counted. None lets everything in.
        coalesce: Let the kernel hand over several datagrams of one peer as one message. Without effect unless the protocol
            takes them by the batch.
        report_errors: Ask the kernel for ICMP errors and tell the protocol of them (`IUndeliverable`).
            For clients: an unconnected socket otherwise never learns that a port was refused.

    Attributes:
        datagrams_in: Datagrams given to the protocol.
        bytes_in: Payload bytes in them.
        datagrams_out: Datagrams that the kernel took.
        bytes_out: Payload bytes in them.
        drops: How many datagrams were dropped here for each reason: what the screen said, ``screen-failed``,
            ``destination-broadcast`` and ``destination-multicast`` (nobody answers what was sent to many),
            ``truncated``, ``receive-ERRNO`` and ``send-ERRNO`` (for example ``send-EPERM``).
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: AbstractDatagramProtocol,
        reactor: IReactorFDSet,
        *,
        screen: Screen | None = None,
        coalesce: bool = True,
        report_errors: bool = False,
    ) -> None:
        super().__init__(None, protocol, maxPacketSize=MAX_DATAGRAM, reactor=reactor)
        sock.setblocking(False)
        self.addressFamily = sock.family
        self._bound = sock
        self._screen = screen
        self._coalesce = coalesce
        self._report_errors = report_errors
        self.datagrams_in = 0
        self.bytes_in = 0
        self.datagrams_out = 0
        self.bytes_out = 0
        self.drops: Counter[str] = Counter()
        self._stopping = False

    # -- opening and closing

    def _bindSocket(self) -> None:
        self.socket = self._bound
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's own port does
        self._realPortNumber = getattr(self.getHost(), "port", None)
        self.connected = True
        if option := PKTINFO_OPTIONS.get(self.addressFamily):
            self.socket.setsockopt(*option, 1)
        if self._report_errors:
            for option in ERROR_QUEUE_OPTIONS.get(self.addressFamily, ()):
                self.socket.setsockopt(*option, 1)
        self._reaches_ipv4 = _reaches_ipv4(self.socket)
        self._kernel_drops_before = kernel_drops(self.socket)
        self._batches = IDatagramBatchProtocol.providedBy(self.protocol)
        # One by one, 64 messages of 64 datagrams would keep the reactor for 17 ms.
        self._messages = self._make_messages()
        self._messages.tries = 2 if self._report_errors else 1

    def getHost(self) -> Any:
        """Return the local address.

        Returns:
            An `IPv4Address` (also on an IPv6 socket that is bound to a mapped one) or `IPv6Address`.
        """
        return internet_address("UDP", self.socket.getsockname())

    def _make_messages(self) -> Messages:
        return messages_for(self.socket, coalesce=self._coalesce and self._batches)

    def stopListening(self) -> Any:
        """Close the port in the reactor's next turn.

        What this turn has received is delivered all the same, as Twisted's port does.

        Returns:
            A Deferred that fires when it is closed; None if it was not open.
        """
        self._stopping = True
        return super().stopListening()

    # -- receiving

    def doRead(self) -> None:
        """Serve what is waiting, up to `BATCH` messages; the reactor comes back for the rest."""
        messages = self._messages
        count, number = self._receive(messages.tries)
        if count:
            try:
                self._serve(messages, self._admit(messages, range(count)))
            finally:
                messages.release()
            if number is None:
                return
        # If there is nothing at all, a send was told the error, and only the queue still makes the socket ready.
        if not self._drain_error_queue() and number is not None:
            self._failed("receive", number)

    def serve_waiting(self) -> Deferred[None] | None:
        """Serve what has come in already, before the port is closed, in a bounded number of reads; None says that it is done."""
        for _ in range(WAITING // BATCH):
            before = self.datagrams_in + self.drops.total()
            self.doRead()
            if self.datagrams_in + self.drops.total() == before:
                break
        return None

    def _receive(self, tries: int) -> tuple[int, int | None]:
        """Receive, and return how many messages there are, and the errno if the kernel told an error first.

        If it is in the error queue, too, it can wait; what has come in is not to wait for it, lest a protocol that
        tries again on every error never hears anything else.
        """
        try:
            return self._messages.receive(), None
        except OSError as problem:
            count = self._receive(tries - 1)[0] if tries > 1 else 0
            return count, problem.errno or 0

    def _admit(self, messages: Messages, which: Sequence[int]) -> Sequence[int]:
        """Drop what nobody may see and what the screen refuses, and count everything."""
        refused = self._ask(self._screen, messages) if self._screen is not None else {}
        if messages.refused:
            refused = {**refused, **{index: (reason, 0) for index, reason in messages.refused.items()}}
        lengths = messages.lengths
        if refused:
            counts = messages.counts()
            for index, (reason, kept) in refused.items():
                self.drops[reason] += counts.get(index, 1) - kept
                if kept:
                    messages.shorten(index, kept)
            which = [index for index in which if index not in refused or refused[index][1]]
            lengths = [messages.lengths[index] for index in which]
        self.datagrams_in += messages.count(which)
        self.bytes_in += sum(lengths)
        return which

    def _ask(self, screen: Screen, messages: Messages) -> Mapping[int, Refusal]:
        try:
            return screen(messages)
        except BaseException:  # noqa: BLE001  # as for a protocol; but what was not judged is not let in
            _log.failure("{screen} failed on datagrams", screen=screen)
            return dict.fromkeys(range(len(messages.lengths)), ("screen-failed", 0))

    def _serve(self, messages: Messages, which: Sequence[int]) -> None:
        if not which:
            return
        batch = DatagramBatch(messages, which, self._send_back)
        protocol: Any = self.protocol
        try:
            if self._batches:
                self._call(protocol.batch_received, batch)
                return
            for payload, source in batch:
                self._call(protocol.datagramReceived, bytes(payload), source)
                if not self.connected:  # closed by connectionLost; stopListening lets this turn end
                    return
        finally:
            batch.end()

    def _call(self, method: Callable[..., None], *arguments: Any) -> None:
        """Tell the protocol. The bug of one protocol is its own: logged as Twisted logs it, and the port lives on."""
        try:
            method(*arguments)
        except BaseException:  # noqa: BLE001  # SystemExit, too: the reactor would close the port for it
            _log.failure("{protocol} failed on a datagram", protocol=self.protocol)

    # -- errors

    def readConnectionLost(self, reason: Failure) -> None:
        """Take notice of an error the reactor saw on the socket (EPOLLERR), and read on.

        The reactor takes the event for the end of a connection and has stopped reading. A datagram socket
        has no connection to lose: the error is fetched, which clears it, and reading goes on.
        """
        try:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not self._drain_error_queue() and number:
                self._failed("receive", number)
        finally:
            if self.connected and not self._stopping:
                self.startReading()

    def _failed(self, doing: str, number: int | str) -> None:
        """Count what the system reports, by name, or another reason as it is."""
        if isinstance(number, str):
            self.drops[number] += 1
            return
        self.drops[f"{doing}-{_name(number)}"] += 1
        self._tell_if_refused(number)

    def _tell_if_refused(self, number: int) -> None:
        """Tell the protocol of a connected port that nobody listens there, as Twisted does."""
        if number == errno.ECONNREFUSED and self._connectedAddr:
            self._call(self.protocol.connectionRefused)

    def _drain_error_queue(self) -> bool:
        """Tell the protocol of queued errors, up to `BATCH`; return whether there was one.

        Also where none were asked for: what other options of the socket queue would keep it ready for ever.

        No more, because a protocol may send again and be refused again at once. The reactor comes back for the
        rest: a socket with errors in its queue is ready for reading.
        """
        found = False
        for _ in range(BATCH):
            if not self.connected:
                break
            try:
                payload, ancillary, _, sockaddr = self.socket.recvmsg(
                    MAX_DATAGRAM, CONTROL_ROOM, socket.MSG_ERRQUEUE
                )
            except OSError:  # EAGAIN: the queue is empty. Anything else will be met again by a read.
                break
            found = True
            number = queued_errno(ancillary)
            if number is None:
                continue
            if IUndeliverable.providedBy(self.protocol):
                self._call(self.protocol.undeliverable, payload, host_port(sockaddr), number)
            self._tell_if_refused(number)
        return found

    # -- sending

    def write(self, datagram: bytes, addr: Source = None) -> None:
        """Send one datagram; what the kernel refuses is counted in `drops` and never raised.

        Args:
            datagram: The payload, 0 to 65 507 bytes (65 487 to an IPv6 peer without jumbograms).
            addr: Where to. A `Peer` is answered from the address it asked. May be None once connected.

        Raises:
            twisted.internet.error.InvalidAddressError: `addr` has a host name in place of an address, or
                one of a family this socket cannot reach. Nothing was sent.
        """
        if addr is not None and not isinstance(addr, Peer):
            addr = None if self._connectedAddr else self._destination(cast("HostPort", addr))
        try:
            send(self.socket, datagram, addr, tries=self._messages.tries)
        except OSError as problem:
            self._failed("send", problem.errno or 0)
        else:
            self.datagrams_out += 1
            self.bytes_out += len(datagram)

    def _send_back(self, which: Sequence[int]) -> None:
        if not self.connected:
            return
        messages = self._messages
        lengths = messages.lengths
        unsent = messages.send_back(which)
        for _, number in unsent:
            self._failed("send", number)
        self.datagrams_out += messages.count(which) - len(unsent)
        self.bytes_out += sum(map(lengths.__getitem__, which)) - sum(length for length, _ in unsent)

    def _destination(self, addr: HostPort) -> SockAddr:
        host = addr[0]
        if not isIPAddress(host) and not isIPv6Address(host) and host != "<broadcast>":
            raise error.InvalidAddressError(host, "write() takes an address, not a name")
        if isIPv6Address(host) and self.addressFamily == socket.AF_INET:
            raise error.InvalidAddressError(host, "this port speaks IPv4 only")
        if host == "<broadcast>" and self.addressFamily == socket.AF_INET6:
            raise error.InvalidAddressError(host, "IPv6 has no broadcast")
        if isIPAddress(host) and not self._reaches_ipv4:
            raise error.InvalidAddressError(host, "this port speaks IPv6 only")
        return to_family(addr, self.addressFamily)

    # -- what was lost

    def all_drops(self) -> Counter[str]:
        """Tell how many datagrams were dropped since the port was opened, by reason.

        Returns:
            What is in `drops`, and as ``receive-queue-full`` what the kernel has dropped before we could
            read it, where it tells.
        """
        total = self.drops.copy()
        if self.connected and (lost := (kernel_drops(self.socket) - self._kernel_drops_before) % 2**32):
            total[RECEIVE_QUEUE_FULL] = lost
        return total

    # -- Twisted's log lines about ports starting and closing are replaced by the service's own

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket and tell the protocol. Called by the reactor."""
        self.drops = self.all_drops()  # the socket, which knows them, goes
        self.connected = False
        self.disconnected = True
        self.stopReading()
        self._realPortNumber = None
        self.protocol.doStop()
        self._close_socket()
        del self.socket
        del self.fileno
        if stopped := self.__dict__.pop("d", None):
            stopped.callback(None)

    def _close_socket(self) -> None:
        self.socket.close()


def _reaches_ipv4(sock: socket.socket) -> bool:
    """Whether a socket can send to IPv4: an IPv6 one if it is dual-stack, and not bound to an IPv6 address."""
    if sock.family != socket.AF_INET6:
        return True
    if sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return False
    host = from_mapped(sock.getsockname())[0]
    return host == "::" or ":" not in host


def _name(number: int) -> str:
    """Name an error as the manual pages do (`EPERM`; `EAI_NONAME`, which is negative, of getaddrinfo(3))."""
    return errno.errorcode.get(number) or _RESOLVER_ERRORS.get(number, str(number))
