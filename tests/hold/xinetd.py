"""Another control: xinetd, with what is built into it."""

from __future__ import annotations

import contextlib
import getpass
import random
import re
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.hold.carriers import Carrier, Place
from tests.hold.service import START, NotServing, Server

__all__ = ["BUILT_IN", "Xinetd"]

#: The protocols that are built into it, each over streams and datagrams.
BUILT_IN = ("echo", "discard", "chargen", "daytime", "time")

_KINDS = (("TCP", "stream", "no"), ("UDP", "dgram", "yes"))

_SERVICE = """\
service {name}
{{
    id = {name}-{transport}
    type = INTERNAL UNLISTED
    flags = IPv6
    socket_type = {kind}
    protocol = {transport}
    wait = {wait}
    user = {user}
    port = {port}
{limits}}}
"""

#: It asks DNS who each client is, who waits for that: not once, then (resolv.conf(5)).
_NO_NAMES = ("env", "RES_OPTIONS=attempts:0")

#: By default 50 connections a second switch a service off for ten.
_NO_LIMITS = """\
    instances = UNLIMITED
    per_source = UNLIMITED
    cps = 1000000 1
"""

#: What the kernel's tables have for a socket that can be reached (include/net/tcp_states.h of Linux).
_STATES = {"TCP": "0A", "UDP": "07"}


class Xinetd(Server):
    """It says nothing of its ports, and is told which to take.

    Args:
        directory: Its working directory.
        prefix: A command that starts the command.
        limits: It keeps the limits that it comes with.
        names: What it is to serve: some of `BUILT_IN`.

    Attributes:
        ports: Where each protocol listens, by name and transport.
    """

    def __init__(
        self,
        directory: Path,
        prefix: Iterable[str] = (),
        *,
        limits: bool = False,
        names: Iterable[str] = ("echo",),
    ) -> None:
        by_name = dict(zip(names, _free_ports(), strict=False))
        user = getpass.getuser()
        services = [
            _SERVICE.format(
                name=name,
                transport=transport.lower(),
                kind=kind,
                wait=wait,
                user=user,
                port=port,
                limits="" if limits else _NO_LIMITS,
            )
            for name, port in by_name.items()
            for transport, kind, wait in _KINDS
        ]
        file = directory / "xinetd.conf"
        file.write_text("".join(services))
        command = ("xinetd", "-dontfork", "-f", str(file), "-pidfile", str(directory / "xinetd.pid"))
        super().__init__([*prefix, *_NO_NAMES, *command], directory)
        self.ports = {(name, transport): by_name[name] for name in by_name for transport, _, _ in _KINDS}
        self.tcp = self.udp = next(iter(by_name.values()))
        self.place = Place(Carrier.TCP, str(self.tcp))

    def wait_until_listening(self, carrier: Carrier = Carrier.TCP) -> None:
        """Wait for the kernel to know all its ports: a connection would be one of those that it counts."""
        wanted = {(transport, port) for (_, transport), port in self.ports.items()}
        until = time.monotonic() + START
        while time.monotonic() < until and self.alive():
            if wanted <= _bound(self.pid):
                return
            time.sleep(0.02)
        raise NotServing(f"xinetd does not listen: {self.log().strip().rpartition(chr(10))[2]}")

    def stop(self) -> int:
        """Kill it: told to end, it takes its time, up to many seconds."""
        self.stopped = True
        self.close()
        return self._process.wait()

    def resident(self) -> int:
        """Memory of all its processes, one of which it forks for each connection; what they share is counted once."""
        first = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return sum(map(_proportional, (str(self.pid), *first.read_text().split())))


def _free_ports() -> Iterator[int]:
    """Yield numbers that are free, below those that the kernel hands out: before xinetd has them nobody else asks for them."""
    while True:
        port = random.randrange(10_000, 32_768)  # ip(7), ip_local_port_range
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            with socket.socket(type=socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", port))
            yield port


def _bound(pid: int) -> set[tuple[str, int]]:
    """By which transports and at which ports somebody in the network of a process can be reached."""
    found = set()
    for name, state in _STATES.items():
        for table in (name.lower(), f"{name.lower()}6"):
            with contextlib.suppress(OSError):  # no IPv6, or no process any more
                lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
                sockets = [line.split() for line in lines]
                found |= {(name, int(each[1].rpartition(":")[2], 16)) for each in sockets if each[3] == state}
    return found


def _proportional(pid: str) -> int:
    """Bytes of memory of a process, divided by who shares them; none if it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
