"""What is promised of workers whose user is not theirs alone, on a system that hides processes from one another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.hold.clients import IPV4, connect, receive_exactly
from tests.hold.forge import needs_root
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import START, Server, twistd
from tests.hold.units import NOBODY, file_system
from tests.hold.workers import children_of, wait_until, worker_processes

__all__ = ["inspected", "starved"]

#: Seconds for which a worker is kept from its processor: five times those after which a silent one counts as dead.
STARVED = 3.0

#: What another process of the same user can open of a process in /proc, and of one that cannot be inspected not.
FILES = ("mem", "environ", "fd", "maps", "auxv", "io")

#: Tries to open what it is told, and prints what it could. A shell: not every user can read the interpreter that runs us.
_OPEN = 'for each; do (: < "$each") 2>/dev/null && echo "$each"; done; true'

#: Takes a processor for itself, for some seconds.
_TAKE = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    pass
"""


@promise(
    "WORKERS-hidden",
    "with workers, no other process of the service's user reads memory, environment or descriptors of a process of it",
    deadline=60,
    unguarded=r"mem of the parent",
)
def inspected(run: Run) -> str:
    """A process of the same user, without any rights, tries; that it can read another one of its user is the control."""
    server = _serve(run)
    processes = {"the parent": server.pid, "the spare": _spare(server)}
    processes |= {f"worker {number}": pid for number, pid in worker_processes(server).items()}
    with subprocess.Popen([*_as_nobody(), "sleep", "60"]) as other:
        wait_until(lambda: _name(other.pid) == "sleep", "the control does not run", server)
        control = _readable([Path(f"/proc/{other.pid}/{each}") for each in FILES])
        other.kill()
    files = {
        Path(f"/proc/{pid}/{each}"): f"{each} of {who}" for who, pid in processes.items() for each in FILES
    }
    found = [files[each] for each in _readable(list(files))]
    kept(
        len(control) == len(FILES), f"nothing was tried: {len(control)} of {len(FILES)} files of any process"
    )
    kept(not found, f"another process of the same user opens {', '.join(found)}")
    return f"none of {len(files)} files of {len(processes)} processes; of another process all {len(control)}"


@promise(
    "WORKERS-starved",
    "under ProtectProc=invisible a worker that others keep from its processor is not taken for dead, and one that hangs is",
    deadline=90,
    unguarded=r"was taken for dead",
)
def starved(run: Run) -> str:
    """A program of real-time priority takes the processor to which a worker is bound."""
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:
        raise Skipped("needs two processors")
    server = _serve(run)
    victim = worker_processes(server)[1]
    for pid in (server.pid, _spare(server), worker_processes(server)[2]):
        os.sched_setaffinity(pid, ours[1:])
    os.sched_setaffinity(victim, ours[:1])
    before, began = _waited(victim), time.monotonic()
    run.step = "starving"
    taken = subprocess.run(
        [sys.executable, "-c", _TAKE, str(ours[0]), str(STARVED)], check=False, timeout=START
    )
    if taken.returncode:
        raise Skipped("needs real-time priority (CAP_SYS_NICE)")
    took = time.monotonic() - began
    log = server.log()
    kept("hangs" not in log, f"a worker that had no turn was taken for dead: {_line(log, 'hangs')}")
    waited = _waited(victim) - before
    kept(waited > STARVED / 2, f"the worker waited for {waited:.1f} s only: nothing was tried")
    run.step = "hanging"
    os.kill(victim, signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: worker_processes(server)[1] != victim, "there is no successor", server)
    replaced = time.monotonic() - stopped
    kept("hangs: no sign of life" in server.log(), "the log does not say that it hangs")
    kept(replaced < 1.0, f"one that hangs is replaced after {replaced:.1f} s")
    with connect(IPV4, server.tcp) as sock:
        sock.sendall(b"?")
        kept(receive_exactly(sock, 1) == b"?", "no echo")
    return f"no turn for {waited:.1f} s of {took:.1f}: it lives; kill -STOP: replaced after {replaced:.2f} s"


def _serve(run: Run) -> Server:
    """Start the service with two workers as a user without rights, where ``/proc`` is as ProtectProc=invisible has it."""
    needs_root()
    for each in ("setpriv", "unshare"):
        if shutil.which(each) is None:
            raise Skipped(f"needs {each}")
    command = [*_hidden(run), *twistd(), "-n", "--pidfile=", "echosvc", "--port", "0", "--workers", "2"]
    server = Server(command, run.server_directory())
    run.watch(server)
    server.wait_until_listening()
    wait_until(lambda: len(worker_processes(server)) == 2, "the workers do not serve", server)
    # For its first hundredths of a second, until it runs code of ours, any program can be inspected.
    wait_until(lambda: _owner(_spare(server)) == 0, "nothing stands by that cannot be inspected", server)
    return server


def _hidden(run: Run) -> Sequence[str]:
    return ["unshare", "--mount", "sh", "-ec", file_system(run.directory), "sh", *_as_nobody()]


def _as_nobody() -> list[str]:
    return [
        *["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"],
        *["--inh-caps=-all", "--bounding-set=-all"],
    ]


def _readable(files: Sequence[Path]) -> list[Path]:
    """What another process of the same user can open; it sees all of ``/proc``."""
    command = [*_as_nobody(), "sh", "-c", _OPEN, "sh", *map(str, files)]
    tried = subprocess.run(command, capture_output=True, text=True, check=True, timeout=START)
    return [Path(line) for line in tried.stdout.splitlines()]


def _spare(server: Server) -> int:
    """The process that stands by; 0 if there is none."""
    others = set(children_of(server.pid)) - set(worker_processes(server).values())
    return others.pop() if others else 0


def _owner(pid: int) -> int:
    return Path(f"/proc/{pid}/environ").stat().st_uid if pid else -1


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _waited(pid: int) -> float:
    """Seconds for which a process has waited for its turn."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _line(log: str, word: str) -> str:
    return next((line for line in log.splitlines() if word in line), "")
