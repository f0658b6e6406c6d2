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
from tests.hold.feature_uses import Site, eventually
from tests.hold.features import FEATURES, Feature, Words, write_files
from tests.hold.namespace import Namespace, namespace
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run, Subject
from tests.hold.service import Server, environment, twistd
from tests.hold.unit_file import DEPLOY, allowed_calls, read_unit

__all__ = ["confined", "features", "file_system"]

NOBODY = "65534"

#: RFC 862's own port.
ECHO = 7

_HERE = Path(__file__).parent

#: Each unit, and the sockets that it is given.
UNITS = {"echosvc": (), "echosvc-socket": ("echo=tcp", "echo=udp")}

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
    _needs_programs()
    figures = []
    with namespace() as space:
        for name in UNITS:
            for workers in (0, 2):
                run.step = f"{name}, {workers} workers"
                rights = _hold(run, space, name, workers)
            figures.append(f"{name}: {rights}")
    return f"with and without workers, no system call beyond the filter; {'; '.join(figures)}"


def _hold(run: Run, space: Namespace, name: str, workers: int) -> str:
    with _started(run, space, name, Words(), workers) as confined:
        confined.server.wait_until_listening()
        rights = _rights(
            confined.server.pid,
            capability="AmbientCapabilities" in read_unit(DEPLOY / f"{name}.service")["Service"],
        )
        _use(confined.server)
        confined.reload()
        _use(confined.server)
        _scrape()
    kept(not workers or f"worker {workers} serves" in confined.server.log(), "there are no workers")
    return rights


@promise(
    "UNITS-features",
    "TLS, client certificates, certificates by host, ALPN, UNIX sockets, PROXY, lists, quotes, workers, admin and the JSON log work"
    " as the units confine them, and each reload takes effect: no memory that is written and executed",
    deadline=600,
    unguarded=r"^2 of 2: echosvc: tls: killed for a system call",
)
def features(run: Run) -> str:
    """Each in echosvc.service without workers, and in echosvc-socket.service, which has no right at all, with two."""
    _needs_programs()
    tried_features = FEATURES[:1] if run.subject is Subject.UNGUARDED else FEATURES  # TLS has the guard
    faults, tried = [], 0
    with namespace() as space:
        for name, workers in zip(UNITS, (0, 2), strict=True):
            for feature in tried_features:
                if workers in feature.workers:
                    run.step = f"{feature.name}, {name}, {workers} workers"
                    tried += 1
                    try:
                        _try(run, space, name, feature, workers)
                    except (Broken, OSError, subprocess.CalledProcessError) as problem:
                        faults.append(f"{name}: {feature.name}: {problem}")
    names = ", ".join(each.name for each in FEATURES)
    kept(not faults, f"{len(faults)} of {tried}: {'; '.join(faults)}")
    return f"{tried} starts and reloads ({names}); with and without workers"


def _try(run: Run, space: Namespace, name: str, feature: Feature, workers: int) -> None:
    with _started(run, space, name, feature.words, workers) as confined:
        site = Site(confined.etc, confined.run, lambda: confined.server.pid, confined.server.log)
        feature.use(site)
        confined.write(feature.changed or feature.words)
        feature.change(confined.etc)
        confined.reload()
        eventually(feature.then, site)


def _needs_programs() -> None:
    for program in ("systemd-analyze", "setpriv", "unshare"):
        if shutil.which(program) is None:
            raise Skipped(f"needs {program}")


