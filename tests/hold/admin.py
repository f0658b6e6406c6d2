"""What is promised to those who watch: figures that agree with everybody else's, and a listener that harms nobody."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hold.clients import (
    IPV4,
    answers,
    connect,
    in_threads,
    one_datagram,
    receive_all,
    receive_exactly,
    send_all_and_shut,
)
from tests.hold.forge import forge
from tests.hold.programs import allow_descriptors
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.service import Server
from tests.hold.workers import wait_until

__all__ = ["agreeing_counters", "bad_requests", "rebinding"]

#: An address of ours that is not let in.
DENIED = "127.0.0.3"

#: Seconds by which the service may be late for being watched: what `flood` allows it on any machine.
LATE = 0.020

#: Hosts as requests name them, and what is answered on a loopback address; the empty one is none at all.
_HOSTS = {
    "": 200,
    "localhost": 200,
    "LOCALHOST.:9007": 200,
    "127.0.0.1:1": 200,
    "[::1]:9007": 200,
    "evil.example": 421,
    "evil.example:9007": 421,
    "127.0.0.1.evil.example": 421,
    "localhost.evil.example": 421,
    "192.0.2.1": 421,
    "[2001:db8::1]": 421,
    "0.0.0.0:9007": 421,
}

_RESET = struct.pack("@ii", 1, 0)


@promise(
    "ADMIN",
    "metrics and status agree to the byte with what a load generator has counted itself; to be watched makes nobody wait",
    deadline=90,
)
def agreeing_counters(run: Run) -> str:
    """Connections that end in good order, by reset and not at all, datagrams, the denied and the forged; 1000 stay open, 3000 with --long."""
    each, held = (2000, 3000) if run.long else (200, 1000)
    server = run.serve("--admin", "tcp:0", "--deny", DENIED, "--max-per-source", "60000", timer=True)
    port = _admin_port(server)
    own: Counter[str] = Counter()
    with allow_descriptors(held), contextlib.ExitStack() as sockets:
        run.step = f"{held} stay"
        for _ in range(held):
            stays = sockets.enter_context(connect(IPV4, server.tcp))
            own.update(_exchange(stays, 7))
        own["connections"] += held
        run.step = "load"
        began = time.monotonic()
        with _scraping(port) as scrapes:
            for counted in in_threads(lambda number: _load(server, number, each), count=8, at_once=8):
                own.update(counted)
        late = server.timer_lateness(began, time.monotonic())
        for _ in range(each):
            _be_denied(server)
        forged = each if os.geteuid() == 0 else 0
        for _ in range(forged):
            forge(IPV4, 0, IPV4, server.udp, b"zero?")
        one_datagram(IPV4, server.udp, b"the last")  # all before it have been read now
        own.update({"datagrams": 1, "datagram bytes": 8})
        expected = _expected(own, held, denied=each, forged=forged)
        by_metrics, by_status = _settled(port, expected)
        figures = (
            f"{own['connections']} connections, {own['bytes']} bytes, {own['datagrams']} datagrams"
            f" ({own['datagram bytes']} bytes), {own['resets']} resets, {each} denied,"
            f" {f'{forged} forged' if forged else 'forging NOT TRIED: needs root'}; {scrapes[0]} scrapes meanwhile with"
            f" {held} open: a timer late by {late.own * 1e3:.1f} ms (with the machine {late.late * 1e3:.1f})"
        )
        kept(by_metrics == expected, f"/metrics {_difference(expected, by_metrics)}; {figures}")
        kept(by_status == expected, f"/status {_difference(expected, by_status)}; {figures}")
        kept(scrapes[0] >= 10 and late.own <= LATE, figures)
        seen = _foreign_readers(port)
        os.kill(server.pid, signal.SIGTERM)
        codes = _codes_while_stopping(port)
        kept(codes == (503, 200), f"while it stops /readyz and /healthz say {codes}; {figures}")
    server.stop()
    return f"all agree: {figures}; {seen}; 503 while it stops"


@promise(
    "ADMIN-bad",
    "bad requests to the admin listener harm nobody: too long, too slow, too many, not HTTP; none is logged",
    deadline=60,
)
def bad_requests(run: Run) -> str:
    """While all of it goes on, echoes are answered and so is whoever asks as they should."""
    path = run.directory / "admin"
    server = run.serve("--admin", f"unix:{path}:mode=600")
    lines = server.log().count("\n")
    worst = 0.0
    asked = 0
    descriptors = server.descriptors()
    memory = server.anonymous()
    with contextlib.ExitStack() as sockets:

        def new() -> socket.socket:
            sock = sockets.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(5.0)
            sock.connect(str(path))
            return sock

        for request in _bad():
            run.step = repr(request[:40])
            for _ in range(10):
                sock = new()
                with contextlib.suppress(OSError):
                    sock.sendall(request)
            before = time.monotonic()
            kept(
                _ask(path, "/healthz") == (200, b"ok\n"), f"/healthz is not answered beside {request[:40]!r}"
            )
            worst = max(worst, time.monotonic() - before)
            asked += 1
        run.step = "slow ones"
        slow = [new() for _ in range(8)]
        for _ in range(3):
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.send(b"G")
            time.sleep(0.1)
        for _ in range(20):
            before = time.monotonic()
            kept(_ask(path, "/readyz")[0] == 200, "slow ones keep out who asks as they should")
            worst = max(worst, time.monotonic() - before)
            asked += 1
        answers(server.tcp, server.udp)
        time.sleep(0.2)
        left = server.descriptors() - descriptors
    grown = server.anonymous() - memory
    logged = server.log().count("\n") - lines
    figures = (
        f"{len(_bad())} kinds, 10 of each, and 8 slow ones: {asked} good requests beside them answered within"
        f" {worst * 1e3:.0f} ms; {left} descriptors in use, memory {grown / 2**20:+.1f} MiB, {logged} log lines"
    )
    kept(worst < 1.0 and left <= 10 and grown < 8 * 2**20 and logged == 0, figures)
    return figures


@promise(
    "ADMIN-host",
    "on a loopback address the admin listener answers to loopback names and addresses alone, so that no web page can read it by"
    " DNS rebinding; elsewhere to any name",
    deadline=90,
    unguarded=r"evil\.example \(GET /metrics\) is answered with 200",
)
def rebinding(run: Run) -> str:
    """As a browser asks whose page has its own name lead to 127.0.0.1, and as people and Prometheus ask."""
    path = run.directory / "admin"
    ports = {}
    for place, workers in (("loopback", "0"), ("with workers", "2")):
        run.step = place
        server = run.serve("--admin", "tcp:0", "--workers", workers)
        port = ports[place] = _admin_port(server)
        wait_until(functools.partial(_is_ready, port), "it is not ready", server)
    everywhere = run.serve("--admin", "tcp:0.0.0.0:0")
    run.serve("--admin", f"unix:{path}")
    asked = 0
    for place, port in ports.items():
        for host, code in _HOSTS.items():
            for method, page in (("GET", "/metrics"), ("GET", "/status"), ("HEAD", "/"), ("POST", "/")):
                got = _ask_as(host, method, page, _tcp(port))
                expected = code if code != 200 or method != "POST" else 405
                kept(
                    got == expected, f"{place}: {host or 'no host'} ({method} {page}) is answered with {got}"
                )
                asked += 1
    for other in (_tcp(_admin_port(everywhere)), _unix(path)):
        kept(_ask_as("evil.example", "GET", "/metrics", other) == 200, "a name of the operator's is refused")
    return f"{asked} requests, {len(_HOSTS)} hosts: each of another host's is answered with 421; on 0.0.0.0 and a UNIX socket any is served"


def _is_ready(port: int) -> bool:
    return _get(port, "/readyz")[0] == 200


def _ask_as(host: str, method: str, page: str, sock: socket.socket) -> int:
    """Ask for a page of some host's; return the status."""
    with sock:
        sock.settimeout(10.0)
        lines = [f"{method} {page} HTTP/1.1", *([f"Host: {host}"] if host else []), "", ""]
        sock.sendall("\r\n".join(lines).encode())
        return int(bytes(receive_all(sock, 2**20)).split(b" ", 2)[1])


