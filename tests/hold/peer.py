"""What has to run in a process of its own: a flood, and the clock that shows what it does to the machine.

A program of its own that needs nothing but Python::

    peer.py flood HOST PORT SIZE SECONDS   datagrams as fast as it can; prints how many
    peer.py late SECONDS                   prints by how many milliseconds this machine was late at worst
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time


def flood(host: str, port: int, size: int, seconds: float) -> int:
    """Send datagrams of so many bytes, and return how many."""
    sent = 0
    payload = b"x" * size
    until = time.monotonic() + seconds
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        while time.monotonic() < until:
            for _ in range(100):  # looking at the clock each time would slow the flood
                with contextlib.suppress(OSError):
                    sock.sendto(payload, (host, port))
                    sent += 1
    return sent


def lateness(seconds: float) -> float:
    """Sleep a millisecond at a time, and return by how many milliseconds the latest awakening was late."""
    worst = 0.0
    until = time.monotonic() + seconds
    while (before := time.monotonic()) < until:
        time.sleep(0.001)
        worst = max(worst, time.monotonic() - before - 0.001)
    return worst * 1e3


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    match arguments:
        case ["flood", host, port, size, seconds]:
            sys.stdout.write(f"{flood(host, int(port), int(size), float(seconds))}\n")
        case ["late", seconds]:
            sys.stdout.write(f"{lateness(float(seconds))}\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
