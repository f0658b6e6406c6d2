"""Workers without processes, and a reactor that starts none."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport

from echosvc.workers.process import Keeper
from tests.doubles import FakeReactor


class FakeProcess:
    """Stands in for what `spawnProcess` returns."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        """Remember it."""
        self.signals.append(name)


class UnixTransport(FakeTransport):
    """A UNIX socket in memory: what it is handed to send arrives at the other end as a descriptor of its own.

    Attributes:
        other: The protocol at the other end.
    """

    other: Any = None

    def sendFileDescriptor(self, descriptor: int) -> None:
        """Hand over a copy, as the kernel does."""
        self.other.fileDescriptorReceived(os.dup(descriptor))


class StartingReactor(FakeReactor):
    """A reactor that only remembers what it was to start.

    Attributes:
        spawned: The watcher of each process, its process, and how it was to be started.
        adopted: A copy of each connection, and the protocol that has it.
        stops: How often it was stopped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[Any, FakeProcess, dict[str, Any]]] = []
        self.adopted: list[tuple[socket.socket, Any]] = []
        self.stops = 0
        self.refuses = False

    def spawnProcess(self, watcher: Any, executable: str, args: Any = (), **how: Any) -> FakeProcess:
        """Remember it."""
        if self.refuses:
            raise BlockingIOError("Resource temporarily unavailable")
        how["inherited"] = {place: _kept(each) for place, each in how["childFDs"].items()}
        process = FakeProcess(1000 + len(self.spawned))
        self.spawned.append((watcher, process, {"executable": executable, "args": args, **how}))
        return process

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        """Remember it."""
        protocol = factory.buildProtocol(None)
        self.adopted.append((socket.socket(fileno=os.dup(descriptor)), protocol))
        protocol.makeConnection(FakeTransport(protocol, isServer=True))

    def stop(self) -> None:
        """Count."""
        self.stops += 1

    def close(self) -> None:
        """Close all that was kept."""
        for sock, _ in self.adopted:
            sock.close()


def _kept(descriptor: Any) -> Any:
    """What a descriptor was when it was passed: the file's identity."""
    return os.fstat(descriptor).st_ino if isinstance(descriptor, int) else descriptor


def killed(number: int) -> Failure:
    """How a process ends that is killed."""
    return Failure(ProcessTerminated(None, number, number))


def ended(code: int) -> Failure:
    """How a process ends by itself."""
    return Failure(ProcessTerminated(code, None, code << 8) if code else ProcessDone(0))


class FakeWorker:
    """A worker as `Generation` uses it.

    Attributes:
        became: The number that it was given.
        calls: What it was told.
        hangs: Its pulse has stopped.
    """

    made = 0

    def __init__(self, keeper: Keeper) -> None:
        FakeWorker.made += 1
        self.keeper: Any = keeper
        self.pid = FakeWorker.made
        self.number: int | None = None
        self.is_serving = False
        self.ended: Deferred[str] = Deferred()
        self.calls: list[str] = []
        self.hangs = False
        self.stopping = False

    @property
    def name(self) -> str:
        """How the log names it."""
        return f"worker {self.number}"

    def become(self, number: int) -> None:
        """Take the number."""
        self.number = number

    def serve(self) -> None:
        """Say that it serves."""
        self.is_serving = True
        self.keeper.serves(self)

    def look(self) -> None:
        """Die, if it hangs."""
        if self.hangs:
            self.die("hangs")

    def die(self, why: str | None = None) -> None:
        """Say that it has died."""
        self.is_serving = False
        self.keeper.died(self, why)

    def end(self, how: str = "has ended by itself") -> None:
        """The process is gone."""
        self.ended.callback(how)

    def stop(self) -> Deferred[str]:
        """Remember it."""
        self.stopping = True
        self.calls.append("stop")
        return self.ended

    def hurry(self) -> None:
        """Remember it."""
        self.calls.append("hurry")

    def kill(self) -> None:
        """Remember it, and be gone."""
        self.calls.append("kill")
        if not self.ended.called:
            self.end("was killed by SIGKILL")


def launcher(into: list[FakeWorker]) -> Callable[[Keeper], Any]:
    """Make what starts workers, and keep them."""

    def launch(keeper: Keeper) -> Any:
        into.append(FakeWorker(keeper))
        return into[-1]

    return launch
