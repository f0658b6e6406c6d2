"""Connections that a proxy relays, as if their clients had made them.

A `ProxyFactory` goes between a port and the factory of a protocol. What it builds first only gathers the PROXY header;
then the transport answers for the client, the protocol is connected to the transport itself, and nothing is left in
between: no byte costs more, half-close and TLS find the protocol where they look for it, and nobody ever sees the
proxy's address, not even in `connectionMade`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from echosvc.transports.addresses import from_mapped
from echosvc.transports.admission import PROXY_UNTRUSTED, Ticket
from echosvc.transports.ends import FAILED
from echosvc.transports.proxy_header import HeaderParser, ProxyHeader, ProxyHeaderError

__all__ = ["ProxyFactory", "trusting"]

#: Seconds after the deadline until which a header counts that came in time.
LAST_LOOK = 0.1

#: Addresses of which it is remembered whether they may send a header. Proxies are few.
REMEMBERED = 256


def trusting(networks: Sequence[IPv4Network | IPv6Network]) -> Callable[[IAddress | None], bool]:
    """Make what tells whether a peer may send a header.

    Args:
        networks: Who may. A peer on a UNIX socket always may: the socket's file says who can be one.
    """

    @lru_cache(REMEMBERED)
    def trusts_host(host: str) -> bool:
        peer = ip_address(from_mapped((host, 0))[0])  # mapped: from a dual-stack port of Twisted's
        return any(peer in network for network in networks)

    def trusts(addr: Any) -> bool:
        if isinstance(addr, IPv4Address | IPv6Address):
            return trusts_host(addr.host)
        return isinstance(addr, UNIXAddress)

    return trusts


@implementer(IProtocolFactory)
class ProxyFactory:
    """Expects a PROXY header, version 1 or 2, on every connection, and builds the protocol for the client it names.

    The client must be let in, too, if the port has a door that lets peers in (`echosvc.transports.admission`). Where a header
    names nobody (a proxy's own check, ``LOCAL``, ``UNKNOWN``, a datagram), whoever has sent it is the client.

    A connection without one is never served: whether a header comes must not be guessed, or anybody could claim to be
    anybody (section 5 of the specification). Whoever is refused costs no log line; the reason is counted.

    Args:
        inner: Builds the protocol for each connection; it is asked with the address of the client.
        trusted: Who may send a header; see `trusting`. The door is asked before, and should refuse everybody else already.
        clock: Keeps time.
        refused: Where each connection that is given up is counted: ``proxy-untrusted`` (its peer may not send a header),
            ``proxy-malformed`` (something else than a header came), ``proxy-incomplete`` (it ended before its header
            did), ``proxy-late``.
        deadline: Seconds within which the header must be complete. Three cover a lost segment (section 2).
    """

    def __init__(
        self,
        inner: IProtocolFactory,
        trusted: Sequence[IPv4Network | IPv6Network],
        clock: IReactorTime,
        *,
        refused: Counter[str],
        deadline: float = 5.0,
    ) -> None:
        self.inner = inner
        self.clock = clock
        self.refused = refused
        self.deadline = deadline
        self._trusts = trusting(tuple(trusted))

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """Build what gathers the header; None, which closes the connection, if the peer may not send one."""
        if self._trusts(addr):
            return _HeaderGatherer(self)
        self.refused[PROXY_UNTRUSTED] += 1
        return None

    def doStart(self) -> None:
        """Begin: a port will use this."""
        self.inner.doStart()

    def doStop(self) -> None:
        """End: a port has used this."""
        self.inner.doStop()


class _HeaderGatherer(Protocol):
    """Takes the header of one connection, and hands the connection over.

    It does not provide `IHalfCloseableProtocol`: a connection whose input ends before its header does is over.
    """

    transport: Any

    def __init__(self, factory: ProxyFactory) -> None:
        self._factory = factory
        self._parser = HeaderParser()
        self._deadline: IDelayedCall | None = None  # set as long as the header is waited for

    def connectionMade(self) -> None:
        self._deadline = self._factory.clock.callLater(self._factory.deadline, self._nearly_late)

    def _nearly_late(self) -> None:
        """Look once more: when a process goes on that was stopped, timers run before what has come is read."""
        self._deadline = self._factory.clock.callLater(LAST_LOOK, self._refuse, "proxy-late")

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None:  # refused: TLS hands on what comes until its close is answered
            return
        try:
            header = self._parser.feed(data)
        except ProxyHeaderError:
            self._refuse("proxy-malformed")
            return
        if header is not None:
            self._end_wait()
            _hand_over(self, header, self._parser.rest, self._factory)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline is not None:
            self._end_wait()
            self._factory.refused["proxy-incomplete"] += 1

    def _refuse(self, reason: str) -> None:
        """Give up. Abort, for then the proxy can see that something is wrong (2.1)."""
        self._end_wait()
        self._factory.refused[reason] += 1
        self.transport.why = reason  # as our own connections count their end
        self.transport.abortConnection()

    def _end_wait(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()


def _hand_over(gatherer: _HeaderGatherer, header: ProxyHeader, data: bytes, factory: ProxyFactory) -> None:
    """Connect the protocol with the transport, in the gatherer's place, and give it what came after the header.

    What the protocol raises on its beginning ends its connection and no other, as in `StreamPort`.
    """
    transport = gatherer.transport
    # Wrappers such as TLS have theirs under another name, and `protocol` is what they themselves are to their transport.
    slot = "protocol" if transport.protocol is gatherer else "wrappedProtocol"
    if header.source is not None:
        _announce(transport, header.source, header.destination)
    ticket: Ticket | None = getattr(transport, "ticket", None)  # Twisted's own connections have none
    if ticket is not None and not ticket.announce(transport.getPeer()):
        transport.abortConnection()
        return
    try:
        protocol = factory.inner.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.loseConnection()
            return
        _name(transport, protocol)
        setattr(transport, slot, protocol)
        rest = _Rest(transport, slot, data, factory.clock) if data else None
        protocol.makeConnection(transport)
    except BaseException:  # noqa: BLE001  # as above
        log.err()
        transport.why = FAILED
        transport.abortConnection()
        return
    if rest is not None:
        rest.deliver()


def _announce(transport: Any, source: IAddress, destination: IAddress | None) -> None:
    """Let a transport, whatever its class, answer for the client: `getPeer` and `getHost` of this one object.

    Whoever asks the transport is told: the protocol, a TLS layer between, limits, logs.
    """
    transport.getPeer = lambda: source
    transport.getHost = lambda: destination


def _name(transport: Any, protocol: IProtocol) -> None:
    """Let log lines about a connection name its protocol and client; its transport was made for a gatherer's."""
    name = protocol.logPrefix() if ILoggingContext.providedBy(protocol) else type(protocol).__name__
    prefix = f"{name},{getattr(transport.getPeer(), 'host', 'UNIX')}"
    transport.logPrefix = lambda: prefix


class _Rest:
    """What came behind the header, as long as the protocol cannot have it.

    Without a proxy in front, nothing is handed to a protocol that has paused its transport in `connectionMade`, until
    it resumes it (Twisted's own port forwarder first needs somewhere to forward to), and nothing at all to one that has
    closed it. These bytes are read already, and cannot wait in the kernel: so until they are delivered the transport's
    methods for that, on this one object, pass by here. Afterwards, as everywhere in Twisted, a pause holds back what is
    not read yet.
    """

    def __init__(self, transport: Any, slot: str, data: bytes, clock: IReactorTime) -> None:
        self._transport = transport
        self._slot = slot
        self._data = data
        self._clock = clock
        self._paused = False
        self._resumed = False
        instead = {
            "pauseProducing": self._pause,
            "resumeProducing": self._resume,
            "loseConnection": partial(self._close, "loseConnection"),
            "abortConnection": partial(self._close, "abortConnection"),
        }
        self._own = {name: getattr(transport, name) for name in instead}
        vars(transport).update(instead)

    def deliver(self) -> None:
        """Give the protocol its bytes, unless it has paused its transport or closed it."""
        if self._paused or not (data := self._release()):
            return
        if self._resumed:
            self._transport.resumeProducing()  # the transport's own again; it reads on when this is over
        # Asked for now: by startTLS another protocol has come between; and it is gone if the connection is.
        if (protocol := getattr(self._transport, self._slot, None)) is not None:
            protocol.dataReceived(data)

    def _deliver_late(self) -> None:
        try:
            self.deliver()
        except BaseException:  # noqa: BLE001  # whatever a protocol raises ends its connection
            log.err()
            self._transport.why = FAILED
            self._transport.abortConnection()

    def _release(self) -> bytes:
        """Give the transport its methods back. Whoever has kept one of these instead passes by here for ever."""
        for name in self._own:
            vars(self._transport).pop(name, None)
        data, self._data = self._data, b""
        return data

    def _pause(self) -> None:
        self._paused = True
        self._own["pauseProducing"]()

    def _resume(self) -> None:
        if not self._data:
            self._own["resumeProducing"]()
            return
        self._paused, self._resumed = False, True
        # Later, for nobody expects bytes from inside resumeProducing; and nothing new is read until then.
        self._clock.callLater(0, self._deliver_late)

    def _close(self, how: str) -> None:
        self._release()
        self._own[how]()
