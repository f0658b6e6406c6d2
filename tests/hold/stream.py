"""What is promised of TCP connections: nothing is lost, and a peer that does not read harms nobody."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import termios
import threading
import time
from dataclasses import dataclass

from tests.hold.carriers import Carrier, Stream, dial
from tests.hold.clients import (
    IPV4,
    Pings,
    answers,
    connect,
    in_threads,
    ping,
    receive_all,
    receive_exactly,
    send_all_and_shut,
)
from tests.hold.held import may_hold
from tests.hold.kernel import Connection, connection, held_memory
from tests.hold.programs import program
from tests.hold.promise import KEEPS, Broken, carried, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server
from tests.hold.tls_stream import TLSStream

__all__ = [
    "dead_reader",
    "end_behind_urgent_data",
    "half_close",
    "never_reading",
    "never_reading_crowd",
    "slow_reader",
    "stuck_end_of_file",
]

MB = 1_000_000
MIB = 1024 * 1024


@dataclass(frozen=True)
class Greedy:
    """What clients that never read may cost.

    Attributes:
        count: Clients.
        mib: Memory that all of them may cost the process, in MiB.
        kernel: Memory that the kernel may hold for all of them, in MiB.
        late: Seconds by which they may be cut off too late. A peer takes nothing when its own buffer is full, and something
            waits for it when the kernel's is, too: what fills that must be echoed first.
    """

    count: int
    mib: int
    kernel: int
    late: int = 1


@dataclass(frozen=True)
class Slow:
    """How slow a reader is.

    Attributes:
        rate: Bytes that it reads in a second.
        stall: Seconds in which the service must see some of that.
    """

    rate: int
    stall: int


@promise(
    "T01",
    "half-close: 100 clients send 8 MB each, shut down and read late; 200 send a word and shut down",
    deadline=90,
    stock=r"^\d\d?/100 equal",
    xinetd=KEEPS,
    unguarded=r"^\d\d?/100 equal",
)
def half_close(run: Run) -> str:
    """Everything that was sent before the end of file comes back whole."""
    server = run.serve()
    block = os.urandom(8 * MB)
    connections = 100

    def late_reader(number: int) -> int:
        payload = block[number * 1000 :] + block[: number * 1000]  # all random, no two the same
        with connect(IPV4, server.tcp) as sock:
            sender = threading.Thread(target=send_all_and_shut, args=(sock, payload), daemon=True)
            sender.start()
            time.sleep(0.5)
            came = receive_all(sock, len(payload))
            equal = came == payload
            if not equal:
                sock.close()  # so that a sender whose peer has stalled ends, too
            sender.join()
        run.step = f"connection {number + 1} of {connections}"
        return len(came) if equal else -len(came)

    def one_shot(number: int) -> bool:
        word = f"hello {number}\n".encode()
        with connect(IPV4, server.tcp) as sock:
            send_all_and_shut(sock, word)
            return receive_all(sock, len(word)) == word

    sizes = in_threads(late_reader, count=connections, at_once=10)
    words = in_threads(one_shot, count=200, at_once=4)
    equal = sum(size > 0 for size in sizes)
    figures = f"{equal}/{connections} equal, {sum(map(abs, sizes)) // MB} MB; {sum(words)}/200 one-shot replies whole"
    kept(equal == connections and all(words), figures)
    return figures


@promise(
    "T01-urgent",
    "an end behind urgent data is noticed: 200 clients send data, urgent data, data and the end at once",
    deadline=60,
    stock=KEEPS,
    unguarded=r"^0/200 ended",
)
def end_behind_urgent_data(run: Run) -> str:
    """The server stands still while they send, so that all of it is one event."""
    server = run.serve()
    clients = 200
    ended = 0
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(connect(IPV4, server.tcp)) for _ in range(clients)]
        for sock in sockets:
            sock.sendall(b"ready")
            receive_exactly(sock, 5)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for sock in sockets:
                for piece, flags in ((b"abc", 0), (b"!", socket.MSG_OOB), (b"efg", 0)):
                    sock.send(piece, flags)
                sock.shutdown(socket.SHUT_WR)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        until = time.monotonic() + 5
        for sock in sockets:
            sock.settimeout(max(0.01, until - time.monotonic()))
            came = b""
            with contextlib.suppress(OSError):
                while piece := sock.recv(100):
                    came += piece
                ended += came == b"abcefg"
    figures = f"{ended}/{clients} ended, and were answered whole"
    kept(ended == clients, figures)
    return figures


@carried(
    "T11-memory",
    "a client{over} that sends and never reads costs the process at most {mib} MiB, the kernel at most {kernel}, and does not slow others",
    dict.fromkeys(Carrier, Greedy(1, 1, 4)),
    deadline=60,
    stock=r"^\+\d{2,}\.\d MiB",
    xinetd=r"^(keeps it: )?\+0\.\d MiB and [3-9]\.\d MiB of the kernel",
    unguarded=r"^\+\d{2,}\.\d MiB",
)
def never_reading(run: Run, greedy: Greedy) -> str:
    """Memory is measured all the while; others are pinged before and meanwhile."""
    server = run.serve()
    _warm_up(server)
    quiet = ping(IPV4, server.place, count=200, interval=0.005)
    before = highest = server.resident()
    kernel = 0
    meanwhile: list[Pings] = []
    taken: list[int] = []
    with dial(server.place) as sock:
        threads = [
            threading.Thread(
                target=lambda: taken.append(_pour(sock, limit=200 * MB, seconds=10)), daemon=True
            ),
            threading.Thread(
                target=lambda: meanwhile.append(ping(IPV4, server.place, count=200, interval=0.005)),
                daemon=True,
            ),
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            highest, kernel = max(highest, server.resident()), max(kernel, held_memory(server.place))
            time.sleep(0.02)
    growth = highest - before
    answered = len(meanwhile[0].seconds) if meanwhile else 0
    figures = (
        f"+{growth / MIB:.1f} MiB and {kernel / MIB:.1f} MiB of the kernel's for {taken[0] / MB:.1f} MB taken,"
        f" {answered}/200 pings answered"
    )
    kept(growth <= greedy.mib * MIB and kernel <= greedy.kernel * MIB and answered == 200, figures)
    during = meanwhile[0]
    figures += (
        f", median {during.median * 1e3:.2f} ms (quiet {quiet.median * 1e3:.2f}),"
        f" worst {during.worst * 1e3:.1f} ms (quiet {quiet.worst * 1e3:.1f})"
    )
    # 5 ms: how long one of the harness's own threads may keep the interpreter from another.
    kept(during.median <= 10 * quiet.median + 0.005, figures)
    return figures


@carried(
    "T11-crowd",
    "{count} clients{over} that send and never read, if they may hold it, cost the process at most {mib} MiB and the kernel at most {kernel},"
    " do not slow others, and are cut off at their time, to {late} s",
    {**dict.fromkeys(Carrier, Greedy(500, 128, 2000)), Carrier.TLS: Greedy(200, 64, 2000, late=4)},
    deadline=90,
    unguarded=r"^\+(\d{3,}|[6-9]\d) MiB",
)
def never_reading_crowd(run: Run, greedy: Greedy) -> str:
    """They send for 10 seconds with --long, else for 4; a little later the stall timeout ends them all."""
    seconds, timeout = (10, 12) if run.long else (4, 6)
    # By default those that hold the most would have to go long before their time: T11-kernel.
    server = run.serve(
        *may_hold(run, 4096 * MIB, stall_timeout=timeout), "--max-per-source", str(greedy.count + 100)
    )
    _warm_up(server)
    quiet = ping(IPV4, server.place, count=seconds * 150, interval=0.005)
    before = highest = server.resident()
    kernel = 0
    meanwhile: list[Pings] = []
    run.step = f"{greedy.count} that never read"
    with program("pour", server.place, greedy.count, seconds, timeout + greedy.late + 2) as crowd:
        over = time.monotonic() + seconds

        def ping_meanwhile() -> None:
            with contextlib.suppress(Broken):
                meanwhile.append(
                    ping(
                        IPV4, server.place, count=10**6, interval=0.005, until=lambda: time.monotonic() > over
                    )
                )

        pinging = threading.Thread(target=ping_meanwhile, daemon=True)
        pinging.start()
        while crowd.poll() is None:
            highest = max(highest, server.resident())
            # Without a bound, it would soon be this machine's memory that ends.
            kept(highest - before <= greedy.mib * MIB, f"+{(highest - before) / MIB:.0f} MiB")
            kernel = max(kernel, held_memory(server.place))
            time.sleep(0.1)
        pinging.join()
        taken, ended, first, last, late = map(float, crowd.communicate()[0].split())
    kept(meanwhile, "somebody who pinged meanwhile was not answered")
    during = meanwhile[0]
    figures = (
        f"+{(highest - before) / MIB:.0f} MiB and {kernel / MIB:.0f} MiB of the kernel's for {taken / MB:.0f} MB taken; {len(during.seconds)} pings meanwhile, 99 %"
        f" {during.quantile(0.99) * 1e3:.2f} ms (quiet {quiet.quantile(0.99) * 1e3:.2f}); {ended:.0f} of {greedy.count} cut off"
        f" {first - timeout:+.2f} to {last - timeout:+.2f} s off {timeout} s after the last byte arrived (told to {late:.2f} s)"
    )
    # 10 ms: as above, and the crowd is another program that has its turns.
    kept(during.quantile(0.99) <= 2 * quiet.quantile(0.99) + 0.01, figures)
    kept(kernel <= greedy.kernel * MIB, figures)
    kept(ended == greedy.count and first >= timeout - 1 and last <= timeout + greedy.late + late, figures)
    answers(server.tcp, server.udp)
    return figures


@carried(
    "T11-close",
    "a connection{over} that closes is aborted if its peer does not read for --stall-timeout seconds",
    dict.fromkeys(Carrier),
    deadline=40,
    unguarded="still held",
)
def dead_reader(run: Run, _: None) -> str:
    """The server has read the end of file, and holds bytes that its peer will never take."""
    server = run.serve("--stall-timeout", "1")
    with dial(server.place, receive_buffer=4096) as sock:
        client = _Brimming(server, sock)
        client.fill()
        sock.shutdown(socket.SHUT_WR)
        return _cut_off(client)


@carried(
    "T11-slow",
    "a connection{over} that closes is not aborted as long as its peer reads, however slowly",
    {
        **dict.fromkeys(Carrier, Slow(40_000, 1)),
        # The kernel tells of what was read when all of one write was: up to 32 KiB.
        Carrier.UNIX: Slow(20_000, 3),
    },
    deadline=40,
    stock=r"^read 40 kB .* got \d+ of",
    unguarded=r"got \d+ of",
)
def slow_reader(run: Run, slow: Slow) -> str:
    """With a close timeout of one second and a peer that reads ten times a second."""
    server = run.serve("--stall-timeout", str(slow.stall))
    with dial(server.place, receive_buffer=16384) as sock:
        client = _Brimming(server, sock)
        client.fill()
        for _ in range(2):  # the first answers that arrive make the kernel enlarge the server's buffer
            client.read(min(60_000, client.sent - client.came))
            client.fill()
        sock.shutdown(socket.SHUT_WR)
        sipped = client.sip(8, slow.rate)
        client.read(client.sent)
    figures = f"read {slow.rate // 1000} kB a second for {sipped:.1f} s and got {client.came} of {client.sent} bytes"
    kept(client.came == client.sent, figures)
    return figures


@carried(
    "T11-stuck",
    "a client{over} that sends all it can, half-closes and never reads is not held for ever",
    dict.fromkeys(Carrier),
    deadline=40,
    unguarded="still held",
)
def stuck_end_of_file(run: Run, _: None) -> str:
    """Its end of file waits behind data that the server, out of room, does not read."""
    server = run.serve("--stall-timeout", "4")
    with dial(server.place) as sock:
        client = _Brimming(server, sock)
        client.sent = _pour(sock, limit=200 * MB, seconds=10)
        sock.setblocking(False)  # close_notify has no room
        sock.shutdown(socket.SHUT_WR)
        return _cut_off(client)


def _cut_off(client: _Brimming) -> str:
    """Wait for the server to let go of a client that does not read."""
    started = time.monotonic()
    while client.is_held() and time.monotonic() - started < 10:
        time.sleep(0.05)
    word = "still held" if client.is_held() else "cut off"
    waited = time.monotonic() - started
    figures = f"a peer that took nothing of {client.sent / MB:.1f} MB was {word} after {waited:.1f} s"
    kept(not client.is_held(), figures)
    return figures


def _warm_up(server: Server) -> None:
    """Ordinary traffic, so that what every process allocates once is there before memory is measured."""

    def echo(number: int) -> None:
        payload = bytes(4 * MB)
        with dial(server.place) as sock:
            threading.Thread(target=send_all_and_shut, args=(sock, payload), daemon=True).start()
            receive_all(sock, len(payload))

    in_threads(echo, count=16, at_once=4)


def _pour(sock: Stream, *, limit: int, seconds: float) -> int:
    """Send and never read, until so many bytes, so many seconds, or two seconds without progress."""
    piece = bytes(MB)
    until = time.monotonic() + seconds
    sock.settimeout(2)
    poured = 0
    try:
        while poured < limit and time.monotonic() < until:
            poured += sock.send(piece)
    except OSError:
        pass
    return poured


class _Brimming:
    """A client that fills the server's buffers to the brim.

    Args:
        server: The server.
        sock: A connection to it.

    Attributes:
        sent: Bytes sent.
        came: Bytes read.
    """

    def __init__(self, server: Server, sock: Stream) -> None:
        self._server = server
        self._sock = sock
        self._is_unix = server.place.carrier is Carrier.UNIX
        self.sent = self.came = 0

    def fill(self) -> None:
        """Send until the kernel takes no more from the server, and only what the server still reads.

        The server then holds a little in a queue of its own and has read everything, so that it sees our end
        of file at once. (Much more, and it stops reading: the end of file would wait behind data.)
        """
        piece = bytes(60_000)
        answered = self._answered()
        full_since = time.monotonic()
        while time.monotonic() - full_since < 0.3:
            if self._answered() >= answered:
                answered = self._answered() + len(piece)
                self._sock.sendall(piece)
                self.sent += len(piece)
                full_since = time.monotonic()

    def read(self, most: int) -> bool:
        """Read so many bytes, or until the stream ends or breaks; return whether they came."""
        until = self.came + most
        with contextlib.suppress(ConnectionError):
            while self.came < until and (piece := self._sock.recv(min(MB, until - self.came))):
                self.came += len(piece)
        return self.came >= until

    def sip(self, seconds: float, rate: int) -> float:
        """Read so many bytes a second for some seconds, or until the server ends or breaks the connection.

        The kernel tells the server of room only when 60 kB or more of what is on its way were read. That takes
        longer than a second, in which a server sees no progress unless it asks the kernel what has arrived.

        Returns:
            How many seconds it held.
        """
        started = time.monotonic()
        before = self.came
        while (passed := time.monotonic() - started) < seconds:
            # As much as is due by now, so that a busy machine does not make the reader slower than it is to be.
            if not self.read(max(1, int(passed * rate) - (self.came - before))):
                break
            time.sleep(0.1)
        return time.monotonic() - started

    def is_held(self) -> bool:
        """Tell whether the server still holds its end of the connection."""
        if self._is_unix:  # whose end is seen from here
            poll = select.poll()
            poll.register(self._sock, 0)
            return not poll.poll(0)
        theirs = self._theirs()
        return theirs is not None and theirs.owned

    def _answered(self) -> int:
        """How many bytes the kernel has taken from the server, as they are on the wire: none of those that it holds itself.

        Bytes on their way are counted at neither end, or at both: so it is asked until nothing moves.
        """
        before, now = -1, self._count_answered()
        while before != now:
            time.sleep(0.002)
            before, now = now, self._count_answered()
        return now

    def _count_answered(self) -> int:
        came = self._sock.received if isinstance(self._sock, TLSStream) else self.came
        if not self._is_unix:  # what has arrived is acknowledged now, and so counted once
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        arrived = int.from_bytes(fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)), sys.byteorder)
        if self._is_unix:  # what is written has arrived
            return came + arrived
        theirs = self._theirs()
        if theirs is None:
            raise Broken("the server has closed a connection that is still being filled")
        return came + arrived + theirs.unacknowledged

    def _theirs(self) -> Connection | None:
        return connection((IPV4, int(self._server.place.where)), self._sock.getsockname())
