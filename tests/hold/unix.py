"""What is promised over UNIX sockets, whose clients share the machine: no descriptor, name or number of theirs harms others."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path

from tests.hold.clients import IPV4, answers, connect, receive_exactly
from tests.hold.programs import program
from tests.hold.promise import kept, promise
from tests.hold.run import Run, Subject
from tests.hold.service import Server, without_guard

__all__ = ["OLD_KERNEL", "sent_descriptors", "sent_descriptors_received"]

#: Milliseconds for which a client may wait for its echo; or so many times as long as this machine was late in the same run.
BOUND, WORST = 50.0, 10

#: Seconds for which each way of sending is tried.
SECONDS = 2.0

#: What makes the service one on a kernel that cannot refuse descriptors (`tests.hold.unguarded`).
OLD_KERNEL = "before Linux 6.16"


@promise(
    "UNIX-descriptors",
    "a TCP socket that lingers for ten minutes is sent over UNIX sockets: TCP and UNIX clients are answered as ever",
    deadline=60,
    unguarded="timed out|was answered late",
)
def sent_descriptors(run: Run) -> str:
    """Over streams, read and unread, datagrams and the admin socket."""
    return _bombarded(run)


@promise(
    "UNIX-received",
    "the same on a kernel that cannot refuse descriptors (before Linux 6.16): they are received, and closed apart",
    deadline=60,
    unguarded="timed out|was answered late",
)
def sent_descriptors_received(run: Run) -> str:
    """Over streams, read and unread, datagrams and the admin socket."""
    with without_guard(OLD_KERNEL) if run.subject is Subject.SERVICE else contextlib.nullcontext():
        return _bombarded(run)


def _bombarded(run: Run) -> str:
    stream, gram, admin = (str(run.directory / name) for name in ("stream", "gram", "admin"))
    places = (f"--listen=echo=unix:{stream}", f"--listen=echo=unixgram:{gram}", f"--admin=unix:{admin}")
    server = run.serve(*places)
    found = [f"{_worst_echo(server, stream, None):.1f} ms at most before"]
    before = server.descriptors()
    worst = 0.0
    counts: list[int] = []
    with program("peer", "late", str(4 * SECONDS)) as clock:
        for how, path in (
            ("stream", stream),
            ("abandoned", stream),
            ("stream", admin),
            ("datagram", gram),
        ):
            run.step = f"{how} {Path(path).name}"
            with program("lingering", how, path, SECONDS) as attack:
                late = _worst_echo(server, stream, attack)
                sent, refused = map(int, attack.communicate()[0].split())
            counts += [sent, refused]
            found.append(f"{run.step}: {sent} sent, {refused} refused, {late:.1f} ms")
            worst = max(worst, late)
        machine = float(clock.communicate()[0])
    figures = "; ".join(found) + f" (this machine's lateness {machine:.0f} ms)"
    kept(worst <= max(BOUND, WORST * machine), f"a client was answered late: {figures}")
    kept(sum(counts) >= 40, f"too few were sent: {figures}")
    until = time.monotonic() + 3.0
    while (left := server.descriptors() - before) > 0 and time.monotonic() < until:
        time.sleep(0.05)
    kept(left <= 0, f"{left} descriptors are left: {figures}")
    answers(server.tcp, server.udp)
    began = time.monotonic()
    server.stop()
    return f"{figures}; stopped in {time.monotonic() - began:.1f} s"


def _worst_echo(server: Server, path: str, attack: subprocess.Popen[str] | None) -> float:
    """Ask over TCP and UNIX until an attack is over, or for a second; return the longest wait in milliseconds."""
    worst = 0.0
    until = time.monotonic() + (10 * SECONDS if attack else 1.0)
    with connect(IPV4, server.tcp) as tcp:
        tcp.settimeout(3.0)
        while time.monotonic() < until and (attack is None or attack.poll() is None):
            for ask in (_ask, _ask_new):
                began = time.monotonic()
                ask(tcp, path)
                worst = max(worst, time.monotonic() - began)
            time.sleep(0.005)
    return worst * 1e3


def _ask(sock: socket.socket, _: str = "") -> None:
    sock.sendall(b"hello")
    kept(receive_exactly(sock, 5) == b"hello", "a client was answered wrong")


def _ask_new(_: socket.socket, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(3.0)
        sock.connect(path)
        _ask(sock)
