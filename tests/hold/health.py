"""What is promised of `echosvc health`: it is as well as it says, and says it in time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from echosvc.transports.addresses import display
from tests.hold.clients import HOSTS, NOT_TRIED
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.service import START, NotServing, Server, environment, free_ports, trouble, twistd

__all__ = ["health"]

PROTOCOLS = ("echo", "discard", "chargen", "qotd", "daytime", "time")

OK, UNAVAILABLE = 0, 69

#: Seconds that the command is given where all but one answer, on a busy machine, too; and where none does.
PATIENT, SHORT = 4.0, 1.0

#: Seconds that its process may take besides: to start Python, mostly.
BESIDES = 3.0

#: Places of each protocol's listeners; PORT, PORT+1 and so on are its own.
_PLACES = (
    'endpoint = ["tcp:{0}", "udp:{0}", "unix:{name}.sock", "unix:@{folder}/{name}", "unixgram:{name}.gram"]',
    'endpoint = "tls:{1}:cert=server.crt:key=server.key"',
    'endpoint = "tls:{2}:cert=server.crt:key=server.key:clientCA=ca.pem"',
    'endpoint = ["tcp:{3}:proxy=127.0.0.0/8,[::1]", "unix:{name}.proxied:proxy="]',
    'endpoint = "tls:{4}:cert=server.crt:key=server.key:proxy=127.0.0.0/8,[::1]"',
    'endpoint = ["tcp:{5}", "udp:{5}"]\nallow = "192.0.2.0/24"',
)


@promise(
    "HEALTH",
    "echosvc health asks every listener of every kind, and notices one that is dead, one that is another, one that hangs",
    deadline=90,
)
def health(run: Run) -> str:
    """Six protocols over TCP, UDP, UNIX, TLS and behind PROXY."""
    directory = run.server_directory()
    ports = free_ports(len(PROTOCOLS) * len(_PLACES))
    config = _write_config(directory, ports)
    server = _start(run, directory)

    run.step = "all is well"
    code, said, took = _ask(directory, "--config", config, "-v")
    asked = said.count("answers")
    missing = 0 if "IPv6" in HOSTS else said.count("[::1]")
    right = asked + missing == len(said.splitlines()) and said.count("no such address here") == missing
    kept(code == OK and right, f"exit {code} though all is well: {said}")
    figures = f"{asked} places asked in {took:.2f} s: exit 0{NOT_TRIED}"

    run.step = "one is dead"
    dead = free_ports(1)[0]
    (directory / "dead.toml").write_text(_replaced(directory, config, f'"tcp:{ports[0]}"', f'"tcp:{dead}"'))
    figures += _names(
        directory, "dead.toml", {f"TCP {display(each, dead)}" for each in HOSTS.values()}, "one dead"
    )

    run.step = "another service is in its place"
    for wanted, there in (("echo", "discard"), ("discard", "echo"), ("time", "daytime"), ("qotd", "chargen")):
        ours, others = (ports[PROTOCOLS.index(each) * len(_PLACES)] for each in (wanted, there))
        (directory / "other.toml").write_text(
            _replaced(directory, config, f'"tcp:{ours}"', f'"tcp:{others}"')
        )
        lines = {f"{wanted} at TCP {display(each, others)}" for each in HOSTS.values()}
        _names(directory, "other.toml", lines, f"{there} in the place of {wanted}")
    figures += "; another protocol in its place: 69, named, 4 of 4"

    run.step = "it hangs"
    os.kill(server.pid, signal.SIGSTOP)
    try:
        code, said, took = _ask(directory, "--config", config, timeout=SHORT)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    hanging = len(said.splitlines())
    # Of datagrams that nobody answers a process that hangs is none the worse.
    silent = len(re.findall(r"no answer within 1 s", said))
    kept(
        code == UNAVAILABLE and hanging == silent and hanging >= asked * 0.8 and took < SHORT + BESIDES,
        f"{figures}; stopped: exit {code}, {hanging} named, {took:.2f} s: {said[-300:]}",
    )
    figures += f"; stopped: 69, {hanging} named, within {took:.2f} s of which it was given {SHORT:g}"

    run.step = "it goes on"
    code, said, _ = _ask(directory, "--config", config)
    kept(code == OK, f"{figures}; and when it goes on: exit {code} {said}")
    kept(not trouble(server.log()), f"{figures}; the service's log: {trouble(server.log())}")
    kept(server.stop() == 0, f"{figures}; the service did not end well")
    code, said, _ = _ask(directory, "--config", config)
    kept(code == UNAVAILABLE and "refused" in said, f"{figures}; ended: exit {code}")
    return f"{figures}; when it goes on 0, when it has ended 69"


def _write_config(directory: Path, ports: tuple[int, ...]) -> str:
    from tests.certificates import Authority  # noqa: PLC0415  # needs an extra

    authority = Authority()
    (directory / "ca.pem").write_bytes(authority.pem)
    authority.issue("localhost").write(directory)
    tables = []
    for index, name in enumerate(PROTOCOLS):
        own = ports[index * len(_PLACES) : (index + 1) * len(_PLACES)]
        tables += [
            f'[[listener]]\nprotocol = "{name}"\n{place.format(*own, name=name, folder=directory)}\n'
            for place in _PLACES
        ]
    (directory / "all.toml").write_text("\n".join(tables))
    return "all.toml"


def _replaced(directory: Path, config: str, old: str, new: str) -> str:
    """What a file says, with the first mention of something replaced."""
    text = (directory / config).read_text()
    kept(old in text, f"the file lacks {old}")
    return text.replace(old, new, 1)


def _start(run: Run, directory: Path) -> Server:
    server = Server([*twistd(), "-n", "--pidfile=", "echosvc", "--config", "all.toml"], directory)
    run.watch(server)
    until = time.monotonic() + START
    while server.log().count("listens on") < len(PROTOCOLS) * 10:
        if not server.alive() or time.monotonic() > until:
            raise NotServing(f"the server does not listen: {server.log().strip().rpartition(chr(10))[2]}")
        time.sleep(0.02)
    return server


def _ask(directory: Path, *arguments: str, timeout: float = PATIENT) -> tuple[int, str, float]:
    """Run the command; return its exit code, what it has said, and how long it took."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "echosvc", "health", f"--timeout={timeout:g}", *arguments],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def _names(directory: Path, config: str, places: set[str], what: str) -> str:
    """Have the command name just these places; return that as figures."""
    code, said, _ = _ask(directory, "--config", config)
    lines = said.splitlines()
    right = len(lines) == len(places) and all(any(each in line for line in lines) for each in places)
    kept(code == UNAVAILABLE and right, f"{what}: exit {code}, {said[-300:]!r}")
    return f"; {what}: 69, named"
