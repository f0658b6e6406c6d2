"""What is promised in the face of floods and forgeries: no loop, no stall, no traceback."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hold.clients import HOSTS, IPV4, NOT_TRIED, answers, ping
from tests.hold.forge import forge, needs_root
from tests.hold.kernel import datagrams_sent
from tests.hold.namespace import namespace
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["own_ports", "send_errors", "small_floods"]

#: Datagrams that others on this machine may send in a second. A loop makes a hundred thousand.
OTHERS = 10

#: Whom a forged datagram claims to come from, and where it goes.
ROUTES = (("127.0.0.5", IPV4), (IPV4, "127.0.0.5"), *((each, each) for each in HOSTS.values()))


@promise(
    "T16",
    "a datagram in the name of our own port, or of port 0, is dropped and counted: no loop is possible",
    deadline=30,
    stock=r"^1 forged datagram .* \d{4,} datagrams",
)
def own_ports(run: Run) -> str:
    """How many datagrams this machine sends is counted by the kernel."""
    needs_root()
    server = run.serve()
    before = datagrams_sent()
    forge(IPV4, server.udp, IPV4, server.udp, b"loop?")
    time.sleep(1)
    sent = datagrams_sent() - before
    kept(sent <= OTHERS, f"1 forged datagram caused {sent} datagrams in 1 s")
    before = datagrams_sent()
    for source, host in ROUTES:
        for _ in range(10):
            forge(source, server.udp, host, server.udp, b"loop?")
            forge(source, 0, host, server.udp, b"zero?")
    time.sleep(1)
    forged = 20 * len(ROUTES)
    sent = datagrams_sent() - before
    figures = f"{forged} forged datagrams caused {sent} datagrams in 1 s"
    kept(sent <= forged, figures)
    answers(server.tcp, server.udp)
    server.stop()
    counted = dict(re.findall(r"(source-port-\w+) (\d+)", server.log()))
    figures += (
        f"; counted: {', '.join(f'{reason} {number}' for reason, number in counted.items())}{NOT_TRIED}"
    )
    half = forged // 2
    kept(counted == {"source-port-own": str(half + 1), "source-port-zero": str(half)}, figures)
    return figures


@promise(
    "T20",
    "a flood of empty or 1-byte datagrams from two processes stops neither TCP nor timers for more than 20 ms",
    deadline=60,
    stock=r"^empty: worst stall [1-9]\d{3,} ms",
)
def small_floods(run: Run) -> str:
    """A TCP client pings all the while; beside it runs a clock that shows how late this machine is."""
    server = run.serve(timer=True)
    ping(IPV4, server.tcp, count=100, interval=0.001)
    figures = []
    for name, size in (("empty", 0), ("1-byte", 1)):
        run.step = f"{name} datagrams"
        figures.append(f"{name}: {_flooded(server, size)}")
        time.sleep(1)  # what was queued when the flood ended is still to be answered
        answers(server.tcp, server.udp)
    return "; ".join(figures)


def _flooded(server: Server, size: int) -> str:
    """Flood a server for a while, and hold what it did to others against this machine's own lateness."""
    seconds = 3
    with (
        _peer("late", str(seconds)) as clock,
        _peer("flood", IPV4, str(server.udp), str(size), str(seconds)) as one,
        _peer("flood", IPV4, str(server.udp), str(size), str(seconds)) as other,
    ):
        floods = (one, other)
        pings = ping(
            IPV4,
            server.tcp,
            count=100_000,
            interval=0.001,
            until=lambda: all(each.poll() is not None for each in floods),
        )
        sent = sum(int(each.communicate()[0]) for each in floods)
        late = float(clock.communicate()[0])
    worst = pings.worst * 1e3
    timer = server.timer_lateness()
    watched = "" if timer is None else f", timer late by {timer * 1e3:.0f} ms"
    figures = (
        f"worst stall {worst:.0f} ms, median {pings.median * 1e3:.2f} ms of {len(pings.seconds)} pings{watched};"
        f" {sent / seconds / 1e3:.0f} k datagrams/s; this machine's lateness {late:.0f} ms"
    )
    # A process that is always busy waits longer for its turn than one that sleeps, as the clock does.
    kept(
        max(worst, (timer or 0.0) * 1e3) <= max(20, 10 * late),
        f"{'empty' if not size else '1-byte'}: {figures}",
    )
    return figures


@contextlib.contextmanager
def _peer(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", str(Path(__file__).with_name("peer.py")), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


@promise(
    "T23-send",
    "what the system refuses to send is counted by name: no traceback, no dead port",
    deadline=30,
)
def send_errors(run: Run) -> str:
    """In a network namespace whose rules forbid some of the answers."""
    needs_root()
    space = run.using(namespace())
    refusing = {"10.99.0.2": "prohibit", "10.99.0.3": "unreachable", "10.99.0.4": "blackhole"}
    for host in ("10.99.0.1", *refusing):
        space.ip("address", "add", f"{host}/32", "dev", "lo")
    # Rules of ours have to stand before the one for local addresses, which is number 0.
    space.ip("rule", "add", "pref", "100", "lookup", "local")
    space.ip("rule", "del", "pref", "0")
    for number, (host, refusal) in enumerate(refusing.items()):
        space.ip("rule", "add", "pref", str(10 + number), "to", host, refusal)
    server = run.serve(prefix=space.command)
    for host in refusing:
        with space.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            for _ in range(100):
                sock.sendto(b"answer me", ("10.99.0.1", server.udp))
    with space.inside():
        for _ in range(100):  # gone before the answer comes: ICMP port unreachable
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"answer me", (IPV4, server.udp))
            forge(IPV4, 0, IPV4, server.udp, b"zero?")
        answers(server.tcp, server.udp)
    server.stop()
    counted = dict(re.findall(r"(send-\w+) (\d+)", server.log()))
    figures = f"counted: {', '.join(f'{reason} {number}' for reason, number in sorted(counted.items()))}"
    kept(sum(map(int, counted.values())) == 100 * len(refusing), figures)
    return figures
