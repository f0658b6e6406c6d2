"""The connecting side of a stream: the same direct connection, made by a connector."""

from __future__ import annotations

from twisted.internet import tcp

from echosvc.transports.hub import hub_for
from echosvc.transports.stream import PatientConnection

__all__ = ["StreamClient", "StreamConnector"]


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
