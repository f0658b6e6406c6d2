"""A UDP port that answers from the address it was asked at, cuts nothing, and never dies of an error.

What stock Twisted's port does differently, each measured (`docs/architecture.md`): it reads 8192 bytes of a
datagram and calls that the datagram; it answers from whatever address routing picks; it counts bytes per
turn, so that a flood of empty datagrams never ends a turn; it logs a traceback for every send error; it
strips the scope of link-local peers; and an ICMP error on the error queue closes it.

A protocol on this port is an ordinary `DatagramProtocol`. The address it is handed is an ordinary
``(host, port)`` tuple that also remembers which local address was asked (`Peer`), so that an answer
written to it, now or later, leaves from there.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias, cast

from twisted.internet import error, udp
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from echosvc.transports.addresses import HostPort, SockAddr, host_port, internet_address, to_family
from echosvc.transports.linux import (
    ERROR_QUEUE_OPTIONS,
    PKTINFO_OPTIONS,
    Control,
    queued_errno,
    reply_control,
)

__all__ = ["MAX_DATAGRAM", "DatagramPort", "IUndeliverable", "Peer", "Screen"]

#: Larger than any UDP payload (65 507 bytes over IPv4, 65 527 over IPv6), so that nothing is cut.
MAX_DATAGRAM = 65535

#: Datagrams served in one turn of the reactor. Counted in datagrams, because empty ones have no bytes: a
#: flood of them stopped stock Twisted's timers and TCP for as long as it lasted (3.5 s seen).
TURN = 64

#: Room for a PKTINFO or an extended error with the address of who sent it, for either family.
_CONTROL_SPACE = socket.CMSG_SPACE(256)

Screen: TypeAlias = Callable[[HostPort], str | None]
"""Looks at a datagram's source before any protocol does: the reason to drop it, or None to let it in."""

_log = Logger()


class IUndeliverable(Interface):
    """A datagram protocol that wants to hear that a datagram it sent could not be delivered."""

    undeliverable = Attribute(
        "undeliverable(payload: bytes, addr: HostPort, number: int) -> None: the system reports that "
        "a datagram sent to `addr` was not delivered (`number` is the errno, ECONNREFUSED for a port "
        "where nobody listens). `payload` is what came back of it: at least its first bytes, perhaps "
        "all; it may be empty."
    )


class Peer(tuple[str, int]):  # noqa: SLOT001  # a tuple subclass can have attributes only in a dict
    """A datagram's source: ``(host, port)``, which also remembers the way back.

    Attributes:
        sockaddr: The source exactly as the kernel gave it, with scope and mapping.
        control: Control messages that make an answer leave from the address that was asked.
    """

    sockaddr: SockAddr
    control: list[Control]

    @classmethod
    def of(cls, sockaddr: SockAddr, control: list[Control]) -> Peer:
        """Make the peer that a datagram from `sockaddr` came from."""
        self = cls(host_port(sockaddr))
        self.sockaddr = sockaddr
        self.control = control
        return self


