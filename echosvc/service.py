"""The running service: start, stop."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from echosvc.admission import make_screen
from echosvc.listeners import Listener, open_listeners
from echosvc.observe import DropReport
from echosvc.settings import Settings

__all__ = ["EchoService", "open_service"]


class EchoService(Service):
    """Serves bound listeners from start to stop.

    Args:
        listeners: What to serve. The service owns them.
        reactor: Watches the sockets and keeps time.
    """

    name = "echosvc"
    _log = Logger(namespace="echosvc")
    _stopping = False

    def __init__(self, listeners: Sequence[Listener], reactor: Any) -> None:
        self.listeners = listeners
        self._reactor = reactor
        self._drop_report = DropReport(listeners, reactor, self._log)

    def startService(self) -> None:
        """Serve every listener, and say so with one line for each."""
        super().startService()
        screen = make_screen(each.port for each in self.listeners if each.is_datagram)
        for listener in self.listeners:
            listener.start(self._reactor, screen)
            self._log.info("{listener}", listener=str(listener))
            if shortfall := listener.shortfall():
                self._log.warn("{where}: {shortfall}", where=listener.where, shortfall=shortfall)
        self._drop_report.start()
        self._reactor.callWhenRunning(self._end_well_on_sigterm)

    def stopService(self) -> Deferred[list[object]]:
        """Stop listening, and say what was served.

        Returns:
            Fires when every listening socket is closed. Live connections end with the reactor.
        """
        super().stopService()
        self._drop_report.stop()
        for listener in self.listeners:
            self._log.info("{where}: stopped after {totals}", where=listener.where, totals=listener.totals())
        return gatherResults([listener.stop() for listener in self.listeners])

    def _end_well_on_sigterm(self) -> None:
        """Make SIGTERM end the process with exit code 0.

        Twisted stops in good order and then kills itself with the same signal, so that a service manager
        sees a death (143) where there was a clean stop. Left alone where the reactor does not handle signals
        (embedded in something else).
        """
        if signal.getsignal(signal.SIGTERM) == getattr(self._reactor, "sigTerm", None):
            signal.signal(signal.SIGTERM, self._on_sigterm)

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
        reactor: What will run it. It is not used before the service starts.

    Returns:
        The service, to be started by its parent.

    Raises:
        ListenError: A listener could not be opened. None is left open.
    """
    return EchoService(open_listeners(settings.listeners), reactor)
