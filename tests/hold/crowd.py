"""What is promised to many at once: every byte right for 1000 busy clients, little memory for 10 000 idle ones."""

from __future__ import annotations

import contextlib
import random
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator

from tests.hold.clients import HOSTS, IPV4, NOT_TRIED, connect, in_threads, receive_exactly
from tests.hold.promise import Broken, Skipped, kept, promise
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


class Client:
    """One connection that sends pieces of random size, and compares what comes back.

    Args:
        host: An address.
        port: A TCP port.
        number: Which it is; every fifth one reads slowly.
    """

    def __init__(self, host: str, port: int, number: int) -> None:
        self.sock = _connect_to_reset(host, port)
        self.sock.setblocking(False)
        self.slow = number % 5 == 0
        self.sent = self.came = 0
        self.waited = 0.0
        self._chance = random.Random(number)
        self._from = self._chance.randrange(len(_NOISE))
        self._goal = 0
        self._progress = time.monotonic()

    def is_idle(self) -> bool:
        """Whether all that was sent has come back."""
        return self.came == self._goal

    def is_sent(self) -> bool:
        """Whether the kernel has taken all that was to be sent."""
        return self.sent == self._goal

    def next_piece(self) -> None:
        """Decide how much is sent next: as often between 1 and 10 bytes as between 100 kB and 1 MB."""
        self._goal += min(LARGEST, int(10 ** self._chance.uniform(0, 6)))
        self._progress = time.monotonic()

    def send(self) -> None:
        """Send what the kernel takes of the piece."""
        while self.sent < self._goal:
            try:
                self.sent += self.sock.send(self._at(self.sent, self._goal - self.sent))
            except BlockingIOError:
                return

    def receive(self) -> None:
        """Compare what has come.

        Raises:
            Broken: It is not what was sent.
        """
        try:
            came = self.sock.recv(SIP if self.slow else 256 * 1024)
        except BlockingIOError:
            return
        if not came or self._at(self.came, len(came)) != came or self.came + len(came) > self.sent:
            raise Broken(f"wrong after {self.came} bytes: {came[:20]!r}")
        self.came += len(came)
        now = time.monotonic()
        if not self.slow:
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
        """Let everyone send for a while, then wait until everything is back."""
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
            idle = [client for client in self.clients if client.is_idle()]
            if turn > end:
                if len(idle) == len(self.clients):
                    return
            else:
                for client in idle:
                    client.next_piece()
                    self._send(client)
            self.own_lateness = max(self.own_lateness, time.monotonic() - before)

    def _serve(self, client: Client, event: int) -> None:
        if event & select.EPOLLOUT:
            self._send(client)
        if event & ~select.EPOLLOUT:
            client.receive()

    def _send(self, client: Client) -> None:
        client.send()
        more = select.EPOLLOUT if not client.is_sent() else 0
        self._poll.modify(client.sock, more | (0 if client.slow else select.EPOLLIN))


@promise(
    "T06",
    "1000 connections, pieces of 1 byte to 1 MB, slow and fast readers: no wrong byte, none forgotten",
    deadline=240,
)
def busy_crowd(run: Run) -> str:
    """For 60 seconds with --long, else for 8."""
    count = 1000
    with _descriptors(count):
        server = run.serve()
        clients: list[Client] = []
        hosts = [*HOSTS.values()]
        try:
            clients.extend(Client(hosts[number % len(hosts)], server.tcp, number) for number in range(count))
            crowd = Crowd(clients)
            run.step = f"{count} connections"
            crowd.run(60 if run.long else 8)
            kept(server.alive(), "the service is dead")
        finally:
            for client in clients:
                client.sock.close()
    total = sum(client.came for client in clients)
    least = min(client.came for client in clients if not client.slow)
    waited = max(client.waited for client in clients)
    figures = (
        f"{total / MIB:.0f} MiB, all equal; the least that one got {least / 1e3:.0f} kB; longest without progress"
        f" {waited:.2f} s (the client's own loop: {crowd.own_lateness:.2f} s){NOT_TRIED}"
    )
    kept(least > 0 and waited <= max(1.0, 10 * crowd.own_lateness), figures)
    return figures


@promise(
    "T07",
    "10 000 connections echo; idle, each costs at most 2 KiB; closed, nothing is left",
    deadline=120,
)
def idle_crowd(run: Run) -> str:
    """Memory is compared between the first hundred and the last, so that what all share is not counted."""
    count = 10_000
    with _descriptors(count), contextlib.ExitStack() as open_sockets:
        server = run.serve()
        with connect(IPV4, server.tcp) as first:
            _check_echo(first, 0)
            at_start = server.descriptors() - 1
        sockets: list[socket.socket] = []

        def more(until: int) -> None:
            def one(number: int) -> socket.socket:
                sock = _connect_to_reset(IPV4, server.tcp)
                _check_echo(sock, number)
                return sock

            new = in_threads(one, count=until - len(sockets), at_once=4)
            sockets.extend(map(open_sockets.enter_context, new))

        more(100)
        before = server.resident()
        for hundreds in range(1, 11):
            more(hundreds * count // 10)
            run.step = f"{len(sockets)} connections"
        each = (server.resident() - before) / (count - 100)
        for number, sock in enumerate(sockets[::100]):
            _check_echo(sock, number)
        open_sockets.close()
        left = _settles(server, at_start)
    figures = f"{count} connected, {each:.0f} bytes each, {left} descriptors left"
    kept(each <= 2048 and left == 0, figures)
    return figures


def _connect_to_reset(host: str, port: int) -> socket.socket:
    """Connect; closing it will reset it, so that no port stays in TIME_WAIT, in somebody's way."""
    sock = connect(host, port)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    return sock


def _check_echo(sock: socket.socket, number: int) -> None:
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


@contextlib.contextmanager
def _descriptors(count: int) -> Iterator[None]:
    """Allow us and what we start so many connections.

    Raises:
        Skipped: The system does not.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = count + 200
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], enough), max(before[1], enough)))
    except (ValueError, OSError):
        raise Skipped(f"needs {enough} descriptors; `ulimit -Hn` allows {before[1]}") from None
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
