"""What is promised of starting and stopping: errors in one line, a daemon that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hold.clients import IPV4, answers, in_threads
from tests.hold.daemon import Daemon, adopted
from tests.hold.forge import needs_root
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import environment, twistd

__all__ = [
    "NOBODY",
    "NO_PERMISSION",
    "Mistake",
    "all_mistakes",
    "daemon",
    "make_mistake",
    "needs_port_seven",
    "port_seven",
    "start_up_errors",
]

# The exit codes as they are documented (sysexits.h), not as the service's code has them.
USAGE, UNAVAILABLE, OS_ERROR, NO_PERMISSION, CONFIG = 64, 69, 71, 77, 78

NOBODY = 65534

#: RFC 862's own port.
ECHO = 7


@dataclass(frozen=True)
class Mistake:
    """Something that cannot be started.

    Attributes:
        options: What is asked for.
        code: The exit code that says so.
        named: What the line on standard error has to name: the option and the value.
        command: A command that takes away a right first.
        twistd_options: What is asked of twistd itself.
        stays: Files that are left behind: root has made them, and is no longer there to remove them.
    """

    options: tuple[str, ...]
    code: int
    named: tuple[str, ...]
    command: tuple[str, ...] = ()
    twistd_options: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()


@promise(
    "LIFE-errors",
    "what cannot be started is refused in one line with its own exit code; nothing is left behind",
    deadline=240,
)
def start_up_errors(run: Run) -> str:
    """Each mistake is made twice: in the foreground, and as a daemon."""
    mistakes = all_mistakes(run)
    wrong: list[str] = []

    def make(number: int) -> None:
        wrong.extend(make_mistake(mistakes[number], run.directory / f"mistake-{number}"))

    with adopted() as orphans:
        in_threads(make, count=len(mistakes), at_once=4)
        if left := _alive(orphans):
            wrong.append(f"{len(left)} processes are left")
    figures = f"{len(mistakes)} mistakes, in the foreground and as a daemon"
    kept(not wrong, f"{figures}: {len(wrong)} faults; {'; '.join(wrong)}")
    skipped = "" if NO_PERMISSION in {each.code for each in mistakes} else " (nothing needs permission here)"
    return f"{figures}: one line and the right exit code each{skipped}"


def all_mistakes(run: Run) -> list[Mistake]:
    """Find everything that cannot be started: before the fork of a daemon, and after it."""
    return [
        *_taken_ports(run),
        *_forbidden_port(),
        Mistake(("--port", "0", "--interface", "203.0.113.9"), OS_ERROR, ("--interface", "203.0.113.9")),
        *(Mistake((f"--port={value}",), USAGE, ("--port", value)) for value in ("abc", "-1", "65536", "")),
        *(
            Mistake((f"--{option}-port={value}",), USAGE, (f"--{option}-port", value))
            for option in ("tcp", "udp")
            for value in ("abc", "65536")
        ),
        Mistake(("--interface", "nowhere"), USAGE, ("--interface", "nowhere")),
        Mistake(("--backlog", "0"), USAGE, ("--backlog", "0")),
        Mistake(("--rcvbuf", "x"), USAGE, ("--rcvbuf", "x")),
        Mistake(("--stall-timeout", "-5"), USAGE, ("--stall-timeout", "-5")),
        Mistake(("--prot", "1"), USAGE, ("--prot",)),
        Mistake(("--nonsense",), USAGE, ("--nonsense",)),
        Mistake(("8080",), USAGE, ("8080",)),
        Mistake(("--tcp-port", "off", "--udp-port", "off"), USAGE, ("--tcp-port", "--udp-port", "off")),
        *_wrong_files(run),
        *_wrong_users(),
        *(
            Mistake(
                ("--listen", f"echo=unix:sock{number}", "--listen", "b=awkward:BROKEN@tcp:0"),
                OS_ERROR,
                ("b=awkward:BROKEN@tcp:0", "cannot begin"),
                twistd_options=options,
                stays=("pid", f"sock{number}") if options else (),
            )
            for number, options in enumerate(((), (f"--uid={NOBODY}",)) if os.geteuid() == 0 else ((),))
        ),
    ]


def make_mistake(mistake: Mistake, directory: Path) -> list[str]:
    """Make a mistake in both forms, one after the other: at once they could meet on the port that is still free.

    Args:
        mistake: What to do wrong.
        directory: Where; it is made.

    Returns:
        What was not as it should be.
    """
    faults: list[str] = []
    for daemonised in (False, True):
        where = directory.with_name(f"{directory.name}-{daemonised}")
        where.mkdir()
        where.chmod(0o1777)  # also for the user nobody
        shutil.copy(Path(__file__).with_name("awkward.py"), where)
        faults += _faults(mistake, where, daemonised=daemonised)
    return faults


def _alive(orphans: Callable[[], set[int]]) -> set[int]:
    """Find orphans that have not ended, and bury those that have."""
    until = time.monotonic() + 5
    while (left := orphans()) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)
    return left


def _wrong_files(run: Run) -> Iterator[Mistake]:
    """A configuration, a pidfile, a log and a directory that cannot be used."""
    config = run.directory / "wrong.toml"
    config.write_text("[[listener]]\nprotocol = 'ecko'\nendpoint = 'tcp:0'\n")
    yield Mistake(("--config", str(config)), CONFIG, (f"{config}:2", "ecko"))
    yield Mistake(("--config", "nowhere.toml"), CONFIG, ("nowhere.toml",))
    for option in ("pidfile", "logfile", "rundir"):
        wrong = f"--{option}=/nowhere/{option}"
        yield Mistake(("-p", "0"), OS_ERROR, (f"--{option}", "/nowhere"), twistd_options=(wrong,))
    running = run.directory / "running"
    running.write_text(str(os.getpid()))
    yield Mistake(
        ("-p", "0"), UNAVAILABLE, ("--pidfile", str(os.getpid())), twistd_options=(f"--pidfile={running}",)
    )


def _wrong_users() -> Iterator[Mistake]:
    """Users that do not exist, or that we may not become."""
    for nobody_has in ((), ("--gid=12345678",)):
        options = ("--uid=12345678", *nobody_has)
        yield Mistake(("-p", "0"), USAGE, ("--uid", "12345678"), twistd_options=options)
    command: tuple[str, ...] = ("env",)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return
        command = ("setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid")
    user = NOBODY if os.geteuid() != NOBODY else 0
    yield Mistake(("-p", "0"), NO_PERMISSION, ("--uid",), command, (f"--uid={user}",))


def _taken_ports(run: Run) -> Iterator[Mistake]:
    """A TCP and a UDP port that somebody else has."""
    for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        holder = run.using(contextlib.closing(_bound(kind)))
        while kind == socket.SOCK_DGRAM and not _is_free(holder.getsockname()[1]):
            holder = run.using(contextlib.closing(_bound(kind)))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = str(holder.getsockname()[1])
        yield Mistake(("--port", port), UNAVAILABLE, ("--port", port, name.upper()))
        yield Mistake(
            ("--port", "0", f"--{name}-port", port, "-i", IPV4), UNAVAILABLE, (f"--{name}-port", port)
        )


def _bound(kind: socket.SocketKind, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind(("0.0.0.0", port))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_free(port: int) -> bool:
    """Whether TCP could have this number: it may be that of a connection of somebody else's."""
    with contextlib.suppress(OSError), _bound(socket.SOCK_STREAM, port):
        return True
    return False


