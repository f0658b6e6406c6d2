"""What is promised of the systemd units: the service works as they confine it, though systemd is not needed to show it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.hold.clients import (
    HOSTS,
    IPV4,
    connect,
    in_threads,
    one_datagram,
    receive_all,
    send_all_and_shut,
)
from tests.hold.namespace import Namespace, namespace
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server, environment, twistd
from tests.hold.unit_file import DEPLOY, Unit, allowed_calls, read_unit

__all__ = ["confined", "file_system"]

NOBODY = "65534"

#: RFC 862's own port.
ECHO = 7

_HERE = Path(__file__).parent

#: Seconds for the service to say what it has to.
PATIENCE = 15.0

#: Bytes that come back through each of a hundred connections.
_SIZE = 200_000


@promise(
    "UNITS",
    "the command and the file of both systemd units serve port 7, are watched, reload and stop as the unit confines them: no root,"
    " no other capability, no other system call or address family, nothing to write to",
    deadline=120,
)
def confined(run: Run) -> str:
    """In a network namespace, where port 7 is free. A system call beyond the filter kills at once."""
    for program in ("systemd-analyze", "setpriv", "unshare"):
        if shutil.which(program) is None:
            raise Skipped(f"needs {program}")
    figures = []
    with namespace() as space:
        for name, sockets in (("echosvc", ()), ("echosvc-socket", ("echo=tcp", "echo=udp"))):
            unit = read_unit(DEPLOY / f"{name}.service")
            for workers in ("0", "2"):
                run.step = f"{name}, {workers} workers"
                rights = _hold(run, space, unit, sockets, workers)
            figures.append(f"{name}: {rights}")
    return f"with and without workers, no system call beyond the filter; {'; '.join(figures)}"


def _hold(run: Run, space: Namespace, unit: Unit, sockets: Sequence[str], workers: str) -> str:
    start, check = (unit["Service"][key][0] for key in ("ExecStart", "ExecReload"))
    with _manager(run.directory) as (path, told):
        command = [*_confined(space, unit, path, sockets), *_command(start), "--workers", workers]
        server = Server(command, run.server_directory())
        run.watch(server)
        with space.inside():
            _wait(server, told, b"READY=1")
            server.wait_until_listening()
            rights = _rights(server.pid, capability="AmbientCapabilities" in unit["Service"])
            _use(server)
            subprocess.run(
                [*_confined(space, unit, path, ()), *_command(check)],
                env=environment(),
                check=True,
                capture_output=True,
                timeout=PATIENCE,
            )
            os.kill(server.pid, signal.SIGHUP)
            _wait(server, told, b"RELOADING=1")
            _wait(server, told, b"READY=1")
            _use(server)
            _scrape()
    kept(server.alive(), f"it ended: {server.log()[-300:]}")
    # A worker that is killed is replaced at once: only the log tells.
    wrong = re.search(r"^.*#(?:error|critical)\].*$", server.log(), re.MULTILINE)
    kept(wrong is None, f"it says: {wrong and wrong.group()}")
    kept(workers == "0" or f"worker {workers} serves" in server.log(), "there are no workers")
    code = server.stop()
    kept(code == 0, f"it ended with {code}")
    return rights


def _confined(space: Namespace, unit: Unit, notify: Path, sockets: Sequence[str]) -> list[str]:
    """What systemd would do before it begins a command: each word becomes the next in the same process."""
    service = unit["Service"]
    capabilities = service["CapabilityBoundingSet"][0].lower().replace("cap_", "+").split()
    kept_rights = ",".join(["-all", *capabilities])
    python = [sys.executable, "-P"]
    return [
        *space.command,
        *["unshare", "--mount", "sh", "-ec", file_system(notify.parent), "sh"],
        *["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"],
        *[f"--inh-caps={kept_rights}", f"--ambient-caps={kept_rights}", f"--bounding-set={kept_rights}"],
        *["env", f"NOTIFY_SOCKET={notify}", "PYTHONDONTWRITEBYTECODE=1"],
        *([*python, str(_HERE / "pass_sockets.py"), *sockets, "--"] if sockets else []),
        *[*python, str(_HERE / "confine.py")],
        ",".join(service["RestrictAddressFamilies"][0].split()),
        ",".join(sorted(allowed_calls(service["SystemCallFilter"]))),
    ]


def _command(line: str) -> list[str]:
    """A command of a unit, with our programs and files in place of the installed."""
    program, *words = line.replace("/etc/echosvc/", f"{DEPLOY}/").split()
    ours = twistd() if program == "/opt/echosvc/bin/twistd" else [sys.executable, "-P", "-m", "echosvc"]
    return [*ours, *words]


def file_system(directory: Path) -> str:
    """A script that takes away what the units take away, in a mount namespace, and becomes what it is given.

    Nothing can be written, of /proc only one's own processes can be seen, and homes are empty but for our interpreter
    and what it imports.

    Args:
        directory: Where it may put things for a moment.
    """
    homes = [Path(each) for each in ("/home", "/root")]
    ours = {Path(each).resolve() for each in (sys.base_prefix, sys.prefix, _HERE.parents[1])}
    aside: dict[Path, Path] = {}
    for each in sorted(path for path in ours if any(map(path.is_relative_to, homes))):
        aside[each] = directory / f"aside-{len(aside)}"
        aside[each].mkdir(exist_ok=True)
    return "\n".join(
        [
            *(f"mount --bind {path} {place}" for path, place in aside.items()),
            *(f"mount -t tmpfs -o mode=755 tmpfs {home}" for home in homes),
            *(f"mkdir -p {path}; mount --move {place} {path}" for path, place in aside.items()),
            "mount -t proc -o subset=pid,hidepid=invisible proc /proc",
            "mount -o remount,bind,ro /",
            "! touch /probe 2>/dev/null",
            'exec "$@"',
        ]
    )


@contextlib.contextmanager
def _manager(directory: Path) -> Iterator[tuple[Path, socket.socket]]:
    """Be whom the service notifies.

    Returns:
        A context with the socket's file and the socket.
    """
    path = directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        path.chmod(0o666)
        sock.settimeout(0.1)
        yield path, sock
    path.unlink()


def _wait(server: Server, told: socket.socket, word: bytes) -> None:
    """Wait until the service has said something to its manager.

    Raises:
        Broken: It does not.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.alive():
        with contextlib.suppress(TimeoutError):
            if word in told.recv(4096).split(b"\n"):
                return
    if not server.alive() and server.stop() == -signal.SIGSYS:
        raise Broken("killed for a system call that the unit does not allow; `strace -f` says which")
    raise Broken(f"it does not say {word.decode()}: {server.log()[-300:]}")


