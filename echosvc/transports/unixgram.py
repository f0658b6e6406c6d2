"""A port for UNIX datagram sockets: a `DatagramPort` whose peers have names in place of addresses."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

from twisted.internet.address import UNIXAddress

from echosvc.transports.datagram import DatagramPort
from echosvc.transports.linux import Control
from echosvc.transports.messages import Messages, PlainMessages
from echosvc.transports.peer import Source
from echosvc.transports.rights import (
    REST,
    RIGHTS_ROOM,
    SENT,
    close_bound,
    received,
    refuse_descriptors,
)

__all__ = ["UnixDatagramPort"]

#: Larger than what a UNIX socket sends by default (net.core.wmem_default, 208 KiB).
_MAX_DATAGRAM = 256 * 1024


class _UnixMessages(PlainMessages):
    """Datagrams of a UNIX socket, without the descriptors that were sent with them.

    Args:
        sock: As `PlainMessages` has it.
        drops: Where datagrams that carried descriptors are counted, as ``descriptor-unwanted``.
    """

    _room = (_MAX_DATAGRAM, RIGHTS_ROOM)

    def __init__(self, sock: socket.socket, drops: Counter[str]) -> None:
        super().__init__(sock)
        self._drops = drops

    def _source_of(self, sockaddr: Any, ancillary: list[Control]) -> Source:
        if descriptors := received(ancillary):
            SENT.close(descriptors)
            self._drops["descriptor-unwanted"] += 1
        source: Source = sockaddr
        return source


class UnixDatagramPort(DatagramPort):
    """A bound UNIX datagram socket, served by one datagram protocol.

    What differs from UDP: a peer is a path (str), an abstract name (bytes) or None, and whoever has no name cannot be answered.

    Args:
        arguments: As for `DatagramPort`.
    """

    def _bindSocket(self) -> None:
        super()._bindSocket()
        refuse_descriptors(self.socket)
        self._kernel_refuses = refuse_descriptors(self.socket)

    def _make_messages(self) -> Messages:
        return _UnixMessages(self.socket, self.drops)

    def getHost(self) -> UNIXAddress:
        """Return the local name."""
        return UNIXAddress(self.socket.getsockname() or None)

    def doRead(self) -> None:
        """Serve what is waiting, unless too many descriptors wait to be closed: then a little later."""
        if SENT.is_full() and not self._kernel_refuses:
            self.stopReading()
            reactor: Any = self.reactor  # annotated as what watches descriptors alone
            reactor.callLater(REST, self._read_again)
        else:
            super().doRead()

    def _read_again(self) -> None:
        if self.connected and not self._stopping:
            self.startReading()

    def write(self, datagram: bytes, addr: Source = None) -> None:
        """Send one datagram; what the kernel refuses is counted in `drops` and never raised.

        Args:
            datagram: The payload.
            addr: The name of a socket.
        """
        self._send(datagram, addr)

    def _close_socket(self) -> None:
        if self._kernel_refuses:  # what was sent before has been read by now
            self.socket.close()
        else:
            close_bound(self.socket)