def _forbidden_port() -> Iterator[Mistake]:
    """Port 7, as a user who may not have it."""
    first_free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if first_free.exists() and int(first_free.read_text()) <= ECHO:
        return
    command: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return
        command = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        if subprocess.run([*command, *twistd(), "--version"], capture_output=True, check=False).returncode:
            # The interpreter is where nobody may not read it: stay root, without the right to low ports.
            command = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
    yield Mistake(("--port", str(ECHO)), NO_PERMISSION, ("--port", str(ECHO)), command or ("env",))


def _faults(mistake: Mistake, directory: Path, *, daemonised: bool) -> Iterator[str]:
    """Make a mistake, and tell what is not as it should be."""
    pidfile, log = directory / "pid", directory / "log"
    mode = [f"--logfile={log}"] if daemonised else ["-n"]
    command = [*mistake.command, *twistd(), *mode, f"--pidfile={pidfile}"]
    command += [*mistake.twistd_options, "echosvc", *mistake.options]
    name = (
        f"{' '.join(mistake.twistd_options + mistake.options)} ({'daemon' if daemonised else 'foreground'})"
    )
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment(), capture_output=True, text=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        yield f"{name}: still running after 20 s"
        return
    said = done.stderr.splitlines()
    everything = done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    if done.returncode != mistake.code:
        yield f"{name}: exit code {done.returncode} in place of {mistake.code}"
    if len(said) != 1:
        yield f"{name}: {len(said)} lines on standard error: {' | '.join(said[:3])}"
    elif missing := [word for word in mistake.named if word not in said[0]]:
        yield f"{name}: the line does not name {' and '.join(missing)}: {said[0]}"
    if "Traceback" in everything:
        yield f"{name}: a traceback"
    left = {each.name for each in directory.iterdir()} - {"log", "awkward.py", "__pycache__", *mistake.stays}
    if left:
        yield f"{name}: left behind: {', '.join(sorted(left))}"


