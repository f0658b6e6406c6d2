"""Servers for the command to talk to: plain sockets in a thread, so that nothing of ours answers.

Each binds a free port of the loopback address and serves until it is stopped.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from threading import Thread

from tests.waiting import until

__all__ = ["DatagramServer", "StreamServer", "echo_stream", "free_port"]

HOST = "127.0.0.1"

#: For how many seconds a server serves, if no test stops it.
_LONGEST = 600.0


class StreamServer:
    """A TCP server that serves one connection after the other.

    Args:
        serve: Called with each connection; the connection is closed when it returns.
    """

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        self._serve = serve
        self._stop, self._stopped = socket.socketpair()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for _ in until(lambda: self._stopped in _ready(self._listening, self._stopped), _LONGEST):
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                self._serve(connection)

    def stop(self) -> None:
        """Stop serving and close everything."""
        self._stop.close()
        self._thread.join()
        self._stopped.close()
        self._listening.close()


def _ready(*sockets: socket.socket) -> list[socket.socket]:
    """Wait until something has come on one of them; return which, none after a long time."""
    return select.select(sockets, [], [], _LONGEST)[0]


def echo_stream(connection: socket.socket) -> None:
    """Send everything back until the peer has said that it will send no more."""
    while data := connection.recv(65536):
        connection.sendall(data)


class DatagramServer:
    """A UDP server.

    Args:
        answer: What to send back for a datagram, None for nothing.

    Attributes:
        received: The datagrams that arrived.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self.received: list[bytes] = []
        self._answer = answer
        self._stop, self._stopped = socket.socketpair()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for _ in until(lambda: self._stopped in _ready(self._socket, self._stopped), _LONGEST):
            datagram, source = self._socket.recvfrom(65535)
            self.received.append(datagram)
            answer = self._answer(datagram)
            if answer is not None:
                self._socket.sendto(answer, source)

    def stop(self) -> None:
        """Stop serving and close everything."""
        self._stop.close()
        self._thread.join()
        self._stopped.close()
        self._socket.close()


def free_port(kind: socket.SocketKind) -> int:
    """Find a port where nobody listens."""
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port