class DatagramPort(udp.Port):
    """A bound UDP socket, served by one datagram protocol.

    Args:
        sock: A bound datagram socket. The port owns it from now on and makes it non-blocking (a blocking
            one, as systemd passes, would stop the whole reactor after its first datagram).
        protocol: Told of every datagram that the screen lets in.
        reactor: Watches the socket.
        screen: Asked about every datagram's source first. What it names is dropped and counted.
        report_errors: Ask the kernel for ICMP errors and tell the protocol of them (`IUndeliverable`).
            For clients: an unconnected socket otherwise never learns that a port was refused.

    Attributes:
        datagrams_in: Datagrams given to the protocol.
        bytes_in: Payload bytes in them.
        datagrams_out: Datagrams that the kernel took.
        bytes_out: Payload bytes in them.
        drops: How many datagrams were dropped for each reason: what the screen said, ``truncated``,
            ``receive-ERRNO`` and ``send-ERRNO`` (for example ``send-EPERM``).
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: AbstractDatagramProtocol,
        reactor: IReactorFDSet,
        *,
        screen: Screen | None = None,
        report_errors: bool = False,
    ) -> None:
        super().__init__(None, protocol, maxPacketSize=MAX_DATAGRAM, reactor=reactor)
        sock.setblocking(False)
        self.addressFamily = sock.family
        self._bound = sock
        self._screen = screen
        self._report_errors = report_errors
        self.datagrams_in = 0
        self.bytes_in = 0
        self.datagrams_out = 0
        self.bytes_out = 0
        self.drops: Counter[str] = Counter()

    # -- opening and closing

    def _bindSocket(self) -> None:
        self.socket = self._bound
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's own port does
        self._realPortNumber = self.socket.getsockname()[1]
        self.connected = True
        if option := PKTINFO_OPTIONS.get(self.addressFamily):
            self.socket.setsockopt(*option, 1)
        if self._report_errors:
            for option in ERROR_QUEUE_OPTIONS.get(self.addressFamily, ()):
                self.socket.setsockopt(*option, 1)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the local address, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("UDP", self.socket.getsockname())

    # -- receiving

    def doRead(self) -> None:
        """Serve what is waiting, up to `TURN` datagrams; the reactor comes back for the rest."""
        for _ in range(TURN):
            try:
                data, ancillary, flags, sockaddr = self.socket.recvmsg(MAX_DATAGRAM, _CONTROL_SPACE)
            except BlockingIOError:
                return
            except OSError as problem:
                self._receive_failed(problem)
                return
            self._received(data, ancillary, flags, sockaddr)
            if not self.connected:  # the protocol closed the port
                return

    def _received(self, data: bytes, ancillary: list[Control], flags: int, sockaddr: SockAddr) -> None:
        peer = Peer.of(sockaddr, reply_control(ancillary))
        if flags & socket.MSG_TRUNC:
            self.drops["truncated"] += 1
            return
        if self._screen is not None and (reason := self._screen(peer)) is not None:
            self.drops[reason] += 1
            return
        self.datagrams_in += 1
        self.bytes_in += len(data)
        try:
            self.protocol.datagramReceived(data, peer)
        except Exception:  # noqa: BLE001  # whatever a protocol raises
            # The bug of one protocol is its own: logged as Twisted logs it, and the port lives on.
            _log.failure("{protocol} failed on a datagram", protocol=self.protocol)

    def _receive_failed(self, problem: OSError) -> None:
        if self._report_errors and self._drain_error_queue():
            return
        self.drops[f"receive-{_name(problem)}"] += 1
        if problem.errno == errno.ECONNREFUSED and self._connectedAddr:
            self.protocol.connectionRefused()

    def readConnectionLost(self, reason: Failure) -> None:
        """Take notice of an error the reactor saw on the socket (EPOLLERR), and read on.

        The reactor takes the event for the end of a connection and has stopped reading. A datagram socket
        has no connection to lose: the error is fetched, which clears it, and reading goes on.
        """
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not (self._report_errors and self._drain_error_queue()) and number:
            self.drops[f"receive-{errno.errorcode.get(number, number)}"] += 1
        self.startReading()

    def _drain_error_queue(self) -> bool:
        """Tell the protocol of every queued error; say whether there was one."""
        found = False
        while self.connected:
            try:
                payload, ancillary, _, sockaddr = self.socket.recvmsg(
                    MAX_DATAGRAM, _CONTROL_SPACE, socket.MSG_ERRQUEUE
                )
            except OSError:  # EAGAIN: the queue is empty. Anything else will be met again by a read.
                return found
            found = True
            number = queued_errno(ancillary)
            if number is not None and IUndeliverable.providedBy(self.protocol):
                self.protocol.undeliverable(payload, host_port(sockaddr), number)
        return found

    # -- sending

    def write(self, datagram: bytes, addr: HostPort | None = None) -> None:
        """Send one datagram; what the kernel refuses is counted in `drops` and never raised.

        Args:
            datagram: The payload, 0 to 65 507 bytes (65 487 to an IPv6 peer without jumbograms).
            addr: Where to. A `Peer` is answered from the address it asked. May be None once connected.

        Raises:
            twisted.internet.error.InvalidAddressError: `addr` has a host name in place of an address, or
                one of a family this socket cannot reach. Nothing was sent.
        """
        try:
            if isinstance(addr, Peer):
                self.socket.sendmsg([datagram], addr.control, 0, addr.sockaddr)
            elif addr is None or self._connectedAddr:
                self.socket.send(datagram)
            else:
                self.socket.sendto(datagram, self._destination(addr))
        except OSError as problem:
            self.drops[f"send-{_name(problem)}"] += 1
        else:
            self.datagrams_out += 1
            self.bytes_out += len(datagram)

    def _destination(self, addr: HostPort) -> SockAddr:
        host = addr[0]
        if not isIPAddress(host) and not isIPv6Address(host) and host != "<broadcast>":
            raise error.InvalidAddressError(host, "write() takes an address, not a name")
        if isIPv6Address(host) and self.addressFamily == socket.AF_INET:
            raise error.InvalidAddressError(host, "this port speaks IPv4 only")
        return to_family(addr, self.addressFamily)

    # -- Twisted's log lines about ports starting and closing are replaced by the service's own

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket and tell the protocol. Called by the reactor."""
        self.connected = False
        self.disconnected = True
        self.stopReading()
        self._realPortNumber = None
        self.protocol.doStop()
        self.socket.close()
        del self.socket
        del self.fileno
        if stopped := self.__dict__.pop("d", None):
            stopped.callback(None)


def _name(problem: OSError) -> str:
    """Name an error as the manual pages do (`EPERM`)."""
    return errno.errorcode.get(cast("int", problem.errno), str(problem.errno))
