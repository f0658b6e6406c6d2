"""Serves bound listeners from start to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from echosvc.admin import open_admin
from echosvc.admission import (
    DEFAULT_MAX_CONNECTIONS,
    Gate,
    Limits,
    Screens,
    Sources,
    provide_for,
)
from echosvc.errors import EchosvcError, ListenError, ListenNotPermitted
from echosvc.listeners import AnyListener, ListenerSettings, open_listeners
from echosvc.listeners.settings import Inherited, Place, UnixSocket
from echosvc.observe import Complaints, DropReport, LogGuard, Snapshot, own_pipes
from echosvc.service.draining import Drain, Drained
from echosvc.service.notify import Notifier, figures
from echosvc.service.reloading import Change, plan, prepare
from echosvc.service.seeing import Seeing
from echosvc.service.signals import Signals
from echosvc.settings import Settings
from echosvc.transports.hub import hub_for
from echosvc.transports.rights import RESERVE, kernel_refuses

if TYPE_CHECKING:
    from echosvc.admin.listener import AdminListener

__all__ = ["EchoService", "open_service"]


class EchoService(Service):
    """Serves bound listeners from start to stop.

    Args:
        listeners: What to serve. The service owns them.
        reactor: Watches the sockets and keeps time.
        settings: What it is to be; of the listeners' there it is only told what has changed.
        reread: Tells what it is to be now, if somebody asks; None if nobody can have said anything else.
        notifier: Tells a service manager how it is; None if there is none.
        admin: Where it is watched; None for nowhere. The service owns it.
    """

    name = "echosvc"
    _log = Logger(namespace="echosvc")
    _gate: Gate
    _screens: Screens
    _drain: Drain | None = None

    def __init__(
        self,
        listeners: Sequence[AnyListener],
        reactor: Any,
        settings: Settings | None = None,
        *,
        reread: Callable[[], Settings] | None = None,
        notifier: Notifier | None = None,
        admin: AdminListener | None = None,
    ) -> None:
        self._notifier = notifier or Notifier(reactor, {})
        self.listeners = list(listeners)
        self._settings = settings or Settings(listeners=())
        self._reread = reread
        self._reactor = reactor
        self._drains: list[Drain] = []
        self._signals = Signals(reactor, self._log, hurry=self.hurry, reload=self.reload)
        self._drop_report = DropReport(listeners, reactor, self._log)
        self._complaints = Complaints(reactor, self._log)
        self._log_guard = LogGuard(reactor)
        self._seeing = Seeing(reactor, admin, self._log)

    def privilegedStartService(self) -> None:
        """Have the log wait for no reader, while whoever we are can still see to that."""
        super().privilegedStartService()
        own_pipes()
        self._choose_log_format()

    def startService(self) -> None:
        """Serve every listener, and say so with one line for each.

        Raises:
            ListenError: What a protocol has raised when it began. Nothing is served then: a service of which a part is missing
                looks well to whoever has started it.
        """
        super().startService()
        self._log_guard.start()
        gate = self._gate = self._make_gate()
        screens = self._screens = Screens(*self._own_places(), sources=gate.sources)
        for listener in self.listeners:
            listener.log_connections(self._settings.log_connections)
            try:
                listener.start(self._reactor, screens, gate)
            except Exception as problem:
                self._give_up()
                # MemoryError: cffi, where a unit's MemoryDenyWriteExecute= refuses memory that is written and executed.
                permitted = not isinstance(problem, PermissionError | MemoryError)
                kind = ListenError if permitted else ListenNotPermitted
                raise kind(
                    listener.settings.origin,
                    listener.where,
                    f"{listener.wire.name} cannot begin: {problem!r}",
                ) from problem
            self._log.info("{listener}", listener=str(listener))
            self._complaints.tell(listener)
        self._drop_report.start()
        self._complaints.start()
        self._seeing.start(self.listeners, self.is_ready)
        self._reactor.callWhenRunning(
            self._choose_log_format
        )  # twist begins to log after this, twistd before
        self._reactor.callWhenRunning(self._handle_signals)
        self._reactor.callWhenRunning(self._ready)

    def _choose_log_format(self) -> None:
        self._log_guard.write_json(wanted=self._settings.log_format == "json")

    def _give_up(self) -> None:
        for listener in self.listeners:
            listener.stop()
        self._gate.stop()
        self._log_guard.stop()
        self._seeing.stop()

    def _ready(self) -> None:
        """Tell a service manager that every port answers, as soon as that is so. Signals are handled by now."""
        listening = gatherResults([listener.listening() for listener in self.listeners])
        listening.addCallback(lambda answers: self._tell_ready() if all(answers) else None)

    def _tell_ready(self) -> None:
        self._notifier.report(lambda: figures(each.snapshot() for each in self.listeners))
        self._notifier.ready()

    def stopService(self) -> Deferred[None]:
        """Stop listening, let those who are connected finish, and say what was served.

        What waits in the kernel's queues is served first: nobody who got through is turned away.

        Returns:
            Fires when every listening socket is closed and no connection is left, or the grace period is over. What is left
            then ends with the reactor.
        """
        super().stopService()
        self._notifier.stopping()
        self._complaints.stop()
        gate = self._gate
        self._drain = Drain(
            gate.connections,
            lambda: gate.quota.count,
            self._reactor,
            grace=self._settings.grace,
            every_tick=self._notifier.draining,
        )
        closed = gatherResults([listener.stop() for listener in self.listeners])
        for drain in list(self._drains):
            drain.leave()
        drained = self._drain.start()
        stopped = closed.addCallback(lambda _: drained).addCallback(self._stopped)
        return stopped.addCallback(lambda _: self._seeing.stop())

    def is_ready(self) -> bool:
        """Whether every listener is up, and the service is not stopping."""
        return bool(self.running) and all(each.is_serving for each in self.listeners)

    def snapshot(self) -> Snapshot:
        """Tell what was counted so far."""
        return self._seeing.snapshot()

    def hurry(self) -> None:
        """Wait no longer for those who are connected, if we do."""
        if self._drain is not None:
            self._drain.hurry()

    def _own_places(self) -> tuple[list[int], list[str | bytes]]:
        """Tell the ports and names of our datagram sockets."""
        ports = [each.udp_port for each in self.listeners if each.udp_port is not None]
        return ports, [each.own_name for each in self.listeners if each.own_name]

    def _stopped(self, drained: Drained) -> None:
        if drained.finished or drained.aborted:
            self._log.info("{drained}", drained=str(drained))
        self._drop_report.stop()
        self._gate.stop()
        for listener in self.listeners:
            self._log.info("{where}: stopped after {totals}", where=listener.where, totals=listener.totals())
        self._log_guard.stop()
        self._notifier.close()

    def _make_gate(self) -> Gate:
        """Make the gate, with a descriptor for everybody whom it will let in."""
        settings = self._settings.gate
        return Gate(
            self._possible(self._settings),
            self._reactor,
            sources=Sources(settings.ipv4_prefix, settings.ipv6_prefix),
            max_queued=settings.max_queued,
        )

    def _possible(self, settings: Settings) -> Limits:
        """Provide a descriptor for each connection that the limits let in, or let in fewer."""
        limits = settings.gate.limits
        wanted = limits.max_connections
        most = provide_for(
            wanted or DEFAULT_MAX_CONNECTIONS,
            ceiling=_most_descriptors(self._reactor),
            spare=_sent_descriptors(settings),
        )
        if wanted is not None and most < wanted:
            self._log.warn(
                "max-connections is {most}, not {wanted}: the system allows no more descriptors; "
                "`ulimit -Hn`, or LimitNOFILE= in a unit, says how many",
                most=most,
                wanted=wanted,
            )
        return attrs.evolve(limits, max_connections=most)

    def _handle_signals(self) -> None:
        files = self._reread is not None or any(_has_files(each) for each in self.listeners)
        self._signals.handle(reloadable=files)

    def reload(self) -> None:
        """Read the configuration again, certificates, keys and lists of networks included, for the connections to come.

        A configuration that is wrong changes nothing, nor does one of which something cannot be done any more.
        """
        if self._drain is not None:
            return
        self._notifier.reloading()
        try:
            self._reload()
        finally:
            self._ready()

    def _reload(self) -> None:
        if self._reread is None:
            self._reload_files(self.listeners)
            return
        try:
            settings = self._reread()
            change = prepare(plan(self.listeners, settings.listeners), settings.listeners, self._reactor)
        except EchosvcError as problem:
            self._log.error("not reloaded, all is as before: {problem}", problem=str(problem))
            return
        self._apply(change, settings)

    def _apply(self, change: Change, settings: Settings) -> None:
        """Serve what a change has prepared."""
        for what in ("ipv4_prefix", "ipv6_prefix"):
            if getattr(settings.gate, what) != getattr(self._settings.gate, what):
                self._log.warn("{what}: from the next start on", what=what.replace("_", "-"))
        if _place(settings.admin) != _place(self._settings.admin):
            self._log.warn("admin: from the next start on")
        self._gate.change(self._possible(settings), max_queued=settings.gate.max_queued)
        self._settings = settings
        self._choose_log_format()
        for listener in change.plan.unchanged:
            listener.log_connections(settings.log_connections)
        for listener, successor in change.successors:
            if self._serve(successor):
                listener.retire()
                listener.close_door()
                self._forget(listener)
            else:
                successor.retire()
                change.plan.unchanged.append(listener)
        for added in change.opened:
            if not self._serve(added):
                added.stop()
        for removed in change.plan.removed:
            removed.stop()
            self._log.info("{where}: removed after {totals}", where=removed.where, totals=removed.totals())
            self._forget(removed)
            self._drain_door(removed)
        self._screens.change(*self._own_places())
        self._reload_files(change.plan.unchanged)
        self._log.info(
            "reloaded: {opened} opened, {changed} changed, {removed} removed, {unchanged} as before",
            opened=len(change.opened),
            changed=len(change.successors),
            removed=len(change.plan.removed),
            unchanged=len(change.plan.unchanged),
        )

    def _serve(self, listener: AnyListener) -> bool:
        """Serve one more listener; return whether its protocol has begun."""
        listener.log_connections(self._settings.log_connections)
        try:
            listener.start(self._reactor, self._screens, self._gate)
        except Exception:  # noqa: BLE001  # whatever somebody else's factory raises when it begins
            self._log.failure("{where}: not served", where=listener.where)
            return False
        self.listeners.append(listener)
        self._drop_report.watch(listener)
        self._log.info("{listener}", listener=str(listener))
        self._complaints.tell(listener)
        return True

    def _forget(self, listener: AnyListener) -> None:
        self.listeners.remove(listener)
        self._drop_report.forget(listener)
        self._complaints.forget(listener)
        self._seeing.remember(listener)

    def _drain_door(self, listener: AnyListener) -> None:
        """Let those finish who came in at a listener that is no more."""
        door = listener.close_door()
        if door is not None:
            drain = Drain(
                door.connections, lambda: len(door.tickets()), self._reactor, grace=self._settings.grace
            )
            self._drains.append(drain)
            drain.start().addCallback(lambda _: self._drains.remove(drain))

    def _reload_files(self, listeners: Sequence[AnyListener]) -> None:
        """Read certificates, keys and lists of networks again. One that is wrong changes nothing for its listener."""
        with_files = [each for each in listeners if _has_files(each)]
        if not with_files and self._reread is None:
            self._log.info(
                "SIGHUP: no listener has certificates or lists of networks: there is nothing to read again"
            )
        for listener in with_files:
            try:
                listener.reload()
            except Exception as problem:  # noqa: BLE001  # whatever is wrong with one, the others are read
                self._log.error(
                    "{where}: not reloaded: {problem}", where=listener.where, problem=str(problem)
                )
            else:
                what = "certificates" if listener.settings.tls is not None else "networks"
                self._log.info("{where}: {what} read again", where=listener.where, what=what)
                self._complaints.tell(listener)


def open_service(
    settings: Settings,
    reactor: Any,
    *,
    reread: Callable[[], Settings] | None = None,
    notifier: Notifier | None = None,
) -> EchoService:
    """Bind everything a service listens on, and make the service.

    Binding comes first, before a daemon forks and drops privileges, so that whatever is wrong is said on
    the user's terminal.

    Args:
        settings: What to listen on.
        reactor: What will run it. Before that only endpoints of Twisted's own use it, which listen at once.
        reread: Tells what to listen on when the service is told to reload; None if that cannot have changed.
        notifier: Tells a service manager how the service is; None if there is none.

    Returns:
        The service, to be started by its parent.

    Raises:
        ListenError: A listener could not be opened. None is left open.
        InvalidListener: What describes a listener cannot be used. None is left open.
    """
    with contextlib.ExitStack() as undo:
        admin = None
        if settings.admin is not None:
            admin = open_admin(settings.admin)
            undo.callback(admin.stop)
        listeners = open_listeners(settings.listeners, reactor)
        undo.pop_all()
    return EchoService(listeners, reactor, settings, reread=reread, notifier=notifier, admin=admin)


def _sent_descriptors(settings: Settings) -> int:
    """Tell how many descriptors must be free for those that peers may send over UNIX sockets."""
    places = [each.place for each in (*settings.listeners, settings.admin) if each is not None]
    is_unix = any(isinstance(each, UnixSocket | Inherited) for each in places)
    return RESERVE if is_unix and not kernel_refuses() else 0


def _place(admin: ListenerSettings | None) -> Place | None:
    return None if admin is None else admin.place


def _has_files(listener: AnyListener) -> bool:
    return listener.settings.tls is not None or listener.settings.door.has_files


def _most_descriptors(reactor: Any) -> int | None:
    """Tell how many descriptors can be watched: select(2) knows 1024 (FD_SETSIZE), where no hub watches in its place."""
    return 1024 if type(reactor).__name__ == "SelectReactor" and hub_for(reactor) is reactor else None
