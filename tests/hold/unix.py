"""What is promised over UNIX sockets, whose clients share the machine: no descriptor, name or number of theirs harms others."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hold.clients import IPV4, answers, connect, receive_exactly
from tests.hold.programs import program
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run, Subject
from tests.hold.service import Server, without_guard

__all__ = ["OLD_KERNEL", "names", "one_user", "sent_descriptors", "sent_descriptors_received"]

#: Milliseconds for which a client may wait for its echo; or so many times as long as this machine was late in the same run.
BOUND, WORST = 50.0, 10

#: Seconds for which each way of sending is tried.
SECONDS = 2.0

#: A user without rights, and the share of a processor that a service takes at most that has nothing to do.
USER, BUSY = 12_345, 0.2

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


@promise(
    "UNIX-names",
    "an answer goes to a socket of who has asked: not where a relative name leads, a link, a swapped folder, or back to us",
    deadline=60,
    unguarded="root-only socket got [1-9]",
)
def names(run: Run) -> str:
    """A user asks in names that lead to a socket of root's; then root in one that leads back to the service."""
    if os.geteuid():
        raise Skipped("needs root")
    run.directory.chmod(0o755)
    found = [_borrowed(run, *options) for options in ((), ("--workers", "2"))]
    return "; ".join(found)


def _borrowed(run: Run, *options: str) -> str:
    place = f"{run.directory}/gram{len(run.servers)}"
    server = run.serve(f"--listen=echo=unixgram:{place}:mode=666", *options)
    folder = run.directory / f"client{len(run.servers)}"
    folder.mkdir()
    os.chown(folder, USER, USER)
    target = Path(f"/proc/{server.pid}/cwd").resolve() / "run" / "secret"
    target.parent.mkdir()
    target.parent.parent.chmod(0o755)
    got: dict[str, int] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as secret:
        secret.bind(str(target))
        target.chmod(0o600)
        secret.setblocking(False)
        for how in ("relative", "link", "folder", "honest"):
            with _standing_still(server) if how != "honest" else contextlib.nullcontext():
                shutil.rmtree(folder / "run", ignore_errors=True)
                (folder / "run").unlink(missing_ok=True)
                with program("borrower", how, place, folder, target, USER) as borrower:
                    answer = borrower.communicate()[0]
            time.sleep(0.3)
            got[how] = _waiting(secret)
    kept(answer == "honest", f"an honest client was answered {answer!r}")
    busy = _looped(run, server, place)
    figures = f"{' '.join(options) or 'alone'}: root-only socket got " + ", ".join(
        f"{count} by {how}" for how, count in got.items()
    )
    figures += f"; after one datagram whose answer leads back it takes {busy:.1%} of a processor"
    kept(not any(got.values()) and busy < BUSY, figures)
    return figures


def _looped(run: Run, server: Server, place: str) -> float:
    """Ask in a name that is a hard link to the service's own socket by the time of the answer; return how busy that makes it."""
    name = f"{run.directory}/loop{len(run.servers)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client, _standing_still(server):
        client.bind(name)
        client.sendto(b"loop", place)
        Path(name).unlink()
        os.link(place, name)
    time.sleep(0.5)
    before, began = _processor_seconds(server), time.monotonic()
    time.sleep(1.0)
    busy = (_processor_seconds(server) - before) / (time.monotonic() - began)
    answers(server.tcp, server.udp)
    return busy


@contextlib.contextmanager
def _standing_still(server: Server) -> Iterator[None]:
    """Stop the service, with its workers, for as long as the context lasts."""
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)


def _waiting(sock: socket.socket) -> int:
    """Take what has come in, and count it."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(100)
            count += 1
    return count


def _processor_seconds(server: Server) -> float:
    """Return the processor time of the service and its workers."""
    used = 0
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = (
                each.read_text().rpartition(")")[2].split()
            )  # proc(5): utime and stime; the group is the third
            if int(after_name[2]) == server.pid:
                used += int(after_name[11]) + int(after_name[12])
    return used / os.sysconf("SC_CLK_TCK")


@promise(
    "UNIX-users",
    "a user who takes all connections over UNIX sockets that there are for one keeps no other out, over UNIX or TCP",
    deadline=60,
    unguarded="60 of one user let in",
)
def one_user(run: Run) -> str:
    """One opens as many as there are places; and where a local proxy is to bring all clients, it has them all."""
    if os.geteuid():
        raise Skipped("needs root")
    run.directory.chmod(0o755)
    return "; ".join(_crowded(run, *options) for options in ((), ("--user-limits", "off")))


def _crowded(run: Run, *options: str) -> str:
    places, path = 60, f"{run.directory}/stream{len(run.servers)}"
    server = run.serve("--max-connections", str(places), f"--listen=echo=unix:{path}:mode=666", *options)
    with contextlib.ExitStack() as sockets:
        held = [sockets.enter_context(_connected_as(path, USER)) for _ in range(places)]
        let_in = sum(map(_is_served, held))
        other = _is_served(sockets.enter_context(_connected_as(path, USER + 1)))
        tcp = _is_served_over_tcp(server)
    server.stop()
    figures = (
        f"{' '.join(options) or 'by default'}: {let_in} of one user let in, of {places} places; another user "
        f"{'served' if other else 'refused'}, TCP {'served' if tcp else 'refused'}"
    )
    whole = bool(options)  # for a proxy, which brings all clients under one user
    kept(
        (let_in, other, tcp) == ((places, False, False) if whole else (places * 3 // 4, True, True)), figures
    )
    return figures


def _is_served_over_tcp(server: Server) -> bool:
    try:
        with connect(IPV4, server.tcp) as sock:
            return _is_served(sock)
    except ConnectionResetError:  # as soon as it was connected
        return False


def _connected_as(path: str, user: int) -> socket.socket:
    """Connect as a user: the kernel remembers who it was."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5.0)
    os.seteuid(user)
    try:
        sock.connect(path)
    finally:
        os.seteuid(0)
    return sock


def _is_served(sock: socket.socket) -> bool:
    try:
        _ask(sock)
    except (OSError, Broken):
        return False
    return True


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
