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

from echosvc.errors import ListenError
from echosvc.listeners import inherited
from echosvc.listeners.layers import Layers
from echosvc.listeners.listener import describe
from echosvc.listeners.settings import Foreign, ListenerSettings
from echosvc.listeners.sockets import explain
from echosvc.protocols import WireProtocol
from echosvc.transports import Screen, display

__all__ = ["ForeignListener"]

_log = Logger(namespace="echosvc")


@implementer(IProtocolFactory)
class _Counted:
    """Counts connections on their way to a factory; around a protocol it would hide half-close."""

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.connections = 0
        self.doStart = factory.doStart
        self.doStop = factory.doStop

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Count, and build."""
        self.connections += 1
        return self._factory.buildProtocol(addr)


class ForeignListener:
    """One endpoint of Twisted's that speaks one wire protocol. See `Listener`.

    Args:
        wire: What it speaks.
        settings: What describes it.
        place: The endpoint.
        layers: What goes between the bytes and the protocol.
        reactor: Listens.

    Raises:
        ListenError: It cannot listen, and says so at once. Some endpoints try later; then the log says it.
    """

    udp_port = None
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

    def start(self, reactor: Any, screen: Screen) -> None:
        """Nothing to do: Twisted's endpoints listen from the moment they are opened."""

    def stop(self) -> Deferred[object]:
        """Stop accepting.

        Returns:
            Fires when that is done.
        """
        self._listening.cancel()
        return maybeDeferred(self._port.stopListening if self._port is not None else lambda: None)

    def reload(self) -> None:
        """Read certificates and keys again; see `Listener.reload`. Those of the endpoint itself are Twisted's."""
        self._layers.reload()

    def drops(self) -> Counter[str]:
        """Tell what was refused so far, by reason."""
        return self._layers.refused

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
