"""What is promised to clients that nobody here wrote: each gets its bytes back."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hold.clients import HOSTS, IPV4, NOT_TRIED, connect, receive_all, send_all_and_shut
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["foreign_clients"]

HELLO = b"hello\n"


@dataclass(frozen=True)
class Client:
    """A program that sends its standard input and prints what comes back.

    Attributes:
        name: How the result names it.
        command: With ``{port}`` where the port goes. Its first word is the program.
        sends: What it is given.
        lingers: Its input stays open for a second.
    """

    name: str
    command: str
    sends: bytes = HELLO
    lingers: bool = False


def _clients() -> list[Client]:
    much = os.urandom(1_000_000)
    clients = [Client("nc -N 1 MB", f"nc -N {IPV4} {{port}}", much)]
    for family, host in HOSTS.items():
        version = family[-1]
        shown = f"[{host}]" if version == "6" else host
        clients += [
            Client(f"nc -N {family}", f"nc -N {host} {{port}}"),
            Client(f"nc -u {family}", f"nc -u -w1 {host} {{port}}"),
            Client(f"ncat {family}", f"ncat -{version} {host} {{port}}"),
            # Over UDP it ends with its input, whether or not an answer has come.
            Client(f"ncat -u {family}", f"ncat -{version} -u {host} {{port}}", lingers=True),
            Client(f"socat TCP {family}", f"socat -t10 - TCP{version}:{shown}:{{port}}"),
            Client(f"socat UDP {family}", f"socat -t1 - UDP{version}:{shown}:{{port}}"),
        ]
    clients.append(Client("socat 1 MB", f"socat -t10 - TCP4:{IPV4}:{{port}}", much))
    clients.append(Client("ncat 1 MB", f"ncat {IPV4} {{port}}", much))
    return clients


@promise(
    "T28",
    "foreign clients get their bytes back: nc, ncat, socat, bash, haproxy; TCP and UDP, IPv4 and IPv6",
    deadline=60,
)
def foreign_clients(run: Run) -> str:
    """Whatever of them is installed."""
    server = run.serve()
    assert server.tcp == server.udp, "one number for both, so that every command has one port"
    passed: list[str] = []
    failed: list[str] = []
    missing: set[str] = set()
    for client in _clients():
        run.step = client.name
        program = client.command.split()[0]
        if shutil.which(program) is None:
            missing.add(program)
            continue
        fault = _fault(client, server.tcp)
        if fault:
            failed.append(f"{client.name} {fault}")
        else:
            passed.append(client.name)
    for name, try_it in (("bash", _bash), ("haproxy", _haproxy)):
        run.step = name
        if shutil.which(name) is None:
            missing.add(name)
        elif fault := try_it(run, server):
            failed.append(f"{name} {fault}")
        else:
            passed.append(name)
    if not passed and not failed:
        raise Skipped(f"needs one of {', '.join(sorted(missing))}")
    figures = f"{len(passed)} of {len(passed) + len(failed)} ({', '.join(passed)}){NOT_TRIED}"
    if missing:
        figures += f"; NOT INSTALLED: {', '.join(sorted(missing))}"
    kept(not failed, f"{figures}; failed: {'; '.join(failed)}")
    return figures


def _fault(client: Client, port: int) -> str:
    """Run a client; tell what was wrong, or nothing."""
    command = client.command.format(port=port)
    if client.lingers:
        command = f"(cat; sleep 1) | {command}"
    try:
        done = subprocess.run(
            ["sh", "-c", command], input=client.sends, capture_output=True, timeout=15, check=False
        )
    except subprocess.TimeoutExpired:
        return "does not end"
    if done.stdout != client.sends:
        return f"got {len(done.stdout)} of {len(client.sends)} bytes back"
    if done.returncode:
        return f"ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
    return ""


def _bash(_: Run, server: Server) -> str:
    """A shell that opens its connections itself, TCP and UDP."""
    for transport in ("tcp", "udp"):
        script = f"exec 3<>/dev/{transport}/{IPV4}/{server.tcp}; echo hello >&3; head -c 6 <&3"
        done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=15, check=False)
        if done.stdout != HELLO:
            return f"{transport} got {done.stdout!r}"
    return ""


def _haproxy(run: Run, server: Server) -> str:
    """A proxy that checks its servers by talking to them, and a connection through it."""
    with _proxy(run.directory / "haproxy", server.tcp) as (port, status):
        until = time.monotonic() + 10
        while (found := status()) != "L7OK":
            if time.monotonic() > until:
                return f"calls the service {found or 'nothing'} in place of L7OK"
            time.sleep(0.1)
        much = os.urandom(1_000_000)
        with connect(IPV4, port) as sock:
            send_all_and_shut(sock, much)
            came = receive_all(sock, len(much))
            return "" if came == much else f"passed {len(came)} of {len(much)} bytes"


_HAPROXY = """\
global
    stats socket {status}
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend in
    bind fd@{frontend}
    default_backend echo
backend echo
    option tcp-check
    tcp-check send are-you-there
    tcp-check expect string are-you-there
    server echosvc {host}:{port} check inter 200ms
"""


@contextlib.contextmanager
def _proxy(directory: Path, port: int) -> Iterator[tuple[int, Callable[[], str]]]:
    """Run haproxy before the service.

    It is handed a socket that listens already: no port has to be guessed.

    Returns:
        A context with the proxy's port and a function that tells what its check says of the service.
    """
    directory.mkdir()
    status, config = directory / "status", directory / "haproxy.cfg"
    with socket.create_server((IPV4, 0)) as listening:
        config.write_text(_HAPROXY.format(status=status, frontend=listening.fileno(), host=IPV4, port=port))
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(config)],
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield listening.getsockname()[1], lambda: _check_status(status)
        finally:
            process.kill()
            process.wait()


def _check_status(status: Path) -> str:
    """Ask haproxy what its last check of the server said, for example L7OK."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(status))
        sock.sendall(b"show stat\n")
        answer = receive_all(sock, 1_000_000).tobytes().decode()
        for row in csv.DictReader(answer.removeprefix("# ").splitlines()):
            if row["svname"] == "echosvc":
                return row["check_status"].removeprefix("* ")
    return ""
