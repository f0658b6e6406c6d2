"""A listener on an endpoint of Twisted's own, or of one of its plugins: streams only, on Twisted's transports."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echosvc.admission import AccessList, Door, Gate, Screens
from echosvc.errors import ListenError
from echosvc.listeners import inherited
from echosvc.listeners.layers import Layers
from echosvc.listeners.listener import describe
from echosvc.listeners.settings import Foreign, ListenerSettings
from echosvc.listeners.sockets import explain
from echosvc.observe import ListenerSnapshot
from echosvc.protocols import WireProtocol
from echosvc.transports import display
from echosvc.transports.admission import Ticket
from echosvc.transports.ends import CLOSED, FAILED, why_ended

__all__ = ["ForeignListener"]

_log = Logger(namespace="echosvc")


@implementer(IProtocolFactory)
class _Counted:
    """Counts connections on their way to a factory, and asks the door about them.

    Around a protocol it would hide half-close. So the door is told of the end of a connection by the transport's own method,
    on that one object: not by the protocol's, in whose place a PROXY header puts another.

    Attributes:
        connections: How many have come.
        ended: How many of them have ended, by reason.
        door: Decides who may come in; None for everybody.
    """

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.connections = 0
        self.ended: Counter[str] = Counter()
        self.door: Door | None = None
        self.doStart = factory.doStart
        self.doStop = factory.doStop

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Count, and build."""
        ticket = None
        if self.door is not None and (ticket := self.door.admit(addr)) is None:
            return None
        self.connections += 1
        try:
            protocol = self._factory.buildProtocol(addr)
        except BaseException:
            self._end(ticket, FAILED)
            raise
        if protocol is None:
            self._end(ticket, CLOSED)
        else:
            self._tell_of_the_end(ticket, protocol)
        return protocol

    def _tell_of_the_end(self, ticket: Ticket | None, protocol: Any) -> None:
        make = protocol.makeConnection

        def make_connection(transport: Any) -> Any:
            lost = transport.connectionLost

            def connection_lost(*reason: Any) -> Any:
                self._end(ticket, why_ended(*reason) if reason else CLOSED)
                return lost(*reason)

            transport.connectionLost = connection_lost
            transport.ticket = ticket  # a PROXY header asks whether the client may come in that it announces
            return make(transport)

        protocol.makeConnection = make_connection

    def _end(self, ticket: Ticket | None, why: str) -> None:
        self.ended[why] += 1
        if ticket is not None:
            ticket.leave()


