"""What has to run in a process of its own: clients of every habit, for long; and datagrams at a steady rate.

A program of its own that needs nothing but Python::

    soaker.py churn HOST PORT SECONDS SEED   prints how many connections, bytes and datagrams were echoed, and how many wrong
    soaker.py pace HOST PORT SECONDS RATE    from 4 sockets together; prints how many were sent, came back, and came wrong

Half of what churn does is on connections that stay; the other half connects, says something and leaves, by an orderly end or
by a reset, as often before the answer as after it.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import sys
import time

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER
_NOISE = random.Random(2).randbytes(128 * 1024)

#: Connections that stay, and the most bytes said at once: there, by who leaves, and in a datagram.
STAYING, MUCH, LITTLE, DATAGRAM = 20, 64 * 1024, 4096, 1400

#: Seconds after which an answer is missing.
PATIENCE = 20.0


class Churn:
    """One such client after the other.

    Args:
        host: Where to: an address of 127.0.0.0/8.
        port: TCP and UDP.
        seed: Of its habits, and of the addresses that it comes from.

    Attributes:
        connections: How many were made.
        echoed: Bytes that came back as they were sent.
        datagrams: Datagrams that did.
        wrong: How often something else came back, or nothing.
    """

    def __init__(self, host: str, port: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._there = (host, port)
        self._sources = [f"127.0.{100 + seed}.{number}" for number in range(1, 250)]
        self.connections = self.echoed = self.datagrams = self.wrong = 0
        self._staying = [self._connect() for _ in range(STAYING)]
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.settimeout(PATIENCE)
        self._datagrams.connect(self._there)

    def run(self, seconds: float) -> None:
        """Go on for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._come_and_go()
            self.echoed += self._tell(self._chance.choice(self._staying), MUCH)
            if self._chance.random() < 0.1:
                self._ask()
        for sock in (*self._staying, self._datagrams):
            sock.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        # In TIME_WAIT an address has no more ports after a while.
        sock.bind((self._sources[self.connections % len(self._sources)], 0))
        sock.connect(self._there)
        self.connections += 1
        return sock

    def _come_and_go(self) -> None:
        with self._connect() as sock:
            patient, resets = self._chance.random() < 0.5, self._chance.random() < 0.5
            if patient:
                self.echoed += self._tell(sock, LITTLE)
            else:
                sock.sendall(_NOISE[: self._chance.randint(0, LITTLE)])
            if resets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while sock.recv(LITTLE):
                    pass

    def _tell(self, sock: socket.socket, most: int) -> int:
        """Send something and compare what comes back; return how many bytes were right."""
        start, length = self._chance.randrange(MUCH), self._chance.randint(1, most)
        said = _NOISE[start : start + length]
        sock.sendall(said)
        came = bytearray()
        with contextlib.suppress(OSError):
            while len(came) < length and (piece := sock.recv(length - len(came))):
                came += piece
        if came == said:
            return length
        self.wrong += 1
        return 0

    def _ask(self) -> None:
        start, length = self._chance.randrange(MUCH), self._chance.randint(0, DATAGRAM)
        said = _NOISE[start : start + length]
        with contextlib.suppress(OSError):
            self._datagrams.send(said)
            if self._datagrams.recv(65535) == said:
                self.datagrams += 1
                return
        self.wrong += 1


def pace(host: str, port: int, seconds: float, rate: float) -> tuple[int, int, int]:
    """Send datagrams of 64 bytes at a steady rate; return how many were sent, came back, and came wrong."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        sock.connect((host, port))
        sock.setblocking(False)
    missing: set[tuple[int, bytes]] = set()
    sent = came = wrong = 0

    def hear(wait: float) -> bool:
        nonlocal came, wrong
        ready = select.select(sockets, [], [], wait)[0]
        for sock in ready:
            with contextlib.suppress(BlockingIOError):
                while True:
                    answer = (sockets.index(sock), sock.recv(100))
                    came += answer in missing
                    wrong += answer not in missing
                    missing.discard(answer)
        return bool(ready)

    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        while sent < passed * rate:
            payload = b"%064d" % sent
            missing.add((sent % 4, payload))
            sockets[sent % 4].send(payload)
            sent += 1
        hear(0.001)
    while missing and hear(1.0):
        pass
    return sent, came, wrong


if __name__ == "__main__":
    what, there, number, most, last = sys.argv[1:]
    if what == "pace":
        figures: tuple[int, ...] = pace(there, int(number), float(most), float(last))
    else:
        churn = Churn(there, int(number), int(last))
        churn.run(float(most))
        figures = churn.connections, churn.echoed, churn.datagrams, churn.wrong
    sys.stdout.write(" ".join(map(str, figures)) + "\n")
