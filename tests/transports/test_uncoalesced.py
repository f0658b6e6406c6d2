"""Tests of ports where each datagram is to be judged: the kernel may not hand over several as one message."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.trial.unittest import SkipTest

from echosvc.transports import DatagramPort, Envelopes, Refusal
from echosvc.transports.batched_messages import BatchedMessages, messages_for
from echosvc.transports.linux import SOL_UDP, UDP_GRO, UDP_SEGMENT
from tests.transports.message_bench import Bench, MessagesCase
from tests.transports.ports import BatchRecorder, PortCase


def burst(client: socket.socket, address: Any, payload: bytes, size: int) -> None:
    """Send one buffer as datagrams of `size` bytes, at once."""
    try:
        client.setsockopt(SOL_UDP, UDP_SEGMENT, size)
    except OSError:
        raise SkipTest("needs UDP_SEGMENT") from None
    client.sendto(payload, address)


class MessagesTests(MessagesCase):
    """Messages of one datagram each."""

    def uncoalesced(self, host: str = "127.0.0.1") -> Bench:
        """Make a bench whose messages are not coalesced."""
        bench = self.bench(host, make=partial(messages_for, coalesce=False))
        if not isinstance(bench.messages, BatchedMessages):
            raise SkipTest("needs recvmmsg and sendmmsg")
        return bench

    def test_each_datagram_is_a_message(self) -> None:
        """Though they were sent at once."""
        for host in ("0.0.0.0", "::"):
            bench = self.uncoalesced(host)
            client = bench.client()
            burst(client, client.getpeername(), b"a" * 10 + b"b" * 10 + b"c", 10)

            self.assertEqual([[b"a" * 10], [b"b" * 10], [b"c"]], bench.receive())
            self.assertEqual({}, dict(bench.messages.coalesced))
            bench.messages.release()

    def test_a_socket_that_was_told_otherwise(self) -> None:
        """Whoever has passed it on may have switched it on."""
        for coalesce in (True, False):
            bench = self.uncoalesced()
            bench.server.setsockopt(SOL_UDP, UDP_GRO, not coalesce)
            messages_for(bench.server, coalesce=coalesce)

            self.assertEqual(coalesce, bool(bench.server.getsockopt(SOL_UDP, UDP_GRO)))

    def test_answers_still_leave_together(self) -> None:
        """That is what makes them cheap, and no message is larger for it."""
        bench = self.uncoalesced()
        client = bench.client()
        burst(client, client.getpeername(), b"x" * 100, 10)
        bench.receive()
        sends: list[int] = []
        send = bench.messages._tables.send  # type: ignore[attr-defined]  # those of BatchedMessages

        def counted(fd: int, start: int, count: int) -> int:
            sends.append(count)
            return int(send(fd, start, count))

        self.patch(bench.messages._tables, "send", counted)  # type: ignore[attr-defined]

        self.assertEqual([], bench.send_back())
        self.assertEqual([1], sends)
        self.assertEqual([b"x" * 10] * 10, [client.recv(99) for _ in range(10)])


class PortTests(PortCase):
    """A port whose screen judges each datagram."""

    def screened(self, **options: Any) -> tuple[DatagramPort, BatchRecorder, list[Mapping[int, int]]]:
        """Open a port that lets in the first two datagrams of each batch; return what its screen was shown, too."""
        shown: list[Mapping[int, int]] = []

        def screen(batch: Envelopes) -> Mapping[int, Refusal]:
            counts = {index: batch.counts().get(index, 1) for index in range(len(batch.envelopes()))}
            shown.append(counts)
            refused, left = {}, 2
            for index, count in counts.items():
                if count > left:
                    refused[index] = ("too-many", left)
                left = max(0, left - count)
            return refused

        recorder = BatchRecorder()
        port = self.open_port(recorder, screen=screen, **options)
        if not isinstance(port._messages, BatchedMessages):
            raise SkipTest("needs recvmmsg and sendmmsg")
        burst(self.client(), port.socket.getsockname(), b"x" * 50, 10)
        port.doRead()
        return port, recorder, shown

    def test_the_screen_sees_each(self) -> None:
        """And what it refuses is counted one by one, as what it lets in is."""
        port, recorder, shown = self.screened(coalesce=False)

        self.assertEqual([dict.fromkeys(range(5), 1)], shown)
        self.assertEqual([b"x" * 10] * 2, [data for data, _ in recorder.received])
        self.assertEqual((2, {"too-many": 3}), (port.datagrams_in, port.drops))

    def test_a_message_may_be_let_in_in_part(self) -> None:
        """Where the kernel hands over several datagrams as one: the first ones are served, the others counted."""
        port, recorder, shown = self.screened()

        self.assertEqual([{0: 5}], shown)
        self.assertEqual([b"x" * 10] * 2, [data for data, _ in recorder.received])
        self.assertEqual((2, 20, {"too-many": 3}), (port.datagrams_in, port.bytes_in, port.drops))
        self.assertEqual((2, 20), (port.datagrams_out, port.bytes_out))
