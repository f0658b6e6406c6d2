"""What is promised to many at once: every byte right for 1000 busy clients, little memory for 10 000 idle ones."""

from __future__ import annotations

import contextlib
import random
import select
import time
from dataclasses import dataclass

from tests.hold.carriers import Carrier, Place, Stream, dial
from tests.hold.clients import HOSTS, IPV4, NOT_TRIED, in_threads, receive_exactly
from tests.hold.programs import allow_descriptors, reset_at_end
from tests.hold.promise import KEEPS, Broken, carried, kept
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["busy_crowd", "idle_crowd"]

MIB = 1024 * 1024

#: Every connection sends the same noise, from another place in it on, so that nothing has to be made while it runs.
_NOISE = random.Random(6).randbytes(4 * MIB)
_DOUBLE = memoryview(_NOISE * 2)

#: The largest piece that is sent at once.
LARGEST = 1_000_000

#: A slow reader takes so many bytes so often (in seconds).
SIP = 16 * 1024
SIP_EVERY = 0.05

#: One slow reader in ten sends so much at once, and sips more: the kernels hold up to 4 MB of a connection, and of less than
#: that nothing would ever wait in the service.
DEEP, DEEP_SIP = 6_000_000, 256 * 1024

#: Nobody begins another piece while all together have so many bytes on the way: they fill the kernel's memory.
ON_THE_WAY = 256 * MIB

#: Seconds for which nobody may wait for a byte that is on the way; our own loop's longest turn comes on top.
STALL = 1.0

#: Seconds after which a connection on which nothing comes is given up.
GIVE_UP = 10.0


class Client:
    """One connection that sends pieces of random size, and compares what comes back.

    Args:
        place: Where it connects.
        host: An address.
        number: Which it is; every fifth one reads slowly.

    Attributes:
        sock: The connection.
        slow: It reads slowly.
        deep: It also sends more at once than the kernels hold.
        sent: Bytes sent.
        came: Bytes that came back.
        waited: The longest that it waited for the next bytes, in seconds.
    """

    def __init__(self, place: Place, host: str, number: int) -> None:
        self.slow = number % 5 == 0
        self.deep = number % 50 == 0
        self.sock = _connect_to_reset(place, host, receive_buffer=SIP if self.deep else 0)
        self.sock.setblocking(False)
        self.sent = self.came = 0
        self.waited = 0.0
        self._chance = random.Random(number)
        self._from = self._chance.randrange(len(_NOISE))
        self._goal = 0
        self._progress = time.monotonic()

    def is_idle(self) -> bool:
        """Whether all that was sent has come back."""
        return self.came == self._goal

    def on_the_way(self) -> int:
        """How many bytes are to come back."""
        return self._goal - self.came

    def is_stuck(self, now: float) -> bool:
        """Whether nothing has come for so long that nothing will."""
        return not self.is_idle() and now - self._progress > GIVE_UP

    def is_sent(self) -> bool:
        """Whether the kernel has taken all that was to be sent."""
        return self.sent == self._goal

    def next_piece(self) -> None:
        """Decide how much is sent next: as often between 1 and 10 bytes as between 100 kB and 1 MB."""
        self._goal += DEEP if self.deep else min(LARGEST, int(10 ** self._chance.uniform(0, 6)))
        self._progress = time.monotonic()

    def send(self) -> None:
        """Send what the kernel takes of the piece.

        Raises:
            Broken: The connection is gone.
        """
        while self.sent < self._goal:
            try:
                self.sent += self.sock.send(self._at(self.sent, self._goal - self.sent))
            except BlockingIOError:
                return
            except OSError as problem:
                raise Broken(f"{problem.strerror} after {self.sent} bytes were sent") from problem

    def receive(self) -> None:
        """Compare what has come.

        Raises:
            Broken: It is not what was sent, or the connection is gone.
        """
        try:
            came = self.sock.recv(SIP if self.slow and not self.deep else DEEP_SIP)
        except BlockingIOError:
            return
        except OSError as problem:
            raise Broken(
                f"{problem.strerror} after {self.came} of {self.sent} bytes had come back"
            ) from problem
        if not came or self._at(self.came, len(came)) != came or self.came + len(came) > self.sent:
            raise Broken(f"wrong after {self.came} bytes: {came[:20]!r}")
        self.came += len(came)
        now = time.monotonic()
        self.waited = max(self.waited, now - self._progress)
        self._progress = now

    def _at(self, position: int, length: int) -> memoryview:
        start = (self._from + position) % len(_NOISE)
        return _DOUBLE[start : start + min(length, len(_NOISE))]


