"""Datagrams by the batch: received with one system call, answered with one, and with one send for each peer.

How an echo passes without a Python object for each datagram: recvmmsg fills rooms, lengths and envelopes; the
answers are the same rooms and envelopes, sorted by peer; those of one peer with one size leave as one
segmented send (UDP_SEGMENT), which passes through the kernel's layers once. Measured against a C loop of one
call for each datagram: 0.73 of its CPU for one peer, 0.80 for 50; without grouping, 50 peers cost 1.05.

Sources: recvmmsg(2), sendmmsg(2), udp(7), and for UDP_SEGMENT and UDP_GRO linux/udp.h.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any

from echosvc.transports.destinations import Destinations
from echosvc.transports.linux import (
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    any_address,
    coalesced_size,
    control_messages,
    pack_control,
    reply_control,
)
from echosvc.transports.messages import BATCH, CUT, Messages, PlainMessages, Unsent, send
from echosvc.transports.mmsg import DATA, ENVELOPE, NAME_ROOM, Answer, Tables, can_batch
from echosvc.transports.peer import Peer, sockaddr_from
from echosvc.transports.screening import Arrival

__all__ = ["BatchedMessages", "messages_for"]

#: Bytes in one segmented send: as many as a datagram over IPv4 may have. (64 x 1200 would be EMSGSIZE.)
_MOST = 65507

#: Peers remembered, so that one who asks again need not be made again. All are forgotten when it is full.
_PEERS = 1024

_ZEROS = memoryview(bytes(4 * BATCH)).cast("I")


class BatchedMessages(Messages):
    """Messages of one UDP socket, received and answered by the batch.

    Args:
        sock: A bound UDP socket that reports PKTINFO.
        coalesce: Switch on its UDP_GRO, if the kernel has it: several datagrams may then be one message.
    """

    def __init__(self, sock: socket.socket, *, coalesce: bool = True) -> None:
        self._socket = sock
        self._fd = sock.fileno()
        self._is_ipv6 = sock.family == socket.AF_INET6
        self._can_segment = _can_segment(sock, coalesce=coalesce)
        self._tables = Tables(sock.family)
        self._rooms = self._tables.rooms
        self._envelopes: list[bytes] = []
        self._peers: dict[bytes, Peer] = {}
        self._destinations = Destinations()
        # Of the addresses asked: the first bytes, if they are of IPv6; the end of one of ours, and of all known ones.
        self._heads = b""
        self._usual_tail = b"?"
        self._tails: set[int] = set()

    # -- receiving

    def receive(self) -> int:
        """Take what is waiting, with one system call."""
        if self._rooms.borrowed:  # somebody runs the reactor from within a protocol: this waits for its end
            return 0
        tables = self._tables
        count = tables.receive(self._fd)
        if not count:
            return 0
        self._rooms.borrowed = True
        self.lengths = tables.lengths(count)
        controls = tables.control_lengths(count)
        if controls.count(tables.control_length) != count:
            self._unwrap(controls)
        tails = tables.destination_tails(count)
        self._heads = tables.destination_heads(count) if self._is_ipv6 else b""
        if tails != self._usual_tail * count or 0xFF in self._heads:  # ff02::1 ends as ::1 does
            self.refused = self._refused(tails, count)
        flags = tables.flags(count)
        if flags.count(0) != count:
            cut = (index for index, flag in enumerate(flags) if flag & CUT)
            self.refused = {**self.refused, **dict.fromkeys(cut, "truncated")}
        return count

    def _refused(self, tails: bytes, count: int) -> dict[int, str]:
        """Say which messages were sent to many; learn the ends of addresses of ours, to be quick the next time."""
        numbers = memoryview(tails).cast("Q" if self._is_ipv6 else "I").tolist()
        if 0xFF not in self._heads and self._tails.issuperset(numbers):
            self._usual_tail = tails[: len(tails) // count]
            return {}
        destinations = [self._tables.destination(index) for index in range(count)]
        refused = self._destinations.refused(destinations)
        ours = self._destinations.ours
        if len(self._tails) > len(ours):
            self._tails.clear()
        self._tails.update(tail for tail, each in zip(numbers, destinations, strict=True) if each in ours)
        return refused

    def _unwrap(self, controls: list[int]) -> None:
        """Leave nothing but PKTINFO in the envelopes, and take note of what was coalesced.

        PKTINFO is alone unless messages were coalesced, or an adopted socket has options of its own.
        """
        envelopes = self._tables.envelopes
        coalesced = {}
        for index, length in enumerate(controls):
            if length == self._tables.control_length:
                continue
            name = index * ENVELOPE
            start = name + NAME_ROOM
            ancillary = control_messages(bytes(envelopes[start : start + length]))
            if size := coalesced_size(ancillary):
                coalesced[index] = size
            nothing = any_address(self._socket.family, bytes(envelopes[name + 8 : name + 24]))
            control = pack_control(next((each for each in ancillary if each[:2] == nothing[:2]), nothing))
            envelopes[start : start + len(control)] = control
        self.coalesced = coalesced

    def payload(self, index: int) -> memoryview:
        """Show a message's bytes, where the kernel has put them."""
        return self._rooms.payload(index, self.lengths[index])

    def source(self, index: int) -> Peer:
        """Tell whom a message came from."""
        envelope = self._sealed()[index]
        peer = self._peers.get(envelope)
        if peer is None:
            control = reply_control(control_messages(envelope[NAME_ROOM:]))
            peer = Peer.of(sockaddr_from(envelope), control)
            if len(self._peers) >= _PEERS:
                self._peers.clear()
            self._peers[envelope] = peer
        return peer

    def envelopes(self) -> Sequence[bytes]:
        """Tell each message's envelope, as the answer will have it."""
        return self._sealed()

    def arrival(self, envelope: Any) -> Arrival:
        """Describe an envelope."""
        return self._tables.arrival(envelope)

    def release(self) -> None:
        """Forget the messages, and let others use the rooms."""
        if self.lengths:
            self._rooms.borrowed = False
        self._envelopes = []
        super().release()

    def _sealed(self) -> list[bytes]:
        """Return the envelopes, ready to go back; equal ones have the same peer and the same local address."""
        if not self._envelopes:
            count = len(self.lengths)
            self._clear_interfaces(count)
            everything = bytes(self._tables.envelopes[: count * ENVELOPE])
            size = self._tables.sealed_length
            self._envelopes = [everything[at : at + size] for at in range(0, len(everything), ENVELOPE)]
        return self._envelopes

    def _clear_interfaces(self, count: int) -> None:
        """Leave the interface to routing, except for link-local addresses, which mean nothing without it."""
        interfaces, envelopes = self._tables.interfaces(count), self._tables.envelopes
        if 0xFE not in self._heads:
            interfaces[:] = _ZEROS[:count]
            return
        for index in range(count):
            second_byte = envelopes[index * ENVELOPE + DATA + 1]
            if self._heads[index] != 0xFE or second_byte & 0xC0 != 0x80:  # fe80::/10, RFC 4291 2.5.6
                interfaces[index] = 0

    # -- answering

    def send_back(self, which: Sequence[int]) -> list[Unsent]:
        """Send messages back: one system call for all, one send for each peer and size."""
        order, answers = self._group(which)
        self._tables.lay_pieces(order, self.lengths)
        self._tables.lay_answers(answers)
        unsent: list[Unsent] = []
        sent = 0
        while sent < len(answers):
            done = self._tables.send(self._fd, sent, len(answers) - sent)
            if done > 0:
                sent += done
                continue
            # The kernel has stopped before this one. Each of its datagrams is tried alone: a segment may have
            # been larger than the way out (EINVAL, EMSGSIZE), or the device have no checksums (EIO); if it is
            # anything else, each has its own errno.
            _, start, count, segment = answers[sent]
            if segment and done == -errno.EIO:
                self._stop_joining()
            for index in order[start : start + count]:
                unsent += self._send_alone(index)
            sent += 1
        return unsent

    def _group(self, which: Sequence[int]) -> tuple[Sequence[int], list[Answer]]:
        """Put together what can leave together.

        Returns:
            The messages in the order in which they leave, and the answers, each with a run of them.
        """
        envelopes, lengths, coalesced = self._sealed(), self.lengths, self.coalesced
        # Sorting is stable: what came from one peer stays in order.
        order = sorted(which, key=envelopes.__getitem__) if self._can_segment else which
        total = len(order)
        answers: list[Answer] = []
        start = 0
        while start < total:
            first, end = order[start], start + 1
            segment = coalesced.get(first, 0)
            if self._can_segment and not segment and (size := lengths[first]):
                envelope, limit = envelopes[first], min(total, start + _MOST // size)
                while (
                    end < limit
                    and envelopes[(index := order[end])] == envelope
                    and lengths[index] == size
                    and index not in coalesced
                ):
                    end += 1
                if end > start + 1:
                    segment = size
            answers.append((first, start, end - start, segment))
            start = end
        return order, answers

    def _stop_joining(self) -> None:
        """Receive and send every datagram by itself from now on, as a device on the way out cannot cut sends.

        For all peers, although others may be reached by other devices: to try in vain, and then to send one by
        one what was received as one, takes 7 times as long (15 ms for 4096 datagrams).
        """
        self._can_segment = False
        self._socket.setsockopt(SOL_UDP, UDP_GRO, 0)

    def _send_alone(self, index: int) -> list[Unsent]:
        """Send each datagram of one message by itself."""
        peer = self.source(index)
        unsent: list[Unsent] = []
        for datagram in self.datagrams(index):
            try:
                send(self._socket, datagram, peer, tries=self.tries)
            except OSError as problem:
                unsent.append((len(datagram), problem.errno or 0))
        return unsent


def messages_for(sock: socket.socket, *, coalesce: bool = True) -> Messages:
    """Choose how a socket's datagrams are received and answered.

    Args:
        sock: A bound datagram socket.
        coalesce: Whether the kernel may hand over several datagrams as one message.

    Returns:
        `BatchedMessages` for UDP where the kernel can, else `PlainMessages`, which do the same more slowly.
    """
    return BatchedMessages(sock, coalesce=coalesce) if can_batch(sock) else PlainMessages(sock)


def _can_segment(sock: socket.socket, *, coalesce: bool) -> bool:
    """Whether the kernel cuts sends. One that does not know how would send all as one large datagram."""
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
        sock.setsockopt(SOL_UDP, UDP_GRO, coalesce)
    except OSError:
        return False
    return True
