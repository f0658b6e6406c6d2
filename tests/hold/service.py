"""The process under test: started as a user starts it, watched from outside, always ended."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hold.carriers import Carrier, Place, find_place

__all__ = [
    "REACTORS",
    "START",
    "Lateness",
    "NotServing",
    "Server",
    "environment",
    "free_ports",
    "lateness",
    "listening",
    "start_control",
    "start_service",
    "trouble",
    "twistd",
    "use_reactor",
    "without",
    "without_guard",
]

#: How a server says where it listens: ``echo (RFC 862) listens on TCP [::]:40123``, perhaps followed by a note.
_LISTENS = re.compile(r"\w+(?: \([^)]*\))? listens on (TCP|UDP) (\S+):(\d+)\b")

#: What never stands in the log of a healthy service.
_TROUBLE = re.compile(r"^.*(?:Traceback|Unhandled).*$", re.MULTILINE)

#: Seconds for a server to start, and to stop: far more than either takes, even on a busy machine.
START = 15.0
STOP = 15.0


class NotServing(Exception):
    """A server did not come up; `str()` says what it said."""


@dataclass(frozen=True)
class Listening:
    """One line of a server's log.

    Attributes:
        transport: ``TCP`` or ``UDP``.
        host: The bound address, as logged.
        port: The bound port.
    """

    transport: str
    host: str
    port: int


def listening(log: str) -> list[Listening]:
    """Read from a log what listens where."""
    return [Listening(transport, host, int(port)) for transport, host, port in _LISTENS.findall(log)]


@dataclass(frozen=True)
class Lateness:
    """How late a timer of the server's reactor was at worst.

    Attributes:
        late: Seconds after it was due.
        own: The same without the seconds for which the server waited for its turn on the processor.
    """

    late: float
    own: float


def lateness(notes: str, since: float, until: float) -> Lateness | None:
    """Read what the timer has noted (`tests.hold.launch`).

    Args:
        notes: Its file.
        since: Where to begin, in seconds of CLOCK_MONOTONIC.
        until: Where to end; the first note after it is counted, since it tells of the time before.

    Returns:
        The worst; None if there is no note after `until` yet.
    """
    late = own = 0.0
    for line in notes[: notes.rfind("\n") + 1].splitlines():
        when, *worst = map(float, line.split())
        if when > since:
            late, own = max(late, worst[0] / 1e3), max(own, worst[1] / 1e3)
        if when > until:
            return Lateness(late, own)
    return None


def trouble(log: str) -> str | None:
    """Find the first line in a log that a healthy service does not write, or None."""
    found = _TROUBLE.search(log)
    return found.group().strip() if found else None


#: What `twistd` can run on: Twisted's reactors, its asyncio reactor on uvloop's loop, and a Python without epoll.
REACTORS = ("epoll", "poll", "select", "asyncio", "uvloop", "no-epoll")

#: The reactor of every server that is started from now on; None leaves the choice to twistd, as a user does.
_reactor: str | None = None


def use_reactor(name: str) -> None:
    """Start every server on this reactor from now on.

    Args:
        name: One of `REACTORS`.
    """
    global _reactor  # noqa: PLW0603  # one choice for one run of the command
    _reactor = name


#: The promise whose guard every process that is started from now on is to do without.
_without: str | None = None


@contextlib.contextmanager
def without_guard(name: str) -> Iterator[None]:
    """Have every process that is started meanwhile do without the guard of a promise.

    Args:
        name: The promise.
    """
    global _without  # noqa: PLW0603  # likewise
    _without = name
    try:
        yield
    finally:
        _without = None


def without() -> str | None:
    """The promise whose guard is switched off now, or None."""
    return _without


def twistd(*, timer: bool = False) -> list[str]:
    """The command that runs twistd on the interpreter that runs us, wherever it is installed.

    Args:
        timer: Watch the reactor by a timer, which notes its lateness in the file ``lateness``.
    """
    if _reactor or timer or _without:
        # -P keeps this package's module names out of the program's way.
        launch = str(Path(__file__).with_name("launch.py"))
        how = (_reactor or "epoll") + ",timer" * timer + f",without={_without}" * bool(_without)
        return [sys.executable, "-P", launch, how]
    script = Path(sys.executable).with_name("twistd")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


@functools.cache
def environment() -> dict[str, str]:
    """The environment for a server: ours, and the checkout on the path if echosvc is not installed."""
    ours = {**os.environ, "PYTHONUNBUFFERED": "1"}
    probe = [sys.executable, "-P", "-c", "import echosvc, twisted.plugins.echosvc_plugin"]
    if subprocess.run(probe, cwd="/", env=ours, capture_output=True, check=False).returncode:
        checkout = str(Path(__file__).parents[2])
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH")]))
    return ours


def free_ports(count: int) -> tuple[int, ...]:
    """Find ports that neither TCP nor UDP uses, for a server that cannot tell which it was given.

    They are below those that systems give to clients: nobody takes them by accident before the server does.
    """
    found: list[int] = []
    with contextlib.ExitStack() as things:
        while len(found) < count:
            port = random.randrange(15_000, 30_000)
            stream = things.enter_context(socket.socket())
            datagram = things.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                stream.bind(("", port))
                datagram.bind(("", port))
                found.append(port)
    return tuple(found)


class Server:
    """A server in a process of its own.

    Args:
        command: What to run.
        directory: Its working directory, where its log stands.
        descriptors: What it inherits besides.

    Attributes:
        pid: The process.
        tcp: The TCP port, once it listens.
        udp: The UDP port, once it listens.
        place: Where the clients of a promise connect, once it listens: at `tcp`, or over another carrier.
        stopped: `stop` was called.
    """

    def __init__(self, command: Sequence[str], directory: Path, descriptors: Sequence[int] = ()) -> None:
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                start_new_session=True,  # Ctrl-C is for the harness, which then stops the server
            )
        self.pid = self._process.pid
        self.tcp = self.udp = 0
        self.place = Place(Carrier.TCP, "0")
        self.stopped = False

    def wait_until_listening(self, carrier: Carrier = Carrier.TCP) -> None:
        """Wait for the log to name a TCP and a UDP port, and a place.

        Args:
            carrier: Over what `place` is to be.

        Raises:
            NotServing: The process ended, or has said nothing in time.
        """
        until = time.monotonic() + START
        while time.monotonic() < until:
            log = self.log()
            ports = {each.transport: each.port for each in reversed(listening(log))}
            if ports.keys() == {"TCP", "UDP"} and (place := find_place(carrier, log)):
                self.tcp, self.udp, self.place = ports["TCP"], ports["UDP"], place
                return
            if not self.alive():
                break
            time.sleep(0.02)
        raise NotServing(f"the server does not listen: {self.log().strip().rpartition(chr(10))[2]}")

    def listening(self, count: int) -> list[Listening]:
        """Wait for the log to name so many places at which the server listens, and return all that it names.

        Raises:
            NotServing: The process ended, or has not named as many in time.
        """
        until = time.monotonic() + START
        while len(found := listening(self.log())) < count:
            if not self.alive() or time.monotonic() > until:
                raise NotServing(f"the server listens at {len(found)} of {count} places: {self.log()[-300:]}")
            time.sleep(0.02)
        return found

    def log(self) -> str:
        """Everything the server has written so far."""
        return self._log.read_text(errors="replace")

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.poll() is None

    def timer_lateness(self, since: float, until: float) -> Lateness:
        """How late the timer was at worst, from one moment to another (seconds of CLOCK_MONOTONIC).

        Raises:
            NotServing: It does not run.
        """
        give_up = time.monotonic() + STOP
        while (found := lateness((self._log.parent / "lateness").read_text(), since, until)) is None:
            if time.monotonic() > give_up:
                raise NotServing(f"a timer that was due has not run for {STOP:g} s")
            time.sleep(0.02)
        return found

    def descriptors(self) -> int:
        """How many descriptors the process has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def anonymous(self) -> int:
        """Memory the process has written to and holds now, in bytes: what no file backs.

        What a file backs (code) the system may drop and fetch again whenever it likes.
        """
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.MULTILINE)
        if found is None:
            raise NotServing("the server has no memory: it is gone")
        return int(found.group(1)) * 1024

    def resident(self) -> int:
        """Memory the process holds now, in bytes (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        if found is None:
            raise NotServing("the server has no memory: it is gone")
        return int(found.group(1)) * 1024

    def stop(self) -> int:
        """Send SIGTERM and wait. A second call only returns the exit code again.

        Returns:
            The exit code; negative for a signal.

        Raises:
            NotServing: It still runs after `STOP` seconds.
        """
        self.stopped = True
        self._process.terminate()
        try:
            return self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            raise NotServing(f"still running {STOP:g} s after SIGTERM") from None

    def close(self) -> None:
        """Kill it and whatever it started. Does nothing if it has ended."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


def start_service(
    directory: Path, options: Sequence[str], prefix: Sequence[str] = (), *, timer: bool = False
) -> Server:
    """Start the real service in the foreground on a free port.

    Args:
        directory: Its working directory.
        options: More options of ``twistd echosvc``.
        prefix: A command that starts the command.
        timer: As in `twistd`.
    """
    command = [*prefix, *twistd(timer=timer), "-n", "--pidfile=", "echosvc", "--port", "0", *options]
    return Server(command, directory)


def start_control(directory: Path, prefix: Sequence[str] = ()) -> Server:
    """Start the stock server on a free port.

    Args:
        directory: Its working directory.
        prefix: A command that starts the command.
    """
    # -P keeps this package's module names out of the program's way.
    return Server([*prefix, sys.executable, "-P", str(Path(__file__).with_name("control.py"))], directory)
