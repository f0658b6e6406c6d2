"""What is promised when connections are asked for in others' names: half of each is all that ever comes."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from pathlib import Path

from tests.hold.clients import answers
from tests.hold.namespace import namespace
from tests.hold.overload import LINES
from tests.hold.programs import program, reset_at_end
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run

__all__ = ["half_open"]

#: Connections that are asked for in others' names, in a second; those that a real client makes at once, and seconds after which
#: it asks again for one of which it has heard nothing (RFC 6298, 2.1).
SYNS, BURST, RETRY = 20_000, 100, 1.0

#: This end of all of them.
HERE = "10.99.0.1"


@promise(
    "T15-half-open",
    f"{SYNS} connections a second asked for in the names of others: a real client makes its own, {BURST} at once, each at the first try",
    deadline=60,
    unguarded="worst [1-9]|no answer",
)
def half_open(run: Run) -> str:
    """In a network namespace, where what is answered to forged addresses goes nowhere.

    When the kernel has no room to remember who has asked, it answers with SYN cookies (tcp(7), tcp_syncookies, on by default):
    whoever is real comes back with one.
    """
    space = run.using(namespace())
    space.ip("address", "add", f"{HERE}/32", "dev", "lo")
    space.ip("route", "add", "10.128.0.0/9", "dev", "lo")
    with space.inside():
        if _read(Path("/proc/sys/net/ipv4/tcp_syncookies")).strip() not in ("1", "2"):
            raise Skipped("needs net.ipv4.tcp_syncookies")
    server = run.serve(prefix=space.command)
    lines = len(server.log().splitlines())
    seconds = 10 if run.long else 3
    bursts: list[float] = []
    arguments = ("half-open", "10.128.0.0", "100000", HERE, str(server.tcp), str(seconds), str(SYNS))
    with space.inside(), program("packets", *arguments, prefix=space.command) as forger:
        before = _tcp_counters()
        time.sleep(0.5)  # until there is no room
        while forger.poll() is None:
            bursts.append(_burst(server.tcp))
            time.sleep(0.01)
        after = _tcp_counters()
        asked = int(forger.communicate()[0])
        answers(server.tcp, server.udp)
    cookies, dropped = (after[name] - before[name] for name in ("SyncookiesSent", "ListenOverflows"))
    lines = len(server.log().splitlines()) - lines
    figures = (
        f"{asked} asked for in {seconds} s, {cookies} answered with cookies; a real client: {len(bursts)} times {BURST}"
        f" connections at once, 0 failed, worst {max(bursts):.2f} s with echo; {dropped} refused by the full queue;"
        f" {lines} lines of log"
    )
    kept(max(bursts) < RETRY and lines <= LINES, figures)
    kept(cookies > asked / 2 and asked >= SYNS * seconds / 2, f"{figures}: too few")
    return figures


def _burst(port: int) -> float:
    """Connect many times at once, and have a word echoed on each; return how many seconds that took.

    Raises:
        Broken: One of them failed.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as sockets:
        waiting = {}
        poll = select.poll()
        for _ in range(BURST):
            sock = sockets.enter_context(reset_at_end(socket.socket()))
            sock.setblocking(False)
            sock.connect_ex((HERE, port))
            waiting[sock.fileno()] = sock
            poll.register(sock, select.POLLOUT)
        while waiting:
            for number, event in poll.poll(100):
                sock = waiting[number]
                if event & (select.POLLERR | select.POLLHUP):
                    problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    raise Broken(f"a connection failed: {os.strerror(problem)}")
                if event & select.POLLOUT:
                    sock.send(b"word")
                    poll.modify(number, select.POLLIN)
                else:
                    kept(sock.recv(4) == b"word", "a connection was answered wrong")
                    poll.unregister(number)
                    del waiting[number]
            kept(time.monotonic() - started < 5, f"{len(waiting)} of {BURST} had no answer")
    return time.monotonic() - started


def _tcp_counters() -> dict[str, int]:
    """What the kernel has counted of TCP in this thread's namespace, besides what RFC 4022 has."""
    names, values = (
        line.split()[1:]
        for line in _read(Path("/proc/thread-self/net/netstat")).splitlines()
        if line.startswith("TcpExt:")
    )
    return dict(zip(names, map(int, values), strict=True))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as problem:
        raise Skipped(f"needs {path}: {problem.strerror}") from problem
