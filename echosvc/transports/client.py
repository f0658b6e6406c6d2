"""The connecting side of a stream: the same direct connection, made by a connector."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IConnector
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import ClientFactory
from zope.interface import directlyProvides, providedBy

from echosvc.transports.hub import hub_for
from echosvc.transports.stream import PatientConnection

__all__ = ["StreamClient", "StreamConnector", "direct"]


class StreamClient(PatientConnection, tcp.Client):
    """One TCP connection that we made."""

    def _connectDone(self) -> None:
        self._fd = self.socket.fileno()
        self.setTcpNoDelay(True)
        super()._connectDone()
        if self.connected:  # unless the protocol has closed it at once
            self._be_direct()


class StreamConnector(tcp.Connector):
    """Makes a `StreamClient`, as Twisted's makes a Client: ``StreamConnector(...).connect()``."""

    def _makeTransport(self) -> StreamClient:
        return StreamClient(self.host, self.port, self.bindAddress, self, hub_for(self.reactor))


class _DirectReactor:
    """A reactor whose `connectTCP` makes direct connections. Everything else is the reactor's own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))  # endpoints ask, before they look up a name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30,
        bindAddress: Any = None,
    ) -> IConnector:
        """Connect, as `IReactorTCP` has it."""
        connector = StreamConnector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector


def direct(reactor: Any) -> Any:
    """Let a reactor make direct connections, for an endpoint of Twisted's to connect with.

    Args:
        reactor: Any reactor.

    Returns:
        It, with another `connectTCP`; unchanged if its `connectTCP` is not Twisted's own over sockets: a test's
        double keeps its record of who connects.
    """
    if getattr(reactor.connectTCP, "__func__", None) is PosixReactorBase.connectTCP:
        return _DirectReactor(reactor)
    return reactor
