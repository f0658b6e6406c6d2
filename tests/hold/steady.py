"""What has to run in a process of its own: clients who come all the time, and notice whatever is not as ever.

A program of its own that needs nothing but Python::

    steady.py PORT SECONDS CONNECTIONS DATAGRAMS   so many in a second; prints how many connections were made and how many of
                                                   them failed, the longest that one took in milliseconds, how many datagrams
                                                   were sent, and how many did not come back
"""

from __future__ import annotations

import socket
import sys
import threading
import time

HOST = "127.0.0.1"

#: Seconds after which a connection has failed, and after which a datagram is lost.
PATIENCE = 5.0


class Streams(threading.Thread):
    """Connects at a rate, has a word echoed and finishes.

    Attributes:
        made: How many connections were begun.
        failed: What was wrong with those that failed.
        worst: The longest that one took, in seconds.
    """

    def __init__(self, port: int, seconds: float, rate: float) -> None:
        super().__init__()
        self._port, self._seconds, self._rate = port, seconds, rate
        self.made = 0
        self.failed: list[str] = []
        self.worst = 0.0

    def run(self) -> None:
        """Go on for a while."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._seconds:
            if self.made >= passed * self._rate:
                time.sleep(0.001)
                continue
            self.made += 1
            started = time.monotonic()
            try:
                self._one(b"%08d" % self.made)
            except OSError as problem:
                self.failed.append(f"{type(problem).__name__} after {time.monotonic() - began:.2f} s")
            self.worst = max(self.worst, time.monotonic() - started)

    def _one(self, word: bytes) -> None:
        with socket.create_connection((HOST, self._port), PATIENCE) as sock:
            sock.sendall(word)
            sock.shutdown(socket.SHUT_WR)
            came = b""
            while piece := sock.recv(100):
                came += piece
            if came != word:
                raise OSError(f"{came!r} came back")


class Datagrams(threading.Thread):
    """Sends datagrams at a rate, and counts those that do not come back.

    Attributes:
        sent: How many were sent.
        missing: Those that have not come back.
    """

    def __init__(self, port: int, seconds: float, rate: float) -> None:
        super().__init__()
        self._port, self._seconds, self._rate = port, seconds, rate
        self.sent = 0
        self.missing: set[bytes] = set()

    def run(self) -> None:
        """Go on for a while, and wait for what is on its way."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((HOST, self._port))
            sock.settimeout(0.001)
            began = time.monotonic()
            while (passed := time.monotonic() - began) < self._seconds + PATIENCE:
                while self.sent < min(passed, self._seconds) * self._rate:
                    payload = b"%08d" % self.sent
                    self.missing.add(payload)
                    self.sent += 1
                    try:
                        sock.send(payload)
                    except OSError:  # refused: what was sent before was not taken
                        continue
                try:
                    while True:
                        self.missing.discard(sock.recv(100))
                except OSError:
                    pass
                if passed > self._seconds and not self.missing:
                    return


if __name__ == "__main__":
    port, seconds, connections, datagrams = sys.argv[1:]
    streams = Streams(int(port), float(seconds), float(connections))
    packets = Datagrams(int(port), float(seconds), float(datagrams))
    for thread in (streams, packets):
        thread.start()
    for thread in (streams, packets):
        thread.join()
    failures = ", ".join(streams.failed[:3])
    sys.stdout.write(
        f"{streams.made} {len(streams.failed)} {streams.worst * 1e3:.0f} {packets.sent} {len(packets.missing)} {failures}\n"
    )
