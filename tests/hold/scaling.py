"""What is promised of several services behind one HAProxy, with the very files that docs/scaling.md shows."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hold.clients import GIVE_UP, in_threads, receive_all, receive_exactly, send_all_and_shut
from tests.hold.namespace import Namespace, namespace
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import NotServing, Server, twistd

__all__ = ["behind_haproxy"]

_FILES = Path(__file__).parents[2] / "deploy" / "haproxy"

#: As the files have it.
FRONT = ("192.0.2.10", 7)
SERVERS = {"a": "192.0.2.11", "b": "192.0.2.12"}

#: Clients, one of whom the servers deny.
CLIENTS = ("198.51.100.1", "198.51.100.2")
DENIED = "198.51.100.66"

#: Connections that each server lets in from one client.
PER_SOURCE = 20

#: Seconds in which something has to come about.
PATIENCE = 15.0

_SIZE = 200_000


@promise(
    "SCALE",
    "two services behind one HAProxy with PROXY v2: every byte comes back, clients keep their addresses and limits, and"
    " while one service after the other is drained and replaced nobody notices",
    deadline=120,
)
def behind_haproxy(run: Run) -> str:
    """In a network namespace that has the addresses of the example."""
    if shutil.which("haproxy") is None:
        raise Skipped("needs haproxy")
    with namespace() as space:
        for address in (FRONT[0], *SERVERS.values(), *CLIENTS, DENIED):
            space.ip("address", "add", address, "dev", "lo")
        servers = {name: _serve(run, space, address) for name, address in SERVERS.items()}
        haproxy = run.using(_haproxy(run.directory, space))
        with space.inside():  # and with it every thread that begins there
            for name in SERVERS:
                haproxy.wait_for(name, "status", "UP")
            figures = [_whole(run, haproxy), _denied(run), _limited(run)]
            figures.append(_replaced(run, space, haproxy, servers))
    return "; ".join(figures)


class _HAProxy:
    """A running HAProxy.

    Args:
        admin: Its stats socket.
    """

    def __init__(self, admin: Path) -> None:
        self._admin = admin

    def ask(self, command: str) -> str:
        """Have it do something, and return what it says."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(GIVE_UP)
            sock.connect(str(self._admin))
            sock.sendall(command.encode() + b"\n")
            return bytes(receive_all(sock, 1_000_000)).decode()

    def tell(self, server: str, what: str) -> str:
        """Look up one number or word about a server (``show stat``)."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return next(row[what] for row in rows if (row["pxname"], row["svname"]) == ("echo", server))

    def wait_for(self, server: str, what: str, value: str) -> None:
        """Wait until a number or word about a server is this.

        Raises:
            Broken: It does not come about.
        """
        until = time.monotonic() + PATIENCE
        found = ""
        while found != value:
            if time.monotonic() > until:
                raise Broken(f"HAProxy: {what} of {server} is {found or 'not told'}, not {value}")
            with contextlib.suppress(OSError):  # it is about to start
                found = self.tell(server, what)
            time.sleep(0.05)


@contextlib.contextmanager
def _haproxy(directory: Path, space: Namespace) -> Iterator[_HAProxy]:
    """Run HAProxy with the file as it is shipped, but for the folder of its stats socket."""
    config = directory / "haproxy.cfg"
    config.write_text((_FILES / "haproxy.cfg").read_text().replace("/run/haproxy/", f"{directory}/"))
    process = subprocess.Popen(
        [*space.command, "haproxy", "-db", "-q", "-f", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield _HAProxy(directory / "admin.sock")
    finally:
        process.kill()
        process.wait()


def _serve(run: Run, space: Namespace, address: str) -> Server:
    """Start a service with the file as it is shipped, but for its address, a smaller limit, and somebody who is denied."""
    directory = run.server_directory()
    said = (_FILES / "echosvc.toml").read_text()
    for old, new in {
        '"tcp:8007"': f'"tcp:8007:interface={address}"',
        "max-per-source = 1000": f"max-per-source = {PER_SOURCE}",
        "idle-timeout = 3600": f'deny = "{DENIED}"',
    }.items():
        kept(old in said, f"deploy/haproxy/echosvc.toml does not say {old}")
        said = said.replace(old, new)
    (directory / "echosvc.toml").write_text(said)
    command = [*space.command, *twistd(), "-n", "--pidfile=", "echosvc", "--config", "echosvc.toml"]
    server = Server(command, directory)
    run.watch(server)
    until = time.monotonic() + PATIENCE
    while " listens on TCP " not in server.log():
        if time.monotonic() > until or not server.alive():
            raise NotServing(f"the server does not listen: {server.log()[-300:]}")
        time.sleep(0.02)
    return server


def _connect(source: str) -> socket.socket:
    return socket.create_connection(FRONT, timeout=GIVE_UP, source_address=(source, 0))


def _comes_back(source: str, data: bytes) -> bool:
    """Send, shut down at once, and tell whether the same came back."""
    try:
        with _connect(source) as sock:
            send_all_and_shut(sock, data)
            return bytes(receive_all(sock, len(data))) == data
    except OSError:
        return False


def _whole(run: Run, haproxy: _HAProxy) -> str:
    run.step = "a hundred connections"
    before = {name: int(haproxy.tell(name, "stot")) for name in SERVERS}
    data = os.urandom(_SIZE)
    whole = in_threads(lambda number: _comes_back(CLIENTS[number % 2], data), count=100, at_once=10)
    shares = [int(haproxy.tell(name, "stot")) - before[name] for name in SERVERS]
    figures = (
        f"{sum(whole)} of 100 x {_SIZE // 1000} kB came back after half-close, {shares[0]} + {shares[1]}"
    )
    kept(all(whole) and min(shares) >= 30, figures)
    return figures


def _denied(run: Run) -> str:
    run.step = "somebody who is denied"
    answers = [_comes_back(source, b"hello") for source in (DENIED, *CLIENTS)]
    kept(answers == [False, True, True], f"of one denied and two others were answered: {answers}")
    return "who is denied is, by its own address"


def _limited(run: Run) -> str:
    """One client takes all places that he can get; another has his own."""
    run.step = "a greedy client"
    with contextlib.ExitStack() as things:

        def places(source: str, tries: int) -> int:
            count = 0
            for _ in range(tries):
                sock = things.enter_context(_connect(source))
                with contextlib.suppress(Broken, OSError):
                    sock.sendall(b"?")
                    count += receive_exactly(sock, 1) == b"?"
            return count

        greedy, other = places(CLIENTS[0], 4 * PER_SOURCE), places(CLIENTS[1], PER_SOURCE)
    most = PER_SOURCE * len(SERVERS)
    figures = (
        f"a client has {greedy} places of {PER_SOURCE} on each of 2, another one {other} of {PER_SOURCE}"
    )
    kept(greedy == most and other == PER_SOURCE, figures)
    return figures


def _replaced(run: Run, space: Namespace, haproxy: _HAProxy, servers: dict[str, Server]) -> str:
    """Drain and replace one server after the other, while clients come and go, and some stay."""
    done = threading.Event()
    results: list[bool] = []

    def come_and_go() -> None:
        while not done.is_set():
            results.append(_comes_back(CLIENTS[0], b"hello" * 100))

    clients = [threading.Thread(target=come_and_go, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for name, address in SERVERS.items():
            run.step = f"draining {name}"
            results += _drained(haproxy, name)
            code = servers[name].stop()
            kept(code == 0, f"{name} ended with {code}")
            run.step = f"replacing {name}"
            _serve(run, space, address)
            haproxy.ask(f"set server echo/{name} state ready")
            haproxy.wait_for(name, "status", "UP")
    finally:
        done.set()
        for client in clients:
            client.join(GIVE_UP)
    figures = f"both replaced under load: {results.count(False)} of {len(results)} uses failed"
    kept(all(results), figures)
    return figures


def _drained(haproxy: _HAProxy, name: str) -> list[bool]:
    """Drain a server.

    Returns:
        Whether those were served who had come before, and stayed until nobody else was there.
    """
    with contextlib.ExitStack() as things:
        staying = [things.enter_context(_connect(CLIENTS[1])) for _ in range(10)]
        haproxy.ask(f"set server echo/{name} state drain")
        haproxy.wait_for(name, "status", "DRAIN")
        time.sleep(0.5)  # whoever came in the meantime has gone
        served = []
        for sock in staying:
            sock.sendall(b"still here")
            served.append(receive_exactly(sock, 10) == b"still here")
    haproxy.wait_for(name, "scur", "0")
    return served
