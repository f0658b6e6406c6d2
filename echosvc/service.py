"""The running service: start, stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from echosvc.admission import (
    DEFAULT_MAX_CONNECTIONS,
    Gate,
    GateSettings,
    Screens,
    Sources,
    provide_for,
)
from echosvc.listeners import AnyListener, open_listeners
from echosvc.observe import DropReport, LogGuard, own_pipes
from echosvc.settings import Settings
from echosvc.transports.hub import hub_for

__all__ = ["EchoService", "open_service"]


class EchoService(Service):
    """Serves bound listeners from start to stop.

    Args:
        listeners: What to serve. The service owns them.
        reactor: Watches the sockets and keeps time.
        gate: What holds for all listeners together.
    """

    name = "echosvc"
    _log = Logger(namespace="echosvc")
    _stopping = False
    _gate: Gate

    def __init__(
        self, listeners: Sequence[AnyListener], reactor: Any, gate: GateSettings | None = None
    ) -> None:
        self.listeners = listeners
        self._gate_settings = gate or GateSettings()
        self._reactor = reactor
        self._drop_report = DropReport(listeners, reactor, self._log)
        self._log_guard = LogGuard(reactor)

    def privilegedStartService(self) -> None:
        """Have the log wait for no reader, while whoever we are can still see to that."""
        super().privilegedStartService()
        own_pipes()

    def startService(self) -> None:
        """Serve every listener, and say so with one line for each.

        Raises:
            Exception: What a protocol has raised when it began, if nothing else is served.
        """
        super().startService()
        self._log_guard.start()
        gate = self._gate = self._make_gate()
        own_ports = [each.udp_port for each in self.listeners if each.udp_port is not None]
        screens = Screens(own_ports, sources=gate.sources)
        served = 0
        for listener in self.listeners:
            try:
                listener.start(self._reactor, screens, gate)
            except Exception:  # whatever somebody else's factory raises when it begins: the others are served
                self._log.failure("{where}: not served", where=listener.where)
                listener.stop()
                if listener is self.listeners[-1] and not served:
                    gate.stop()
                    self._log_guard.stop()
                    raise
            else:
                served += 1
                self._log.info("{listener}", listener=str(listener))
                self._warn(listener)
        self._drop_report.start()
        self._reactor.callWhenRunning(self._handle_signals)

    def stopService(self) -> Deferred[list[object]]:
        """Stop listening, and say what was served.

        Returns:
            Fires when every listening socket is closed. Live connections end with the reactor.
        """
        super().stopService()
        self._drop_report.stop()
        self._gate.stop()
        for listener in self.listeners:
            self._log.info("{where}: stopped after {totals}", where=listener.where, totals=listener.totals())
        self._log_guard.stop()
        return gatherResults([listener.stop() for listener in self.listeners])

    def _make_gate(self) -> Gate:
        """Make the gate, with a descriptor for everybody whom it will let in."""
        settings = self._gate_settings
        wanted = settings.limits.max_connections
        most = provide_for(wanted or DEFAULT_MAX_CONNECTIONS, ceiling=_most_descriptors(self._reactor))
        if wanted is not None and most < wanted:
            self._log.warn(
                "max-connections is {most}, not {wanted}: the system allows no more descriptors; "
                "`ulimit -Hn`, or LimitNOFILE= in a unit, says how many",
                most=most,
                wanted=wanted,
            )
        return Gate(
            attrs.evolve(settings.limits, max_connections=most),
            self._reactor,
            sources=Sources(settings.ipv4_prefix, settings.ipv6_prefix),
            max_queued=settings.max_queued,
        )

    def _handle_signals(self) -> None:
        """Make SIGTERM end the process with exit code 0, and SIGHUP read files again and not end it.

        Twisted stops in good order and then kills itself with the same signal, so that a service manager
        sees a death (143) where there was a clean stop. All is left alone where the reactor does not handle
        signals (embedded in something else).
        """
        if signal.getsignal(signal.SIGTERM) != getattr(self._reactor, "sigTerm", None):
            return
        signal.signal(signal.SIGTERM, self._on_sigterm)
        # Without files it does nothing, lest `kill -HUP` end a daemon; a terminal that goes away still ends what was
        # begun at it, and nohup is left alone.
        unheard = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL and not os.isatty(0)
        if unheard or any(_has_files(each) for each in self.listeners):
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def reload(self) -> None:
        """Read certificates, keys and lists of networks again, for the connections to come.

        One that is wrong changes nothing for its listener.
        """
        with_files = [each for each in self.listeners if _has_files(each)]
        if not with_files:
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
                self._warn(listener)

    def _warn(self, listener: AnyListener) -> None:
        for warning in listener.warnings():
            # Not under the name "warning": those are Python's own to whoever still reads Twisted's old events.
            self._log.warn("{where}: {problem}", where=listener.where, problem=warning)

    def _on_sigterm(self, *_: object) -> None:
        if not self._stopping:
            self._stopping = True
            self._log.info("SIGTERM: stopping")
            self._reactor.callFromThread(self._reactor.stop)


def open_service(settings: Settings, reactor: Any) -> EchoService:
    """Bind everything a service listens on, and make the service.

    Binding comes first, before a daemon forks and drops privileges, so that whatever is wrong is said on
    the user's terminal.

    Args:
        settings: What to listen on.
        reactor: What will run it. Before that only endpoints of Twisted's own use it, which listen at once.

    Returns:
        The service, to be started by its parent.

    Raises:
        ListenError: A listener could not be opened. None is left open.
        InvalidListener: What describes a listener cannot be used. None is left open.
    """
    return EchoService(open_listeners(settings.listeners, reactor), reactor, settings.gate)


def _has_files(listener: AnyListener) -> bool:
    return listener.settings.tls is not None or listener.settings.door.has_files


def _most_descriptors(reactor: Any) -> int | None:
    """Tell how many descriptors can be watched: select(2) knows 1024 (FD_SETSIZE), where no hub watches in its place."""
    return 1024 if type(reactor).__name__ == "SelectReactor" and hub_for(reactor) is reactor else None
