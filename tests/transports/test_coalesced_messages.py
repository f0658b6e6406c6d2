"""Tests of messages that are not plain: coalesced ones, odd control messages, systems that cannot batch."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import socket
from typing import Any

from twisted.trial.unittest import SkipTest

from echosvc.transports import batched_messages, mmsg
from echosvc.transports.batched_messages import messages_for
from echosvc.transports.linux import ERROR_QUEUE_OPTIONS, PKTINFO_OPTIONS, SOL_UDP, UDP_GRO, UDP_SEGMENT
from echosvc.transports.messages import PlainMessages
from tests.machine import OTHER_LOOPBACK
from tests.transports.message_bench import MessagesCase

_SO_TIMESTAMP = 29
_IP_RECVTTL = 12


class CoalescedTests(MessagesCase):
    """Datagrams that a sender has handed over at once, and that arrive as one message."""

    def burst(self, client: socket.socket, payload: bytes, size: int) -> None:
        """Send one buffer as datagrams of `size` bytes."""
        try:
            client.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        except OSError:
            raise SkipTest("needs UDP_SEGMENT") from None
        client.send(payload)
        client.setsockopt(SOL_UDP, UDP_SEGMENT, 0)

    def test_are_taken_apart_and_answered_as_they_were(self) -> None:
        """In the middle of ordinary ones, with a last one that is shorter; nothing lost, nothing joined."""
        bench = self.bench("::")
        for host in ("127.0.0.3", OTHER_LOOPBACK):
            client = bench.client(host)
            payload = random.Random(1).randbytes(1200 * 30 + 7)
            client.send(b"before")
            self.burst(client, payload, 1200)
            client.send(b"behind")
            received = bench.receive()
            datagrams = [payload[at : at + 1200] for at in range(0, len(payload), 1200)]

            self.assertEqual(received, [[b"before"], datagrams, [b"behind"]])
            self.assertEqual(bench.messages.count(range(3)), 33)
            self.assertEqual(bench.messages.count([0, 2]), 2)
            self.assertEqual(bench.messages.count([1]), 31)
            bench.send_back()
            self.assertEqual([client.recv(2000) for _ in range(33)], [b"before", *datagrams, b"behind"])

    def test_are_not_taken_for_one_of_their_length(self) -> None:
        """Two of 10 bytes beside one of 20, from the same peer; and they stay in order."""
        for host in ("0.0.0.0", "::"):
            bench = self.bench(host)
            client = bench.client()
            for number in range(9):
                client.send(b"%d" % number * 20)
                self.burst(client, b"%d" % number * 20, 10)
            bench.receive()
            bench.send_back()

            sent = [b"%d" % number * size for number in range(9) for size in (20, 10, 10)]
            self.assertEqual([client.recv(99) for _ in sent], sent)

    def test_one_that_cannot_be_sent_at_once_is_sent_one_by_one(self) -> None:
        """As by a device that cannot cut sends."""
        bench = self.bench()
        client = bench.client()
        self.burst(client, b"a" * 10 + b"b" * 10 + b"c", 10)
        bench.receive()

        def refuse(*_: object) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

        self.patch(mmsg, "sendmmsg", refuse)

        self.assertEqual(bench.send_back(), [])
        self.assertEqual([client.recv(99) for _ in range(3)], [b"a" * 10, b"b" * 10, b"c"])

    def test_one_peer_that_is_gone_costs_nothing_but_its_own(self) -> None:
        """Where errors are reported, each datagram is refused at once, and the next is told: it is tried again."""
        bench = self.bench()
        bench.server.setsockopt(*ERROR_QUEUE_OPTIONS[socket.AF_INET][0], 1)
        bench.messages.tries = 2
        client = bench.client()
        self.burst(client, b"x" * 30, 10)
        client.close()
        bench.receive()

        def refuse(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

        self.patch(mmsg, "sendmmsg", refuse)

        self.assertEqual(bench.send_back(), [])

    def test_a_way_out_that_cannot_cut_sends_is_remembered(self) -> None:
        """From then on every datagram is received and sent by itself: a refusal in each batch would cost more."""
        bench = self.bench()
        client = bench.client()
        real, cut = mmsg.sendmmsg, mmsg._SEGMENT_SPACE
        refused: list[int] = []

        def without_checksums(fd: int, at: int, count: int, flags: int) -> int:
            row = ctypes.sizeof(mmsg._Message)
            plain = bench.messages._tables.control_length  # type: ignore[attr-defined]
            for number in range(count):
                if mmsg._Message.from_address(at + number * row).header.control_length == plain + cut:
                    refused.append(number)
                    ctypes.set_errno(errno.EIO)
                    return int(real(fd, at, number, flags)) if number else -1
            return int(real(fd, at, count, flags))

        self.patch(mmsg, "sendmmsg", without_checksums)
        for _ in range(2):
            for payload in (b"a" * 10 + b"b" * 10, b"c" * 10 + b"d" * 5):
                self.burst(client, payload, 10)
            received = bench.receive()

            self.assertEqual(bench.send_back(), [])
            self.assertEqual([client.recv(99) for _ in range(4)], [b"a" * 10, b"b" * 10, b"c" * 10, b"d" * 5])
        self.assertEqual(received, [[b"a" * 10], [b"b" * 10], [b"c" * 10], [b"d" * 5]])
        self.assertEqual(len(refused), 2)

    def test_a_full_burst_is_the_largest_message(self) -> None:
        """65 507 bytes in 64 datagrams go out and come back."""
        bench = self.bench()
        client = bench.client()
        payload = os.urandom(1023 * 64)
        self.burst(client, payload, 1023)
        self.assertEqual([len(each) for each in bench.receive()], [64])
        bench.send_back()

        self.assertEqual(b"".join(client.recv(2000) for _ in range(64)), payload)


class OddControlTests(MessagesCase):
    """An adopted socket may have options that nobody told us of."""

    def test_only_pktinfo_goes_back(self) -> None:
        """A time stamp or a TTL sent back would be refused."""
        for host in ("0.0.0.0", "::"):
            bench = self.bench(host)
            bench.server.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMP, 1)
            if host == "0.0.0.0":
                bench.server.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            client = bench.client("127.0.0.9")
            client.send(b"odd")
            bench.receive()

            self.assertEqual(bench.send_back(), [])
            self.assertEqual(client.recv(9), b"odd")

    def test_no_pktinfo_leaves_it_to_routing(self) -> None:
        """If something has switched it off."""
        for host in ("0.0.0.0", "::"):
            bench = self.bench(host)
            bench.server.setsockopt(*PKTINFO_OPTIONS[bench.server.family], 0)
            client = bench.client("127.0.0.1")
            client.send(b"where")
            bench.receive()

            self.assertEqual(bench.send_back(), [])
            self.assertEqual(client.recv(9), b"where")


class TruncatedTests(MessagesCase):
    """Messages of which the system has kept only a part."""

    def test_are_refused(self) -> None:
        """The one that is marked, and no other."""
        bench = self.bench()
        real = mmsg.recvmmsg

        def cut(fd: int, at: int, *rest: Any) -> int:
            count = int(real(fd, at, *rest))
            second = mmsg._Message.from_address(at + ctypes.sizeof(mmsg._Message))
            second.header.flags = socket.MSG_TRUNC
            return count

        self.patch(mmsg, "recvmmsg", cut)
        client = bench.client()
        for _ in range(3):
            client.send(b"x")
        bench.receive()

        self.assertEqual(bench.messages.refused, {1: "truncated"})
        bench.messages.release()
        self.assertEqual(bench.messages.refused, {})

    def test_are_refused_one_by_one(self) -> None:
        """The same where recvmsg tells it."""
        bench = self.bench(make=PlainMessages)
        peer = ("127.0.0.1", 9)
        results: list[Any] = [(b"x", [], flags, peer) for flags in (0, socket.MSG_TRUNC, 0)]

        class Scripted:
            def recvmsg(self, *_: object) -> Any:
                if not results:
                    raise BlockingIOError
                return results.pop(0)

        self.patch(bench.messages, "_socket", Scripted())
        bench.messages.receive()

        self.assertEqual(bench.messages.refused, {1: "truncated"})


class FallbackTests(MessagesCase):
    """Where the calls are missing or forbidden."""

    def test_missing_or_forbidden(self) -> None:
        """The plain way is taken, and no option is set that it could not deal with."""

        def forbidden(*_: object) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

        for name, value in (
            ("recvmmsg", None),
            ("sendmmsg", None),
            ("sendmmsg", forbidden),
            ("LINUX", False),
        ):
            with contextlib.ExitStack() as patched:
                patch = self.patch(mmsg, name, value)
                patched.callback(patch.restore)
                bench = self.bench(make=messages_for)

                self.assertIsInstance(bench.messages, PlainMessages)
                self.assertEqual(bench.server.getsockopt(SOL_UDP, UDP_GRO), 0)

    def test_a_kernel_that_does_not_cut_sends(self) -> None:
        """Every datagram has a send of its own, as an option that is not known says."""
        self.patch(batched_messages, "UDP_SEGMENT", 999)
        bench = self.bench()
        client = bench.client()
        for _ in range(3):
            client.send(b"x")
        bench.receive()
        order, answers = bench.messages._group(range(3))  # type: ignore[attr-defined]

        self.assertEqual([count for _, _, count, _ in answers], [1] * len(order))
        self.assertEqual(bench.send_back(), [])

    def test_an_error_after_a_datagram_is_told_next(self) -> None:
        """As recvmmsg does: what came before it is not lost."""
        bench = self.bench(make=PlainMessages)
        results: list[Any] = [
            (b"x", [], 0, ("127.0.0.1", 9)),
            OSError(errno.ECONNREFUSED, "no"),
            BlockingIOError(),
        ]

        class Scripted:
            def recvmsg(self, *_: object) -> Any:
                result = results.pop(0)
                if isinstance(result, OSError):
                    raise result
                return result

        self.patch(bench.messages, "_socket", Scripted())

        self.assertEqual(bench.messages.receive(), 1)
        bench.messages.release()
        self.assertRaises(ConnectionRefusedError, bench.messages.receive)
        self.assertEqual(bench.messages.receive(), 0)
