"""A reactor whose listen and connect calls make our transports: what Twisted's own tests are run on."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import UnsupportedAddressFamily

from echosvc.transports import StreamPort, StreamTransport
from echosvc.transports.accepting import SPARE
from echosvc.transports.client import _DirectReactor
from echosvc.transports.hub import hub_for
from echosvc.transports.unix import UnixConnector, UnixTransport
from tests.twisted_suite.datagram import SuiteDatagramPort


class SuitePort(StreamPort):
    """Our listening port, but for binding and logging, which Twisted's tests expect of Twisted's."""

    _logConnectionLostMsg = tcp.Port._logConnectionLostMsg

    def __init__(
        self, port: int, factory: Any, backlog: int = 50, interface: str = "", reactor: Any = None
    ) -> None:
        tcp.Port.__init__(self, port, factory, backlog, interface, reactor)
        self._factory = factory
        self.stall_timeout = 300.0
        self._prepare_accepted = None
        self.aborts, self.ended = Counter(), Counter()
        self.bytes_in = self.bytes_out = 0

    def startListening(self) -> None:
        """Bind, and begin to accept."""
        tcp.Port.startListening(self)
        SPARE.keep()
        sock = self.socket
        assert sock is not None
        self._kind = (int(sock.family), int(sock.type), sock.proto)
        self._prepare(sock)


class SuiteUnixPort(unix.Port):
    """The same for UNIX sockets."""

    transport = UnixTransport


class SuiteReactor(EPollReactor):
    """Stock epoll, but for what listens and connects."""

    # The members of the hub are this reactor's, as far as Twisted's tests can tell.

    def getReaders(self) -> list[Any]:
        """Return every descriptor that is watched for reading."""
        hub = hub_for(self)
        return [*(each for each in super().getReaders() if each is not hub), *hub._readers.values()]

    def getWriters(self) -> list[Any]:
        """Return every descriptor that is watched for writing."""
        return [*super().getWriters(), *hub_for(self)._writers.values()]

    def removeAll(self) -> list[Any]:
        """Watch nothing any more."""
        return [*hub_for(self)._remove_members(), *super().removeAll()]

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen with our connections."""
        listening = SuitePort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Connect with our connection."""
        return _DirectReactor(self).connectTCP(host, port, factory, timeout, bindAddress)

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Any:
        """Listen with our datagram port."""
        listening = SuiteDatagramPort.bound(port, protocol, interface, self)
        listening.startListening()
        return listening

    def adoptDatagramPort(
        self, fileDescriptor: int, addressFamily: int, protocol: Any, maxPacketSize: int = 8192
    ) -> Any:
        """Listen on a socket made elsewhere."""
        if addressFamily not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(addressFamily)
        listening = SuiteDatagramPort.adopted(fileDescriptor, addressFamily, protocol, self)
        listening.startListening()
        return listening

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """Listen with our connections."""
        listening = SuiteUnixPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0) -> Any:
        """Connect with our connection."""
        connector = UnixConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Listen on a socket made elsewhere."""
        if addressFamily not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(addressFamily)
        if addressFamily == socket.AF_UNIX:
            listening = SuiteUnixPort._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            listening = SuitePort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Serve a connection made elsewhere."""
        if addressFamily not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return UnixTransport._fromConnectedSocket(fileDescriptor, factory, self)
        return StreamTransport._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)
