"""What is promised of a socket from a service manager, whatever options it brings along."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import time
from pathlib import Path

from tests.hold.clients import IPV4, one_datagram, receive_all
from tests.hold.promise import Broken, kept, promise
from tests.hold.run import Run
from tests.hold.service import START, Server, twistd

__all__ = ["adopted"]

_SO, _IP, _TCP, _UDP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_TCP, socket.IPPROTO_UDP

#: By name: level, number and value. SO_LINGER is one that waits for 8 seconds, and one that resets.
DATAGRAM: dict[str, tuple[int, int, int | bytes]] = {
    "IP_RECVERR": (_IP, 11, 1),
    "SO_TIMESTAMPING": (_SO, 37, 26),
    "UDP_CORK": (_UDP, 1, 1),
    "UDP_SEGMENT": (_UDP, 103, 100),
    "UDP_GRO": (_UDP, 104, 1),
    "O_ASYNC": (_SO, 0, 0),
}
STREAM: dict[str, tuple[int, int, int | bytes]] = {
    "SO_LINGER": (_SO, socket.SO_LINGER, struct.pack("@ii", 1, 8)),
    "SO_LINGER 0": (_SO, socket.SO_LINGER, struct.pack("@ii", 1, 0)),
    "SO_RCVLOWAT": (_SO, 18, 1000),
    "SO_TIMESTAMPING": (_SO, 37, 26),
    "TCP_CORK": (_TCP, 3, 1),
}

#: Seconds that another client waits at most while a connection is closed, and seconds of a processor that the service takes in one.
_LATE, _IDLE = 2.0, 0.1


@promise(
    "ADOPTED",
    "sockets from a service manager, whatever options they bring along: each is served, none makes the service spin or others wait",
    deadline=60,
    unguarded=r"IP_RECVERR: the service takes [01]\.\d",
)
def adopted(run: Run) -> str:
    """One service for all of them; connections wait for it already when it begins."""
    datagrams = {name: _socket(name, run, option, stream=False) for name, option in DATAGRAM.items()}
    streams = {name: _socket(name, run, option, stream=True) for name, option in STREAM.items()}
    waiting = {name: run.using(_connect(sock)) for name, sock in streams.items()}
    server = _serve(run, [*datagrams.values(), *streams.values()])
    run.step = "idle after ICMP errors"
    for sock in datagrams.values():
        _ask_and_leave(sock)
    time.sleep(0.1)
    busy = _seconds_of_processor(server)
    kept(
        busy < _IDLE,
        f"IP_RECVERR: the service takes {busy:.2f} s of a processor in a second in which nothing comes",
    )
    fcntl.fcntl(datagrams["O_ASYNC"], fcntl.F_SETOWN, server.pid)  # as a manager that was the process before
    for name, sock in datagrams.items():
        run.step = name
        _datagrams_come_back(name, sock)
    for name, sock in streams.items():
        run.step = name
        _stream_is_served(name, waiting[name])
        _stream_is_served(name, run.using(_connect(sock)))
    run.step = "a close that has something to send"
    late = _latency_of_a_close(run, streams)
    kept(late < _LATE, f"SO_LINGER: others wait {late:.1f} s while a connection is closed")
    return (
        f"{len(datagrams)} of UDP ({', '.join(datagrams)}) and {len(streams)} of TCP ({', '.join(streams)});"
        f" {busy:.2f} s of a processor in an idle second, others wait {late * 1000:.0f} ms while one is closed"
    )


def _socket(name: str, run: Run, option: tuple[int, int, int | bytes], *, stream: bool) -> socket.socket:
    sock = run.using(socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM))
    sock.bind((IPV4, 0))
    if name == "O_ASYNC":
        fcntl.fcntl(sock, fcntl.F_SETFL, fcntl.fcntl(sock, fcntl.F_GETFL) | os.O_ASYNC)
    else:
        sock.setsockopt(*option)
    if stream:
        sock.listen()
    return sock


def _connect(sock: socket.socket) -> socket.socket:
    return socket.create_connection(sock.getsockname(), timeout=5)


def _serve(run: Run, sockets: list[socket.socket]) -> Server:
    hand_over = Path(__file__).with_name("pass_sockets.py")
    descriptors = [each.fileno() for each in sockets]
    launch = [sys.executable, "-P", str(hand_over), *(f"={each}" for each in descriptors), "--"]
    options = [word for index in range(len(sockets)) for word in ("-l", f"echo=systemd:index={index}")]
    server = Server(
        [*launch, *twistd(), "-n", "--pidfile=", "echosvc", *options], run.server_directory(), descriptors
    )
    run.watch(server)
    until = time.monotonic() + START
    while server.log().count(" listens on ") < len(sockets):
        if time.monotonic() > until or not server.alive():
            raise Broken(f"not all listen: {server.log()[-300:]}")
        time.sleep(0.02)
    return server


def _ask_and_leave(sock: socket.socket) -> None:
    """Ask, and be gone when the answer comes: the service is told so by ICMP."""
    for _ in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x" * 10, sock.getsockname())


def _seconds_of_processor(server: Server) -> float:
    def used() -> int:
        after_name = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[11]) + int(after_name[12])  # utime and stime of proc(5)

    before = used()
    time.sleep(1)
    return (used() - before) / os.sysconf("SC_CLK_TCK")


def _datagrams_come_back(name: str, sock: socket.socket) -> None:
    for size in (1000, 1, 1400):
        payload = os.urandom(size)
        host, port = sock.getsockname()
        came = one_datagram(host, port, payload)
        kept(came is not None, f"{name}: {size} bytes were not answered")
        kept(came == payload, f"{name}: {size} bytes were answered with {len(came or b'')} others")


def _stream_is_served(name: str, client: socket.socket) -> None:
    """A little is answered, and what is left of much after our own end comes whole."""
    began = time.monotonic()
    for _ in range(5):
        with contextlib.suppress(OSError):
            client.sendall(b"few")
            if client.recv(9) == b"few":
                continue
        raise Broken(f"{name}: 3 bytes were not answered")
    took = (time.monotonic() - began) / 5
    kept(took < 0.1, f"{name}: 3 bytes are answered after {took:.1f} s")
    payload = os.urandom(200_000)
    client.sendall(payload)
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    came = receive_all(client, len(payload) + 1)
    kept(came == payload, f"{name}: of {len(payload)} bytes {len(came)} came back")


def _latency_of_a_close(run: Run, streams: dict[str, socket.socket]) -> float:
    """How long another client waits while connections end whose peers take nothing, in seconds."""
    other = run.using(_connect(streams["TCP_CORK"]))
    for sock in streams.values():
        idle = run.using(socket.socket())
        idle.setsockopt(_SO, socket.SO_RCVBUF, 4096)
        idle.connect(sock.getsockname())
        idle.sendall(b"x" * 200_000)
        idle.shutdown(socket.SHUT_WR)
    worst, until = 0.0, time.monotonic() + 1
    other.settimeout(20)
    while (began := time.monotonic()) < until:
        other.sendall(b"z")
        other.recv(1)
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.01)
    return worst
