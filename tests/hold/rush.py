"""New connections and datagrams at a steady rate, whatever becomes of those before: how long each has waited, and for whom."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.hold.clients import IPV4

__all__ = ["Connections", "Datagrams"]

#: Seconds that whoever has not been answered may still be, in the end.
PATIENCE = 5.0


@dataclass
class Waited:
    """What became of those who came.

    Attributes:
        sent: How many came.
        seconds: How long each has waited that was answered.
        failed: How many were not, by reason.
    """

    sent: int = 0
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def worst(self) -> float:
        """The longest that one of them has waited, in seconds."""
        return max(self.seconds, default=0.0)


class _Rush(threading.Thread):
    """Somebody who comes again and again, a context that ends it.

    Args:
        rate: How often in a second.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(daemon=True)
        self.waited = Waited()
        self._interval = 1 / rate
        self._done = threading.Event()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self.join()
        self._selector.close()

    def run(self) -> None:
        """Come, and hear those who were answered, until it is enough; then only hear."""
        due = time.monotonic()
        while not self._done.is_set():
            while due <= time.monotonic():
                self.waited.sent += 1
                self._come()
                due += self._interval
            self._hear(max(0.0, due - time.monotonic()))
        until = time.monotonic() + PATIENCE
        while self._waiting() and time.monotonic() < until:
            self._hear(0.1)
        if left := self._waiting():
            self.waited.failed["no answer"] = left
        self._close()

    def _hear(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            answer: Callable[[], None] = key.data
            answer()

    def _come(self) -> None:
        raise NotImplementedError

    def _waiting(self) -> int:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class Connections(_Rush):
    """New connections, each of which ends when it was told who answers.

    Args:
        port: Of `whoami.Stream`.
        rate: How many in a second.
    """

    def __init__(self, port: int, rate: float) -> None:
        super().__init__(rate)
        self._port = port

    def _come(self) -> None:
        came = time.monotonic()
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((IPV4, self._port))

        def answered() -> None:
            try:
                if sock.recv(64):
                    self.waited.seconds.append(time.monotonic() - came)
                else:
                    self.waited.failed["closed"] += 1
            except OSError as problem:
                self.waited.failed[errno.errorcode.get(problem.errno or 0, "?")] += 1
            self._selector.unregister(sock)
            sock.close()

        self._selector.register(sock, selectors.EVENT_READ, answered)

    def _waiting(self) -> int:
        return len(self._selector.get_map())

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()


class Datagrams(_Rush):
    """Datagrams of several flows, one flow after the other.

    Args:
        port: Of `whoami.Datagram`.
        rate: How many in a second.
        flows: How many flows.

    Attributes:
        answered: The processes that have answered each flow, in their order.
    """

    def __init__(self, port: int, rate: float, flows: int) -> None:
        super().__init__(rate)
        self._sent: dict[int, float] = {}
        self._sockets: list[socket.socket] = []
        self.answered: list[list[int]] = []
        for number in range(flows):
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.connect((IPV4, port))
            sock.setblocking(False)
            self._sockets.append(sock)
            self.answered.append([])
            self._selector.register(sock, selectors.EVENT_READ, lambda number=number: self._answer(number))

    def _come(self) -> None:
        count = self.waited.sent
        self._sent[count] = time.monotonic()
        self._sockets[count % len(self._sockets)].send(b"%d" % count)

    def _answer(self, number: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                pid, _, count = self._sockets[number].recv(64).partition(b"\n")
                if (sent := self._sent.pop(int(count), None)) is None:
                    self.waited.failed["answered twice"] += 1
                    continue
                self.waited.seconds.append(time.monotonic() - sent)
                if self.answered[number][-1:] != [int(pid)]:
                    self.answered[number].append(int(pid))

    def _waiting(self) -> int:
        return len(self._sent)

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