class ForeignListener:
    """One endpoint of Twisted's that speaks one wire protocol. See `Listener`.

    Who may connect, how many and how fast is decided as everywhere. Twisted's connections do not count their bytes: none is
    ended for being idle or old, none makes room for another, and none is read at a pace.

    Args:
        wire: What it speaks.
        settings: What describes it.
        place: The endpoint.
        layers: What goes between the bytes and the protocol.
        reactor: Listens.

    Raises:
        ListenError: It cannot listen, and says so at once. Some endpoints try later; then the log says it.
        ValueError: A list of networks cannot be read; the message says which.
    """

    udp_port = own_name = None
    port: int | None = None

    def __init__(
        self, wire: WireProtocol, settings: ListenerSettings, place: Foreign, layers: Layers, reactor: Any
    ) -> None:
        inherited.remember()  # the next import takes it out of the environment
        from twisted.internet.endpoints import serverFromString  # noqa: PLC0415

        self.wire = wire
        self.settings = settings
        self.where = place.description
        self._layers = layers
        self._access = AccessList.read(settings.door.allow, settings.door.deny)
        self._factory = _Counted(layers.around(wire.make_stream(settings.options), reactor))
        self._port: Any = None
        failed: list[Failure] = []
        listening = maybeDeferred(lambda: serverFromString(reactor, place.description).listen(self._factory))
        listening.addCallbacks(self._listens, failed.append)
        self._listening = listening
        if failed:
            raise self._explained(failed[0])
        listening.addCallback(lambda _: self._late(failed))

    def _explained(self, failure: Failure) -> ListenError:
        """Say it as it is said of our own sockets, if it is the system that has refused."""
        problem: Any = failure.value
        if isinstance(problem, CannotListenError):
            problem = problem.socketError
            if isinstance(problem, OSError):
                return explain(self.settings, self.where, problem)
        return ListenError(self.settings.origin, self.where, _in_words(failure))

    def _listens(self, port: Any) -> None:
        self._port = port
        address = port.getHost()
        if isinstance(address, IPv4Address | IPv6Address):
            self.port = address.port
            self.where = f"{self.where} ({address.type} {display(address.host, address.port)})"

    def _late(self, failed: list[Failure]) -> None:
        if failed and not failed[0].check(CancelledError):
            _log.error("{where}: {problem}", where=self.where, problem=_in_words(failed[0]))

    def __str__(self) -> str:
        """Say what listens where, in one line."""
        return f"{describe(self.wire, self.settings)} listens on {self.where}{self._layers}"

    def start(self, reactor: Any, screens: Screens, gate: Gate) -> None:
        """Ask the gate from here on. Twisted's endpoints listen from the moment they are opened."""
        self._factory.door = gate.door(self.settings.door, self._access, trusts=self._layers.trusts)

    def listening(self) -> Deferred[bool]:
        """Tell whether it answers.

        Returns:
            Fires when that is known: some endpoints need a while, and may still fail.
        """
        known: Deferred[bool] = Deferred()

        def tell(result: object) -> object:
            known.callback(self.is_serving)
            return result

        self._listening.addBoth(tell)
        return known

    def stop(self) -> Deferred[object]:
        """Stop accepting.

        Returns:
            Fires when that is done.
        """
        self._listening.cancel()
        return maybeDeferred(self._port.stopListening if self._port is not None else lambda: None)

    def reload(self) -> None:
        """Read lists and certificates again; see `Listener.reload`. What the endpoint itself names is Twisted's."""
        access = AccessList.read(self.settings.door.allow, self.settings.door.deny)
        self._layers.reload()
        self._access = access
        if self._factory.door is not None:
            self._factory.door.access = access

    def close_door(self) -> Door | None:
        """Tell where connections came in, if any can have come: nobody comes in there any more."""
        if self._factory.door is not None:
            self._factory.door.is_closed = True
        return self._factory.door

    def log_connections(self, one_in: int) -> None:
        """Twisted's own connections have no line: they count no bytes."""

    def drops(self) -> Counter[str]:
        """Tell what was refused so far, by reason."""
        counts = Counter(self._layers.refused)
        if self._factory.door is not None:
            counts.update(self._factory.door.counts)
        return counts

    @property
    def is_serving(self) -> bool:
        """Whether it listens: some endpoints need their time."""
        return self._port is not None

    def snapshot(self) -> ListenerSnapshot:
        """Tell all that was counted so far; Twisted's connections do not count their bytes."""
        return ListenerSnapshot(
            name=self.settings.name,
            protocol=self.wire.name,
            where=self.where,
            transport="foreign",
            opened=self._factory.connections,
            closed=dict(self._factory.ended),
            bytes_in=None,
            bytes_out=None,
            dropped=dict(self.drops()),
            expires=self._layers.expires() if self.is_serving else {},
        )

    def totals(self) -> str:
        """Tell what was served so far, in words."""
        return f"{self._factory.connections} connections"

    def warnings(self) -> list[str]:
        """Say what is not as it was asked for, or soon will not be."""
        return self._layers.warnings()


def _in_words(failure: Failure) -> str:
    """Say in one line what Twisted, or a plugin of it, has raised."""
    problem: Any = failure.value
    if isinstance(problem, CannotListenError):
        problem = problem.socketError
    text = str(getattr(problem, "strerror", None) or problem)
    return " ".join(text.split()) or type(problem).__name__