class Crowd:
    """Many clients in one loop.

    Args:
        clients: Who takes part.

    Attributes:
        own_lateness: The longest turn of the loop, in seconds: what a client's waiting is owed to ourselves.
    """

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.own_lateness = 0.0
        self._by_number = {client.sock.fileno(): client for client in clients}
        self._poll = select.epoll()
        for client in clients:
            self._poll.register(client.sock, 0 if client.slow else select.EPOLLIN)

    def run(self, seconds: float) -> None:
        """Let everyone send for a while, then wait until everything is back.

        Raises:
            Broken: Something else came back, or nothing.
        """
        end = time.monotonic() + seconds
        sip = 0.0
        while True:
            turn = time.monotonic()
            events = self._poll.poll(0.01)
            before = time.monotonic()
            for number, event in events:
                self._serve(self._by_number[number], event)
            if before - sip > SIP_EVERY:
                sip = before
                for client in self.clients:
                    if client.slow and not client.is_idle():
                        client.receive()
            if turn < end:
                self._begin_pieces()
            elif all(client.is_idle() for client in self.clients):
                return
            if stuck := [client for client in self.clients if client.is_stuck(before)]:
                raise Broken(
                    f"on {len(stuck)} of {len(self.clients)} connections nothing has come for {GIVE_UP:g} s;"
                    f" the first got {stuck[0].came} of {stuck[0].sent} bytes"
                )
            self.own_lateness = max(self.own_lateness, time.monotonic() - before)

    def _begin_pieces(self) -> None:
        """Let everyone who is idle send the next piece, as long as there is room."""
        on_the_way = sum(client.on_the_way() for client in self.clients)
        for client in self.clients:
            if client.is_idle() and on_the_way < ON_THE_WAY:
                client.next_piece()
                on_the_way += client.on_the_way()
                self._send(client)

    def _serve(self, client: Client, event: int) -> None:
        if event & select.EPOLLOUT:
            self._send(client)
        if event & ~select.EPOLLOUT:
            client.receive()

    def _send(self, client: Client) -> None:
        client.send()
        more = select.EPOLLOUT if not client.is_sent() else 0
        self._poll.modify(client.sock, more | (0 if client.slow else select.EPOLLIN))


@dataclass(frozen=True)
class Busy:
    """What is tried of a busy crowd.

    Attributes:
        count: Connections.
    """

    count: int


