"""Clients that send all that is taken and never read, in a process of its own.

A program that needs nothing but Python::

    pour.py HOST PORT COUNT SECONDS PATIENCE   sends for so many seconds, then waits for so many to be cut off; prints how many
                                               bytes were taken, how many clients were cut off, how many seconds after
                                               something last arrived the first and the last of them were, and by how
                                               many seconds this process may have noticed that late
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import sys
import termios
import time

_RESET = struct.pack("@ii", 1, 0)  # SO_LINGER
_PIECE = bytes(256 * 1024)

#: Seconds between two looks at all of them.
PAUSE = 0.01


class Client:
    """One of them.

    Args:
        host: Whom it connects to.
        port: And where.

    Attributes:
        sock: Its connection.
        taken: Bytes that its kernel has taken.
    """

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.socket()
        # Little room, so that it is the server who takes, and not this end of the connection.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        # As over Ethernet. For loopback's segments of 64 kB, the kernel would give the server a send buffer of 2.5 MB each.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        self.sock.settimeout(10)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # no port stays in TIME_WAIT
        self.sock.setblocking(False)
        self.taken = 0
        self._unread = b""
        self._arrived = time.monotonic()

    def pour(self) -> None:
        """Send what is taken."""
        with contextlib.suppress(OSError):
            while True:
                self.taken += self.sock.send(_PIECE)

    def look(self, now: float) -> None:
        """See whether something has arrived: there is more unread then."""
        unread = fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4))
        if unread != self._unread:
            self._unread, self._arrived = unread, now

    def cut_off(self, now: float) -> float:
        """Leave; tell for how many seconds nothing had arrived."""
        self.sock.close()
        return now - self._arrived


def pour(host: str, port: int, count: int, seconds: float, patience: float) -> str:
    """Have them pour and wait, and return what came of it."""
    clients = {each.sock.fileno(): each for each in (Client(host, port) for _ in range(count))}
    everyone = list(clients.values())
    poll = select.poll()
    for number in clients:
        poll.register(number, 0)  # of an end it tells unasked
    ended: list[float] = []
    late = 0.0
    began = before = time.monotonic()
    while clients and before < began + seconds + patience:
        for number, _ in poll.poll(0):
            poll.unregister(number)
            ended.append(clients.pop(number).cut_off(time.monotonic()))
        for client in clients.values():
            if before < began + seconds:
                client.pour()
            client.look(time.monotonic())
        time.sleep(PAUSE)
        late, before = max(late, time.monotonic() - before), time.monotonic()
    taken = sum(client.taken for client in everyone)
    return f"{taken} {len(ended)} {min(ended, default=0)} {max(ended, default=0)} {late}\n"


if __name__ == "__main__":
    there, at, many, sending, waiting = sys.argv[1:]
    sys.stdout.write(pour(there, int(at), int(many), float(sending), float(waiting)))