@promise(
    "LIFE-daemon",
    "as a daemon: the pidfile has the pid, the log the ports; SIGTERM ends it with 0 and removes the pidfile",
    deadline=40,
)
def daemon(run: Run) -> str:
    """As ``twistd --pidfile X --logfile Y echosvc --port 0``."""
    directory = run.directory / "daemon"
    directory.mkdir()
    server = run.using(Daemon(directory, "--port", "0"))
    tcp, udp = server.ports()
    answers(tcp, udp)
    _ends_well(server)
    return f"served TCP {tcp} and UDP {udp}; SIGTERM: exit code 0, no pidfile, a clean log"


@promise(
    "LIFE-drop",
    "as a daemon on port 7 with --uid and --gid: bound first, then every right is dropped",
    deadline=40,
)
def port_seven(run: Run) -> str:
    """What is left of root's rights is read from ``/proc/PID/status``."""
    needs_root()
    needs_port_seven()
    directory = run.directory / "daemon"
    directory.mkdir()
    options = (f"--uid={NOBODY}", f"--gid={NOBODY}")
    # The folder is root's, so the pidfile stays; the next start replaces it.
    with Daemon(directory, "--port", str(ECHO), twistd_options=options) as before:
        kept(
            before.stop() == 0 and before.pidfile.read_text() == str(before.pid), "the pidfile does not stay"
        )
    server = run.using(Daemon(directory, "--port", str(ECHO), twistd_options=options))
    kept(server.ports() == (ECHO, ECHO), f"listens on {server.ports()}")
    status = server.status()
    rights = {name: status[name] for name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "NoNewPrivs")}
    figures = ", ".join(
        f"{name} {' '.join(dict.fromkeys(value.split())) or '-'}" for name, value in rights.items()
    )
    for name in ("Uid", "Gid"):
        kept(set(rights[name].split()) == {str(NOBODY)}, figures)
    kept(set(rights["Groups"].split()) <= {str(NOBODY)}, figures)
    kept(rights["NoNewPrivs"] == "1", figures)
    kept(int(rights["CapPrm"], 16) == 0 == int(rights["CapEff"], 16), figures)
    answers(ECHO, ECHO)
    code = server.stop()
    kept(code == 0 and not server.trouble(), f"SIGTERM ended it with {code}; {server.trouble()}")
    return f"{figures}; serves port {ECHO}, in spite of the pidfile of the one before; SIGTERM: exit code 0, a clean log"


def needs_port_seven() -> None:
    """Go on if nobody has port 7.

    Raises:
        Skipped: Somebody has.
    """
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6, kind) as sock:
            try:
                sock.bind(("::", ECHO))
            except OSError as problem:
                raise Skipped(f"needs port {ECHO}: {problem.strerror}") from problem


def _ends_well(server: Daemon) -> None:
    code = server.stop()
    kept(code == 0, f"SIGTERM ended the daemon with {code} in place of 0")
    kept(not server.pidfile.exists(), "SIGTERM left the pidfile")
    if found := server.trouble():
        raise Broken(f"the log has: {found}")
