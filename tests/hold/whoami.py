"""Protocols that tell which process answers. The service under test loads them from its working directory."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Protocol

__all__ = ["Datagram", "Stream"]

_PID = b"%d\n" % os.getpid()


class Stream(Protocol):
    """Tells it to whoever connects, and again for whatever they send."""

    def connectionMade(self) -> None:
        """Tell it."""
        self._tell()

    def dataReceived(self, data: bytes) -> None:
        """Tell it again."""
        self._tell()

    def _tell(self) -> None:
        assert self.transport is not None
        self.transport.write(_PID)


class Datagram(DatagramProtocol):
    """Tells it in front of whatever is sent."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Tell it."""
        assert self.transport is not None
        self.transport.write(_PID + datagram, addr)
