"""Clients that send all that is taken and never read, in a process of its own.

A program that needs nothing but Python::

    pour.py PLACE COUNT SECONDS PATIENCE   sends for so many seconds, then waits to be cut off until nothing has arrived for so
                                           many; prints how many bytes were taken, how many clients were cut off, how many
                                           seconds after something last arrived the first and the last of them were, and by
                                           how many seconds this process may have noticed that late
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

from tests.hold.carriers import Place, dial

_RESET = struct.pack("@ii", 1, 0)  # SO_LINGER
_PIECE = bytes(256 * 1024)
_SMALL = ((socket.SOL_SOCKET, socket.SO_SNDBUF, 65536), (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460))

#: Seconds after which it is over in any case.
LONGEST = 60

#: Seconds between two looks at all of them.
PAUSE = 0.01


class Client:
    """One of them.

    Args:
        place: Where it connects.

    Attributes:
        sock: Its connection.
        taken: Bytes that its kernel has taken.
        arrived: When something last arrived.
    """

    def __init__(self, place: Place) -> None:
        # Little room, so that it is the server who takes, and not this end of the connection. Segments as over Ethernet:
        # for loopback's of 64 kB, the kernel would give the server a send buffer of 2.5 MB each.
        self.sock = dial(place, receive_buffer=4096, options=_SMALL)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # no port stays in TIME_WAIT
        self.sock.setblocking(False)
        self.taken = 0
        self._unread = b""
        self.arrived = time.monotonic()

    def pour(self) -> None:
        """Send what is taken."""
        with contextlib.suppress(OSError):
            while True:
                self.taken += self.sock.send(_PIECE)

    def look(self, now: float) -> None:
        """See whether something has arrived: there is more unread then."""
        unread = fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4))
        if unread != self._unread:
            self._unread, self.arrived = unread, now

    def cut_off(self, now: float) -> float:
        """Leave; tell for how many seconds nothing had arrived."""
        self.sock.close()
        return now - self.arrived


def pour(place: Place, count: int, seconds: float, patience: float) -> str:
    """Have them pour and wait, and return what came of it."""
    clients = {each.sock.fileno(): each for each in (Client(place) for _ in range(count))}
    everyone = list(clients.values())
    poll = select.poll()
    for number in clients:
        poll.register(number, 0)  # of an end it tells unasked
    ended: list[float] = []
    late = 0.0
    began = before = time.monotonic()
    # What was taken may take its time to come back.
    while clients and before < min(
        max(each.arrived for each in clients.values()) + patience, began + LONGEST
    ):
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
    where, many, sending, waiting = sys.argv[1:]
    sys.stdout.write(pour(Place.parse(where), int(many), float(sending), float(waiting)))
