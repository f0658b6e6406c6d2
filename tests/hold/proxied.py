"""What is promised of a proxy on the same machine: over a UNIX socket it alone can name clients, and they have their limits."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.hold.clients import receive_all
from tests.hold.forge import needs_root
from tests.hold.lifecycle import NOBODY
from tests.hold.promise import kept, promise
from tests.hold.run import Run

__all__ = ["only_the_proxy"]

#: The group of the proxy, which no account is in.
GROUP = 47_000

#: Exit codes of a client: what came back is right; the connection was refused or reset; the system did not let it connect.
ECHOED, ENDED, FORBIDDEN = 0, 1, 2


@promise(
    "PROXY-unix",
    "behind haproxy:unix:PATH:mode=660 only the socket's group can name clients, where over TCP every local user can; each client has its limits",
    deadline=60,
    unguarded=r"another user may connect",
)
def only_the_proxy(run: Run) -> str:
    """Users of the machine connect, of the group of the socket's folder and not of it, with PROXY headers of their own making."""
    needs_root()
    folder = run.directory / "proxy"
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2755)  # what is made in it is of the group
    path = folder / "echo.sock"
    run.serve(
        "--listen", f"echo=haproxy:unix:{path}:mode=660", "--listen", "echo=tcp:0", "--listen", "echo=udp:0"
    )
    denied = folder / "limited.sock"
    run.serve(
        *(
            "--listen",
            f"echo=haproxy:unix:{denied}:mode=660",
            "--listen",
            "echo=tcp:0",
            "--listen",
            "echo=udp:0",
        ),
        *("--deny", "192.0.2.66", "--max-per-source", "1"),
    )
    other = _as(GROUP + 1, lambda: _talk(path, "192.0.2.1"))
    kept(other == FORBIDDEN, f"another user may connect, which ended with {other}")
    proxy = _as(GROUP, lambda: _talk(path, "192.0.2.1"))
    kept(proxy == ECHOED, f"the proxy's group is not served: {proxy}")
    for client, held, expected in (
        ("192.0.2.66", "", ENDED),
        ("192.0.2.1", "192.0.2.1", ENDED),
        ("192.0.2.1", "192.0.2.2", ECHOED),
    ):
        got = _as(GROUP, functools.partial(_talk, denied, client, held))
        kept(got == expected, f"{client} beside {held or 'none'} ends with {got}, not {expected}")
    return "another user: permission denied; the group is served; a denied client and a second place of one client are refused by the address in the header"


def _as(group: int, act: Callable[[], int]) -> int:
    """Do something in a process of another user; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _talk(path: Path, client: str, beside: str = "") -> int:
    """Be a proxy of one client, perhaps while another one is connected."""
    try:
        with _connected(path, beside) as other, _connected(path, client) as sock:
            if beside:
                other.sendall(b"?")
                other.recv(1)
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            return ECHOED if bytes(receive_all(sock, 100)) == b"hello" else ENDED
    except PermissionError:
        return FORBIDDEN
    except OSError:
        return ENDED


def _connected(path: Path, client: str) -> socket.socket:
    """Connect, and say for whom; nothing is connected for no client."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10.0)
    if client:
        sock.connect(str(path))
        sock.sendall(f"PROXY TCP4 {client} 192.0.2.200 40000 7\r\n".encode())
    return sock
