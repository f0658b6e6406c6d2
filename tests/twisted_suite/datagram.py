"""Our datagram port as Twisted's reactors make theirs: bound here, or adopted, and with Twisted's log lines."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.udp import Port
from twisted.python import log
from twisted.python.failure import Failure

from echosvc.transports import DatagramPort

__all__ = ["SuiteDatagramPort"]


class SuiteDatagramPort(DatagramPort):
    """A port that logs as the tests expect; all that moves datagrams is the class it is based on."""

    @classmethod
    def bound(cls, port: int, protocol: Any, interface: str, reactor: Any) -> SuiteDatagramPort:
        """Bind a new socket."""
        family = Port(port, protocol, interface).addressFamily  # refuses what is no address
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind((interface, port))
        except OSError as problem:
            sock.close()
            raise CannotListenError(interface, port, problem) from problem
        return cls(sock, protocol, reactor)

    @classmethod
    def adopted(cls, number: int, family: int, protocol: Any, reactor: Any) -> SuiteDatagramPort:
        """Take a duplicate of a socket made elsewhere."""
        return cls(socket.fromfd(number, family, socket.SOCK_DGRAM), protocol, reactor)

    def _bindSocket(self) -> None:
        super()._bindSocket()
        prefix = self._getLogPrefix(self.protocol)
        log.msg(f"{prefix} starting on {self._realPortNumber}")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Say so, and close."""
        log.msg(f"(UDP Port {self._realPortNumber} Closed)")
        super().connectionLost(reason)
