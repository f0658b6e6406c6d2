"""What is promised when time is not what it was: the clock is set, the 32 bits of `time` run over, the process stands still.

The clock is set for the service alone, by libfaketime; what counts seconds since the start (CLOCK_MONOTONIC) stays right.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hold.clients import (
    IPV4,
    Pings,
    answers,
    connect,
    in_threads,
    one_datagram,
    ping,
    receive_all,
    receive_exactly,
)
from tests.hold.kernel import connection
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["roll_over", "set_clock", "standstill"]

#: Seconds after which the service ends a connection without a PROXY header (which has no option), one whose peer takes
#: nothing, and an idle one, here; and how exact it is, on a busy machine.
HEADER, STALL, IDLE = 5.0, 4.0, 7.0
EARLY, LATE = 1.2, 3.0

#: Seconds for which the process stands still, and after which an idle connection is ended there.
STANDSTILL, SHORT_IDLE = 5.0, 4.0

#: What a proxy sends first, and its client next.
ANNOUNCED = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 7\r\nhello"


@promise(
    "T26",
    "a clock that is set by an hour, either way, closes no connection and stops no timer",
    deadline=60,
    unguarded="was closed|too late|was to end",
)
def set_clock(run: Run) -> str:
    """Two services, one for each direction, with every timeout that a connection can meet."""
    steps = {"+1 h": "+3600", "-1 h": "-3600"}
    clocks = [_Clock(run.directory / f"clock{number}") for number in range(len(steps))]
    places = [_serve(run, IDLE, prefix=clock.command) for clock in clocks]

    def step(number: int) -> str:
        name, offset = list(steps.items())[number]
        return f"{name}: {_set(places[number], clocks[number], offset)}"

    return "; ".join(in_threads(step, count=len(steps), at_once=len(steps)))


@promise(
    "T26-stop",
    f"a process that stood still for {STANDSTILL:g} s closes nobody for that: all that came meanwhile is answered",
    deadline=60,
    unguarded="was closed for the time|were answered that came meanwhile|was cut off",
)
def standstill(run: Run) -> str:
    """Longer than its timeouts: what a peer did not say while nobody listened was no silence."""
    place = _serve(run, SHORT_IDLE)
    pings: list[Pings] = []

    def go_on_pinging() -> None:
        with contextlib.suppress(Broken):  # told by the missing figures
            pings.append(ping(IPV4, place.tcp, count=30, interval=0.05))

    pinger = threading.Thread(target=go_on_pinging, daemon=True)
    with connect(IPV4, place.tcp) as idle, connect(IPV4, place.announced) as proxy:
        _says(idle)
        pinger.start()
        time.sleep(0.5)
        run.step = "standing still"
        os.kill(place.server.pid, signal.SIGSTOP)
        try:
            proxy.sendall(ANNOUNCED)
            waiting = [run.using(connect(IPV4, place.tcp)) for _ in range(200)]
            for each in waiting:
                each.sendall(b"hello")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                datagrams.settimeout(STANDSTILL + 2)
                datagrams.sendto(b"hello", (IPV4, place.udp))
                time.sleep(STANDSTILL)
                os.kill(place.server.pid, signal.SIGCONT)
                went_on = time.monotonic()
                kept(datagrams.recv(100) == b"hello", "a datagram was answered wrong")
        finally:
            os.kill(place.server.pid, signal.SIGCONT)
        kept(
            _is_answered(proxy), "a PROXY header that came in time, before the process went on, was too late"
        )
        answered = sum(_is_answered(each) for each in waiting)
        kept(
            answered == len(waiting),
            f"{answered}/{len(waiting)} connections were answered that came meanwhile",
        )
        time.sleep(max(0.0, went_on + 1 - time.monotonic()))
        kept(_still_open(idle), "an idle connection was closed for the time in which the process stood still")
        ended = _seconds_until_end(idle, SHORT_IDLE, time.monotonic())
    pinger.join()
    kept(pings, "a client that pinged all the while was cut off")
    answers(place.tcp, place.udp)
    return (
        f"{len(pings[0].seconds)}/30 pings, one of which took {pings[0].worst:.1f} s; {answered}/{len(waiting)} connections, a"
        f" datagram and a PROXY header that came meanwhile; 0 closed; afterwards idle for {ended:.1f} s ({SHORT_IDLE:g})"
    )


@promise(
    "T26-2036",
    "time goes on when its 32 bits run over, on 2036-02-07: TCP and UDP count on from 0",
    deadline=40,
    unguarded="it has not run over",
)
def roll_over(run: Run) -> str:
    """Asked from two seconds before to two seconds after."""
    clock = _Clock(run.directory / "clock")
    clock.set("@2036-02-07 06:28:10")  # six seconds before; it starts when the service does
    server = run.serve("--listen=time=tcp:0", "--listen=time=udp:0", prefix=clock.command)
    lines = server.listening(4)
    # Echo's are the first two lines, in whatever order; those of time come after them.
    echo, times = ({each.transport: each.port for each in some} for some in (lines[:2], lines[2:]))
    told: dict[str, list[int]] = {"TCP": [], "UDP": []}
    until = time.monotonic() + 12
    while time.monotonic() < until and not _has_run_over(told):
        told["TCP"].append(_time_by_stream(times["TCP"]))
        told["UDP"].append(int.from_bytes(one_datagram(IPV4, times["UDP"], b"") or b"", "big"))
        time.sleep(0.1)
    for name, values in told.items():
        steps = [(after - before) % 2**32 for before, after in itertools.pairwise(values)]
        figures = f"{name}: {values[0]} to {values[-1]} in {len(values)} answers"
        kept(values[0] > 2**32 - 10 and values[-1] < 10, f"{figures}: it has not run over")
        kept(max(steps) <= 1, f"{figures}: a step of {max(steps)} s")
    answers(echo["TCP"], echo["UDP"])
    return ", ".join(
        f"{name} {values[0]} to {values[-1]} in {len(values)} answers" for name, values in told.items()
    )


def _has_run_over(told: dict[str, list[int]]) -> bool:
    """Whether both have counted on for two seconds."""
    return all(values and 2 <= values[-1] < 10 for values in told.values())


class _Clock:
    """A clock for one process.

    Args:
        file: Where it is set.

    Attributes:
        command: A command that starts a command with this clock.

    Raises:
        Skipped: There is no libfaketime.
    """

    def __init__(self, file: Path) -> None:
        libraries = [*Path("/usr/lib").glob("**/faketime/libfaketime.so.1")]
        if not libraries:
            raise Skipped("needs libfaketime (faketime in Debian)")
        self._file = file
        self.set("+0")
        self.command = (
            "env",
            "TZ=UTC",
            f"LD_PRELOAD={libraries[0]}",
            f"FAKETIME_TIMESTAMP_FILE={file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    def set(self, to: str) -> None:
        """Set it: seconds more or less than there are, or a date."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{to}\n")
        new.replace(self._file)


