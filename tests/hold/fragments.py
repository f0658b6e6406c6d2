"""What is promised of datagrams that travel in pieces, some of which are lost: whole ones come back whole, others not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.hold.clients import one_datagram, ping
from tests.hold.namespace import Namespace, namespace, run_ip
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run

__all__ = ["fragments"]

#: Share of the packets that the link loses.
LOSS = 0.05

#: What a packet may be long, and the sizes of datagrams that are sent: from the first that needs two packets.
MTU = 1500
SMALLEST, LARGEST = 1473, 65507

#: Addresses for tests of networks (RFC 2544).
OURS, THEIRS = "198.18.0.1", "198.18.0.2"

MIB = 1024 * 1024

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


@promise(
    "T22",
    f"datagrams of {SMALLEST} to {LARGEST} bytes over a link that loses {LOSS:.0%} of their pieces: 0 wrong, no memory",
    deadline=150,
    stock="^9473 bytes did not come back, without loss",
    xinetd="^3473 bytes did not come back, without loss",
    unguarded="did not come back, without loss",
)
def fragments(run: Run) -> str:
    """First without loss, so that the link itself is beyond doubt."""
    here, there = run.using(namespace()), run.using(_second_namespace())
    link = run.using(_Link(here, there))
    server = run.serve(prefix=here.command)
    seconds = 60 if run.long else 8
    with there.inside():
        ping(OURS, server.tcp, count=3, interval=0)
        sizes = [*range(SMALLEST, LARGEST, 2000), LARGEST]
        for size in sizes:
            payload = os.urandom(size)
            kept(
                one_datagram(OURS, server.udp, payload) == payload,
                f"{size} bytes did not come back, without loss",
            )
        before = server.resident()
        link.loss = LOSS
        sent, came, largest = _exchange(server.udp, seconds)
        link.loss = 0.0
        growth = server.resident() - before
        time.sleep(1.5)  # what is incomplete is forgotten by then
        kept(
            one_datagram(OURS, server.udp, b"honest") == b"honest",
            "an honest datagram was not answered afterwards",
        )
        ping(OURS, server.tcp, count=3, interval=0)
    figures = (
        f"{len(sizes)} sizes whole without loss; then {sent} datagrams in {seconds} s, {came} came back, all equal, the largest of"
        f" {largest} bytes; {link.lost} of {link.passed + link.lost} packets lost; {growth / MIB:+.1f} MiB"
    )
    kept(0 < came < sent and link.lost, figures)
    kept(growth <= 2 * MIB, figures)
    return figures


def _exchange(port: int, seconds: float) -> tuple[int, int, int]:
    """Send datagrams, half of them small, and compare what comes back.

    Returns:
        How many were sent, how many came back, and the size of the largest of these.

    Raises:
        Broken: What came back was not sent, or it came twice.
    """
    chance = random.Random(22)
    noise = chance.randbytes(2 * LARGEST)
    on_the_way: dict[int, bytes] = {}
    sent = came = largest = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        sock.connect((OURS, port))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            size = chance.randint(SMALLEST, chance.choice((3000, 3000, 10_000, LARGEST)))
            start = chance.randrange(LARGEST)
            payload = struct.pack("!I", sent) + noise[start : start + size - 4]
            on_the_way[sent] = payload
            sock.send(payload)
            sent += 1
            while select.select([sock], [], [], 0.004)[0]:
                answer = sock.recv(70_000)
                number = int.from_bytes(answer[:4], "big")
                kept(
                    on_the_way.pop(number, None) == answer,
                    f"datagram {number} came back twice or wrong: {len(answer)} bytes",
                )
                came += 1
                largest = max(largest, len(answer))
    return sent, came, largest


@contextlib.contextmanager
def _second_namespace() -> Iterator[Namespace]:
    space = Namespace(f"hold-{os.getpid()}-peer")
    run_ip("netns", "add", space.name)
    try:
        space.ip("link", "set", "lo", "up")
        yield space
    finally:
        run_ip("netns", "del", space.name)


class _Link:
    """A cable between two namespaces, which loses packets: what one end sends we read, and write to the other.

    Args:
        here: Has the address `OURS`.
        there: Has the address `THEIRS`.

    Attributes:
        loss: Share of the packets that is lost from now on.
        passed: Packets that were not.
        lost: Packets that were.

    Raises:
        Skipped: There are no TUN devices.
    """

    def __init__(self, here: Namespace, there: Namespace) -> None:
        self.loss = 0.0
        self.passed = self.lost = 0
        self._chance = random.Random(5)
        self._ends = [_end(here, OURS), _end(there, THEIRS)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        """Begin to carry."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Carry no more, and remove the devices."""
        self._over.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        one, other = self._ends
        opposite = {one: other, other: one}
        while not self._over.is_set():
            for end in select.select(self._ends, [], [], 0.1)[0]:
                packet = os.read(end, 2 * MTU)
                if self._chance.random() < self.loss:
                    self.lost += 1
                else:
                    self.passed += 1
                    os.write(opposite[end], packet)


def _end(space: Namespace, address: str) -> int:
    """Make one end of a link in a namespace, and return its descriptor."""
    with space.inside():
        try:
            end = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", b"tun", _IFF_TUN | _IFF_NO_PI))
        except OSError as problem:
            raise Skipped(f"needs TUN devices: {problem.strerror}") from problem
        # Pieces of what will never be whole are kept for 30 s, and nothing else once there are 4 MB of them.
        Path("/proc/sys/net/ipv4/ipfrag_time").write_text("1")
    space.ip("address", "add", f"{address}/30", "dev", "tun")
    space.ip("link", "set", "tun", "up", "mtu", str(MTU), "txqueuelen", "10000")
    return end
