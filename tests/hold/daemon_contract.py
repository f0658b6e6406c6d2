"""What is promised to a service manager: told when it is ready, alive, reloading and stopping; nobody is root; exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from tests.hold.clients import (
    IPV4,
    answers,
    connect,
    in_threads,
    one_datagram,
    ping,
    receive_all,
    receive_exactly,
)
from tests.hold.daemon import Daemon, adopted
from tests.hold.forge import needs_root
from tests.hold.lifecycle import NOBODY, Mistake, all_mistakes, make_mistake, needs_port_seven
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import START, Server, free_ports, twistd

__all__ = ["activated_and_ready", "exit_codes", "nobody_is_root", "told", "watched"]

#: The exit codes of a daemon, as they are documented.
CODES = (0, 64, 69, 71, 77, 78)

#: The period of the watchdog, in seconds. Half of it is the most from one sign of life to the next.
WATCHDOG = 3.0

#: Seconds for which the reactor is blocked.
BLOCKED = 4.0

#: Seconds for a service to end that waits for nobody any more.
STOP = 10.0

#: Seconds after which figures that have changed are told at the latest: every 10, and what a busy machine adds.
STATUS = 13.0

Message = dict[str, str]


class Manager:
    """A service manager: it hears what a service says of itself.

    Args:
        address: Where, as NOTIFY_SOCKET has it.
    """

    def __init__(self, address: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.heard: list[tuple[float, Message]] = []

    def listen(self, seconds: float) -> Message | None:
        """Wait for one message; None if there is none in time. All that came stand in `heard`, with the time."""
        self._sock.settimeout(max(seconds, 0.001))
        try:
            text = self._sock.recv(4096).decode()
        except TimeoutError:
            return None
        message = dict(line.split("=", 1) for line in text.splitlines())
        self.heard.append((time.monotonic(), message))
        return message

    def wait_for(self, what: str, seconds: float = START) -> Message:
        """Wait for the next message that says something.

        Args:
            what: Its name, for example ``READY``.
            seconds: How long.

        Raises:
            Broken: There is none.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            message = self.listen(until - time.monotonic())
            if message is not None and what in message:
                return message
        said = [name for _, each in self.heard for name in each]
        raise Broken(f"no {what} within {seconds:g} s; there came {', '.join(said) or 'nothing'}")

    def listen_for(self, seconds: float) -> None:
        """Hear everything that comes within a time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.listen(until - time.monotonic())

    def times(self, what: str) -> list[float]:
        """Tell when something was heard."""
        return [when for when, message in self.heard if what in message]

    def close(self) -> None:
        """Hear nothing any more."""
        self._sock.close()


def _serve(run: Run, environment: dict[str, str], command: list[str], *options: str) -> Server:
    """Start the service without waiting for what it logs."""
    directory = run.server_directory()
    shutil.copy(Path(__file__).with_name("awkward.py"), directory)
    variables = [f"{name}={value}" for name, value in environment.items()]
    launch = ["env", *variables, *command, *twistd(), "-n", "--pidfile=", "echosvc", *options]
    server = Server(launch, directory)
    run.watch(server)
    return server


@promise(
    "T30-notify",
    "a service manager hears READY when every port answers, figures while they change, RELOADING and READY on SIGHUP,"
    " STOPPING on SIGTERM, and is asked for time while connections are drained",
    deadline=90,
    unguarded=r"when READY came",
)
def told(run: Run) -> str:
    """By a fake NOTIFY_SOCKET: a path, and an abstract name."""
    passed = []
    for kind, address in (("path", str(run.directory / "notify")), ("abstract", f"@hold-{os.getpid()}")):
        run.step = kind
        manager = run.using(contextlib.closing(Manager(address)))
        tcp, udp, second = free_ports(3)
        listeners = (f"echo=tcp:{tcp}", f"echo=udp:{udp}", f"discard=tcp:{second}", "echo=unix:sock")
        server = _serve(
            run,
            {"NOTIFY_SOCKET": address},
            [],
            *(word for each in listeners for word in ("--listen", each)),
        )
        ready = manager.wait_for("READY")
        _all_answer(server, tcp, udp, second)
        kept(ready.get("MAINPID") == str(server.pid), f"MAINPID is {ready.get('MAINPID')}, not {server.pid}")
        kept(ready.get("STATUS"), "READY has no STATUS")
        if kind == "path":
            status = manager.wait_for("STATUS", STATUS)["STATUS"]
            kept(status != ready["STATUS"], f"the figures have not changed: {status}")
            passed.append(f"STATUS {ready['STATUS']!r}, then {status!r}")
        kept(len(manager.times("READY")) == 1, "READY came more than once for one start")
        passed.append(f"{kind}: {_reload(manager, server)}, {_drain(manager, server, tcp)}")
    return "; ".join(passed)


def _all_answer(server: Server, tcp: int, udp: int, second: int) -> None:
    try:
        answers(tcp, udp)
        connect(IPV4, second).close()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(START)
            sock.connect(f"/proc/{server.pid}/cwd/sock")
            sock.sendall(b"hello")
            kept(receive_exactly(sock, 5) == b"hello", "the UNIX socket does not echo")
    except OSError as problem:
        raise Broken(f"not every port answered when READY came: {problem}") from None


def _reload(manager: Manager, server: Server) -> str:
    before = time.monotonic_ns() // 1000
    os.kill(server.pid, signal.SIGHUP)
    reloading = manager.wait_for("RELOADING")
    after = time.monotonic_ns() // 1000
    began = int(reloading.get("MONOTONIC_USEC", "0"))
    kept(before <= began <= after, f"MONOTONIC_USEC is {began}, not from {before} to {after}")
    manager.wait_for("READY")
    return "RELOADING (MONOTONIC_USEC right), READY"


def _drain(manager: Manager, server: Server, tcp: int) -> str:
    """Stop it while a client is busy."""
    with connect(IPV4, tcp) as client:
        client.sendall(b"x")
        receive_exactly(client, 1)
        os.kill(server.pid, signal.SIGTERM)
        server.stopped = True
        manager.wait_for("STOPPING")
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            client.sendall(b"x")
            receive_exactly(client, 1)
            manager.listen(0.05)
    # The runner's own SIGTERM is for who still runs: one that comes while the interpreter ends would kill it.
    until = time.monotonic() + STOP
    while server.alive() and time.monotonic() < until:
        manager.listen(0.05)
    kept(not server.alive(), f"still running {STOP:g} s after its last client has gone")
    asked = manager.times("EXTEND_TIMEOUT_USEC")
    ahead = [
        int(each["EXTEND_TIMEOUT_USEC"]) / 1e6 for _, each in manager.heard if "EXTEND_TIMEOUT_USEC" in each
    ]
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    kept(len(asked) >= 2, f"asked for more time {len(asked)} times in 2.5 s of draining")
    kept(max(gaps) < min(ahead), f"asked for {min(ahead):g} s, and the next time after {max(gaps):.1f} s")
    return f"STOPPING, {len(asked)} times EXTEND_TIMEOUT_USEC ({min(ahead):g} s) in 2.5 s of draining"


@promise(
    "T30-watchdog",
    "the watchdog hears of the service at least at every half of its period, not while its reactor is blocked or its process"
    " stopped, and only if it watches this process",
    deadline=90,
    unguarded=r"while the reactor was blocked",
)
def watched(run: Run) -> str:
    """A protocol blocks the reactor, and SIGSTOP the process."""
    manager = run.using(contextlib.closing(Manager(f"@hold-{os.getpid()}")))
    other = run.using(contextlib.closing(Manager(f"@hold-other-{os.getpid()}")))
    (tcp,) = free_ports(1)
    asked = {"WATCHDOG_USEC": f"{WATCHDOG * 1e6:.0f}"}
    # The process is to be the one that is watched; a shell that becomes it knows its number.
    ours = ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh"]
    listener = ("--listen", f"stuck=awkward:STUCK@tcp:{tcp}")
    server = _serve(run, {**asked, "NOTIFY_SOCKET": f"@hold-{os.getpid()}"}, ours, *listener)
    not_watched = {**asked, "NOTIFY_SOCKET": f"@hold-other-{os.getpid()}", "WATCHDOG_PID": "1"}
    _serve(run, not_watched, [], "--port", "0", "--tcp-port", "off")
    manager.wait_for("READY")
    other.wait_for("READY")
    run.step = "in peace"
    manager.listen_for(2.5 * WATCHDOG)
    signs = manager.times("WATCHDOG")
    gap = max(later - sooner for sooner, later in pairwise(signs)) if len(signs) > 1 else 99
    kept(
        gap <= WATCHDOG / 2,
        f"{len(signs)} signs of life, at most {gap:.2f} s apart; the half is {WATCHDOG / 2:g}",
    )
    run.step = "blocked"
    with connect(IPV4, tcp) as client:
        client.sendall(f"{BLOCKED}".encode())
        silent = _silent(manager, "the reactor was blocked")
    os.kill(server.pid, signal.SIGSTOP)
    stopped = _silent(manager, "the process was stopped")
    os.kill(server.pid, signal.SIGCONT)
    manager.wait_for("WATCHDOG")
    other.listen_for(0.1)
    kept(not other.times("WATCHDOG"), "the watchdog of process 1 heard of this process")
    return (
        f"{len(signs)} signs of life at most {gap:.2f} s apart (half the period: {WATCHDOG / 2:g}), none in {silent:.1f} s"
        f" of a blocked reactor and {stopped:.1f} s of a stopped process, none for another process' watchdog"
    )


def _silent(manager: Manager, why: str) -> float:
    """Hear nothing for as long as the reactor is blocked, but for what was on its way."""
    manager.listen_for(0.3)
    began = time.monotonic()
    manager.listen_for(BLOCKED - 0.6)
    late = [when for when in manager.times("WATCHDOG") if when > began]
    kept(not late, f"{len(late)} signs of life while {why}")
    seconds = time.monotonic() - began
    manager.listen_for(1.0)
    return seconds


@promise(
    "T30-rights",
    "started as root on port 7 with --uid and --gid, no way leads back: no uid 0, no groups, no capability, and a"
    " set-user-ID program stays what it is",
    deadline=40,
    unguarded=r"a set-user-ID program of root's became 0",
)
def nobody_is_root(run: Run) -> str:
    """Tried from within, by a protocol that wants to be root."""
    needs_root()
    needs_port_seven()
    directory = run.directory / "daemon"
    directory.mkdir()
    shutil.copy(Path(__file__).with_name("awkward.py"), directory)
    program = directory / "id"
    shutil.copy(str(shutil.which("id")), program)
    program.chmod(0o4755)
    direct = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", str(program), "-u")
    if shutil.which("setpriv") is None or subprocess.check_output(direct).strip() != b"0":
        raise Skipped("needs setpriv, and a file system on which programs may set the user id")
    (port,) = free_ports(1)
    server = run.using(
        Daemon(
            directory,
            "--port",
            "7",
            "--listen",
            f"rights=awkward:RIGHTS@tcp:{port}",
            twistd_options=(f"--uid={NOBODY}", f"--gid={NOBODY}"),
        )
    )
    server.ports()
    answers(7, 7)
    with connect(IPV4, port) as client:
        tried = json.loads(bytes(receive_all(client, 4096)))
    status = server.status()
    kept(not tried["got"], f"got {', '.join(tried['got'])}")
    kept(tried["became"] == NOBODY, f"a set-user-ID program of root's became {tried['became']}")
    kept(
        "0" not in status["Uid"].split() + status["Gid"].split(), f"Uid {status['Uid']}, Gid {status['Gid']}"
    )
    kept(set(status["Groups"].split()) <= {str(NOBODY)}, f"Groups {status['Groups']}")
    only_bind = 1 << 10  # CAP_NET_BIND_SERVICE
    for name in ("CapPrm", "CapEff", "CapAmb"):
        kept(int(status[name], 16) & ~only_bind == 0, f"{name} {status[name]}")
    kept(status["NoNewPrivs"] == "1", f"NoNewPrivs {status['NoNewPrivs']}")
    code = server.stop()
    kept(code == 0, f"SIGTERM ended the daemon with {code} in place of 0")
    return (
        f"Uid {NOBODY}, Groups {status['Groups'] or '-'}, CapEff {int(status['CapEff'], 16)}, NoNewPrivs 1; setuid, seteuid,"
        f" setgid, setgroups refused; a set-user-ID program of root's runs as {tried['became']}"
    )


@promise(
    "T30-activate",
    "TCP and UDP sockets of a service manager are served, with and without names, and READY says so",
    deadline=40,
)
def activated_and_ready(run: Run) -> str:
    """As from a socket unit: sockets that listen before anybody serves them."""
    passed = []
    for naming, sockets, endpoints in (
        ("named", ("echo=tcp", "echo=udp"), ("systemd:name=echo",)),
        ("without names", ("=tcp", "=udp"), ("systemd:index=0", "systemd:index=1")),
    ):
        manager = run.using(contextlib.closing(Manager(str(run.directory / naming[:5]))))
        launch = [sys.executable, "-P", str(Path(__file__).with_name("pass_sockets.py")), *sockets, "--"]
        options = [word for each in endpoints for word in ("--listen", f"echo={each}")]
        server = _serve(run, {"NOTIFY_SOCKET": str(run.directory / naming[:5])}, launch, *options)
        manager.wait_for("READY")
        server.wait_until_listening()
        ping(IPV4, server.tcp, count=1, interval=0)
        kept(one_datagram(IPV4, server.udp, b"hello") == b"hello", f"{naming}: UDP does not answer")
        passed.append(naming)
    return f"TCP and UDP, {' and '.join(passed)}"


@promise(
    "T30-exit",
    "every exit code of a daemon means what the README says, in the foreground and as a daemon",
    deadline=40,
)
def exit_codes(run: Run) -> str:
    """One mistake for each code; LIFE-errors makes all of them. SIGTERM is 0."""
    first: dict[int, Mistake] = {}
    for each in all_mistakes(run):
        first.setdefault(each.code, each)
    faults: list[str] = []

    def make(number: int) -> None:
        mistake = list(first.values())[number]
        faults.extend(make_mistake(mistake, run.directory / f"code-{mistake.code}"))

    with adopted():
        in_threads(make, count=len(first), at_once=3)
    kept(not faults, "; ".join(faults))
    directory = run.directory / "daemon"
    directory.mkdir()
    server = run.using(Daemon(directory, "--port", "0"))
    server.ports()
    code = server.stop()
    kept(code == 0, f"SIGTERM ended the daemon with {code}")
    seen = sorted({0, *first})
    missing = [str(each) for each in CODES if each not in seen]
    return f"{', '.join(map(str, seen))}" + (f"; NOT TRIED: {', '.join(missing)}" if missing else "")
