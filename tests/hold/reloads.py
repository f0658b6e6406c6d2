"""What is promised of a service that is reloaded, stopped and started again while it is used."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hold.clients import IPV4, answers, connect, send_all_and_shut
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.service import START, NotServing, Server, free_ports, twistd

__all__ = ["drain", "reload_under_load", "restart"]

#: Connections and datagrams in a second, all the while; and datagrams over a restart: with the system's own limit (net.core.rmem_max)
#: some 550 wait in the socket, and a slow machine takes a second.
CONNECTIONS, DATAGRAMS, WAITING = 200, 1000, 250

MB = 1_000_000


@promise(
    "T29-reload",
    "the configuration is changed five times, and once to nonsense, under load: no connection refused, no datagram lost",
    deadline=120,
    unguarded=r"^the log does not say 'reloaded",
)
def reload_under_load(run: Run) -> str:
    """For a minute with --long, else for 8 seconds."""
    seconds = 60 if run.long else 8
    directory = run.server_directory()
    port, other = free_ports(2)
    config = directory / "echosvc.toml"
    _write(config, port, "")
    server = _serve(run, directory, ["--config", str(config)], port)
    with _clients(port, seconds) as clients:
        changes = (
            "idle-timeout = 60\n",
            f'[[listener]]\nprotocol = "echo"\nendpoint = ["tcp:{other}"]\n',
            "stall-timeout = 20\nbacklog = 512\nrcvbuf = 1000000\n",
            "[limits]\nmax-connections = 5000\n",
            "",
        )
        for change in changes:
            _write(config, port, change)
            _reload(server, "reloaded: ")
            if str(other) in change:
                answers(other, port)
            time.sleep(seconds / (len(changes) + 3))
        _write(config, port, "idle-timeout = nonsense\n")
        _reload(server, "not reloaded, all is as before: ")
        answers(port, port)
        said = clients.communicate()[0].split(maxsplit=5)
    made, failed, worst, sent, lost = map(int, said[:5])
    figures = (
        f"{len(changes)} reloads and one that was refused, {made} connections, {failed} failed, the longest {worst} ms;"
        f" {sent} datagrams, {lost} lost{'; ' + said[5] if failed else ''}"
    )
    kept(failed == lost == 0 and made > CONNECTIONS * seconds * 0.8, figures)
    return figures


@promise(
    "T29-drain",
    "SIGTERM with 100 clients in the middle of 2 MB: all of it comes back, exit code 0; a second SIGTERM waits for nobody",
    deadline=60,
    stock=r"^\d+ of 100",
    unguarded=r"^\d\d? of 100",
)
def drain(run: Run) -> str:
    """Clients read late and slowly; one that is idle, and one that stays, do not keep the service."""
    server = run.serve("--grace", "15")
    payload = os.urandom(2 * MB)
    right = hashlib.sha256(payload).digest()
    count, whole = 100, 0
    lock = threading.Lock()
    begun = threading.Barrier(count + 1)

    def one() -> None:
        nonlocal whole
        with connect(IPV4, server.tcp) as sock:
            sender = threading.Thread(target=send_all_and_shut, args=(sock, payload), daemon=True)
            sender.start()
            found = hashlib.sha256(sock.recv(1))
            begun.wait(30)
            time.sleep(0.3)
            with contextlib.suppress(OSError):
                while piece := sock.recv(64 * 1024):
                    found.update(piece)
                    time.sleep(0.002)
            with lock:
                whole += found.digest() == right

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    with connect(IPV4, server.tcp) as idle:
        idle.sendall(b"x")
        idle.recv(1)
        begun.wait(30)
        started = time.monotonic()
        code = server.stop()
        took = time.monotonic() - started
        for thread in threads:
            thread.join(20)
        figures = f"{whole} of {count} got 2 MB whole, exit code {code} after {took:.1f} s"
        kept(whole == count, figures)
        kept(idle.recv(1) == b"", f"{figures}; an idle connection was not ended in good order")
    kept(code == 0 and took < 15, figures)
    hurried = _hurried(run)
    kept(hurried < 2, f"{figures}; a second SIGTERM ended it after {hurried:.1f} s")
    return f"{figures}; a second SIGTERM ended it after {hurried:.2f} s"


def _hurried(run: Run) -> float:
    """Stop a service whose client never stops, twice; return how many seconds that took."""
    server = run.serve("--grace", "60")
    with connect(IPV4, server.tcp, receive_buffer=4096) as sock:
        sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                sock.send(bytes(MB))
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(1.5)
        kept(server.alive(), "the service did not wait for a client that has not got everything")
        started = time.monotonic()
        kept(server.stop() == 0, "a second SIGTERM ended it with another exit code than 0")
        return time.monotonic() - started


@promise(
    "T29-restart",
    "two restarts with inherited sockets under load: no connection refused, no datagram lost",
    deadline=120,
)
def restart(run: Run) -> str:
    """The test is the service manager: it holds the sockets, and starts a new service when the old one has ended.

    For a minute with --long, else for 8 seconds.
    """
    seconds = 60 if run.long else 8
    with contextlib.ExitStack() as held:
        stream = held.enter_context(socket.create_server((IPV4, 0), backlog=1024))
        port = stream.getsockname()[1]
        datagram = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagram.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        datagram.bind((IPV4, port))
        server = _activated(run, stream, datagram)
        with _clients(port, seconds, WAITING) as clients:
            codes = []
            pauses = []
            for _ in range(2):
                time.sleep(seconds / 4)
                began = time.monotonic()
                codes.append(server.stop())
                server = _activated(run, stream, datagram)
                pauses.append(time.monotonic() - began)
            said = clients.communicate()[0].split(maxsplit=5)
        made, failed, worst, sent, lost = map(int, said[:5])
        figures = (
            f"2 restarts in {max(pauses):.1f} s at most, exit codes {codes}; {made} connections, {failed} failed, the longest"
            f" {worst} ms; {sent} datagrams, {lost} lost{'; ' + said[5] if failed else ''}"
        )
        kept(codes == [0, 0] and failed == lost == 0, figures)
        return figures


def _activated(run: Run, stream: socket.socket, datagram: socket.socket) -> Server:
    """Start the service with sockets in the place where systemd puts them."""
    hand_over = Path(__file__).with_name("pass_sockets.py")
    directory = run.server_directory()
    descriptors = [stream.fileno(), datagram.fileno()]
    command = [sys.executable, "-P", str(hand_over), *(f"={each}" for each in descriptors), "--"]
    options = ["--listen", "echo=systemd:index=0", "--listen", "echo=systemd:index=1"]
    server = Server([*command, *twistd(), "-n", "--pidfile=", "echosvc", *options], directory, descriptors)
    run.watch(server)
    _wait_for(server, 2)
    return server


def _serve(run: Run, directory: Path, options: list[str], port: int) -> Server:
    server = Server([*twistd(), "-n", "--pidfile=", "echosvc", *options], directory)
    run.watch(server)
    _wait_for(server, 2)
    server.tcp = server.udp = port
    return server


def _wait_for(server: Server, listeners: int) -> None:
    until = time.monotonic() + START
    while server.log().count(" listens on ") < listeners:
        if time.monotonic() > until or not server.alive():
            raise NotServing(f"the server does not listen: {server.log().strip()[-300:]}")
        time.sleep(0.02)


def _write(config: Path, port: int, more: str) -> None:
    """Write a configuration, as a whole: it may be read at any moment."""
    new = config.with_suffix(".new")
    listener = f'[[listener]]\nprotocol = "echo"\nendpoint = ["tcp:{port}", "udp:{port}"]\n'
    new.write_text(f"{more}\n{listener}" if more.startswith("[limits]") else f"{listener}{more}\n")
    new.replace(config)


def _reload(server: Server, expected: str) -> None:
    """Send SIGHUP, and wait until the log says what became of it."""
    before = server.log().count(expected)
    os.kill(server.pid, signal.SIGHUP)
    until = time.monotonic() + 10
    while server.log().count(expected) == before:
        kept(time.monotonic() < until, f"the log does not say {expected!r}: {server.log()[-300:]}")
        time.sleep(0.02)


@contextlib.contextmanager
def _clients(port: int, seconds: float, datagrams: int = DATAGRAMS) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", str(Path(__file__).with_name("steady.py"))]
    arguments = map(str, (port, seconds, CONNECTIONS, datagrams))
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
