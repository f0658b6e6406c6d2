"""The service with workers, as twistd starts it: it holds the sockets and the log, and never serves itself."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from echosvc.admin.opening import open_admin
from echosvc.errors import EchosvcError, ExitCode
from echosvc.observe import LogGuard, Snapshot, own_pipes
from echosvc.rights import forbid_inspection
from echosvc.service.notify import Notifier
from echosvc.service.signals import Signals
from echosvc.settings import Settings
from echosvc.workers.division import count_of, part_of
from echosvc.workers.generation import Generation, Hopeless
from echosvc.workers.parcel import pack
from echosvc.workers.process import FIRST_SOCKET, Keeper, Load, WorkerProcess
from echosvc.workers.sockets import Shared, close_all, open_shared

if TYPE_CHECKING:
    from echosvc.admin.listener import AdminListener  # which needs an extra

__all__ = ["WorkersService", "open_workers"]


class WorkersService(Service):
    """Keeps workers that serve.

    Args:
        settings: What they serve.
        shared: The sockets. The service owns them.
        reactor: Runs this process, and is the kind that workers run.
        reread: Tells what it is to be now, if somebody asks; None if nobody can have said anything else.
        notifier: Tells a service manager how the service is; None if there is none.
        admin: Where the service is seen; None for nowhere.
    """

    name = "echosvc"
    _log = Logger(namespace="echosvc")

    def __init__(
        self,
        settings: Settings,
        shared: Sequence[Shared],
        reactor: Any,
        *,
        reread: Callable[[], Settings] | None = None,
        notifier: Notifier | None = None,
        admin: AdminListener | None = None,
    ) -> None:
        self._settings = settings
        self._count = count_of(settings)
        self._shared = shared
        self._reactor = reactor
        self._reread = reread
        self._notifier = notifier or Notifier(reactor, {})
        self._admin = admin
        self._folder = str(Path.cwd())  # what files are named from; twistd is in another later
        self._log_guard = LogGuard(reactor)
        self._signals = Signals(reactor, self._log, hurry=self.hurry, reload=self.reload)
        self._generation: Generation | None = None
        self._next: Generation | None = None
        self._old: list[tuple[Generation, Deferred[object]]] = []

    def is_ready(self) -> bool:
        """Whether every worker serves, and the service is not stopping."""
        return bool(self.running) and self._generation is not None and self._generation.is_ready

    def privilegedStartService(self) -> None:
        """Have the log wait for no reader, while whoever we are can still see to that."""
        super().privilegedStartService()
        own_pipes()
        self._choose_log_format()

    def _choose_log_format(self) -> None:
        self._log_guard.write_json(wanted=self._settings.log_format == "json")

    def startService(self) -> None:
        """Start the workers, once the reactor runs. A worker that is taken over is to find nothing of its parent's."""
        super().startService()
        forbid_inspection()
        self._log_guard.start()
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._choose_log_format()
        self._signals.handle(reloadable=True)
        if self._admin is not None:
            self._admin.start(self._reactor, self.snapshots, self.is_ready)
            self._log.info("admin: metrics, health and status at {where}", where=self._admin.where)
            for warning in self._admin.warnings():
                self._log.warn("admin: {problem}", problem=warning)
        self._generation = self._make(self._settings, self._shared, self._hopeless)
        self._generation.start().addCallback(lambda _: self._say_ready())

    def _make(
        self, settings: Settings, shared: Sequence[Shared], failed: Callable[[Hopeless], object]
    ) -> Generation:
        load = self._load(settings, shared)

        def launch(keeper: Keeper) -> WorkerProcess:
            return WorkerProcess(self._reactor, load, keeper)

        return Generation(self._count, launch, self._reactor, self._log, failed)

    def _load(self, settings: Settings, shared: Sequence[Shared]) -> Load:
        layout = []
        sockets: list[socket.socket] = []
        common: set[int] = set()
        for each in shared:
            numbers = range(FIRST_SOCKET + len(sockets), FIRST_SOCKET + len(sockets) + len(each.sockets))
            place = settings.listeners.index(each.opened.settings)
            layout.append([place, list(numbers)])
            sockets += each.sockets
            if each.is_common:
                common.add(place)
        return Load(
            settings=pack(part_of(settings, self._count, common)),
            layout=json.dumps(layout),
            sockets=sockets,
            reactor=reactor_name(self._reactor),
            folder=self._folder if os.access(self._folder, os.X_OK) else None,
        )

    def _say_ready(self) -> None:
        for each in self._shared:
            self._log.info("{listener}, {count} workers", listener=each.text, count=self._count)
        self._notifier.report(self._figures)
        self._notifier.ready()

    def _figures(self) -> str:
        serving = 0 if self._generation is None else len(self._generation.serving)
        return f"{serving} of {self._count} workers serve"

    def _hopeless(self, problem: Hopeless) -> None:
        """End, with an exit code of our own, after twistd has tidied up: Twisted itself ends with 0."""
        self._log.critical("{problem}; ending", problem=str(problem))
        atexit.register(_end_with, ExitCode.SOFTWARE)
        self._reactor.stop()

    def reload(self) -> None:
        """Start new workers, which read every file again, and have them take over from the old ones.

        Whatever is wrong changes nothing, and is said in the log.
        """
        if not self.running:
            return
        self._notifier.reloading()
        try:
            self.apply(self._settings if self._reread is None else self._reread())
        except EchosvcError as problem:
            self._not_reloaded(str(problem))

    def _not_reloaded(self, why: str) -> None:
        self._log.error("not reloaded, all is as before: {problem}", problem=why)
        self._notifier.ready()

    def apply(self, settings: Settings) -> None:
        """Serve something else from now on. New workers take over when all of them serve; then the old ones drain.

        Args:
            settings: Checked ones.

        Raises:
            EchosvcError: It cannot be. All is as it was.
        """
        if not self.is_ready() or self._next is not None:
            self._not_reloaded("not all workers serve yet; try again when they do")
            return
        if count_of(settings) != self._count:
            self._log.warn(
                "there are still {count} workers: for another number the service has to be started again",
                count=self._count,
            )
        shared = open_shared(settings.listeners, self._count, self._reactor, self._shared)

        def failed(problem: Hopeless) -> None:
            self._next = None
            self._retire(new)
            close_all(shared, self._shared)
            self._not_reloaded(str(problem))

        def ready(_: object) -> None:
            assert self._generation is not None  # noqa: S101  # there was one, and only we replace it
            old, self._generation, self._next = self._generation, new, None
            new.failed = self._hopeless
            before, self._settings, self._shared = self._shared, settings, shared
            self._choose_log_format()
            self._retire(old)
            close_all(before, shared)
            self._log.info("reloaded: new workers serve")
            self._say_ready()

        new = self._next = self._make(settings, shared, failed)
        new.start().addCallback(ready)

    def _retire(self, generation: Generation) -> None:
        entry = (generation, generation.stop(self._settings.grace))
        self._old.append(entry)
        entry[1].addCallback(lambda _: self._old.remove(entry))

    def stopService(self) -> Deferred[object]:
        """Have the workers finish with those who are connected, and end.

        Returns:
            Fires when no process of ours is left.
        """
        super().stopService()
        self._notifier.stopping()
        for each in (self._generation, self._next):
            if each is not None:
                self._retire(each)
        close_all(self._shared)
        ended: Deferred[Any] = DeferredList([each for _, each in list(self._old)])
        return ended.addCallback(lambda _: self._stopped())

    def _stopped(self) -> Deferred[object]:
        self._log_guard.stop()
        self._notifier.close()
        return maybeDeferred(self._admin.stop if self._admin is not None else lambda: None)

    def hurry(self) -> None:
        """Wait no longer for those who are connected, if we do."""
        for generation, _ in self._old:
            generation.hurry()

    def snapshots(self) -> Deferred[Sequence[Snapshot]]:
        """Ask every worker what it has counted. One that does not answer, because it dies, is left out."""
        serving = [] if self._generation is None else self._generation.serving
        answers: Deferred[Any] = DeferredList([each.snapshot() for each in serving], consumeErrors=True)
        return answers.addCallback(
            lambda found: [Snapshot.from_json(json.loads(text)) for answered, text in found if answered]
        )