@carried(
    "T06",
    "{count} connections{over}, pieces of 1 byte to 1 MB, slow and fast readers: no wrong byte, none forgotten",
    {
        Carrier.TCP: Busy(1000),
        Carrier.TLS: Busy(300),
        Carrier.UNIX: Busy(1000),
        Carrier.PROXY: Busy(1000),
    },
    deadline=240,
    unguarded="nothing has come for|wrong after|after \\d+ (of \\d+ )?bytes",
)
def busy_crowd(run: Run, busy: Busy) -> str:
    """For 60 seconds with --long, else for 8."""
    count = busy.count
    with allow_descriptors(count):
        server = run.serve()
        clients: list[Client] = []
        hosts = [*HOSTS.values()]
        try:
            clients.extend(
                Client(server.place, hosts[number % len(hosts)], number) for number in range(count)
            )
            crowd = Crowd(clients)
            run.step = f"{count} connections"
            crowd.run(60 if run.long else 8)
            kept(server.alive(), "the service is dead")
        finally:
            for client in clients:
                client.sock.close()
    total = sum(client.came for client in clients)
    least = min(client.came for client in clients if not client.slow)
    quick, slow = (
        max(client.waited for client in clients if client.slow == is_slow) for is_slow in (False, True)
    )
    figures = (
        f"{total / MIB:.0f} MiB, all equal; the least that one got {least / 1e3:.0f} kB; longest without progress"
        f" {quick:.2f} s, slow readers {slow:.2f} s (the client's own loop: {crowd.own_lateness:.2f} s){NOT_TRIED}"
    )
    # Whoever waits, waits for our own loop, too; what of it is ours cannot be said of the service.
    kept(least > 0 and max(quick, slow) <= STALL + crowd.own_lateness, figures)
    return figures


@dataclass(frozen=True)
class Idle:
    """What is tried of an idle crowd, and what it may cost.

    Attributes:
        count: Connections.
        kib: Memory that each may cost, in KiB.
    """

    count: int
    kib: int


@carried(
    "T07",
    "{count} connections{over} echo; idle, each costs at most {kib} KiB; closed, nothing is left",
    {
        Carrier.TCP: Idle(10_000, 2),
        Carrier.TLS: Idle(3_000, 16),
        Carrier.UNIX: Idle(10_000, 2),
        Carrier.PROXY: Idle(10_000, 4),  # client and proxy are named
    },
    deadline=120,
    stock=KEEPS,
    unguarded=r" ([3-9]|\d\d)\d{3} bytes each",
)
def idle_crowd(run: Run, idle: Idle) -> str:
    """Memory is compared between the first hundred and the last, so that what all share is not counted."""
    count = idle.count
    with allow_descriptors(count), contextlib.ExitStack() as open_sockets:
        server = run.serve(
            "--max-per-source", str(count + 1)
        )  # where few are allowed; by default, three quarters
        with dial(server.place) as first:
            _check_echo(first, 0)
            at_start = server.descriptors() - 1
        sockets: list[Stream] = []

        def more(until: int) -> None:
            def one(number: int) -> Stream:
                sock = _connect_to_reset(server.place, IPV4)
                _check_echo(sock, number)
                return sock

            new = in_threads(one, count=until - len(sockets), at_once=4)
            sockets.extend(map(open_sockets.enter_context, new))

        more(100)
        before = server.anonymous()
        for hundreds in range(1, 11):
            more(hundreds * count // 10)
            run.step = f"{len(sockets)} connections"
        each = (server.anonymous() - before) / (count - 100)
        for number, sock in enumerate(sockets[::100]):
            _check_echo(sock, number)
        open_sockets.close()
        left = _settles(server, at_start)
    figures = f"{count} connected, {each:.0f} bytes each (Anonymous of smaps_rollup), {left} descriptors left"
    kept(each <= idle.kib * 1024 and left == 0, figures)
    return figures


def _connect_to_reset(place: Place, host: str, *, receive_buffer: int = 0) -> Stream:
    """Connect; closing it will reset it, so that no port stays in TIME_WAIT, in somebody's way."""
    return reset_at_end(dial(place, host, receive_buffer=receive_buffer))


def _check_echo(sock: Stream, number: int) -> None:
    word = b"%064d" % number
    sock.sendall(word)
    if receive_exactly(sock, len(word)) != word:
        raise Broken(f"connection {number} was answered wrong")


def _settles(server: Server, at_start: int) -> int:
    """Wait until closed connections are closed there, too; return how many are not."""
    until = time.monotonic() + 10
    while (left := server.descriptors() - at_start) > 0 and time.monotonic() < until:
        time.sleep(0.1)
    return left