def _scrape() -> None:
    """Ask for the metrics, some of which the service reads from /proc.

    Raises:
        Broken: They are not told.
    """
    with urllib.request.urlopen("http://127.0.0.1:9007/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for name in ("echosvc_connections_total", "echosvc_open_descriptors", "echosvc_resident_memory_bytes"):
        kept(f"\n{name}{{" in text, f"/metrics does not tell {name}")


def _rights(pid: int, *, capability: bool) -> str:
    """Look at what the process is.

    Raises:
        Broken: It is more than its unit says.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    expected = f"{1 << 10 if capability else 0:016x}"  # CAP_NET_BIND_SERVICE is the tenth
    for name, value in {
        "Uid": [NOBODY] * 4,
        "Gid": [NOBODY] * 4,
        "Groups": [],
        "CapEff": [expected],
        "CapPrm": [expected],
        "CapBnd": [expected],
        "NoNewPrivs": ["1"],
        "Seccomp": ["2"],  # a filter
    }.items():
        kept(status[name] == value, f"{name} is {status[name]}, not {value}")
    return f"uid {NOBODY}, no group, {'CAP_NET_BIND_SERVICE alone' if capability else 'no capability'}"


def _use(server: Server) -> None:
    """Do what makes a service call the system in many ways: much at once, half-close, abort, datagrams of many sizes.

    Raises:
        Broken: Something did not come back.
    """
    hosts = (
        list(HOSTS.values()) if server.tcp == ECHO else [IPV4]
    )  # the sockets that are passed know IPv4 alone

    def use(number: int) -> None:
        host = hosts[number % len(hosts)]
        data = os.urandom(_SIZE)
        with connect(host, server.tcp) as sock:
            send_all_and_shut(sock, data)
            kept(bytes(receive_all(sock, _SIZE)) == data, "a connection did not get its bytes back")
        with connect(host, server.tcp) as sock:
            sock.sendall(data)
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # so that close aborts
        for size in (0, 64, 1400, 9000, 60_000):
            kept(one_datagram(host, server.udp, data[:size]) == data[:size], f"{size} bytes are not answered")

    in_threads(use, count=100, at_once=10)