def _tcp(port: int) -> socket.socket:
    return socket.create_connection((IPV4, port), 10.0)


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


def _bad() -> list[bytes]:
    noise = random.Random(6).randbytes(4096)
    return [
        b"GET / HTTP/1.1\r\nA: " + b"x" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000,
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 1_000_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * 1_000_000,
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 100001\r\n\r\nabc",
        b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=\xff;q=x,,;=\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 1000,
        noise,
        noise.replace(b"\n", b"\r\n\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n" * 5000,
        b"G",
        b"",
    ]


def _load(server: Server, number: int, count: int) -> Counter[str]:
    """Be one of several clients; return what was done."""
    own: Counter[str] = Counter()
    chance = random.Random(number)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(5.0)
        datagrams.connect((IPV4, server.udp))
        for turn in range(count):
            payload = chance.randbytes(chance.randrange(1400))
            datagrams.send(payload)
            kept(datagrams.recv(2000) == payload, "a datagram came back as another")
            own.update({"datagrams": 1, "datagram bytes": len(payload)})
            with connect(IPV4, server.tcp) as sock:
                own["connections"] += 1
                if turn % 4 == 0:
                    own.update(_exchange(sock, chance.randrange(1, 5000)))
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    own["resets"] += 1
                    continue
                data = chance.randbytes(chance.randrange(100_000))
                sender = threading.Thread(target=send_all_and_shut, args=(sock, data))
                sender.start()
                kept(receive_all(sock, len(data)) == data, "a stream came back as another")
                sender.join()
                own["bytes"] += len(data)
    return own


def _exchange(sock: socket.socket, size: int) -> dict[str, int]:
    data = b"x" * size
    sock.sendall(data)
    kept(receive_exactly(sock, size) == data, "a stream came back as another")
    return {"bytes": size}


def _be_denied(server: Server) -> None:
    with socket.socket() as sock, contextlib.suppress(ConnectionResetError):
        sock.settimeout(5.0)
        sock.bind((DENIED, 0))
        sock.connect((IPV4, server.tcp))
        kept(sock.recv(1) == b"never", "somebody who is denied is served")


def _expected(own: Counter[str], held: int, *, denied: int, forged: int) -> dict[str, int]:
    expected = {
        "tcp opened": own["connections"],
        "tcp open": held,
        "tcp closed peer-closed": own["connections"] - own["resets"] - held,
        "tcp closed lost": own["resets"],
        "tcp bytes in": own["bytes"],
        "tcp bytes out": own["bytes"],
        "tcp dropped access-denied": denied,
        "udp datagrams in": own["datagrams"],
        "udp datagrams out": own["datagrams"],
        "udp bytes in": own["datagram bytes"],
        "udp bytes out": own["datagram bytes"],
        "udp kernel drops": 0,
    }
    return {**expected, "udp dropped source-port-zero": forged} if forged else expected


def _settled(port: int, expected: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Read both pages, again and again until what was just closed has ended there, too."""
    give_up = time.monotonic() + 5.0
    while True:
        found = _by_metrics(_get(port, "/metrics")[1].decode()), _by_status(_get(port, "/status")[1])
        if found == (expected, expected) or time.monotonic() > give_up:
            return found
        time.sleep(0.05)


_SAMPLE = re.compile(r"^echosvc_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_NAMES = {
    "connections_total": "opened",
    "connections_open": "open",
    "connections_closed_total": "closed",
    "bytes_total": "bytes",
    "datagrams_total": "datagrams",
    "dropped_total": "dropped",
    "kernel_drops_total": "kernel drops",
}


def _by_metrics(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, said, value in _SAMPLE.findall(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', said))
        if name in _NAMES:
            more = labels.get("reason") or labels.get("direction") or ""
            found[f"{labels['transport']} {_NAMES[name]} {more}".strip()] = int(float(value))
    return found


def _by_status(page: bytes) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in json.loads(page)["listeners"]:
        kind: str = each["transport"]
        figures: dict[str, Any] = {"bytes in": each["bytes_in"], "bytes out": each["bytes_out"]}
        figures |= {f"dropped {reason}": count for reason, count in each["dropped"].items()}
        if kind == "tcp":
            figures |= {"opened": each["opened"], "open": each["open"]}
            figures |= {f"closed {reason}": count for reason, count in each["closed"].items()}
        else:
            figures |= {"datagrams in": each["datagrams_in"], "datagrams out": each["datagrams_out"]}
            figures["kernel drops"] = each["kernel_drops"]
        found |= {f"{kind} {name}": count for name, count in figures.items()}
    return found


def _difference(expected: dict[str, int], found: dict[str, int]) -> str:
    return "; ".join(
        f"{key}: {found.get(key)}, not {expected.get(key)}"
        for key in sorted(expected.keys() | found.keys())
        if found.get(key) != expected.get(key)
    )


@contextlib.contextmanager
def _scraping(port: int) -> Iterator[list[int]]:
    """Scrape all the time, from another thread; what is yielded holds how often."""
    count = [0]
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(0.02):
            if _get(port, "/metrics")[0] == 200:
                count[0] += 1

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield count
    finally:
        done.set()
        thread.join()


def _admin_port(server: Server) -> int:
    """Wait for the log to say where the admin listener is."""
    where = re.compile(r"metrics, health and status at http://[0-9.]+:(\d+)/")
    wait_until(lambda: where.search(server.log()) is not None, "no admin listener", server)
    return int(where.findall(server.log())[0])


def _get(port: int, path: str) -> tuple[int, bytes]:
    asked = http.client.HTTPConnection(IPV4, port, timeout=10.0)
    with contextlib.closing(asked):
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read()


def _ask(path: object, page: str) -> tuple[int, bytes]:
    asked = http.client.HTTPConnection("localhost", timeout=10.0)
    with contextlib.closing(asked):
        asked.sock = socket.socket(socket.AF_UNIX)
        asked.sock.settimeout(10.0)
        asked.sock.connect(str(path))
        asked.request("GET", page)
        answer = asked.getresponse()
        return answer.status, answer.read()


def _foreign_readers(port: int) -> str:
    """Have curl and Prometheus' own checker read the metrics, where they are."""
    said = []
    text = _get(port, "/metrics")[1]
    if shutil.which("curl"):
        url = f"http://{IPV4}:{port}/metrics"
        got = subprocess.run(["curl", "-sSf", "--max-time", "10", url], capture_output=True, check=False)
        kept(got.returncode == 0 and b"echosvc_bytes_total" in got.stdout, f"curl: {got.stderr.decode()}")
        said.append("curl reads it")
    else:
        said.append("curl NOT TRIED")
    if shutil.which("promtool"):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
        )
        kept(checked.returncode == 0, f"promtool: {(checked.stdout + checked.stderr).decode()}")
        said.append("promtool finds nothing wrong")
    else:
        said.append("promtool NOT TRIED")
    return ", ".join(said)


def _codes_while_stopping(port: int) -> tuple[int, int]:
    """Ask until it is no longer ready, which takes a turn of the reactor."""
    give_up = time.monotonic() + 2.0
    while (code := _get(port, "/readyz")[0]) == 200 and time.monotonic() < give_up:
        time.sleep(0.01)
    return code, _get(port, "/healthz")[0]
