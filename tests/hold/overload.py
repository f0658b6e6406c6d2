"""What is promised when there is too much of everything: connections that are nothing but trouble, memory, datagrams."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hold.carriers import Carrier, Stream, dial
from tests.hold.clients import IPV4, Pings, answers, in_threads, one_datagram, ping, receive_exactly
from tests.hold.forge import needs_root
from tests.hold.kernel import held_memory
from tests.hold.programs import allow_descriptors, program, reset_at_end
from tests.hold.promise import Skipped, carried, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["CAP", "LINES", "capped_memory", "churn", "memory_group", "overload"]

#: Connections that are nothing but trouble, in a second, from two processes together.
CHURN = 5000

#: Lines of log that all of them may cause.
LINES = 10

#: Bytes that the service may have in all.
CAP = 128 * 1024 * 1024
MIB = 1024 * 1024

#: Bytes of the kernel's for all clients that never read (max-queued is 64 MiB of both), and seconds until it is no more.
HELD, SETTLED = 64 * MIB, 6.0

#: Where the memory of groups of processes is limited, in version 1 of cgroups.
_GROUPS = Path("/sys/fs/cgroup/memory")

#: Seconds that a TCP client may wait while the machine is flooded, and for all to be as before afterwards.
STALL, RECOVERY = 0.25, 1.0

#: How often the overload is tried. The machine may be late for a moment; what the service does, it does every time.
ATTEMPTS = 3


@promise(
    "T15",
    f"{CHURN} connections a second that are given up, reset or ended at once: no failure for a real client, {LINES} lines of log",
    deadline=60,
    stock=" 0 failed; 0 lines of log",
    xinetd=" 0 failed; 0 lines of log",
    unguarded="too few|timed out|TimeoutError",
)
def churn(run: Run) -> str:
    """The real client pings on one connection, and makes another one all the while."""
    server = run.serve()
    answers(server.tcp, server.udp)
    seconds = 10 if run.long else 3
    before = len(server.log().splitlines())
    arguments = (IPV4, str(server.tcp), str(seconds), str(CHURN / 2))
    connected: list[float] = []
    with program("churn", *arguments) as one, program("churn", *arguments) as other:

        def is_over() -> bool:
            return one.poll() is not None and other.poll() is not None

        def connect_often() -> None:
            while not is_over():
                started = time.monotonic()
                ping(IPV4, server.tcp, count=1, interval=0)
                connected.append(time.monotonic() - started)
                time.sleep(0.01)

        run.step = "churn"
        pings, _ = in_threads(
            lambda number: _ping_until(server, is_over) if number == 0 else connect_often(),
            count=2,
            at_once=2,
        )
        made = sum(int(each.communicate()[0]) for each in (one, other))
    assert pings is not None
    answers(server.tcp, server.udp)
    lines = len(server.log().splitlines()) - before
    figures = (
        f"{made} in {seconds} s; a real client: {len(pings.seconds)} pings, the worst {pings.worst * 1e3:.0f} ms, and"
        f" {len(connected)} connections, the worst {max(connected) * 1e3:.0f} ms, 0 failed; {lines} lines of log"
    )
    kept(lines <= LINES, figures)
    kept(made >= 0.9 * CHURN * seconds, f"{figures}: too few, this machine is too slow or too busy")
    return figures


def _ping_until(server: Server, is_over: object) -> Pings:
    assert callable(is_over)
    return ping(IPV4, server.place, count=10**6, interval=0.002, until=is_over)


@dataclass(frozen=True)
class Capped:
    """What has to fit into `CAP`.

    Attributes:
        idle: Idle connections.
        greedy: Clients that never read.
        many: Idle connections with --long.
    """

    idle: int
    greedy: int
    many: int


@carried(
    "T10",
    f"in {CAP // MIB} MiB: {{idle}} idle connections{{over}} and {{greedy}} clients that never read do not have it killed, and"
    f" {SETTLED:g} s later the kernel holds at most {HELD // MIB} MiB for them",
    {
        Carrier.TCP: Capped(3000, 500, 10_000),
        Carrier.TLS: Capped(2000, 200, 2700),
        # What the kernel keeps of a UNIX connection, up to 208 KB, counts as the service's own.
        Carrier.UNIX: Capped(3000, 150, 10_000),
        Carrier.PROXY: Capped(3000, 500, 10_000),
    },
    deadline=120,
    stock="^the service was killed",
    unguarded="was killed|[1-9] killed|bytes came back, then",
)
def capped_memory(run: Run, capped: Capped) -> str:
    """A limit of the kernel's; what it does when there is no more is to kill."""
    needs_root()
    idle_count, greedy_count = capped.many if run.long else capped.idle, capped.greedy
    group = run.using(memory_group(CAP))
    join = f'echo $$ >"{group}/cgroup.procs" && exec "$@"'
    with allow_descriptors(idle_count + greedy_count), contextlib.ExitStack() as open_sockets:
        many = str(idle_count + greedy_count + 100)
        server = run.serve("--max-per-source", many, prefix=("sh", "-c", join, "sh"))

        def idle(number: int) -> Stream:
            sock = reset_at_end(dial(server.place))
            sock.sendall(b"%08d" % number)
            kept(receive_exactly(sock, 8) == b"%08d" % number, "an idle connection was answered wrong")
            return sock

        run.step = "idle connections"
        for sock in in_threads(idle, count=idle_count, at_once=4):
            open_sockets.enter_context(sock)
        run.step = "clients that never read"
        pings: list[Pings] = []
        greedy_over = threading.Event()
        pinger = threading.Thread(
            target=lambda: pings.append(_ping_until(server, greedy_over.is_set)), daemon=True
        )
        pinger.start()
        greedy = [
            open_sockets.enter_context(reset_at_end(dial(server.place, receive_buffer=4096)))
            for _ in range(greedy_count)
        ]
        taken = _pour(greedy, seconds=10 if run.long else 5)
        greedy_over.set()
        pinger.join()
        kept(server.alive(), f"the service was killed after it had taken {taken / MIB:.0f} MiB")
        kernel = most = held_memory(server.place)
        until = time.monotonic() + SETTLED
        while kernel > HELD and time.monotonic() < until:
            time.sleep(0.1)
            kernel = held_memory(server.place)
        answers(server.tcp, server.udp)
    killed = re.search(r"^oom_kill (\d+)", (group / "memory.oom_control").read_text(), re.MULTILINE)
    highest = int((group / "memory.max_usage_in_bytes").read_text())
    figures = (
        f"{idle_count} idle connections and {greedy_count} clients that never read, {taken / MIB:.0f} MiB taken from them;"
        f" at most {highest / MIB:.0f} of {CAP // MIB} MiB used, of the kernel's {most / MIB:.0f} and then {kernel / MIB:.0f}, {killed.group(1) if killed else '?'} killed;"
        f" {len(pings[0].seconds) if pings else 0} pings, the worst {pings[0].worst * 1e3 if pings else 0:.0f} ms"
    )
    kept(pings and killed is not None and killed.group(1) == "0" and kernel <= HELD, figures)
    return figures


