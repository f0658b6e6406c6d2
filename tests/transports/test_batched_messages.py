"""Tests of what one system call receives and one answers, on real sockets."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any

from echosvc.transports import batched_messages, mmsg
from echosvc.transports.batched_messages import messages_for
from echosvc.transports.linux import SOL_UDP, UDP_GRO
from echosvc.transports.messages import BATCH, PlainMessages
from tests.doubles import udp_socket
from tests.machine import FORKING, HAS_IPV6, OTHER_LOOPBACK
from tests.transports.message_bench import MessagesCase


class BatchedMessagesTests(MessagesCase):
    """What one call receives, and one call answers."""

    suppress = FORKING

    def test_nothing_waits(self) -> None:
        """Then there is nothing, and no error."""
        self.assertEqual(self.bench().messages.receive(), 0)

    def test_structures_are_the_kernels(self) -> None:
        """As linux/socket.h and linux/uio.h have them on 64-bit machines."""
        self.bench()

        self.assertEqual(ctypes.sizeof(mmsg._Message), 64)
        self.assertEqual(ctypes.sizeof(mmsg._Header), 56)
        self.assertEqual(ctypes.sizeof(mmsg._Piece), 16)

    def test_answers_many_peers_from_where_they_asked(self) -> None:
        """Of one batch, over both families, at several local addresses."""
        bench = self.bench("::")
        clients = [
            bench.client(host)
            for host in ("127.0.0.1", "127.0.0.3", OTHER_LOOPBACK, "127.0.0.3", OTHER_LOOPBACK)
        ]
        for turn in range(3):
            for number, client in enumerate(clients):
                client.send(b"%d" % number * (turn + 1))
        self.assertEqual(len(bench.receive()), 15)
        self.assertEqual(bench.send_back(), [])

        for number, client in enumerate(clients):
            self.assertEqual([client.recv(9) for _ in range(3)], [b"%d" % number * n for n in (1, 2, 3)])

    def test_one_peer_asks_at_two_addresses(self) -> None:
        """Its datagrams are not answered together, though peer and size are the same."""
        bench = self.bench("0.0.0.0")
        client = udp_socket()
        self.addCleanup(client.close)
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"):
            client.sendto(b"where", (host, bench.port))
        bench.receive()
        bench.send_back()

        answered = [client.recvfrom(9)[1][0] for _ in range(4)]
        self.assertEqual(sorted(answered), ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"])

    def test_one_peer_is_answered_with_one_send(self) -> None:
        """As many datagrams of one size as a send may carry; the rest with a second, and all in order."""
        bench = self.bench()
        sends = self.counted(mmsg, "sendmmsg")
        for size, answers in ((1, 1), (1000, 1), (1200, 2), (1300, 2)):
            client = bench.client()
            sent = [bytes([number]) * size for number in range(BATCH)]
            for datagram in sent:
                client.send(datagram)
            bench.receive()
            sends.clear()
            bench.send_back()

            self.assertEqual([client.recv(2000) for _ in sent], sent)
            self.assertEqual([call[2] for call in sends], [answers])

    def test_what_the_way_out_cannot_carry_in_segments_goes_alone(self) -> None:
        """Segments larger than the device's packets are refused; single datagrams are fragmented."""
        bench = self.bench()
        client = bench.client()
        sent = [bytes([number]) * 20_000 for number in range(4)]
        for datagram in sent:
            client.send(datagram)
        bench.receive()
        real = mmsg.sendmmsg

        def refuse_segments(fd: int, at: int, count: int, flags: int) -> int:
            header = mmsg._Message.from_address(at).header
            if header.piece_count > 1:
                ctypes.set_errno(errno.EINVAL)
                return -1
            return int(real(fd, at, count, flags))

        self.patch(mmsg, "sendmmsg", refuse_segments)

        self.assertEqual(bench.send_back(), [])
        self.assertEqual([client.recv(30_000) for _ in sent], sent)
        self.assertEqual(bench.server.getsockopt(SOL_UDP, UDP_GRO), 1)  # smaller ones are still sent at once

    def test_an_error_of_a_single_datagram_says_nothing_of_segments(self) -> None:
        """Though it is the one that a device gives that cannot cut sends."""
        bench = self.bench()
        client = bench.client()
        client.send(b"x")
        bench.receive()

        def fail(*_: object) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

        self.patch(mmsg, "sendmmsg", fail)
        bench.send_back()

        self.assertEqual(client.recv(9), b"x")
        self.assertEqual(bench.server.getsockopt(SOL_UDP, UDP_GRO), 1)

    def test_one_refusal_costs_one_datagram(self) -> None:
        """The rest of the batch is sent, whatever stood before it (a partial sendmmsg)."""
        bench = self.bench()
        clients = [bench.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(b"x" * number)
        bench.receive()
        # To port 0 nothing can be sent.
        envelope = 2 * mmsg.ENVELOPE
        bench.messages._tables.envelopes[envelope + 2 : envelope + 4] = b"\0\0"  # type: ignore[attr-defined]

        self.assertEqual(bench.send_back(), [(2, errno.EINVAL)])
        for number in (0, 1, 3, 4):
            self.assertEqual(clients[number].recv(9), b"x" * number)

    def test_a_full_device_costs_what_it_refuses(self) -> None:
        """EAGAIN and ENOBUFS in the middle of a batch: counted, and the next are tried."""
        bench = self.bench()
        clients = [bench.client() for _ in range(4)]
        for client in clients:
            client.send(b"xx")
        bench.receive()
        real = mmsg.sendmmsg
        results = [1, -1, 2]

        def full(fd: int, at: int, count: int, flags: int) -> int:
            number = results.pop(0)
            if number > 0:
                return int(real(fd, at, number, flags))
            ctypes.set_errno(errno.ENOBUFS)
            return -1

        class Full:
            def sendmsg(self, *_: object) -> None:
                raise OSError(errno.ENOBUFS, "No buffer space available")

        self.patch(mmsg, "sendmmsg", full)
        self.patch(bench.messages, "_socket", Full())

        self.assertEqual(bench.send_back(), [(2, errno.ENOBUFS)])
        self.assertEqual(results, [])

    def test_without_segments_each_is_sent_by_itself(self) -> None:
        """On a kernel that would take several pieces for one large datagram."""
        self.patch(batched_messages, "_can_segment", lambda *_, **__: False)
        bench = self.bench()
        client = bench.client()
        for number in range(4):
            client.send(b"%d" % number)
        bench.receive()
        bench.send_back()

        self.assertEqual([client.recv(9) for _ in range(4)], [b"0", b"1", b"2", b"3"])

    def test_answers_a_part(self) -> None:
        """Those that are named, in order."""
        bench = self.bench()
        client = bench.client()
        for number in range(6):
            client.send(b"%d" % number)
        bench.receive()
        bench.send_back([1, 2, 5])

        self.assertEqual([client.recv(9) for _ in range(3)], [b"1", b"2", b"5"])

    def test_an_error_is_raised(self) -> None:
        """Where there is no message, and the system says why."""
        bench = self.bench()

        def fail(*_: object) -> int:
            ctypes.set_errno(errno.ENOMEM)
            return -1

        self.patch(mmsg, "recvmmsg", fail)
        with self.assertRaises(OSError) as raised:
            bench.messages.receive()
        self.assertEqual(raised.exception.errno, errno.ENOMEM)

    def test_messages_stay_until_released(self) -> None:
        """A port that is read from within its own protocol waits and harms nothing, however it receives."""
        for make in (messages_for, PlainMessages):
            bench = self.bench(make=make)
            client = bench.client()
            client.send(b"first")
            self.assertEqual(bench.receive(), [[b"first"]])
            client.send(b"second")

            self.assertEqual(bench.receive(), [])
            self.assertEqual(bytes(bench.messages.payload(0)), b"first")
            bench.send_back()
            self.assertEqual(client.recv(9), b"first")
            self.assertEqual(bench.receive(), [[b"second"]])

    def test_rooms_are_lent_once(self) -> None:
        """A second port, read from within the first one's protocol, waits and harms nothing."""
        first, second = self.bench(), self.bench()
        first.client().send(b"first")
        second.client().send(b"second")
        self.assertEqual(first.receive(), [[b"first"]])

        self.assertEqual(second.receive(), [])
        self.assertEqual(bytes(first.messages.payload(0)), b"first")
        first.messages.release()
        self.assertEqual(second.receive(), [[b"second"]])

    def test_a_child_process_has_rooms_of_its_own(self) -> None:
        """What a fork receives is not read in the process that it was forked from."""
        parent, child = self.bench(), self.bench()
        parent.client().send(b"parent")
        child.client().send(b"CHILD!")
        self.assertEqual(parent.receive(), [[b"parent"]])
        pid = os.fork()
        if not pid:
            try:
                parent.messages.release()
                os._exit(child.receive() != [[b"CHILD!"]])
            finally:
                os._exit(2)
        _, status = os.waitpid(pid, 0)

        self.assertEqual(status, 0)
        self.assertEqual(bytes(parent.messages.payload(0)), b"parent")

    def test_interface_is_left_to_routing(self) -> None:
        """The one that a datagram came in by may not be the way back."""
        for host, at in (("0.0.0.0", 0), ("::", 16)):
            bench = self.bench(host)
            bench.client().send(b"x")
            bench.receive()
            (control,) = bench.messages.source(0).control  # type: ignore[union-attr]  # a Peer

            self.assertEqual(struct.unpack_from("@i", control[2], at)[0], 0)
            bench.messages.release()

    def test_link_local_keeps_its_interface(self) -> None:
        """fe80::/10 means nothing without one; for all others routing decides."""
        bench = self.bench("::")
        messages: Any = bench.messages
        real = mmsg.recvmmsg

        def receive(*arguments: Any) -> int:
            count = int(real(*arguments))
            at = mmsg.DATA + mmsg.ENVELOPE  # as if the second one had been sent to fe80::1 on interface 7
            messages._tables.envelopes[at : at + 20] = struct.pack("@2s13xBi", b"\xfe\x80", 1, 7)
            at += mmsg.ENVELOPE  # and the third one to fec0::1, which is not link-local
            messages._tables.envelopes[at : at + 20] = struct.pack("@2s13xBi", b"\xfe\xc0", 1, 7)
            return count

        self.patch(mmsg, "recvmmsg", receive)
        for host in (OTHER_LOOPBACK, "127.0.0.1", OTHER_LOOPBACK):
            bench.client(host).send(b"x")
        bench.receive()
        controls = [messages.source(index).control[0][2] for index in range(3)]

        self.assertEqual([struct.unpack_from("@i", data, 16)[0] for data in controls], [0, 7, 0])

    def test_peers_are_remembered_within_bounds(self) -> None:
        """One who asks again is the same object; a flood of sources does not fill the memory."""
        self.patch(batched_messages, "_PEERS", 4)
        bench = self.bench()
        messages: Any = bench.messages
        client = bench.client()
        peers = []
        for _ in range(2):
            client.send(b"x")
            bench.receive()
            peers.append(messages.source(0))
            messages.release()
        for _ in range(20):
            bench.client().send(b"x")
        count = messages.receive()
        for index in range(count):
            messages.source(index)

        self.assertIs(peers[0], peers[1])
        self.assertLessEqual(len(messages._peers), 4)

    def counted(self, module: Any, name: str) -> list[tuple[Any, ...]]:
        """Remember the calls of a function that is called all the same."""
        calls: list[tuple[Any, ...]] = []
        real = getattr(module, name)

        def call(*arguments: Any) -> Any:
            calls.append(arguments)
            return real(*arguments)

        self.patch(module, name, call)
        return calls


class EnvelopeTests(MessagesCase):
    """What the screen is told: who has asked, and where."""

    def test_both_kinds_tell_the_same(self) -> None:
        """Equal envelopes are of one peer that asked at one address, and all are described alike."""
        for host, asked, source, destination in (
            ("127.0.0.1", "127.0.0.1", b"\x7f\0\0\1", b"\x7f\0\0\1"),
            ("0.0.0.0", "127.0.0.2", b"\x7f\0\0\1", b"\x7f\0\0\2"),
            ("::", "127.0.0.3", b"\x7f\0\0\1", b"\x7f\0\0\3"),
            *[("::", "::1", bytes(15) + b"\1", bytes(15) + b"\1")] * HAS_IPV6,
        ):
            for make in (messages_for, PlainMessages):
                bench = self.bench(host, make=make)
                one, other = bench.client(asked), bench.client(asked)
                for client in (one, other, one):
                    client.send(b"x")
                bench.receive()
                envelopes = bench.messages.envelopes()

                self.assertEqual([True, False], [envelopes[0] == each for each in reversed(envelopes[1:])])
                self.assertEqual(
                    [(source, client.getsockname()[1], destination) for client in (one, other)],
                    [bench.messages.arrival(each) for each in envelopes[:2]],
                )
                bench.messages.release()

    def test_where_was_asked_belongs_to_it(self) -> None:
        """One peer that asks at two addresses has two envelopes."""
        for make in (messages_for, PlainMessages):
            bench = self.bench("0.0.0.0", make=make)
            client = udp_socket()
            self.addCleanup(client.close)
            for host in ("127.0.0.1", "127.0.0.2"):
                client.sendto(b"x", (host, bench.port))
            bench.receive()

            self.assertEqual(2, len(set(bench.messages.envelopes())))
            bench.messages.release()
