"""Sends descriptors whose close blocks, in a process of its own.

A program that needs nothing but Python::

    lingering.py HOW PATH SECONDS    sends TCP sockets with unsent data and SO_LINGER over UNIX sockets, for some seconds, and
                                     prints how many were sent and how many were refused

    stream      with bytes, over connections that stay open
    abandoned   with bytes that are not read: behind as much as the service takes from a peer that reads nothing
    datagram    with datagrams
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import struct
import sys
import time

#: Seconds for which a close of one would block. More than anything here waits.
LINGER = 600

#: Seconds between two.
PAUSE = 0.02


def full_pair() -> tuple[socket.socket, socket.socket]:
    """Make a TCP connection whose one end has unsent data and lingers, and whose other end reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(65_536))
    one.setblocking(True)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, LINGER))
    return one, other


def connected(path: str, kind: socket.SocketKind) -> socket.socket:
    """Connect to a path, or to an abstract name that is written with an @."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(1.0)
    sock.connect("\0" + path[1:] if path.startswith("@") else path)
    return sock


def main(how: str, path: str, seconds: float) -> str:
    """Send for some seconds, and return what came of it."""
    kind = socket.SOCK_DGRAM if how == "datagram" else socket.SOCK_STREAM
    kept: list[socket.socket] = []
    sent = refused = 0
    until = time.monotonic() + seconds
    signal.signal(signal.SIGALRM, lambda *_: None)
    for _ in itertools.takewhile(lambda _: time.monotonic() < until, range(200)):
        lingering, other = full_pair()
        kept.append(other)
        left = False
        with contextlib.suppress(TimeoutError, ConnectionError):
            sock = connected(path, kind)
            kept.append(sock)
            if how == "abandoned":
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(bytes(4096))
                sock.settimeout(1.0)
            try:
                socket.send_fds(sock, [b"hello"], [lingering.fileno()])
                sent += 1
                left = True
            except PermissionError:
                refused += 1
        if not left:  # the close would be ours
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 0, 0))
        signal.setitimer(
            signal.ITIMER_REAL, PAUSE
        )  # it is ours all the same if the service was that quick: a signal ends it
        lingering.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if how == "abandoned":
            kept.pop().close()
        time.sleep(PAUSE)
    return f"{sent} {refused}\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
