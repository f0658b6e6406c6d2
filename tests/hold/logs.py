"""What is promised of the log: peers neither write in it what they like nor fill it; the service lives without it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hold.clients import IPV4, answers, connect, in_threads, ping, receive_all
from tests.hold.forge import forge, needs_root
from tests.hold.log_service import ENTRY, Logging, start_logging
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.talkative import PRINTING_WAYS, SOCKET, WAYS

__all__ = ["OWN_DEV", "attack", "broken_logs", "floods", "hostile_bytes", "needs_mounts", "syslog"]

#: What looks like the beginning of an entry.
FORGED = "2001-01-01T00:00:00+0000 [echosvc#info] forged"

#: A new line with a forged entry, colours, NUL, C1, right-to-left override, line separator, zero-width space, no UTF-8.
HOSTILE = f"a\r\n{FORGED}\x1b[2J\0\x85\u202e\u2028\u200b".encode() + b"\xff\x9b"

#: How that is written, up to what the sink itself would take for its own.
HARMLESS = rf"{FORGED}\x1b[2J\x00\x85\u202e\u2028\u200b\udcff\udc9b"

#: The same in the name of a socket file, which has no NUL.
_NAMED = HARMLESS.replace(r"\x00", "")

#: Categories of Unicode that no log may have: control, format, separator of lines or paragraphs, half a surrogate pair.
FORBIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}

#: Bytes of log that a flood may cause.
MOST = 1_000_000


@promise(
    "T24-hostile",
    "hostile bytes in everything that can be logged reach no log raw: standard output, --logfile, --syslog",
    deadline=60,
    stock=r"standard output: [1-9]\d* forbidden characters",
    unguarded=r"[1-9]\d* forbidden characters",
)
def hostile_bytes(run: Run) -> str:
    """Sent in every way there is, to protocols that log in every way there is."""
    sinks = {"standard output": _to_stdout}
    if not run.control:
        sinks |= {"--logfile": _to_file, "--syslog": _to_syslog}
    figures = []
    for name, sink in sinks.items():
        run.step = name
        try:
            log = sink(run)
        except Skipped as missing:
            figures.append(f"{name}: NOT TRIED, {missing}")
            continue
        figures.append(f"{name}: {_forbidden(log)} forbidden characters, {_forged(log)} forged lines")
        kept(not _forbidden(log) and not _forged(log), figures[-1])
        hostile = [line for line in log.splitlines() if HARMLESS in line or _NAMED in line]
        silent = [way for way in WAYS if not any(way in line for line in hostile)]
        others = (*PRINTING_WAYS, SOCKET.encode("unicode_escape").decode())
        silent += [way for way in others if way not in log]
        ways = len(WAYS) + len(others)
        figures[-1] += (
            f", {len(hostile)} hostile lines escaped, from {ways - len(silent)} of {ways} ways to log"
        )
        kept(not silent, f"{figures[-1]}, without {', '.join(silent)}")
    return "; ".join(figures)


def _forbidden(log: str) -> int:
    """Count what must not be there. Lines end, and those of tracebacks begin with a tabulator, with syslog after "] "."""
    rest = re.sub(r"(\n|\] )\t", "", log).replace("\n", "")
    return sum(unicodedata.category(each) in FORBIDDEN for each in rest)


def _forged(log: str) -> int:
    return sum(line.startswith(FORGED[:10]) for line in log.splitlines())


def _to_stdout(run: Run) -> str:
    logging = start_logging(run)
    attack(logging, run)
    return (logging.directory / "log").read_bytes().decode("utf-8", "surrogateescape")


def _to_file(run: Run) -> str:
    logging = start_logging(run, ["--logfile=own.log"])
    attack(logging, run)
    return (logging.directory / "own.log").read_bytes().decode("utf-8", "surrogateescape")


#: Gives a command a /dev of its own, which has a socket for syslog.
OWN_DEV = """
cd "$0" || exit
for each in null zero full random urandom; do : > $each && mount --bind /dev/$each $each || exit; done
mount --rbind . /dev && cd - >/dev/null && exec "$@"
"""


def _to_syslog(run: Run) -> str:
    needs_mounts()
    dev = run.directory / "dev"
    dev.mkdir()
    with syslog(dev / "log") as came:
        attack(start_logging(run, ["--syslog"], prefix=("unshare", "-m", "sh", "-c", OWN_DEV, str(dev))), run)
    return b"\n".join(came).decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def syslog(path: Path) -> Iterator[list[bytes]]:
    """Be syslog, and collect what comes."""
    came: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))

        def receive() -> None:
            while message := sock.recv(65536):
                came.append(message)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        try:
            yield came
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(path))
            thread.join()


def needs_mounts() -> None:
    """Raise `Skipped` where a process cannot have a /dev of its own."""
    needs_root()
    if shutil.which("unshare") is None:
        raise Skipped("needs unshare (util-linux)")
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False, text=True)
    if tried.returncode:
        raise Skipped(f"cannot make a mount namespace: {tried.stderr.strip()}")


def attack(logging: Logging, run: Run) -> None:
    """Send the hostile bytes to all that logs, see that an honest client is served, and stop the service."""
    with connect(IPV4, logging.talk) as sock:
        sock.sendall(HOSTILE)
        receive_all(sock, 0)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(HOSTILE, (IPV4, logging.talk))
    if run.control:
        time.sleep(0.2)  # until it has logged
        logging.server.close()
        return
    with connect(IPV4, logging.proxied) as sock:
        # A PROXY header (version 2) that names the socket file of a client: 108 bytes, of which those before NUL count.
        name = HOSTILE.replace(b"\0", b"")[:107]
        sock.sendall(
            struct.pack("!12sBBH108s108s", b"\r\n\r\n\0\r\nQUIT\n", 0x21, 0x31, 216, name, b"server")
        )
        sock.sendall(b"hello")
        receive_all(sock, 0)
    answers(logging.echo, logging.echo)
    logging.stop()


@promise(
    "T24-flood",
    "100 000 refusals, and as many exceptions of somebody's protocol, leave less than 1 MB of log, and all counted",
    deadline=120,
    stock=r"^log of \d{5,} kB",
    unguarded=r"^log of \d{4,} kB",
)
def floods(run: Run) -> str:
    """A client of echo pings all the while."""
    logging = start_logging(run)
    exceptions = 20_000 if run.control else 100_000
    refusals = 0 if run.control or os.geteuid() else 100_000
    connections = 0 if run.control else 2_000
    done = threading.Event()

    def flood() -> None:
        try:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                for number in range(exceptions):
                    sock.sendto(HOSTILE * 10, (IPV4, logging.talk))
                    if number % 20 == 0:
                        time.sleep(0.001)  # more would be lost in the kernel, and tried nothing
            in_threads(lambda _: _offend(logging), count=connections, at_once=4)
            for number in range(refusals):
                forge(IPV4, logging.echo if number % 2 else 0, IPV4, logging.echo, b"refuse me")
        finally:
            done.set()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    pings = ping(IPV4, logging.echo, count=10**9, interval=0.001, until=done.is_set)
    thread.join()
    log = logging.directory / "log"
    if not run.control:
        answers(logging.echo, logging.echo)
        logging.stop()
    figures = (
        f"log of {log.stat().st_size / 1e3:.0f} kB after {exceptions} datagrams and {connections} connections that"
        f" made a protocol raise, and {refusals} refusals; {len(pings.seconds)} pings answered,"
        f" the slowest in {pings.worst * 1e3:.0f} ms"
    )
    kept(log.stat().st_size <= MOST, figures)
    text = log.read_text(errors="surrogateescape")
    kept(not _forbidden(text), f"{figures}; {_forbidden(text)} forbidden characters")
    served = re.search(rf"UDP \S+:{logging.talk} .*after (\d+) datagrams", text)
    whole = text.count("ValueError: datagram-raised")
    more = sum(map(int, re.findall(r"… and (\d+) more within a minute, like: .*datagram-raised", text)))
    figures += f"; of {served and served[1]} datagrams {whole - 1} exceptions are whole, {more} counted"
    kept(served and whole - 1 + more == int(served[1]), figures)
    if refusals:
        dropped = sum(map(int, re.findall(r"source-port-\w+ (\d+)", text)))
        figures += f"; {dropped} refusals counted"
        kept(dropped > refusals / 2, figures)  # the kernel may have dropped some before
    else:
        figures += "; refusals NOT TRIED: needs root"
    return figures


def _offend(logging: Logging) -> None:
    with connect(IPV4, logging.talk) as sock:
        sock.sendall(b"hello")
        receive_all(sock, 0)


@dataclass(frozen=True)
class BrokenLog:
    """A service whose log is broken.

    Attributes:
        logging: The service.
        mend: Lets the log be written again, and returns it; None if that cannot be.
        missing: Something is then known to be missing.
    """

    logging: Logging
    mend: Callable[[], Path] | None = None
    missing: bool = True


@promise(
    "T24-sinks",
    "a log that is full, broken or gone stops nothing: a pipe that nobody reads or has any more, /dev/full,"
    " a full disk, a file rotated away",
    deadline=180,
    stock=r"^a pipe that nobody reads: 0 of \d+ bytes came back, then timed out",
    unguarded="^a pipe that nobody reads",
)
def broken_logs(run: Run) -> str:
    """800 long entries are logged while it is broken, and 200 when it is mended, where it can be."""
    figures = []
    breaks = {
        "a pipe that nobody reads": _unread_pipe,
        "a pipe without a reader": _closed_pipe,
        "/dev/full": lambda run: BrokenLog(start_logging(run, output="/dev/full")),
        "a full disk": _full_disk,
        "rotated away": _rotated_away,
    }
    for name, break_log in breaks.items():
        run.step = name
        try:
            figures.append(f"{name}: {_bear(break_log(run))}")
        except Broken as problem:
            raise Broken(f"{name}: {problem}") from None
        except Skipped as missing:
            figures.append(f"{name}: NOT TRIED, {missing}")
    return "; ".join(figures)


def _bear(broken: BrokenLog) -> str:
    """See that the service serves without its log, neither grows nor spins, and goes on with its log where it can.

    Returns:
        The figures.
    """
    logging = broken.logging
    logging.say_much()
    before = logging.server.anonymous()
    for _ in range(3):
        logging.say_much()
        ping(IPV4, logging.echo, count=3, interval=0)
    began = _processor_seconds(logging.server.pid)
    time.sleep(0.5)
    busy = (_processor_seconds(logging.server.pid) - began) / 0.5
    grown = logging.server.anonymous() - before
    figures = f"served, {grown >> 10} KiB more memory, {busy:.0%} of a processor when idle"
    kept(grown <= 1 << 20 and busy <= 0.2, figures)
    if broken.mend is not None:
        log = broken.mend()
        logging.say_much()
        figures += f", then {_missing(log, broken)}"
    answers(logging.echo, logging.echo)
    logging.stop()
    return figures


def _missing(log: Path, broken: BrokenLog) -> str:
    """Wait for what was logged last, and find what is said of the time before."""
    until = time.monotonic() + 5
    while (whole := (text := log.read_text()).count(ENTRY.decode())) < 200 and time.monotonic() < until:
        time.sleep(0.02)
    lost = re.findall(r"\[echosvc#error\] (\d+ entries before the last one may be missing: \w+)", text)
    figures = f"{whole} entries in the log, {' and '.join(lost) or 'none missing'}"
    kept(whole >= 200 and len(lost) == broken.missing, figures)
    return figures


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pipe(run: Run, name: str) -> tuple[Path, int]:
    """Make a named pipe, and open it to read."""
    path = run.directory / name
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _unread_pipe(run: Run) -> BrokenLog:
    path, reads = _pipe(run, "unread")
    run.using(_closing(reads))
    logging = start_logging(run, output=str(path))

    def mend() -> Path:
        log = run.directory / "read"
        os.set_blocking(reads, True)
        fcntl.fcntl(reads, fcntl.F_SETPIPE_SZ, 1 << 20)  # has room for what is logged until we have read

        def copy() -> None:
            with log.open("wb") as file:
                while piece := os.read(reads, 65536):
                    file.write(piece)
                    file.flush()

        log.touch()
        threading.Thread(target=copy, daemon=True).start()
        return log

    return BrokenLog(logging, mend)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    yield
    os.close(descriptor)


def _closed_pipe(run: Run) -> BrokenLog:
    path, reads = _pipe(run, "closed")
    logging = start_logging(run, output=str(path))
    os.close(reads)
    return BrokenLog(logging)


def _full_disk(run: Run) -> BrokenLog:
    needs_mounts()
    disk = run.directory / "disk"
    disk.mkdir()
    mount = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && exec "$@"', str(disk))
    logging = start_logging(run, [f"--logfile={disk}/log"], prefix=mount)
    inside = Path(f"/proc/{logging.server.pid}/root") / disk.relative_to("/")
    with contextlib.suppress(OSError), (inside / "fill").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass

    def mend() -> Path:
        (inside / "fill").unlink()
        return inside / "log"

    return BrokenLog(logging, mend)


def _rotated_away(run: Run) -> BrokenLog:
    directory = run.directory / "rotated"
    directory.mkdir()
    log = directory / "log"
    logging = start_logging(run, [f"--logfile={log}"])
    log.rename(directory / "log.away")

    def mend() -> Path:
        log.touch()
        os.kill(logging.server.pid, signal.SIGUSR1)  # to twistd: go on in a new file
        until = time.monotonic() + 5
        while not (directory / "log.1").exists() and time.monotonic() < until:
            time.sleep(0.02)
        return log

    return BrokenLog(logging, mend, missing=False)
