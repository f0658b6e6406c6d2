"""Direct connections over UNIX sockets, accepted and connected.

Descriptors travel beside the bytes here (SCM_RIGHTS), so that input is read as Twisted reads it, with
recvmsg, and the hub tells again of what a read has left. One that is sent leaves with the next bytes that are
written: those written before it may have left already. The kernel refuses those that are sent to a protocol that does not
receive them, or else they are closed as `rights` has it.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import unix
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IFileDescriptorReceiver, IProtocol, IProtocolFactory

from echosvc.transports.connection import DirectConnection
from echosvc.transports.hub import hub_for
from echosvc.transports.linux import CREDENTIALS
from echosvc.transports.rights import (
    REST,
    RIGHTS_ROOM,
    SENT,
    close_bound,
    close_connection,
    is_urgent,
    keep_urgent_data,
    received,
    refuse_descriptors,
)
from echosvc.transports.stream import PatientConnection, StreamPort

__all__ = [
    "UnixClient",
    "UnixConnector",
    "UnixStreamPort",
    "UnixTransport",
    "UserAddress",
    "receives_descriptors",
]

#: Why descriptors that were sent are closed.
_UNWANTED = "descriptor-unwanted"


class UserAddress(UNIXAddress):
    """The address of who connects to a UNIX socket: its name, which few have, and its user.

    Attributes:
        uid: The user who has connected (SO_PEERCRED); None where the system does not tell.
    """

    uid: int | None = None


def _user_address(sock: socket.socket, name: Any) -> UserAddress:
    peer = UserAddress(name or None)
    with contextlib.suppress(AttributeError, OSError):  # the former where the system does not tell
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        peer.uid = CREDENTIALS.unpack(found)[1]
    return peer


def _counting(aborts: Counter[str] | None, reactor: Any) -> Callable[[int], None] | None:
    """Count messages with descriptors that are told of in a thread; in the reactor's, where the counter is read."""
    if aborts is None:
        return None
    return lambda messages: reactor.callFromThread(aborts.update, {_UNWANTED: messages})


class _UnixConnection(PatientConnection):
    """What both sides share."""

    edge_triggered = False
    _sendmsgQueue: list[int]  # Twisted's
    #: Descriptors may have been sent to it.
    _may_hold = True

    def _be_direct(self) -> None:
        super()._be_direct()
        if not self._receives():
            self._may_hold = not refuse_descriptors(self.socket)
        if self._may_hold:
            keep_urgent_data(self.socket)

    def _receives(self) -> bool:
        """Whether its protocol receives descriptors, now or when a layer has made way for it."""
        return IFileDescriptorReceiver.providedBy(self.protocol)

    def doRead(self, *_: Any) -> Any:
        """Read as Twisted does: the next class that knows how is its own."""
        if self._may_hold and not SENT.may_receive():
            self.reactor.removeReader(self)
            self.reactor.callLater(REST, self._read_again)
            return None
        if self._may_hold and is_urgent(self.socket):
            self._drop_urgent_byte()
            return None
        return super(DirectConnection, self).doRead()

    def _drop_urgent_byte(self) -> None:
        """Take an urgent byte with its descriptors, and drop it: it is no part of the stream, as on TCP."""
        _, ancillary, _, _ = self.socket.recvmsg(1, RIGHTS_ROOM)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._ancillaryLevelSOLSOCKETTypeSCMRIGHTS(data)

    def _read_again(self) -> None:
        if self.connected and self._reading:
            self.reactor.addReader(self)

    def _ancillaryLevelSOLSOCKETTypeSCMRIGHTS(self, data: bytes) -> None:
        """Close descriptors that nobody wants; Twisted does, too, and writes a log line for each message of the peer's."""
        if IFileDescriptorReceiver.providedBy(self.protocol):
            super()._ancillaryLevelSOLSOCKETTypeSCMRIGHTS(data)  # type: ignore[misc]  # of Twisted's own class
            return
        SENT.close(received([(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)]))
        if self.aborts is not None:
            self.aborts[_UNWANTED] += 1

    def _closeSocket(self, orderly: bool) -> None:  # noqa: FBT001  # Twisted's
        if self._may_hold:
            close_connection(self.socket, _counting(self.aborts, self.reactor))
        else:
            super()._closeSocket(orderly)

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

    def getPeer(self) -> UserAddress:
        """Return who has connected."""
        return _user_address(self.socket, self.hostname)

    def _receives(self) -> bool:
        port = self.accepted_by
        return super()._receives() or (isinstance(port, UnixStreamPort) and port.receives is True)


class UnixStreamPort(StreamPort):
    """A listening UNIX socket that was bound elsewhere, and whose file is removed elsewhere.

    Args:
        receives: Whether descriptors that are sent are for the protocols of the factory: see `receives_descriptors`, which
            is asked if this is None.
        arguments: As for `StreamPort`.
    """

    transport: Any = UnixTransport

    def __init__(self, *arguments: Any, receives: bool | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.receives = receives_descriptors(self._factory) if receives is None else receives
        self._kernel_refuses = False
        if self.receives is False:
            refuse_descriptors(self._bound)
            self._kernel_refuses = refuse_descriptors(self._bound)

    def doRead(self) -> None:
        """Accept those that wait, unless too many descriptors wait to be closed: then a little later."""
        if not SENT.may_receive() and not self._kernel_refuses:
            self._take_a_rest()
        else:
            super().doRead()

    def getHost(self) -> UNIXAddress:  # type: ignore[override]  # as Twisted's own UNIX port does
        """Return the address that is listened on."""
        return UNIXAddress(self.socket.getsockname())

    def _peer(self, sock: socket.socket, address: Any) -> UserAddress:
        return _user_address(sock, address)

    def _prepare(self, sock: socket.socket) -> None:
        """Leave it as it is: TCP's options mean nothing here."""

    def _turn_out(self, sock: socket.socket) -> None:
        if refuse_descriptors(sock):
            sock.close()
        else:
            close_connection(sock, _counting(self.aborts, self.reactor))

    def _closeSocket(self, orderly: bool) -> None:  # noqa: FBT001  # Twisted's
        if self._kernel_refuses:  # what was sent before has been accepted by now
            super()._closeSocket(orderly)
        else:
            close_bound(self._bound)


def receives_descriptors(factory: IProtocolFactory) -> bool | None:
    """Tell whether the protocols of a factory receive descriptors (`IFileDescriptorReceiver`); None if they do not all say it."""
    protocol = getattr(factory, "protocol", None)
    return IFileDescriptorReceiver.implementedBy(protocol) if isinstance(protocol, type) else None


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
