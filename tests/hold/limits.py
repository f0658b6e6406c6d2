"""What is promised where there are too many: of the slow, of the greedy, or of anybody."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hold.carriers import Carrier, Stream, dial
from tests.hold.clients import IPV4, answers, in_threads, receive_exactly
from tests.hold.forge import needs_root
from tests.hold.programs import allow_descriptors, program, reset_at_end
from tests.hold.promise import Broken, carried, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server
from tests.hold.tls_stream import LEAST

__all__ = ["greedy_source", "out_of_descriptors", "slowloris"]

#: Milliseconds for which a newcomer may wait for its echo, connecting included; or so many times as long as this machine was
#: late in the same run (as in a flood).
BOUND, WORST = 50, 10

#: What a refused client is told by the kernel.
_RESET = (ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Crowd:
    """How many are slow, and silent.

    Attributes:
        each: Connections of each kind.
        many: Likewise, with --long.
        late: Seconds by which the silent may be closed too late. Each connection is looked at once a second: that one has
            spoken is seen up to a second later, and so is its silence. TLS and a proxy speak first.
    """

    each: int
    many: int
    late: int = 1


@carried(
    "T12",
    "slow clients{over}: the silent are closed at their time, to {late} s; where there is no room the longest silent makes some",
    {
        Carrier.TCP: Crowd(300, 5000),
        Carrier.TLS: Crowd(300, 1000, late=2),
        Carrier.UNIX: Crowd(300, 5000),
        Carrier.PROXY: Crowd(300, 5000, late=2),
    },
    deadline=120,
    stock="^20 came, 0 made room",
    unguarded="made room|answered wrong|reset|Connection(Reset|Refused)Error|BrokenPipeError",
)
def slowloris(run: Run, crowd: Crowd) -> str:
    """As many that are silent as that send a byte every 10 seconds."""
    each = crowd.many if run.long else crowd.each
    timeout, newcomers = 16.0, 20
    with allow_descriptors(2 * each + newcomers), contextlib.ExitStack() as sockets:
        places = ("--max-connections", str(2 * each), "--max-per-source", str(4 * each))
        server = run.serve(*places, "--idle-timeout", str(timeout))

        def new(_: int) -> tuple[Stream, float]:
            return sockets.enter_context(_connected(server)), time.monotonic()

        silent = [new(number) for number in range(newcomers)]
        time.sleep(crowd.late)  # times are as exact
        silent += [new(number) for number in range(each - newcomers)]
        slow = [sock for sock, _ in map(new, range(each))]
        watch = _Watch([sock for sock, _ in silent], slow)
        slowly = iter(_spread(slow, until=silent[0][1] + 10.0))
        run.step = f"{each} silent, {each} slow"
        watch.run(silent[-1][1] + 12.0, slowly)
        kept(not watch.ended, f"{len(watch.ended)} closed before {timeout:g} s and before anybody else came")
        waits = [_newcomer(server, sockets) for _ in range(newcomers)]
        watch.run(time.monotonic() + 0.5, slowly)
        first = sum(sock in watch.ended for sock, _ in silent[:newcomers])
        kept(
            first == newcomers == len(watch.ended),
            f"{newcomers} came, {len(watch.ended)} made room, {first} of them the longest silent",
        )
        watch.run(silent[-1][1] + timeout + 2.0, slowly)
        late = [watch.ended.get(sock, float("inf")) - came - timeout for sock, came in silent[newcomers:]]
        for sock in slow:
            kept(sock not in watch.ended, "somebody who was only slow has been closed")
        answers(server.tcp, server.udp)
        server.stop()
    counted = _counted(server, "evicted-idle", "idle-timeout")
    figures = (
        f"{each} silent, {each} slow; {newcomers} newcomers echo after {max(waits) * 1e3:.1f} ms at most, each in the"
        f" place of the longest silent; silent ones closed {min(late):+.2f} to {max(late):+.2f} s off"
        f" {timeout:g} s (this loop late by {watch.lateness:.2f} s); {_say(counted)}"
    )
    kept(max(waits) * 1e3 <= BOUND, figures)
    kept(min(late) >= -1.0 and max(late) <= crowd.late + watch.lateness, figures)
    # Ours are answered too: those that `answers` made were refused room by nobody.
    kept(counted["evicted-idle"] >= newcomers and counted["idle-timeout"] >= each - newcomers, figures)
    return figures


@dataclass(frozen=True)
class Greed:
    """What one source does, and how long another may wait.

    Attributes:
        rate: Connections that it begins in a second.
        bound: Milliseconds in which another is answered; or `WORST` times as long as this machine was late in the same run.
        names: Two sources, as `dial` has them: the greedy one, and the other.
    """

    rate: int
    bound: int
    names: tuple[str, str] = ("127.0.0.2", "127.0.0.3")  # all of 127.0.0.0/8 is ours


@carried(
    "T13",
    "a greedy source{over} opens twice its limit and goes on at {rate} a second: another one connects, always, within {bound} ms",
    {
        Carrier.TCP: Greed(2000, BOUND),
        Carrier.TLS: Greed(500, 2 * BOUND),
        Carrier.UNIX: Greed(2000, BOUND, names=("12345", "12346")),  # each user is a source
        Carrier.PROXY: Greed(1000, BOUND),
    },
    deadline=60,
    stock=r"^300 of 300 of one source let in, .* [1-9]\d{3} let in",
    xinetd="; 0/100 of another served",  # more than 50 in a second switch it off for ten
    unguarded="were let in, not",
)
def greedy_source(run: Run, greed: Greed) -> str:
    """For 10 seconds with --long, else for 3."""
    seconds, places, tries = (10 if run.long else 3), 200, 100
    limit = places * 3 // 4
    greedy_one, honest_one = greed.names
    if run.carrier is Carrier.UNIX:
        needs_root()  # to be other users
    server = run.serve("--max-connections", str(places), limits=True)
    with contextlib.ExitStack() as sockets:
        held = [sockets.enter_context(_connected(server, greedy_one)) for _ in range(2 * limit)]
        served = sum(_is_served(sock) for sock in held)
        # Others have no such limit, or another one: of them it is seen what comes next.
        kept(run.control or served == limit, f"{served} of {len(held)} were let in, not {limit}")
        run.step = "a greedy source"
        with (
            program("peer", "late", str(seconds)) as clock,
            program("greedy", server.place, greedy_one, greed.rate, seconds) as greedy,
        ):
            waits = []
            for _ in range(tries):
                with contextlib.ExitStack() as one, contextlib.suppress(OSError):
                    waits.append(_newcomer(server, one, honest_one))
                time.sleep(seconds / tries / 2)
            asked, let_in, hung = map(int, greedy.communicate()[0].split())
            late = float(clock.communicate()[0])
        kept(sum(_is_served(sock) for sock in held) == served, "those who were in are in no longer")
    figures = (
        f"{served} of {len(held)} of one source let in, then {asked / seconds:.0f}/s for {seconds} s: {let_in} let in,"
        f" {hung} hung; {len(waits)}/{tries} of another served, connect and echo {max(waits, default=0) * 1e3:.1f} ms at most"
        f" (this machine's lateness {late:.0f} ms)"
    )
    kept(let_in == hung == 0, figures)
    kept(len(waits) == tries and max(waits) * 1e3 <= max(greed.bound, WORST * late), figures)
    answers(server.tcp, server.udp)
    server.stop()
    counted = _counted(server, "max-per-source", "max-connections")
    figures += f"; {_say(counted)}; {_lines(server)} log lines"
    # A proxy tells the source a little later than it connects: until then it is places that may be missing.
    refused = counted["max-per-source"] + (counted["max-connections"] if run.carrier is Carrier.PROXY else 0)
    kept(asked >= greed.rate * seconds / 2 and refused == asked + len(held) - limit, figures)
    return figures


@promise(
    "T14",
    "200 connections and 64 descriptors: those who are in are served, nobody hangs, nothing spins, nothing floods the log",
    deadline=60,
    stock=r"^64 from the start: .* \d{3,} log lines",
    # Each connection has a process of its own, and so descriptors of its own.
    xinetd="^64 from the start: 200 served, 0 closed, 0 hung",
    unguarded=r"[1-9]\d* hung",
)
def out_of_descriptors(run: Run) -> str:
    """Twice: with the limit there from the start, where it is never reached, and with one that is lowered later."""
    limited = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    found = [_crowded("64 from the start", run, run.serve("--max-per-source", "64", prefix=limited))]
    server = run.serve("--max-per-source", "1000")
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    few = server.descriptors() + 20
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, before[1]))
    again = lambda: resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)  # noqa: E731
    found.append(_crowded(f"{few} later", run, server, again))
    return "; ".join(found)


def _crowded(name: str, run: Run, server: Server, relieve: Callable[[], object] | None = None) -> str:
    count = 200
    run.step = name
    with contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(_connected(server)) for _ in range(count)]
        found = in_threads(lambda number: _fate(clients[number]), count=count, at_once=count)
        fates = Counter(found)
        served = [sock for sock, fate in zip(clients, found, strict=True) if fate == "served"]
        busy = _processor_share(server, 2.0)
        for sock in served:
            kept(_fate(sock) == "served", "somebody who was in has been thrown out")
        _udp_answers(server)
        if relieve is not None:
            relieve()
            began = time.monotonic()
        else:
            for sock in served:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
                sock.close()
            began = time.monotonic()
        recovery = _recovers(server, began)
    server.stop()
    counted = _counted(server, "max-connections", "accept-EMFILE")
    figures = (
        f"{name}: {fates['served']} served, {fates['closed']} closed, {fates['hung']} hung; processor {busy:.1%};"
        f" recovery {recovery * 1e3:.0f} ms; {_say(counted)}; {_lines(server)} log lines"
    )
    kept(fates["served"] >= 10 and fates["closed"] and not fates["hung"], figures)
    kept(busy < 0.05 and recovery <= 1.0 and _lines(server) <= 20, figures)
    reason = "max-connections" if relieve is None else "accept-EMFILE"
    kept(counted[reason] >= fates["closed"], figures)
    return figures


class _Watch:
    """Sees when connections end, and lets the slow ones send.

    Attributes:
        ended: When each connection that has ended did.
        lateness: The longest turn of the loop, in seconds.
    """

    def __init__(self, silent: list[Stream], slow: list[Stream]) -> None:
        self.ended: dict[Stream, float] = {}
        self.lateness = 0.0
        self._slow = set(slow)
        self._by_number = {sock.fileno(): sock for sock in (*silent, *slow)}
        self._poll = select.epoll()
        for sock in self._by_number.values():
            self._poll.register(sock, select.EPOLLIN)
            sock.setblocking(False)

    def run(self, until: float, slowly: Iterator[tuple[float, Stream]]) -> None:
        """Watch until some moment, in seconds of CLOCK_MONOTONIC; meanwhile send when it is time to."""
        due, sock = next(slowly)
        while (now := time.monotonic()) < until:
            while due <= now:
                with contextlib.suppress(*_RESET):
                    sock.send(b".")
                due, sock = next(slowly)
            for number, _ in self._poll.poll(min(0.05, max(0.0, due - now))):
                self._see(self._by_number[number])
            self.lateness = max(self.lateness, time.monotonic() - now - 0.05)

    def _see(self, sock: Stream) -> None:
        try:
            if sock.recv(LEAST):
                return
        except BlockingIOError:  # of TLS itself, nothing else
            return
        except OSError:
            pass
        self.ended[sock] = time.monotonic()
        self._poll.unregister(sock)


def _spread(slow: list[Stream], until: float) -> Iterator[tuple[float, Stream]]:
    """Yield who sends a byte next and when: everybody every 10 seconds, one after the other."""
    start = until - 10.0
    while True:
        for number, sock in enumerate(slow):
            yield start + 10.0 * (number + 1) / len(slow), sock
        start += 10.0


def _connected(server: Server, source: str = "") -> Stream:
    """Connect as some source; closing resets, so that no port stays in TIME_WAIT. One that is refused is closed already."""
    try:
        return reset_at_end(dial(server.place, source=source, patience=5.0))
    except (ConnectionError, ssl.SSLError):
        closed = socket.socket()
        closed.close()
        return closed


def _newcomer(server: Server, sockets: contextlib.ExitStack, source: str = "") -> float:
    """Connect, and have a word echoed; return how many seconds both took."""
    began = time.monotonic()
    sock = sockets.enter_context(reset_at_end(dial(server.place, source=source, patience=5.0)))
    sock.sendall(b"hello")
    if receive_exactly(sock, 5) != b"hello":
        raise Broken("a newcomer was answered wrong")
    return time.monotonic() - began


def _fate(sock: Stream) -> str:
    """Ask for an echo, and tell what becomes of it."""
    try:
        sock.sendall(b"?")
        return "served" if sock.recv(1) else "closed"
    except TimeoutError:
        return "hung"
    except OSError:
        return "closed"


def _is_served(sock: Stream) -> bool:
    return _fate(sock) == "served"


def _recovers(server: Server, began: float) -> float:
    """Try until a new client is served; return how many seconds that took."""
    while True:
        with contextlib.suppress(OSError), contextlib.closing(_connected(server)) as sock:
            if _is_served(sock):
                return time.monotonic() - began
        kept(time.monotonic() - began < 10.0, "nobody is served any more")
        time.sleep(0.01)


def _udp_answers(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5.0)
        sock.sendto(b"hello", (IPV4, server.udp))
        kept(sock.recv(9) == b"hello", "UDP is not served")


def _processor_share(server: Server, seconds: float) -> float:
    """How much of a processor the service takes, for some seconds."""

    def used() -> int:
        after_name = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[11]) + int(after_name[12])  # utime and stime of proc(5)

    before = used()
    time.sleep(seconds)
    return (used() - before) / os.sysconf("SC_CLK_TCK") / seconds


def _counted(server: Server, *reasons: str) -> Counter[str]:
    """Read from the log what was counted; it says what came since the last line, so that lines are added up."""
    found: Counter[str] = Counter()
    for line in server.log().splitlines():
        for part in line.partition(": dropped: ")[2].split(", "):
            reason, _, number = part.rpartition(" ")
            if reason in reasons:
                found[reason] += int(number)
    return found


def _say(counted: Counter[str]) -> str:
    return "counted: " + (
        ", ".join(f"{reason} {number}" for reason, number in sorted(counted.items())) or "nothing"
    )


def _lines(server: Server) -> int:
    return len(server.log().splitlines())
