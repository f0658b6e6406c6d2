"""Echo over datagrams, every reply matched to its call and checked.

A datagram may come late, twice, or from somebody else, so every one carries a tag of 16 bytes before its
payload: 8 random bytes for this client, then the number of the call. A reply counts only when it comes from
the address that was asked and its tag is that of a call that still waits; what it says is compared then.

The socket is not connect()ed. On a connected one a single ICMP refusal closes Twisted's port, and the error
says nothing of which datagram it was for; the error queue returns the refused datagram itself.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from echosvc.client._compare import common_prefix
from echosvc.client._delivery import send, undelivered
from echosvc.errors import (
    EchoLost,
    EchoMismatch,
    NoReply,
    PayloadTooLarge,
    PeerError,
)
from echosvc.transports import DatagramPort, HostPort, IUndeliverable, display

__all__ = ["MAX_PAYLOAD", "TAG_SIZE", "DatagramEchoClient"]

_NUMBER = struct.Struct("!Q")

#: Bytes before the payload of every datagram: 8 for the client, 8 for the call.
TAG_SIZE = 8 + _NUMBER.size

#: The largest payload of a call: what is left of a UDP datagram over IPv4 (65535 - 20 - 8, RFC 768).
MAX_PAYLOAD = 65507 - TAG_SIZE


@attrs.define(eq=False)
class _Call:
    """One `echo` that waits for its reply."""

    payload: bytes
    answered: Deferred[bytes]
    give_up: IDelayedCall


@implementer(IUndeliverable)
class DatagramEchoClient(DatagramProtocol):
    """Sends datagrams to one peer and promises that the same payload comes back for each.

    Args:
        peer: Whom to ask: a literal address, as the socket will name it, and a port.
        clock: Keeps time.

    Attributes:
        peer: As given.
        late: Replies to calls that no longer waited: they had timed out, been refused or been cancelled.
        duplicate: Replies to calls that had been answered.
        foreign: Datagrams from another address, without a tag of ours, or for a call never made.
    """

    #: How many unanswered calls are remembered, to tell late from duplicate. Replies to older ones count as
    #: duplicates.
    REMEMBERED = 4096

    transport: DatagramPort
    noisy = False

    def __init__(self, peer: HostPort, clock: IReactorTime) -> None:
        self.peer = peer
        self.late = 0
        self.duplicate = 0
        self.foreign = 0
        self._clock = clock
        self._session = os.urandom(TAG_SIZE - _NUMBER.size)
        self._next = 0
        self._calls: dict[int, _Call] = {}
        self._unanswered: OrderedDict[int, None] = OrderedDict()
        self._open = False

    def startProtocol(self) -> None:
        """Take calls from now on. Called by the port."""
        self._open = True

    def stopProtocol(self) -> None:
        """Fail every call that still waits. Called by the port when it is closed."""
        self._open = False
        for number, call in list(self._calls.items()):
            self._fail(number, EchoLost(len(call.payload), "the socket was closed"))

    def echo(self, payload: bytes | bytearray | memoryview, timeout: float = 1.0) -> Deferred[bytes]:
        """Send a datagram, and wait until its payload came back.

        Cancelling the Deferred ends the waiting; a reply that comes afterwards counts as late.

        Args:
            payload: Up to `MAX_PAYLOAD` bytes; none is fine. On the wire it is `TAG_SIZE` bytes longer.
            timeout: How long to wait, in seconds.

        Returns:
            Fires with the payload. Fails with `NoReply` after `timeout`; with `EchoMismatch` when the reply
            says something else (offsets count from the start of the payload); with `Refused` or
            `ConnectionFailed` when a system here or on the way says that it could not be delivered; with
            `EchoLost` when the socket was closed.

        Raises:
            PayloadTooLarge: Nothing was sent.
        """
        sent = bytes(payload)
        if len(sent) > MAX_PAYLOAD:
            raise PayloadTooLarge(len(sent), MAX_PAYLOAD)
        if not self._open:
            return fail(EchoLost(len(sent), "the socket was closed"))
        number, self._next = self._next, self._next + 1
        answered: Deferred[bytes] = Deferred(lambda _: self._drop(number))
        no_reply = NoReply(display(*self.peer), timeout)
        give_up = self._clock.callLater(timeout, self._fail, number, no_reply)
        self._calls[number] = _Call(sent, answered, give_up)
        datagram = self._session + _NUMBER.pack(number) + sent
        if refused := send(self.transport, datagram, self.peer):
            self._fail(number, undelivered(self.peer, refused))
        return answered

    def close(self) -> Deferred[None]:
        """Close the socket; every call that still waits fails with `EchoLost`.

        Returns:
            Fires when the socket is closed.
        """
        if not self._open:
            return maybeDeferred(lambda: None)
        return maybeDeferred(self.transport.stopListening).addCallback(lambda _: None)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """Answer the call whose tag this is, or count why there is none."""
        number = self._number(datagram)
        if addr != self.peer or number is None or number >= self._next:
            self.foreign += 1
        elif number in self._calls:
            self._answer(number, datagram)
        elif number in self._unanswered:
            del self._unanswered[number]
            self.late += 1
        else:
            self.duplicate += 1

    def undeliverable(self, payload: bytes, addr: HostPort, number: int) -> None:
        """Fail the call whose datagram came back with an error (`IUndeliverable`).

        Args:
            payload: What came back of the datagram. If it is too short to hold a tag, it may be any of
                those that wait, and all of them fail.
            addr: Where the datagram was to go.
            number: The errno that says why it did not get there.
        """
        if addr != self.peer:
            return
        whose = self._number(payload)
        for call in list(self._calls):
            if call == whose or len(payload) < TAG_SIZE:
                self._fail(call, undelivered(self.peer, number))

    def _number(self, datagram: bytes) -> int | None:
        """Read the number of the call from a datagram's tag; None if the tag is not ours."""
        if len(datagram) < TAG_SIZE or not datagram.startswith(self._session):
            return None
        number: int = _NUMBER.unpack_from(datagram, len(self._session))[0]
        return number

    def _answer(self, number: int, datagram: bytes) -> None:
        call = self._calls.pop(number)
        call.give_up.cancel()
        received = memoryview(datagram)[TAG_SIZE:]
        right = common_prefix(call.payload, 0, received[: len(call.payload)])
        if right == len(received) == len(call.payload):
            call.answered.callback(call.payload)
        else:
            call.answered.errback(EchoMismatch(right, call.payload[right:], bytes(received[right:])))

    def _fail(self, number: int, problem: PeerError) -> None:
        if number in self._calls:  # the failure of one call may have made its caller cancel others
            answered = self._calls[number].answered
            self._drop(number)
            answered.errback(problem)

    def _drop(self, number: int) -> None:
        """Stop waiting for a reply, and remember that none came."""
        call = self._calls.pop(number)
        if call.give_up.active():
            call.give_up.cancel()
        self._unanswered[number] = None
        if len(self._unanswered) > self.REMEMBERED:
            self._unanswered.popitem(last=False)
