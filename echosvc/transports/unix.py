"""Direct connections over UNIX sockets, accepted and connected.

Descriptors travel beside the bytes here (SCM_RIGHTS), so that input is read as Twisted reads it, with
recvmsg, and the hub tells again of what a read has left.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import unix
from twisted.internet.interfaces import IProtocol

from echosvc.transports.connection import DirectConnection
from echosvc.transports.hub import hub_for
from echosvc.transports.stream import PatientConnection

__all__ = ["UnixClient", "UnixConnector", "UnixPort", "UnixTransport"]


class _UnixConnection(PatientConnection):
    """What both sides share."""

    edge_triggered = False

    def doRead(self, *_: Any) -> Any:
        """Read as Twisted does: the next class that knows how is its own."""
        return super(DirectConnection, self).doRead()

    def _dataReceived(self, data: bytes | None) -> Any:
        self.bytes_in += len(data or b"")
        return super()._dataReceived(data)


class UnixTransport(_UnixConnection, unix.Server):
    """One accepted UNIX connection."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: Any,
        server: unix.Port,
        sessionno: int,
        reactor: Any,
    ) -> None:
        unix.Server.__init__(self, sock, protocol, client, server, sessionno, hub_for(reactor))
        self._be_direct()


class UnixPort(unix.Port):
    """A listening UNIX socket whose connections are direct."""

    transport = UnixTransport


class UnixClient(_UnixConnection, unix.Client):
    """One UNIX connection that we made."""

    def _connectDone(self) -> None:
        super()._connectDone()
        if self.connected:
            self._be_direct()


class UnixConnector(unix.Connector):
    """Makes a `UnixClient`."""

    def _makeTransport(self) -> Any:
        return UnixClient(self.address, self, hub_for(self.reactor), self.checkPID)