@contextlib.contextmanager
def memory_group(cap: int) -> Iterator[Path]:
    """Make a group whose processes may use so many bytes of memory together.

    Raises:
        Skipped: There are no such groups, or we may not make one.
    """
    group = _GROUPS / f"hold-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(cap))
    except OSError as problem:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise Skipped(f"needs cgroups (version 1) with memory: {problem.strerror}") from problem
    try:
        yield group
    finally:
        until = time.monotonic() + 5
        while group.exists() and time.monotonic() < until:  # it stays until its last process has gone
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)


def _pour(greedy: list[Stream], *, seconds: float) -> int:
    """Send on all of them what the kernel takes, never read, and return how many bytes it took."""
    piece = bytes(256 * 1024)
    taken = 0
    for sock in greedy:
        sock.setblocking(False)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for sock in greedy:
            with contextlib.suppress(OSError):
                taken += sock.send(piece)
        time.sleep(0.01)
    return taken


@promise(
    "T09",
    "more datagrams and connections than can be served: TCP goes on, all is as before within a second, every loss is counted",
    deadline=60,
    unguarded=" 0 counted by the service",
)
def overload(run: Run) -> str:
    """What cannot be taken waits in the kernel, and what does not fit there is dropped and counted there.

    Who waits, waits for the machine, too, on which all this runs: what the service is late by itself is told by a timer of
    its own, and a moment in which others were busy is forgiven by trying again.
    """
    server = run.serve(timer=True)
    answers(server.tcp, server.udp)
    tried = []
    for attempt in range(ATTEMPTS):
        run.step = f"overload, attempt {attempt + 1}"
        held, figures = _overload(server, 10 if run.long else 3)
        tried.append(figures)
        if held:
            break
    figures = ", AFTER ".join(reversed(tried))
    kept(held, figures)
    answers(server.tcp, server.udp)
    dropped = _dropped_by_kernel(server.udp)
    server.stop()
    counted = re.search(r"receive-queue-full (\d+)", server.log())
    figures += (
        f"; {dropped} dropped by the kernel, {counted.group(1) if counted else 0} counted by the service"
    )
    kept(dropped and counted and int(counted.group(1)) == dropped, figures)
    return figures


