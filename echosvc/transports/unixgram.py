"""A port for UNIX datagram sockets: a `DatagramPort` whose peers have names in place of addresses."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from echosvc.transports.datagram import DatagramPort
from echosvc.transports.linux import LINUX, SO_PASSCRED, Control
from echosvc.transports.messages import PlainMessages, Unsent, send
from echosvc.transports.peer import Source
from echosvc.transports.rights import (
    REST,
    RIGHTS_ROOM,
    SENT,
    close_bound,
    received,
    refuse_descriptors,
)
from echosvc.transports.screening import LocalEnvelope
from echosvc.transports.unix_names import (
    CREDENTIALS_ROOM,
    WITHOUT_PROC,
    UnixPeer,
    can_answer_paths,
    name_of,
    open_socket_of,
    sender,
)

__all__ = ["UnixDatagramPort"]

#: Larger than what a UNIX socket sends by default (net.core.wmem_default, 208 KiB).
_MAX_DATAGRAM = 256 * 1024

#: How often it is tried, `REST` apart, to read what waits when the port is closed.
_LAST_LOOKS = 10


class _UnixMessages(PlainMessages):
    """Datagrams of a UNIX socket, without the descriptors that were sent with them.

    Args:
        sock: As `PlainMessages` has it.
        drops: Where datagrams that carried descriptors are counted, as ``descriptor-unwanted``.
    """

    _room = (_MAX_DATAGRAM, RIGHTS_ROOM + CREDENTIALS_ROOM)
    _cut = socket.MSG_TRUNC  # of what comes beside it, nothing says where it was sent to

    def __init__(self, sock: socket.socket, drops: Counter[str]) -> None:
        super().__init__(sock)
        self._drops = drops
        self._answers_paths = can_answer_paths()
        self._opened: dict[tuple[str, int | None], int] = {}
        self._users: list[int | None] = []

    def receive(self) -> int:
        """Take what is waiting; an error that comes after a datagram is told by the next call."""
        if not self._received:
            self._users = []
        return super().receive()

    def _may_receive(self) -> bool:
        """Whether the descriptors of one more message could be received, after those of this batch."""
        return SENT.may_receive() > 0

    def _source_of(self, sockaddr: Any, ancillary: list[Control]) -> Source:
        if descriptors := received(ancillary):
            SENT.close(descriptors)
            self._drops["descriptor-unwanted"] += 1
        user = sender(ancillary)
        self._users.append(user)
        source: Source = UnixPeer.of(sockaddr, user) if isinstance(sockaddr, str) and sockaddr else sockaddr
        return source

    def envelopes(self) -> Sequence[LocalEnvelope]:
        """Tell each message's envelope: which user has sent it, and under which name."""
        return [(user, source) for user, (_, source) in zip(self._users, self._received, strict=True)]

    def send_back(self, which: Sequence[int]) -> list[Unsent]:
        """Send messages back, one by one; each path is looked at once."""
        unsent: list[Unsent] = []
        try:
            for index in which:
                data, source = self._received[index]
                if (why := self.answer(data, source)) is not None:
                    unsent.append((len(data), why))
        finally:
            self.forget()
        return unsent

    def answer(self, data: bytes | bytearray, source: Source) -> int | str | None:
        """Send a datagram to a peer, or to any other name. Sockets that are opened for that stay open until `forget`.

        Returns:
            None if it was sent; else the errno, or why the peer must not be answered.
        """
        try:
            if isinstance(source, UnixPeer):
                if not self._answers_paths:
                    return WITHOUT_PROC
                key = (source, source.uid)
                found: int | str | None = self._opened.get(key)
                if found is None:
                    found = open_socket_of(source)
                if isinstance(found, str):
                    return found
                self._opened[key] = found
                source = name_of(found)
            send(self._socket, data, source)
        except OSError as problem:
            return problem.errno or 0
        return None

    def forget(self) -> None:
        """Close the sockets that were opened."""
        opened, self._opened = self._opened, {}
        for descriptor in opened.values():
            os.close(descriptor)


class UnixDatagramPort(DatagramPort):
    """A bound UNIX datagram socket, served by one datagram protocol.

    What differs from UDP: a peer is a path (`UnixPeer`), an abstract name (bytes) or None, and one without a name cannot be answered.
    One with a path is answered only if a socket of its own user is there (`unix_names`); what is not is counted in `drops`.

    Args:
        arguments: As for `DatagramPort`.
    """

    _messages: _UnixMessages
    _rests = False

    def _bindSocket(self) -> None:
        if LINUX:
            self._bound.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
        super()._bindSocket()
        self._kernel_refuses = refuse_descriptors(self.socket)

    def _drain_error_queue(self) -> bool:
        """A UNIX socket has none: asked for it, it gives a datagram."""
        return False

    def _make_messages(self) -> _UnixMessages:
        return _UnixMessages(self.socket, self.drops)

    def getHost(self) -> UNIXAddress:
        """Return the local name."""
        return UNIXAddress(self.socket.getsockname() or None)

    def doRead(self) -> None:
        """Serve what is waiting, unless too many descriptors wait to be closed: then a little later."""
        self._rests = not SENT.may_receive() and not self._kernel_refuses
        if self._rests:
            self.stopReading()
            reactor: Any = self.reactor  # annotated as what watches descriptors alone
            reactor.callLater(REST, self._read_again)
        else:
            super().doRead()

    def serve_waiting(self) -> Deferred[None] | None:
        """Serve what has come in already; if too many descriptors wait to be closed, wait until there is room: a second at most."""
        return self._serve_waiting(_LAST_LOOKS)

    def _serve_waiting(self, looks: int) -> Deferred[None] | None:
        if not self.connected:
            return None
        super().serve_waiting()
        if not self._rests or not looks:
            return None
        reactor: Any = self.reactor
        return deferLater(reactor, REST).addCallback(lambda _: self._serve_waiting(looks - 1))

    def _read_again(self) -> None:
        if self.connected and not self._stopping:
            self.startReading()

    def write(self, datagram: bytes, addr: Source = None) -> None:
        """Send one datagram; what is not sent is counted in `drops` and never raised.

        Args:
            datagram: The payload.
            addr: A peer, or the name of a socket: that is sent to as it is.
        """
        why = self._messages.answer(datagram, addr)
        self._messages.forget()
        if why is None:
            self.datagrams_out += 1
            self.bytes_out += len(datagram)
        else:
            self._failed("send", why)

    def _close_socket(self) -> None:
        if self._kernel_refuses:  # what was sent before has been read by now
            self.socket.close()
        else:
            close_bound(self.socket)
