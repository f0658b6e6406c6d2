"""Tests of ports where each datagram is to be judged: the kernel may not hand over several as one message."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twisted.trial.unittest import SkipTest

from echosvc.transports import DatagramPort
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

    def screened(self, **options: Any) -> tuple[DatagramPort, BatchRecorder, list[int]]:
        """Open a port that lets in the first two of each batch; return what its screen was asked of, too."""
        asked: list[int] = []

        def screen(ports: Sequence[int]) -> Mapping[int, str]:
            asked.append(len(ports))
            return dict.fromkeys(range(2, len(ports)), "too-many")

        recorder = BatchRecorder()
        port = self.open_port(recorder, screen=screen, **options)
        if not isinstance(port._messages, BatchedMessages):
            raise SkipTest("needs recvmmsg and sendmmsg")
        burst(self.client(), port.socket.getsockname(), b"x" * 50, 10)
        port.doRead()
        return port, recorder, asked

    def test_the_screen_sees_each(self) -> None:
        """And what it refuses is counted one by one, as what it lets in is."""
        port, recorder, asked = self.screened(coalesce=False)

        self.assertEqual([5], asked)
        self.assertEqual([b"x" * 10] * 2, [data for data, _ in recorder.received])
        self.assertEqual((2, {"too-many": 3}), (port.datagrams_in, port.drops))

    def test_otherwise_it_sees_messages(self) -> None:
        """Which is right where only the source counts: they have one."""
        port, recorder, asked = self.screened()

        self.assertEqual([1], asked)
        self.assertEqual([b"x" * 10] * 5, [data for data, _ in recorder.received])
        self.assertEqual((5, {}), (port.datagrams_in, port.drops))
