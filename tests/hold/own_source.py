"""What is promised of datagrams that a neighbour forges in the name of the service's own host, and of honest clients beside them.

The host is a network namespace; the neighbour is at the other end of a veth pair.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.hold.clients import HOSTS, address, one_datagram
from tests.hold.namespace import Namespace, namespace, run_ip
from tests.hold.packets import ipv6_packet
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server, twistd

__all__ = ["own_source"]

#: Of the host from the start (one of them on its loopback device), one that it is given later, and the neighbour's.
OURS = ("fd00:6::1", "fd00:6::2", "fe80::e1", "fd00:7::1")
LATER, THEIRS = "fd00:6::3", "fd00:6::99"

#: 127.0.0.1 as it would look in an IPv6 packet, which Linux lets in.
LOCALHOST = "::ffff:127.0.0.1"

#: The port of another service of the host, with which a loop would be: it answers whatever it hears.
OTHER = 20_007

#: By name: how the service comes to its UDP socket.
WAYS = (
    ("own socket", False, 0),
    ("2 workers", False, 2),
    ("inherited", True, 0),
    ("inherited, 2 workers", True, 2),
)

#: Seconds in which a change of addresses is noticed, twice.
_NOTICED = 2.0


@promise(
    "OWN",
    "IPv6: a frame that a neighbour forges in the name of the host itself starts no loop between two of its services; every honest"
    " client of the host and of the link is answered; with workers, inherited sockets, and addresses that come and go",
    deadline=120,
    unguarded=r"^own socket: \d+ forged frames caused [1-9]\d* datagrams",
)
def own_source(run: Run) -> str:
    """The frames are written byte by byte: no socket sends what they say."""
    if "IPv6" not in HOSTS:
        raise Skipped("needs IPv6")
    space = run.using(namespace())
    here = f"own{os.getpid()}"
    run_ip("link", "add", here, "type", "veth", "peer", "name", "wire", "netns", space.name)
    for host in OURS:
        device, bits = ("lo", 128) if host.startswith("fd00:7") else ("wire", 64)
        space.ip("address", "add", f"{host}/{bits}", "dev", device, "nodad")
    run_ip("address", "add", f"{THEIRS}/64", "dev", here, "nodad")
    space.ip("link", "set", "wire", "address", "02:00:00:00:00:01")
    space.ip("link", "set", "wire", "up")
    run_ip("link", "set", here, "up")
    figures = [_hold(run, space, here, *way) for way in WAYS]
    return "; ".join(figures)


def _hold(run: Run, space: Namespace, device: str, name: str, inherited: bool, workers: int) -> str:  # noqa: FBT001  # a row of a table
    run.step = name
    server = _serve(run, space, inherited=inherited, workers=workers)
    with space.inside():
        other = run.using(_Other())
    _forge(device, [*OURS, LOCALHOST], OURS, server.udp)
    forged = (len(OURS) + 1) * len(OURS)
    time.sleep(0.3)
    kept(other.heard == 0, f"{name}: {forged} forged frames caused {other.heard} datagrams")
    with space.inside():
        asked = _ask_each(name, OURS, server.udp)
    kept(one_datagram(OURS[0], server.udp, b"hello") == b"hello", f"{name}: the neighbour is not answered")
    space.ip("address", "add", f"{LATER}/64", "dev", "wire", "nodad")
    space.ip("address", "del", f"{OURS[1]}/64", "dev", "wire")
    run_ip("address", "add", f"{OURS[1]}/64", "dev", device, "nodad")
    try:
        time.sleep(_NOTICED)
        _forge(device, [LATER], OURS, server.udp)
        forged += len(OURS)
        time.sleep(0.3)
        kept(other.heard == 0, f"{name}: frames in the name of a new address caused {other.heard} datagrams")
        with space.inside():
            asked += _ask_each(name, [LATER, OURS[0]], server.udp)
        _is_answered(
            f"{name}: the neighbour, which has an address now that was the host's,",
            OURS[1],
            OURS[0],
            server.udp,
        )
    finally:
        run_ip("address", "del", f"{OURS[1]}/64", "dev", device)
        space.ip("address", "add", f"{OURS[1]}/64", "dev", "wire", "nodad")
        space.ip("address", "del", f"{LATER}/64", "dev", "wire")
    other.stop()
    server.stop()
    counted = sum(map(int, re.findall(r"\breceive-queue-full (\d+)", server.log())))
    # What was sent to the address that the host has given away went nowhere. What workers share each of them counts.
    expected = (forged - 1) * (workers or 1 if inherited else 1)
    kept(counted == expected, f"{name}: {forged} forged frames, {counted} counted")
    return f"{name}: {forged} forged frames, {counted} of them dropped and counted, {asked} honest datagrams answered"


class _Other(threading.Thread):
    """Another service of the host."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.heard = 0
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._sock.settimeout(0.05)
        self._sock.bind(("::", OTHER))
        self._until = time.monotonic() + 60

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """Answer, for a minute and a thousand datagrams at most."""
        while time.monotonic() < self._until and self.heard < 1000:
            try:
                payload, peer = self._sock.recvfrom(100)
            except TimeoutError:
                continue
            self.heard += 1
            with contextlib.suppress(OSError):  # no way leads there
                self._sock.sendto(payload, peer)

    def stop(self) -> None:
        """Answer no longer."""
        self._until = 0.0
        self.join(5)
        self._sock.close()


