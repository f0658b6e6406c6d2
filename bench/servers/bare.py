"""The floor: what pure Python costs with nothing around it. An epoll loop that does not survive bad peers.

What a message does not take at once is waited for here and now, which one slow reader could use to stop all
others; everything else that costs time and that a real server needs is left out as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket

from bench.servers.ports import announce, bind_both

_READ = 65536


def _send_rest(connection: socket.socket, data: bytes) -> None:
    connection.setblocking(True)
    connection.sendall(data)
    connection.setblocking(False)


def _answer(datagram: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(64):
            datagram.sendto(*datagram.recvfrom(_READ))


def _main() -> None:
    stream, datagram = bind_both()
    stream.listen(1024)
    hub = select.epoll()
    hub.register(stream, select.EPOLLIN)
    hub.register(datagram, select.EPOLLIN)
    listener, answerer = stream.fileno(), datagram.fileno()
    connections: dict[int, socket.socket] = {}
    read, write, poll = os.read, os.write, hub.poll
    announce(stream.getsockname()[1])
    while True:
        for fd, _ in poll():
            if fd == listener:
                connection, _ = stream.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                hub.register(connection, select.EPOLLIN)
            elif fd == answerer:
                _answer(datagram)
            else:
                try:
                    data = read(fd, _READ)
                    sent = write(fd, data) if data else 0
                except BlockingIOError:
                    sent = 0
                except OSError:
                    data = b""
                if not data:
                    connections.pop(fd).close()
                elif sent < len(data):
                    _send_rest(connections[fd], data[sent:])


if __name__ == "__main__":
    _main()