def open_workers(
    settings: Settings,
    reactor: Any,
    *,
    reread: Callable[[], Settings] | None = None,
    notifier: Notifier | None = None,
) -> WorkersService:
    """Bind everything a service listens on, and make the service that has workers serve it.

    Args:
        settings: What to listen on; `workers` is not 0.
        reactor: What will run it.
        reread: As `echosvc.service.open_service` has it.
        notifier: Likewise.

    Returns:
        The service, to be started by its parent.

    Raises:
        ListenError: A listener could not be opened. None is left open.
        InvalidListener: What describes a listener cannot be used, or not by workers. None is left open.
    """
    with contextlib.ExitStack() as undo:
        admin = None
        if settings.admin is not None:
            admin = open_admin(settings.admin)
            undo.callback(admin.stop)
        shared = open_shared(settings.listeners, count_of(settings), reactor)
        undo.pop_all()
    return WorkersService(settings, shared, reactor, reread=reread, notifier=notifier, admin=admin)


def reactor_name(reactor: Any) -> str:
    """Name the module that installs a reactor of the same kind, and what it is to run on if that is no part of Twisted."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    on_uvloop = type(loop).__module__.partition(".")[0] == "uvloop"
    return type(reactor).__module__ + ",uvloop" * on_uvloop


def _end_with(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
