"""What is promised where there are too many: of the slow, of the greedy, or of anybody."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hold.clients import IPV4, answers, in_threads, receive_exactly
from tests.hold.programs import allow_descriptors, program
from tests.hold.promise import Broken, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["greedy_source", "out_of_descriptors", "slowloris"]

#: Milliseconds for which a newcomer may wait for its echo, connecting included; or so many times as long as this machine was
#: late in the same run (as in a flood).
BOUND, WORST = 50.0, 10

#: Sources of a crowd; all of 127.0.0.0/8 is ours.
GREEDY, HONEST = "127.0.0.2", "127.0.0.3"

#: What a refused client is told by the kernel.
_RESET = (ConnectionResetError, BrokenPipeError)


@promise(
    "T12",
    "slow clients: the silent are closed at their time, to a second; where there is no room the longest silent makes some",
    deadline=120,
    stock="^20 came, 0 made room",
    unguarded="made room|answered wrong|reset",
)
def slowloris(run: Run) -> str:
    """As many that are silent as that send a byte every 10 seconds: 5000 of each with --long, else 300."""
    each = 5000 if run.long else 300
    timeout, newcomers = 16.0, 20
    with allow_descriptors(2 * each + newcomers), contextlib.ExitStack() as sockets:
        places = ("--max-connections", str(2 * each), "--max-per-source", str(4 * each))
        server = run.serve(*places, "--idle-timeout", str(timeout))

        def new(_: int) -> tuple[socket.socket, float]:
            return sockets.enter_context(_connected(server)), time.monotonic()

        silent = [new(number) for number in range(newcomers)]
        time.sleep(1.0)  # times are exact to a second
        silent += [new(number) for number in range(each - newcomers)]
        slow = [sock for sock, _ in map(new, range(each))]
        watch = _Watch([sock for sock, _ in silent], slow)
        slowly = iter(_spread(slow, until=silent[0][1] + 10.0))
        run.step = f"{each} silent, {each} slow"
        watch.run(silent[-1][1] + 12.0, slowly)
        kept(not watch.ended, f"{len(watch.ended)} closed before {timeout:g} s and before anybody else came")
        waits = [_newcomer(server, sockets, IPV4) for _ in range(newcomers)]
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
    kept(min(late) >= -1.0 and max(late) <= 1.0 + watch.lateness, figures)
    # Ours are answered too: those that `answers` made were refused room by nobody.
    kept(counted["evicted-idle"] >= newcomers and counted["idle-timeout"] >= each - newcomers, figures)
    return figures


@promise(
    "T13",
    "a greedy source opens twice its limit and goes on at 2000 a second: another one connects, always, within 50 ms",
    deadline=60,
    stock=r"^300 of 300 of one source let in, .* [1-9]\d{3} let in",
    xinetd="; 0/100 of another served",  # more than 50 in a second switch it off for ten
    unguarded="were let in, not",
)
def greedy_source(run: Run) -> str:
    """For 10 seconds with --long, else for 3."""
    seconds, places, tries = (10 if run.long else 3), 200, 100
    limit = places * 3 // 4
    server = run.serve("--max-connections", str(places), limits=True)
    with contextlib.ExitStack() as sockets:
        held = [sockets.enter_context(_connected(server, GREEDY)) for _ in range(2 * limit)]
        served = sum(_is_served(sock) for sock in held)
        # Others have no such limit, or another one: of them it is seen what comes next.
        kept(run.control or served == limit, f"{served} of {len(held)} were let in, not {limit}")
        run.step = "a greedy source"
        with (
            program("peer", "late", str(seconds)) as clock,
            program("greedy", IPV4, str(server.tcp), GREEDY, "2000", str(seconds)) as greedy,
        ):
            waits = []
            for _ in range(tries):
                with contextlib.ExitStack() as one, contextlib.suppress(OSError):
                    waits.append(_newcomer(server, one, HONEST))
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
    kept(len(waits) == tries and max(waits) * 1e3 <= max(BOUND, WORST * late), figures)
    answers(server.tcp, server.udp)
    server.stop()
    counted = _counted(server, "max-per-source")
    figures += f"; {_say(counted)}; {_lines(server)} log lines"
    kept(asked >= 1000 * seconds and counted["max-per-source"] == asked + len(held) - limit, figures)
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

    def __init__(self, silent: list[socket.socket], slow: list[socket.socket]) -> None:
        self.ended: dict[socket.socket, float] = {}
        self.lateness = 0.0
        self._slow = set(slow)
        self._by_number = {sock.fileno(): sock for sock in (*silent, *slow)}
        self._poll = select.epoll()
        for sock in self._by_number.values():
            self._poll.register(sock, select.EPOLLIN)

    def run(self, until: float, slowly: Iterator[tuple[float, socket.socket]]) -> None:
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

    def _see(self, sock: socket.socket) -> None:
        try:
            if sock.recv(100):
                return
        except OSError:
            pass
        self.ended[sock] = time.monotonic()
        self._poll.unregister(sock)


def _spread(slow: list[socket.socket], until: float) -> Iterator[tuple[float, socket.socket]]:
    """Yield who sends a byte next and when: everybody every 10 seconds, one after the other."""
    start = until - 10.0
    while True:
        for number, sock in enumerate(slow):
            yield start + 10.0 * (number + 1) / len(slow), sock
        start += 10.0


@contextlib.contextmanager
def _connected(server: Server, source: str = IPV4) -> Iterator[socket.socket]:
    """Connect from an address of ours; closing resets, so that no port stays in TIME_WAIT."""
    with socket.socket() as sock:
        sock.settimeout(5.0)
        sock.bind((source, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        with contextlib.suppress(
            ConnectionResetError, ConnectionRefusedError
        ):  # whoever is refused that soon will see it
            sock.connect((IPV4, server.tcp))
        yield sock


def _newcomer(server: Server, sockets: contextlib.ExitStack, source: str) -> float:
    """Connect, and have a word echoed; return how many seconds both took."""
    began = time.monotonic()
    sock = sockets.enter_context(_connected(server, source))
    sock.sendall(b"hello")
    if receive_exactly(sock, 5) != b"hello":
        raise Broken("a newcomer was answered wrong")
    return time.monotonic() - began


def _fate(sock: socket.socket) -> str:
    """Ask for an echo, and tell what becomes of it."""
    try:
        sock.sendall(b"?")
        return "served" if sock.recv(1) else "closed"
    except TimeoutError:
        return "hung"
    except OSError:
        return "closed"


def _is_served(sock: socket.socket) -> bool:
    return _fate(sock) == "served"


def _recovers(server: Server, began: float) -> float:
    """Try until a new client is served; return how many seconds that took."""
    while True:
        with contextlib.suppress(OSError), _connected(server) as sock:
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