def _overload(server: Server, seconds: int) -> tuple[bool, str]:
    """Overload it for a while, and return whether all was borne, and the figures."""
    began, dropped = time.monotonic(), _dropped_by_kernel(server.udp)
    with contextlib.ExitStack() as programs:
        flood = ("flood", IPV4, str(server.udp), "64", str(seconds))
        floods = [programs.enter_context(program("peer", *flood)) for _ in range(3)]
        late = programs.enter_context(program("peer", "late", str(seconds)))
        storm = programs.enter_context(program("churn", IPV4, str(server.tcp), str(seconds), "1e9"))
        pings = _ping_until(server, lambda: all(each.poll() is not None for each in (*floods, storm)))
        offered = sum(int(each.communicate()[0]) for each in floods)
        connections = int(storm.communicate()[0])
        clock = float(late.communicate()[0])
    over = time.monotonic()
    while one_datagram(IPV4, server.udp, b"again", wait=0.05) != b"again":
        kept(time.monotonic() - over < 10, f"datagrams are not answered 10 s after {offered} of them")
    recovery = time.monotonic() - over
    taken = max(1, offered - (_dropped_by_kernel(server.udp) - dropped))
    timer = server.timer_lateness(began, over)
    figures = (
        f"{offered / seconds / 1e3:.0f} k datagrams/s offered, {offered / taken:.1f} times what was taken, and"
        f" {connections / seconds:.0f} connections/s; TCP: {len(pings.seconds)} pings, 99 % {pings.quantile(0.99) * 1e3:.0f} ms,"
        f" the worst {pings.worst * 1e3:.0f} ms, timer late by {timer.late * 1e3:.0f} ms ({timer.own * 1e3:.0f} of them its own),"
        f" this machine's lateness {clock:.0f} ms; answered again after {recovery:.2f} s"
    )
    held = timer.own <= STALL and pings.worst <= max(STALL, 10 * clock / 1e3) and recovery <= RECOVERY
    return held, figures


def _dropped_by_kernel(port: int) -> int:
    """How many datagrams the kernel has dropped at the sockets of this port: the last column of its table."""
    lines = [line.split() for name in ("udp", "udp6") for line in _table(name)]
    return sum(int(line[-1]) for line in lines if line[1].endswith(f":{port:04X}"))


def _table(name: str) -> list[str]:
    try:
        return Path("/proc/net", name).read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
