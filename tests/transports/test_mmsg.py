"""The calls through ctypes under random load: they keep to their buffers, and lose and mix nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections import defaultdict
from itertools import islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest

from echosvc.transports import linux, mmsg
from echosvc.transports.batched_messages import BatchedMessages
from echosvc.transports.linux import SOL_UDP, UDP_SEGMENT
from echosvc.transports.messages import BATCH, PlainMessages
from tests.machine import LOOPBACKS
from tests.transports.message_bench import Bench, MessagesCase
from tests.waiting import until

#: One step: which client sends, to which host, how many, of what size, whether as one segmented send.
_STEP = st.tuples(
    st.integers(0, 5),
    st.sampled_from([*LOOPBACKS, "127.0.0.8"]),
    st.integers(1, 70),
    st.one_of(st.integers(0, 3), st.integers(0, 1500), st.sampled_from([9000, 65507])),
    st.booleans(),
)


class FuzzTests(MessagesCase):
    """Random batches, sizes and families, several ports that share the rooms, and closes in between."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.lists(_STEP, max_size=6), max_size=5), st.integers(0, 2**32))
    def test_every_datagram_comes_back_once_or_never(self, turns: Any, seed: int) -> None:
        """Byte for byte, in order for each client and address; and the guard between rooms is untouched."""
        chance = random.Random(seed)
        benches = [Bench("::"), Bench("::"), Bench("0.0.0.0", make=PlainMessages)]
        try:
            if not isinstance(benches[0].messages, BatchedMessages):
                raise SkipTest("needs recvmmsg and sendmmsg")
            for steps in turns:
                self.turn(benches, steps, chance)
                if len(benches) > 1 and chance.random() < 0.2:
                    benches.pop(chance.randrange(len(benches))).stack.close()
        finally:
            for bench in benches:
                bench.messages.release()
                bench.stack.close()

    def turn(self, benches: list[Bench], steps: list[Any], chance: random.Random) -> None:
        """Send a few bursts, serve them, and compare."""
        clients: dict[Any, socket.socket] = {}
        sent: dict[Any, list[bytes]] = defaultdict(list)
        for who, host, most, size, segmented in steps:
            bench = chance.choice(benches)
            if bench.server.family == socket.AF_INET and ":" in host:
                continue
            key = (id(bench), who, host)
            client = clients.get(key) or clients.setdefault(key, bench.client(host))
            count = min(most, 200_000 // (size or 1)) or 1
            datagrams = [chance.randbytes(size) for _ in range(count)]
            if segmented and 0 < size < 1500:
                datagrams = datagrams[: min(64, 65507 // size)]
                with contextlib.suppress(OSError):
                    control = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", size))]
                    client.sendmsg([b"".join(datagrams)], control)
                    sent[key] += datagrams
            else:
                for datagram in datagrams:
                    with contextlib.suppress(OSError):
                        client.send(datagram)
                        sent[key].append(datagram)
        lost = self.serve(benches, chance) + sum(linux.kernel_drops(bench.server) for bench in benches)
        for key, client in clients.items():
            client.setblocking(False)
            came = []
            with contextlib.suppress(BlockingIOError):
                for _ in until(lambda: False):
                    came.append(client.recv(70_000))  # noqa: PERF401  # until one raises
            if lost or linux.kernel_drops(client):  # then what came is what was sent, less some
                rest = iter(sent[key])
                self.assertTrue(all(any(each == one for one in rest) for each in came), "not what was sent")
            else:
                self.assertEqual(came, sent[key])
            client.close()
        view = mmsg._shared_rooms()._view
        for index in range(BATCH):
            end = (index + 1) * mmsg._STRIDE
            self.assertEqual(bytes(view[end - (mmsg._STRIDE - mmsg._ROOM) : end]).strip(b"\0"), b"")

    def serve(self, benches: list[Bench], chance: random.Random) -> int:
        """Answer everything that has come in, now and then only a part; return how many were left out."""
        left_out = 0
        share = chance.choice([1.0, 1.0, 0.8])
        for bench in benches:
            for count in islice(iter(bench.messages.receive, 0), 10_000):
                which = [index for index in range(count) if chance.random() < share]
                left_out += count - len(which)
                for index in range(0, count, 7):
                    bench.messages.source(index)
                bench.send_back(which)
        return left_out