def _serve(run: Run, space: Namespace, *, inherited: bool, workers: int) -> Server:
    options = ["--tcp-port=off", "--udp-port=0"]
    descriptors: list[int] = []
    launch = list(space.command)
    if inherited:
        with space.inside():
            sock = run.using(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            sock.bind(("::", 0))
        descriptors = [sock.fileno()]
        options = ["--listen", "echo=systemd:index=0"]
        hand_over = str(Path(__file__).with_name("pass_sockets.py"))
        launch += [sys.executable, "-P", hand_over, f"={descriptors[0]}", "--"]
    if workers:
        options += ["--workers", str(workers)]
    command = [*launch, *twistd(), "-n", "--pidfile=", "echosvc", *options]
    server = Server(command, run.server_directory(), descriptors)
    run.watch(server)
    server.udp = server.listening(workers + 1)[0].port  # each worker says it, and then the first process
    with space.inside():
        _is_answered("a client", OURS[0], OURS[0], server.udp)
    return server


def _forge(device: str, sources: Sequence[str], hosts: Sequence[str], port: int) -> None:
    """Send a frame in each one's name to each other one."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        for source, host in itertools.product(sources, hosts):
            frame = bytes.fromhex("02000000000102000000000286dd")
            sock.send(frame + ipv6_packet(source, OTHER, host, port, b"loop?"))


def _ask_each(name: str, hosts: Sequence[str], port: int) -> int:
    """Ask each address of the host from each, with an empty datagram, too; return how many were answered."""
    # From a link-local address no way leads to one of another device.
    pairs = [pair for pair in itertools.product(hosts, hosts) if {*pair} != {"fe80::e1", "fd00:7::1"}]
    for source, host in pairs:
        _is_answered(f"{name}: an honest client", source, host, port)
    return 2 * len(pairs)


def _is_answered(who: str, source: str, host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.bind(address(_scoped(source), 0)[1])
        sock.connect(address(_scoped(host), port)[1])
        for payload in (b"hello", b""):
            sock.send(payload)
            try:
                kept(sock.recv(9) == payload, f"{who} at {source} got something else from {host}")
            except TimeoutError:
                kept(condition=False, figures=f"{who} at {source} got no answer from {host}")


def _scoped(host: str) -> str:
    return f"{host}%wire" if host.startswith("fe80") else host