class _Confined:
    """The service as a unit confines it, with its files.

    Args:
        directory: Where its files and its log are.
        space: Its network.
        name: The unit's name.
        workers: How many it has.

    Attributes:
        etc: The folder of its files, which it can only read.
        run: The folder of its sockets.
        server: The process, once it is started.
    """

    server: Server

    def __init__(self, directory: Path, space: Namespace, name: str, workers: int) -> None:
        self.etc = directory / "etc"
        self.etc.mkdir()
        self.run = directory / "run"
        self.run.mkdir()
        os.chown(self.run, int(NOBODY), int(NOBODY))
        self._directory = directory
        self._space = space
        self._name = name
        self._unit = read_unit(DEPLOY / f"{name}.service")
        self._workers = workers

    def write(self, words: Words) -> None:
        """Write the unit's file, with more words in it."""
        file = DEPLOY / f"{self._name}.toml"
        text = words.into(file.read_text(), self.etc, self.run, workers=self._workers)
        (self.etc / file.name).write_text(text)

    def start(self, told: socket.socket) -> None:
        """Start it.

        Args:
            told: What it tells its manager comes from here.
        """
        self._told = told
        command = [*self._confined(UNITS[self._name]), *self._command("ExecStart")]
        self.server = Server(command, self._directory)

    def reload(self) -> None:
        """Do what the unit does to reload it, and wait until that is done."""
        subprocess.run(
            [*self._confined(()), *self._command("ExecReload")],
            env=environment(),
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        os.kill(self.server.pid, signal.SIGHUP)
        self.wait_for(b"RELOADING=1")
        self.wait_for(b"READY=1")

    def wait_for(self, word: bytes) -> None:
        """Wait until the service has said something to its manager.

        Raises:
            Broken: It does not.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.server.alive():
            with contextlib.suppress(TimeoutError):
                if word in self._told.recv(4096).split(b"\n"):
                    return
        if not self.server.alive() and self.server.stop() == -signal.SIGSYS:
            raise Broken("killed for a system call that the unit does not allow; `strace -f` says which")
        raise Broken(f"it does not say {word.decode()}: {self.server.log()[-300:]}")

    def _confined(self, sockets: Sequence[str]) -> list[str]:
        """What systemd would do before it begins a command: each word becomes the next in the same process."""
        service = self._unit["Service"]
        (mask,) = service["UMask"]
        capabilities = service["CapabilityBoundingSet"][0].lower().replace("cap_", "+").split()
        kept_rights = ",".join(["-all", *capabilities])
        python = [sys.executable, "-P"]
        away = file_system(self._directory, self.run)
        return [
            *self._space.command,
            *["unshare", "--mount", "sh", "-ec", away, "sh"],
            *["sh", "-ec", f'umask {mask}; ulimit -c 0; exec "$@"', "sh"],
            *["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"],
            *[f"--inh-caps={kept_rights}", f"--ambient-caps={kept_rights}", f"--bounding-set={kept_rights}"],
            *["env", f"NOTIFY_SOCKET={self._directory / 'notify'}", "PYTHONDONTWRITEBYTECODE=1"],
            *([*python, str(_HERE / "pass_sockets.py"), *sockets, "--"] if sockets else []),
            *[*python, str(_HERE / "confine.py")],
            ",".join(service["RestrictAddressFamilies"][0].split()),
            ",".join(sorted(allowed_calls(service["SystemCallFilter"]))),
        ]

    def _command(self, key: str) -> list[str]:
        """The first command of a key, with our programs and files in place of the installed."""
        line = self._unit["Service"][key][0]
        program, *words = line.replace("/etc/echosvc/", f"{self.etc}/").split()
        ours = twistd() if program == "/opt/echosvc/bin/twistd" else [sys.executable, "-P", "-m", "echosvc"]
        return [*ours, *words]


@contextlib.contextmanager
def _started(run: Run, space: Namespace, name: str, words: Words, workers: int) -> Iterator[_Confined]:
    """Start the service as a unit confines it, be inside its network meanwhile, and judge its log and its end."""
    directory = run.server_directory()
    confined = _Confined(directory, space, name, workers)
    write_files(confined.etc)
    confined.write(words)
    with _manager(directory / "notify") as told:
        confined.start(told)
        server = confined.server
        run.watch(server)
        with contextlib.closing(server), space.inside():
            confined.wait_for(b"READY=1")
            yield confined
            kept(server.alive(), f"it ended: {server.log()[-300:]}")
            code = server.stop()
    kept(code == 0, f"it ended with {code}")
    # A worker that is killed is replaced at once: only the log tells. SIGKILL is not from the filter.
    wrong = re.search(r"^.*#(?:error|critical)\](?!.*killed by SIGKILL).*$", server.log(), re.MULTILINE)
    kept(wrong is None, f"it says: {wrong and wrong.group()}")


def file_system(directory: Path, *writable: Path) -> str:
    """A script that takes away what the units take away, in a mount namespace, and becomes what it is given.

    Nothing can be written, of /proc only one's own processes can be seen, and homes are empty but for our interpreter
    and what it imports.

    Args:
        directory: Where it may put things for a moment.
        writable: Folders that can be written to all the same.
    """
    homes = [Path(each) for each in ("/home", "/root")]
    ours = {Path(each).resolve() for each in (sys.base_prefix, sys.prefix, _HERE.parents[1])}
    aside: dict[Path, Path] = {}
    for each in sorted(path for path in ours if any(map(path.is_relative_to, homes))):
        aside[each] = directory / f"aside-{len(aside)}"
        aside[each].mkdir(exist_ok=True)
    return "\n".join(
        [
            *(f"mount --bind {path} {path}" for path in writable),
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
def _manager(path: Path) -> Iterator[socket.socket]:
    """Be the one that the service notifies.

    Args:
        path: The socket's file.

    Returns:
        A context with the socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        path.chmod(0o666)
        sock.settimeout(0.1)
        yield sock
    path.unlink()


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
