"""What is promised of workers: work is spread, one that dies or hangs is replaced before anybody has waited a second."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.hold.clients import IPV4, connect, receive_exactly
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.rush import Connections, Datagrams, Waited
from tests.hold.service import START, NotServing, Server, environment, twistd

__all__ = ["children_of", "deaths", "lifecycle", "spread", "wait_until", "worker_processes"]

UNAVAILABLE = 69  # EX_UNAVAILABLE

#: Workers of the service, and connections whose spread is looked at.
COUNT, MANY = 2, 200

#: The part of its fair share by which a worker may have more or less.
UNEVEN = 0.3

#: Seconds that nobody is to wait.
WAIT = 1.0

#: Connections and datagrams that come in a second while workers die.
CONNECTIONS, DATAGRAMS, FLOWS = 200, 1000, 40

_SERVES = re.compile(r"worker (\d+) serves, process (\d+)")


@promise(
    "WORKERS-spread",
    f"{MANY} connections are spread over {COUNT} workers, and each flow of datagrams stays with one",
    deadline=60,
)
def spread(run: Run) -> str:
    """Each connection is told which process has it, and so is each datagram."""
    server = _serve(run)
    with contextlib.ExitStack() as open_ones:
        counts = Counter(
            _who(open_ones.enter_context(contextlib.closing(connect(IPV4, server.tcp)))) for _ in range(MANY)
        )
    fair = MANY / COUNT
    figures = f"{'/'.join(map(str, sorted(counts.values())))} connections of {MANY}"
    kept(len(counts) == COUNT, figures)
    kept(all(abs(each - fair) <= UNEVEN * fair for each in counts.values()), figures)
    with Datagrams(server.udp, DATAGRAMS, FLOWS) as datagrams:
        time.sleep(3)
    flows = Counter(len(each) for each in datagrams.answered)
    figures += f"; {flows[1]} of {FLOWS} flows stayed with one worker; {_say(datagrams.waited)}"
    kept(flows == {1: FLOWS} and not datagrams.waited.failed, figures)
    return f"{figures}; {_idle_cost(server)}"


@promise(
    "WORKERS-deaths",
    "a worker that is killed, or hangs, is replaced before a new connection or datagram has waited for a second",
    deadline=120,
)
def deaths(run: Run) -> str:
    """Under load, SIGKILL and SIGSTOP, several times; what had been established elsewhere lives on."""
    server = _serve(run)
    figures = []
    for number, what in ((signal.SIGKILL, "kill -9"), (signal.SIGSTOP, "kill -STOP")):
        run.step = what
        figures.append(f"{what}: {_deaths(server, number, rounds=4 if run.long else 2)}")
    log = server.log()
    for words in ("was killed by SIGKILL", "hangs: no sign of life"):
        kept(words in log, f"the log does not say {words!r}")
    return "; ".join(figures)


def _deaths(server: Server, number: signal.Signals, rounds: int) -> str:
    lost = []
    with contextlib.ExitStack() as things:
        datagrams = things.enter_context(Datagrams(server.udp, DATAGRAMS, FLOWS))
        connections = things.enter_context(Connections(server.tcp, CONNECTIONS))
        for turn in range(rounds):
            time.sleep(1.5)
            victim = worker_processes(server)[turn % COUNT + 1]
            with contextlib.ExitStack() as established:
                made = [
                    established.enter_context(contextlib.closing(connect(IPV4, server.tcp)))
                    for _ in range(40)
                ]
                theirs = [_who(each) == victim for each in made]
                os.kill(victim, number)
                _wait_for_successor(server, turn % COUNT + 1, victim)
                dead = [_is_dead(each) for each in made]
                lost.append(f"{sum(dead)} of {len(made)}")
                kept(dead == theirs, f"{sum(dead)} connections lost, {sum(theirs)} were the victim's")
        time.sleep(1.5)
    moved = max(len(each) for each in datagrams.answered)
    figures = (
        f"connections: {_say(connections.waited)}; datagrams: {_say(datagrams.waited)}; "
        f"established and lost with their worker: {', '.join(lost)}"
    )
    kept(max(connections.waited.worst, datagrams.waited.worst) < WAIT, figures)
    # What a dead worker had accepted, or read, and not answered yet is gone with it: some thousandths of a second's worth.
    kept(sum(connections.waited.failed.values()) <= 5 * rounds, figures)
    kept(sum(datagrams.waited.failed.values()) <= 64 * rounds, figures)
    kept(moved <= 1 + rounds, f"{figures}; one flow was answered by {moved} processes")
    return figures


@promise(
    "WORKERS-life",
    "a second instance is refused, SIGHUP replaces workers unnoticed, SIGTERM leaves none; nor does kill -9 of the parent",
    deadline=90,
)
def lifecycle(run: Run) -> str:
    """Processes are looked for by their number."""
    server = _serve(run)
    run.step = "second instance"
    for option in (["--workers", "2"], []):
        second = subprocess.run(
            [
                *twistd(),
                "-n",
                "--pidfile=",
                "echosvc",
                "--tcp-port",
                str(server.tcp),
                "--udp-port",
                "off",
                *option,
            ],
            cwd=run.directory,
            env=environment(),
            capture_output=True,
            timeout=START,
            check=False,
        )
        kept(second.returncode == UNAVAILABLE, f"a second instance ended with {second.returncode}")
    run.step = "SIGHUP"
    before = worker_processes(server)
    with (
        Connections(server.tcp, CONNECTIONS) as connections,
        Datagrams(server.udp, DATAGRAMS, 1) as datagrams,
    ):
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded: " in server.log(), "it does not reload", server)
        wait_until(lambda: not any(map(_runs, before.values())), "old workers are left", server)
    reload = f"connections: {_say(connections.waited)}; datagrams: {_say(datagrams.waited)}"
    kept(not connections.waited.failed and not datagrams.waited.failed, f"SIGHUP: {reload}")
    run.step = "SIGTERM"
    wait_until(lambda: len(children_of(server.pid)) == COUNT + 1, "who stood by is left", server)
    children = children_of(server.pid)
    began = time.monotonic()
    code = server.stop()
    seconds = time.monotonic() - began
    kept(code == 0, f"SIGTERM ended the parent with {code}")
    kept(not any(map(_runs, children)), "processes are left after SIGTERM")
    kept(server.log().count("stopped after") >= 2 * COUNT, "the last lines of the workers are missing")
    run.step = "kill -9 of the parent"
    orphan = _start(run)
    run.using(contextlib.closing(orphan))
    _wait_until_ready(orphan)
    children = children_of(orphan.pid)
    os.kill(orphan.pid, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not any(map(_runs, children)), "workers live on without a parent", orphan)
    ended = time.monotonic() - began
    return (
        f"second instance: {UNAVAILABLE}; SIGHUP: {reload}; SIGTERM: exit code 0 after {seconds:.1f} s, nothing left; "
        f"kill -9 of the parent: {len(children)} processes ended within {ended:.1f} s"
    )


def _serve(run: Run) -> Server:
    server = _start(run)
    run.watch(server)
    _wait_until_ready(server)
    return server


def _start(run: Run) -> Server:
    directory = run.directory / f"workers-{len(list(run.directory.iterdir()))}"
    directory.mkdir()
    shutil.copy(Path(__file__).with_name("whoami.py"), directory)
    command = [*twistd(), "-n", "--pidfile=", "echosvc", "--workers", str(COUNT)]
    command += ["--listen", "who=whoami:Stream@tcp:0", "--listen", "who=whoami:Datagram@udp:0"]
    return Server(command, directory)


def _wait_until_ready(server: Server) -> None:
    server.wait_until_listening()
    wait_until(lambda: f"{COUNT} workers" in server.log(), "the workers do not serve", server)
    wait_until(lambda: len(children_of(server.pid)) == COUNT + 1, "nobody stands by", server)


def _wait_for_successor(server: Server, number: int, victim: int) -> None:
    wait_until(lambda: worker_processes(server)[number] != victim, "there is no successor", server)


def wait_until(condition: Callable[[], bool], otherwise: str, server: Server) -> None:
    """Look again and again, until something is so.

    Raises:
        NotServing: It is not, in the time that a server has to start; with what that means, and the last line of the log.
    """
    until = time.monotonic() + START
    while not condition():
        if time.monotonic() > until:
            raise NotServing(f"{otherwise}: {server.log().strip().rpartition(chr(10))[2]}")
        time.sleep(0.01)


def worker_processes(server: Server) -> dict[int, int]:
    """The process of each worker, as the log has it last."""
    return {int(number): int(pid) for number, pid in _SERVES.findall(server.log())}


def children_of(pid: int) -> list[int]:
    """The processes that a process has started; none if it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def _who(sock: socket.socket) -> int:
    said = b""
    while not said.endswith(b"\n"):
        said += receive_exactly(sock, 1)
    return int(said)


def _is_dead(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"?")
        return not sock.recv(64)
    except OSError:
        return True


def _say(waited: Waited) -> str:
    failed = "".join(f", {count} {why}" for why, count in waited.failed.items())
    return f"{waited.sent} sent{failed}, longest wait {waited.worst * 1e3:.0f} ms"


def _idle_cost(server: Server) -> str:
    """What parent, workers and the one that stands by use of a processor while nothing is to be done."""
    processes = [server.pid, *children_of(server.pid)]
    before = [_ticks(each) for each in processes]
    time.sleep(2)
    used = [
        (_ticks(each) - start) / os.sysconf("SC_CLK_TCK") / 2
        for each, start in zip(processes, before, strict=True)
    ]
    return f"idle: {sum(used):.1%} of a processor for {len(processes)} processes"


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
