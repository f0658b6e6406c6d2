"""The workers of one configuration: so many that serve, and one that stands by for whichever of them dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echosvc.workers.pauses import Pauses
from echosvc.workers.process import Keeper, WorkerProcess
from echosvc.workers.pulse import BEAT

__all__ = ["Generation", "Hopeless"]

#: Processes that may end in a row before one has served, at first; and once all have served, if none does any more.
FEW, MANY = 3, 10

#: Seconds to wait for workers to end, beyond those that they give their connections.
PATIENCE = 5.0


class Hopeless(Exception):
    """No worker comes to serve."""


class Generation:
    """Keeps workers running.

    Args:
        count: How many serve.
        launch: Starts a process, and tells the keeper how it does.
        clock: Keeps time.
        log: Where the lines go.
        failed: Is called with why, if no worker comes to serve any more.

    Attributes:
        failed: As given; may be replaced.
        processes: All that run, the one that stands by among them.
    """

    def __init__(
        self,
        count: int,
        launch: Callable[[Keeper], WorkerProcess],
        clock: Any,
        log: Logger,
        failed: Callable[[Hopeless], object],
    ) -> None:
        self._count = count
        self._launch = launch
        self._clock = clock
        self._log = log
        self.failed = failed
        self._pauses = Pauses(clock.seconds)
        self._later: Any = None
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock
        self._slots: dict[int, WorkerProcess | None] = dict.fromkeys(range(1, count + 1))
        self._idle: list[WorkerProcess] = []
        self._ending: list[WorkerProcess] = []
        self._failures = 0
        self._stopping = False
        self._has_served = self._has_failed = False
        self._ready: Deferred[None] = Deferred()
        self.processes: list[WorkerProcess] = []

    @property
    def is_ready(self) -> bool:
        """Whether every worker serves."""
        return not self._stopping and all(
            each is not None and each.is_serving for each in self._slots.values()
        )

    @property
    def serving(self) -> list[WorkerProcess]:
        """Those that serve, in their order."""
        return [each for each in self._slots.values() if each is not None and each.is_serving]

    def start(self) -> Deferred[None]:
        """Begin.

        Returns:
            Fires when every worker serves, for the first time.
        """
        self._looks.start(BEAT, now=False)
        self._launch_missing()
        return self._ready

    def stop(self, grace: float) -> Deferred[object]:
        """Have every worker finish and end.

        Args:
            grace: Seconds that they give their connections.

        Returns:
            Fires when every process has ended. Those that do not are killed.
        """
        self._stopping = True
        if self._looks.running:
            self._looks.stop()
        if self._later is not None and self._later.active():
            self._later.cancel()
        everybody = [*self.processes, *self._ending]
        ended: Deferred[Any] = DeferredList([each.stop() for each in everybody])
        if not everybody:
            return ended
        deadline = self._clock.callLater(grace + PATIENCE, self._kill, everybody)
        return ended.addCallback(lambda _: deadline.cancel() if deadline.active() else None)

    def hurry(self) -> None:
        """Have them wait for nobody any more, when they are stopped."""
        for each in self.processes:
            each.hurry()

    def _kill(self, processes: list[WorkerProcess]) -> None:
        for each in processes:
            each.kill()

    def _look(self) -> None:
        for each in list(self.processes):
            each.look()

    def _launch_missing(self) -> None:
        self._later = None
        if self._has_failed:
            return
        try:
            while len(self.processes) <= self._count:
                self.processes.append(self._launch(self))
        except OSError as problem:  # no memory, no descriptors
            self._log.error("no worker can be started: {problem}", problem=str(problem))
            self._failed_once()

    def prepared(self, process: WorkerProcess) -> None:
        """One more stands by. See `Keeper`."""
        self._idle.append(process)
        self._fill()

    def _fill(self) -> None:
        for number, there in self._slots.items():
            if there is None and self._idle:
                successor = self._slots[number] = self._idle.pop(0)
                successor.become(number)

    def serves(self, process: WorkerProcess) -> None:
        """One more serves. See `Keeper`."""
        self._failures = 0
        self._log.info(
            "{worker} serves, process {pid}", worker=process.name, pid=process.pid, where=process.name
        )
        if self.is_ready and not self._has_served:
            self._has_served = True
            self._ready.callback(None)

    def died(self, process: WorkerProcess, why: str | None) -> None:
        """One is gone. See `Keeper`."""
        self.processes.remove(process)
        self._ending.append(process)
        process.ended.addCallback(self._has_ended, process)
        if process in self._idle:
            self._idle.remove(process)
        if process.number is not None:
            self._slots[process.number] = None
        if self._stopping:
            return
        if why is not None:
            self._tell_end(process, why)
        else:
            process.ended.addCallback(lambda how: self._tell_end(process, how))
        self._fill()
        self._failed_once()

    def _failed_once(self) -> None:
        self._failures += 1
        most = MANY if self._has_served else max(FEW, self._count + 1)
        if self._has_failed:
            return
        if self._failures >= most and not self.serving:
            self._has_failed = True
            self.failed(Hopeless("no worker comes to serve; what is logged above says why"))
        elif self._later is None:
            self._later = self._clock.callLater(self._pauses.died(), self._launch_missing)

    def _has_ended(self, how: str, process: WorkerProcess) -> str:
        self._ending.remove(process)
        return how

    def _tell_end(self, process: WorkerProcess, why: str) -> str:
        name = process.name
        self._log.error("{worker}, process {pid}, {why}", worker=name, pid=process.pid, why=why, where=name)
        return why
