"""Who takes part: echosvc, C twice, and every rival that this machine has."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import attrs

from bench.build import Programs

__all__ = ["C_AGAIN", "ECHOSVC", "RIVALS", "TWISTED", "UVLOOP", "C", "Missing", "Rival", "find"]

C, C_AGAIN, ECHOSVC, TWISTED, UVLOOP = "c", "c-again", "echosvc", "twisted", "uvloop"

#: Every name that `--rival` takes, in the order of the tables. C is always measured: it is the unit.
RIVALS: Mapping[str, str] = {
    C: "C, epoll",
    C_AGAIN: "C again (A/A)",
    ECHOSVC: "echosvc",
    "python": "Python, bare epoll",
    UVLOOP: "uvloop",
    "go": "Go, net",
    TWISTED: "Twisted, stock",
    "asyncio": "asyncio",
    "socat": "socat",
    "ncat": "ncat + cat",
    "xinetd": "xinetd",
}


@attrs.frozen
class Rival:
    """A server that can be started.

    Attributes:
        name: One of `RIVALS`.
        command: From a folder of its own and a free port to the command.
        announces: A regular expression for the line by which it tells its port; None: it takes the one it is
            given.
        transports: What it speaks well enough to be measured.
        forks: Whether it starts a process per connection.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    announces: str | None = r"^port (\d+)$"
    transports: frozenset[Literal["tcp", "udp"]] = frozenset({"tcp", "udp"})
    forks: bool = False


Missing = Mapping[str, str]
"""From the name of a rival to why it cannot be measured here."""


def find(programs: Programs) -> tuple[list[Rival], Missing]:
    """Look who is here.

    Args:
        programs: What was compiled.

    Returns:
        The rivals found, in the order of `RIVALS`, and those that are missing.
    """
    found = [
        Rival(C, lambda _folder, _port: [str(programs.echo)]),
        Rival(C_AGAIN, lambda _folder, _port: [str(programs.echo)]),
        Rival(ECHOSVC, _echosvc, announces=r"listens on TCP \S*:(\d+)"),
        Rival("python", lambda _folder, _port: _module("bare")),
        Rival(TWISTED, lambda _folder, _port: _module("stock")),
        Rival("asyncio", lambda _folder, _port: _module("loops")),
    ]
    missing: dict[str, str] = {}
    if importlib.util.find_spec("uvloop"):
        found.append(Rival(UVLOOP, lambda _folder, _port: _module("loops", "uvloop")))
    else:
        missing[UVLOOP] = "not installed in this Python"
    if isinstance(programs.go, Path):
        go = str(programs.go)
        found.append(Rival("go", lambda _folder, _port: [go]))
    else:
        missing["go"] = str(programs.go)
    for name, command in {"socat": _socat, "ncat": _ncat, "xinetd": _xinetd}.items():
        if shutil.which(name):
            # TCP alone: socat and ncat echo through a pipe, which joins datagrams; xinetd answers the first
            # of several that have come in together and drops the rest.
            found.append(Rival(name, command, announces=None, transports=frozenset({"tcp"}), forks=True))
        else:
            missing[name] = "not installed"
    order = list(RIVALS)
    return sorted(found, key=lambda rival: order.index(rival.name)), missing


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"bench.servers.{name}", *arguments]


def _echosvc(_folder: Path, _port: int) -> list[str]:
    # What the command `twistd` does, by the running interpreter wherever its scripts may be.
    twistd = "from twisted.scripts.twistd import run; run()"
    return [
        *(sys.executable, "-c", twistd, "-n", "--pidfile="),
        *("echosvc", "--port", "0", "--interface", "127.0.0.1"),
    ]


def _socat(_folder: Path, port: int) -> list[str]:
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=1024,nodelay"
    return ["socat", listen, "PIPE"]


def _ncat(_folder: Path, port: int) -> list[str]:
    return [
        "ncat",
        "--listen",
        "127.0.0.1",
        str(port),
        "--keep-open",
        "--max-conns",
        "1000",
        "--exec",
        "/bin/cat",
    ]


def _xinetd(folder: Path, port: int) -> list[str]:
    configuration = folder / "xinetd.conf"
    settings = {
        "type": "INTERNAL UNLISTED",
        "socket_type": "stream",
        "protocol": "tcp",
        "wait": "no",
        "bind": "127.0.0.1",
        "port": str(port),
        "flags": "NODELAY",
        "instances": "UNLIMITED",
        "per_source": "UNLIMITED",
        "cps": "1000000 1",  # by default, 50 a second switch the service off for ten
    }
    lines = "\n".join(f"    {name} = {value}" for name, value in settings.items())
    configuration.write_text(f"service echo\n{{\n{lines}\n}}\n")
    return ["xinetd", "-dontfork", "-f", str(configuration), "-pidfile", str(folder / "xinetd.pid")]
