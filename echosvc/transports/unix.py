"""Direct connections over UNIX sockets, accepted and connected.

Descriptors travel beside the bytes here (SCM_RIGHTS), so that input is read as Twisted reads it, with
recvmsg, and the hub tells again of what a read has left. One that is sent leaves with the next bytes that are
written: those written before it may have left already.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from twisted.internet import unix
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IFileDescriptorReceiver, IProtocol

from echosvc.transports.connection import DirectConnection
from echosvc.transports.hub import hub_for
from echosvc.transports.stream import PatientConnection, StreamPort

__all__ = ["UnixClient", "UnixConnector", "UnixStreamPort", "UnixTransport"]


class _UnixConnection(PatientConnection):
    """What both sides share."""

    edge_triggered = False
    _sendmsgQueue: list[int]  # Twisted's

    def doRead(self, *_: Any) -> Any:
        """Read as Twisted does: the next class that knows how is its own."""
        return super(DirectConnection, self).doRead()

    def _ancillaryLevelSOLSOCKETTypeSCMRIGHTS(self, data: bytes) -> None:
        """Close descriptors that nobody wants; Twisted does, too, and writes a log line for each message of the peer's."""
        if IFileDescriptorReceiver.providedBy(self.protocol):
            super()._ancillaryLevelSOLSOCKETTypeSCMRIGHTS(data)  # type: ignore[misc]  # of Twisted's own class
            return
        for (descriptor,) in struct.iter_unpack("@i", data):
            os.close(descriptor)
        if self.aborts is not None:
            self.aborts["descriptor-unwanted"] += 1

    def _dataReceived(self, data: bytes | None) -> Any:
        if data:
            self.bytes_in += len(data)
            self.messages_in += 1
        return super()._dataReceived(data)

    def sendFileDescriptor(self, descriptor: int) -> None:
        """Send a descriptor with the bytes that are queued, or else with the next that are written."""
        self._sendmsgQueue.append(descriptor)
        self._direct = False
        self._maybePauseProducer()
        if self._tempDataLen or self.dataBuffer:
            self.startWriting()

    def _is_plain(self) -> bool:
        return super()._is_plain() and not self._sendmsgQueue


class UnixTransport(_UnixConnection, unix.Server):
    """One accepted UNIX connection."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        unix.Server.__init__(self, sock, protocol, client, server, sessionno, hub_for(reactor))
        if isinstance(server, StreamPort):
            self.stall_timeout, self.aborts, self.accepted_by = server.stall_timeout, server.aborts, server
        self._be_direct()


class UnixStreamPort(StreamPort):
    """A listening UNIX socket that was bound elsewhere, and whose file is removed elsewhere."""

    transport: Any = UnixTransport

    def getHost(self) -> UNIXAddress:  # type: ignore[override]  # as Twisted's own UNIX port does
        """Return the address that is listened on."""
        return UNIXAddress(self.socket.getsockname())

    def _buildAddr(self, address: Any) -> UNIXAddress:  # type: ignore[override]  # likewise
        return UNIXAddress(address or None)

    def _prepare(self, sock: socket.socket) -> None:
        """Leave it as it is: TCP's options mean nothing here."""


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
