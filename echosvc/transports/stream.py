"""A listening TCP socket that was bound elsewhere, and the connections it accepts.

What differs from stock Twisted: the socket comes bound and listening (so that a daemon binds before it
forks and drops privileges); IPv4 peers of a dual-stack socket are IPv4; connections are served through the hub, and write directly; keep-alive and TCP_NODELAY are on;
and a connection whose peer has stopped reading is not held open for ever.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory
from twisted.protocols.policies import ProtocolWrapper
from twisted.python import log
from twisted.python.failure import Failure

from echosvc.transports.accepting import (
    REST,
    SPARE,
    have_reset,
    is_of_one_connection,
    reason,
    set_stream_options,
    turn_out,
)
from echosvc.transports.addresses import SockAddr, from_mapped, internet_address
from echosvc.transports.admission import Door, Ticket
from echosvc.transports.connection import DirectConnection
from echosvc.transports.ends import FAILED, EndLog, why_ended
from echosvc.transports.hub import hub_for

__all__ = ["PatientConnection", "StreamPort", "StreamTransport"]

#: Seconds between two looks at a connection on which something waits, and the part of the timeout that they are at most. The
#: timeout is exact to half of that. A look costs 6 us.
STALL_LOOK, STALL_PART = 1.0, 1 / 8

#: Connections accepted before it is everyone else's turn: at 35 us each, some 4 ms. And while those that there are wait for their
#: turn already: more would make them wait for ever longer, and in the kernel's queue newcomers cost nothing.
ACCEPT_TURN, ACCEPT_BEHIND = 120, 8

#: More than ever wait to be accepted (net.core.somaxconn is 4096 on most systems).
MOST_WAITING = 65_536


class PatientConnection(DirectConnection):
    """Waits for a slow peer, and not for one that takes nothing.

    Attributes:
        stall_timeout: Seconds after which it is aborted if something waits and the peer takes nothing.
        aborts: Where an abort is counted, under ``stall-timeout``.
        ticket: Its leave to be here; None where nobody asks for one.
        accepted_by: The port that has accepted it, where its end is counted; None once that is done.
        why: Why it is being ended, as that is counted, if it is neither the peer nor its protocol who ends it.
        peer_ended: The peer has ended its direction before we have ended ours. A layer above says so, too, if it hears it first (TLS).
        began: When it was accepted, in seconds of a clock that is not set; None if nobody wants to know.
    """

    reactor: Any  # the hub, which is also the reactor: watches descriptors and keeps time
    stall_timeout = 300.0
    aborts: Counter[str] | None = None
    ticket: Ticket | None = None
    accepted_by: StreamPort | None = None
    why: str | None = None
    began: float | None = None
    peer_ended = False
    _stall_watch: IDelayedCall | None = None

    def startWriting(self) -> None:
        """Wait for room, for what is queued or to close: either may stall.

        A close waits even if nothing is queued: for the kernel, whose buffer may be full.
        """
        super().startWriting()
        self._watch_stall()
        if self.ticket is not None:
            self.ticket.waits()

    def held_back(self) -> bool:
        """Whether it waits for us, who read no faster than is said."""
        return False

    def finish(self) -> None:
        """End our direction when what is queued is sent, though the protocol has not asked for it, and read on.

        What the protocol writes from then on is lost. A layer that cannot do so, as Twisted's TLS, is ended as by `end`.
        """
        spoken_through: Any = self.protocol if isinstance(self.protocol, ProtocolWrapper) else self
        if not hasattr(
            type(spoken_through), "loseWriteConnection"
        ):  # a wrapper hands on what its class lacks
            self.end()
            return
        spoken_through.unregisterProducer()
        spoken_through.loseWriteConnection()

    def end(self) -> None:
        """Close when what is queued is sent, though the protocol has not asked for it.

        Whoever produces is left behind: a connection whose producer is paused never closes. TLS says goodbye first.
        """
        spoken_through = self.protocol if isinstance(self.protocol, ProtocolWrapper) else self
        try:
            spoken_through.unregisterProducer()
            spoken_through.loseConnection()
        except Exception:  # noqa: BLE001  # a layer of somebody else's
            log.err()
            self.abortConnection()

    def _watch_stall(self, stalled: float = 0.0) -> None:
        """Look again in a while; no more than one look is ever due.

        Args:
            stalled: Seconds for which the peer has taken nothing so far.
        """
        if self._stall_watch is None and self.connected:
            wait = min(self.stall_timeout - stalled, self.stall_timeout * STALL_PART, STALL_LOOK)
            self._stall_watch = self.reactor.callLater(
                wait, self._check_stall, self._delivered(), stalled, wait
            )

    def _check_stall(self, delivered_before: int, stalled: float, waited: float) -> None:
        """Abort if for `stall_timeout` seconds something has waited and the peer has taken nothing."""
        watch, self._stall_watch = self._stall_watch, None
        closing = self.disconnecting or (self._writeDisconnecting and not self._writeDisconnected)
        if not (self._tempDataLen or self.dataBuffer or closing):
            return
        if self._delivered() > delivered_before:
            self._watch_stall(waited / 2)  # nobody knows when in between
            return
        assert watch is not None  # noqa: S101  # it has called us
        # A look that is late makes up for it. But if we could not run for long, nobody could take anything: that counts little.
        stalled += waited + min(self.reactor.seconds() - watch.getTime(), waited)
        if stalled < self.stall_timeout:
            self._watch_stall(stalled)
        else:
            if self.aborts is not None:
                self.aborts["stall-timeout"] += 1
            self.why = "stall-timeout"
            self.abortConnection()

    def _delivered(self) -> int:
        """How many bytes have reached the peer's system: what the kernel has taken does not tell a slow peer from a dead one.

        It reports room only when a third of its buffer is free, which a slow reader may not drain in time.
        """
        return self.bytes_out - self.undelivered()

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer has ended its direction: first of both, unless we are closing already. Called by the reactor."""
        self.peer_ended |= not (self.disconnecting or self._writeDisconnecting)
        super().readConnectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """Release the socket and tell the protocol. Called by the reactor."""
        port, self.accepted_by = (
            self.accepted_by,
            None,
        )  # this is called twice if a protocol aborts, and raises
        if port is not None:
            port.count_end(self, self.why or why_ended(reason, peer_ended=self.peer_ended))
        if self._stall_watch is not None:
            self._stall_watch.cancel()
            self._stall_watch = None
        if self.ticket is not None:
            self.ticket.leave()
        super().connectionLost(reason)