@dataclass(frozen=True)
class _Place:
    """Where a service is reached: behind `announced` a PROXY header comes first."""

    server: Server
    tcp: int
    udp: int
    announced: int


def _serve(run: Run, idle: float, *, prefix: tuple[str, ...] = ()) -> _Place:
    server = run.serve(
        f"--listen=echo=haproxy:tcp:0:interface={IPV4}",
        f"--idle-timeout={idle:g}",
        f"--stall-timeout={STALL:g}",
        prefix=prefix,
    )
    tcp = {each.host: each.port for each in server.listening(3) if each.transport == "TCP"}
    announced = tcp.pop(IPV4)
    return _Place(server, tcp.popitem()[1], server.udp, announced)


def _set(place: _Place, clock: _Clock, offset: str) -> str:
    """Set the clock under everything that waits, and see what is left and what ends when.

    Raises:
        Broken: Something has ended, or does not.
    """
    with connect(IPV4, place.tcp) as idle, connect(IPV4, place.announced) as proxy:
        _says(idle)
        clock.set(offset)
        pings = ping(IPV4, place.tcp, count=40, interval=0.04)
        kept(_still_open(idle), "an idle connection was closed")
        kept(_is_announced(proxy), "a PROXY header that came in time was too late")
        answers(place.tcp, place.udp)
        since = time.monotonic()
        _says(idle)
        with connect(IPV4, place.announced) as silent, _stalled(place) as stalled:
            watches = (
                lambda: _seconds_until_end(idle, IDLE, since),
                lambda: _seconds_until_end(silent, HEADER, since),
                lambda: _seconds_until_release(place, stalled),
            )
            ended = in_threads(lambda number: watches[number](), count=len(watches), at_once=len(watches))
    return (
        f"{len(pings.seconds)}/40 pings, 0 closed; then cut off: idle for {ended[0]:.1f} s ({IDLE:g}), silent before a PROXY"
        f" header for {ended[1]:.1f} s ({HEADER:g}), stalled for {ended[2]:.1f} s ({STALL:g})"
    )


def _says(sock: socket.socket) -> None:
    sock.sendall(b"hello")
    kept(_is_answered(sock), "a new connection was not answered")


def _is_answered(sock: socket.socket) -> bool:
    try:
        return receive_exactly(sock, 5) == b"hello"
    except Broken:
        return False


def _is_announced(sock: socket.socket) -> bool:
    try:
        sock.sendall(ANNOUNCED)
    except OSError:
        return False
    return _is_answered(sock)


def _still_open(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"hello")
    except OSError:
        return False
    return _is_answered(sock)


def _seconds_until_end(sock: socket.socket, due: float, since: float) -> float:
    """Wait for the service to end a connection.

    Args:
        sock: The connection.
        due: Seconds after which it is to end.
        since: When they began.

    Raises:
        Broken: It does so much too early or too late.
    """
    sock.settimeout(max(0.1, since + due + LATE - time.monotonic()))
    try:
        with contextlib.suppress(ConnectionError):
            sock.recv(1)
    except TimeoutError:
        raise Broken(f"what was to end after {due:g} s has not after {due + LATE:g}") from None
    waited = time.monotonic() - since
    kept(waited >= due - EARLY, f"what was to end after {due:g} s did after {waited:.1f}")
    return waited


@contextlib.contextmanager
def _stalled(place: _Place) -> Iterator[socket.socket]:
    """Have a connection whose peer takes nothing of what waits for it, and has ended its own half."""
    with connect(IPV4, place.tcp, receive_buffer=4096) as sock:
        sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                sock.send(bytes(100_000))
        sock.shutdown(socket.SHUT_WR)
        yield sock


def _seconds_until_release(place: _Place, sock: socket.socket) -> float:
    """Wait until the service holds its end of a connection no more.

    Raises:
        Broken: It does so for much too long, or not for long enough.
    """
    started = time.monotonic()
    while (theirs := connection((IPV4, place.tcp), sock.getsockname())) is not None and theirs.owned:
        waited = time.monotonic() - started
        kept(waited < STALL + LATE, f"a stalled connection is still held after {waited:.1f} s")
        time.sleep(0.05)
    waited = time.monotonic() - started
    kept(waited >= STALL - EARLY, f"a stalled connection was given up after {waited:.1f} s")
    return waited


def _time_by_stream(port: int) -> int:
    with connect(IPV4, port) as sock:
        said = receive_all(sock, 4)
    kept(len(said) == 4, f"time said {len(said)} bytes")
    return int.from_bytes(said, "big")