class StreamTransport(PatientConnection, tcp.Server):
    """One accepted TCP connection."""

    #: Closing is enough where no other process has the descriptor, and none has: it is not inherited by programs that
    #: are started, and nothing here forks. (A child that forks and lives on without exec would hold the connection
    #: open.) To shut it down first costs another 1.7 us.
    _shouldShutdown = False

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: SockAddr,
        server: tcp.Port,
        sessionno: int,
        reactor: Any,
    ) -> None:
        super().__init__(sock, protocol, from_mapped(client), server, sessionno, hub_for(reactor))
        if isinstance(server, StreamPort):
            self.stall_timeout, self.aborts, self.accepted_by = server.stall_timeout, server.aborts, server
        else:
            set_stream_options(sock)
            self._shouldShutdown = True  # made elsewhere, where a copy may be open
        self._be_direct()

    def doWrite(self) -> Any:
        """Send from the queue, or close when it is empty: Twisted would send nothing first, for 0.6 us."""
        if self.disconnecting and not self._tempDataLen and not self.dataBuffer and self.producer is None:
            self.stopWriting()
            return self._postLoseConnection()
        return super().doWrite()

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the local address, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("TCP", self.socket.getsockname())

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the peer's address, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("TCP", self.client)


class StreamPort(tcp.Port):
    """A listening socket that hands each connection to a protocol of the factory.

    Args:
        sock: A socket that listens. The port owns it from now on and makes it non-blocking.
        factory: Builds a protocol for each connection.
        reactor: Watches the socket.
        stall_timeout: Seconds after which a connection is aborted whose peer takes nothing of what waits.
        door: Decides who may come in; None for everybody.
        prepare: Called with each socket that is accepted; None if it has all its options from the listener.

    Attributes:
        aborts: How many connections were aborted (``stall-timeout``) or could not be accepted (``accept-EMFILE``), by reason.
        sessionno: How many connections were accepted so far.
        ended: How many of them have ended, by reason.
        bytes_in: Bytes read of those.
        bytes_out: Bytes sent to those.
        end_log: Told of each that begins and ends; None if nobody wants to be told.
    """

    transport = StreamTransport
    #: Whoever else has the socket (a service manager, another worker, the next generation of them) goes on listening: to shut
    #: it down would end that for all of them.
    _shouldShutdown = False
    door: Door | None = None
    end_log: EndLog | None = None
    _turn_out = staticmethod(turn_out)
    _rest: IDelayedCall | None = None

    def __init__(
        self,
        sock: socket.socket,
        factory: IProtocolFactory,
        reactor: Any,
        *,
        stall_timeout: float,
        door: Door | None = None,
        prepare: Callable[[socket.socket], None] | None = None,
    ) -> None:
        super().__init__(0, factory, reactor=reactor)
        sock.setblocking(False)
        self._prepare(sock)
        self.addressFamily = sock.family
        self._kind = (int(sock.family), int(sock.type), sock.proto)
        self._bound = sock
        self._factory = factory
        self.stall_timeout = stall_timeout
        self.door = door
        self._prepare_accepted = prepare
        self.aborts: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.bytes_in = self.bytes_out = 0

    def count_end(self, connection: PatientConnection, why: str) -> None:
        """Count a connection that has ended, and what it has moved."""
        self.ended[why] += 1
        self.bytes_in += connection.bytes_in
        self.bytes_out += connection.bytes_out
        if self.end_log is not None:
            self.end_log.ends(connection, why)

    def startListening(self) -> None:
        """Begin to accept. Twisted's own method would also write a log line that the service's repeats."""
        SPARE.keep()
        self._factory.doStart()
        self.socket = self._bound
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's own port does
        self._realPortNumber = getattr(self.getHost(), "port", None)
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def _prepare(self, sock: socket.socket) -> None:
        set_stream_options(sock)

    def doRead(self) -> None:
        """Accept connections that wait: as many as last time and some more, as Twisted's port does; few while the hub is behind."""
        # The public accept() adds 0.8 us: it looks up two enumerations to describe the new socket.
        accept = self.socket._accept  # type: ignore[union-attr]  # noqa: SLF001
        most = self.numberAccepts
        if most <= ACCEPT_TURN and getattr(hub_for(self.reactor), "is_behind", False):
            most = min(most, ACCEPT_BEHIND)
        accepted = 0
        try:
            while accepted < most and not self.disconnecting:
                fd, address = accept()
                accepted += 1
                self._welcome(socket.socket(*self._kind, fd), address)
        except BlockingIOError:
            self.numberAccepts = max(1, accepted)
        except OSError as problem:
            self._cannot_accept(problem)
        else:
            self.numberAccepts = min(self.numberAccepts + 20, ACCEPT_TURN)

    def accept_waiting(self) -> None:
        """Accept all connections that wait already: they would be reset when the socket is closed."""
        self.numberAccepts = MOST_WAITING
        StreamPort.doRead(self)  # a port that rests accepts them, too

    def _welcome(self, sock: socket.socket, address: SockAddr) -> None:
        """Connect an accepted socket with a protocol. What the protocol raises ends its connection, and no other."""
        transport = ticket = None
        address = from_mapped(address) if self.addressFamily == socket.AF_INET6 else address  # once
        if self._prepare_accepted is not None:
            self._prepare_accepted(sock)
        try:
            peer = self._peer(sock, address)
            if self.door is not None and (ticket := self.door.admit(peer)) is None:
                self._turn_out(have_reset(sock))
                return
            protocol = self._factory.buildProtocol(peer)
            if protocol is not None:
                transport = self.transport(sock, protocol, address, self, self.sessionno, self.reactor)
                self.sessionno += 1
                if self.end_log is not None:
                    self.end_log.begins(transport)
                if ticket is not None:
                    transport.ticket = ticket
                    ticket.enter(transport)
                protocol.makeConnection(transport)
                return
        except BaseException:  # noqa: BLE001  # as above
            log.err()
        if transport is not None:
            transport.why = FAILED
            transport.abortConnection()
            return
        self._turn_out(sock)
        if ticket is not None:
            ticket.leave()

    def _cannot_accept(self, problem: OSError) -> None:
        if problem.errno == errno.EMFILE and SPARE.give_up():
            self._turn_away()
            return
        self.aborts[reason(problem)] += 1
        if not is_of_one_connection(problem):
            self._take_a_rest()

    def _turn_away(self) -> None:
        """Close who waits, each in the place of the spare descriptor: nobody is left waiting for what will not come."""
        accept = self.socket._accept  # type: ignore[union-attr]  # noqa: SLF001
        try:
            for _ in range(ACCEPT_TURN):
                fd, _ = accept()
                self._turn_out(socket.socket(*self._kind, fd))
                self.aborts["accept-EMFILE"] += 1
        except OSError:
            pass  # nobody waits any more; or whatever it is will be met again
        if not SPARE.keep():  # a thread has taken it
            self._take_a_rest()

    def _take_a_rest(self) -> None:
        """Accept no connection for a moment. Those that were accepted are served, the kernel's queue keeps the others. Idempotent."""
        self.stopReading()
        if self._rest is None:
            reactor: Any = self.reactor  # annotated as what watches descriptors alone
            self._rest = reactor.callLater(REST, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        try:
            self.startReading()
        except OSError as problem:  # ENOMEM: the kernel cannot even watch the socket now
            self.aborts[reason(problem)] += 1
            self._take_a_rest()

    def connectionLost(self, reason: Failure) -> None:
        """Listen no more. Called when the port is closed."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        super().connectionLost(reason)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address that is listened on, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("TCP", self.socket.getsockname())

    def _peer(self, sock: socket.socket, address: SockAddr) -> IAddress:
        return internet_address("TCP", address)

    def _logConnectionLostMsg(self) -> None:
        """Say nothing: the service's own line says what stopped."""
