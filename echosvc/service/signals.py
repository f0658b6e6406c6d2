"""What signals do: SIGTERM and SIGINT drain, and a second one does not wait; SIGHUP reads the configuration again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

__all__ = ["Signals"]


class Signals:
    """Handles the signals of a service.

    All are left alone where the reactor does not handle signals (embedded in something else).

    Args:
        reactor: Is stopped, and runs what follows.
        log: Where the lines go.
        hurry: Waits for nobody any more.
        reload: Reads the configuration again.
    """

    def __init__(
        self, reactor: Any, log: Logger, *, hurry: Callable[[], object], reload: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._hurry = hurry
        self._reload = reload
        self._stopping = False

    def handle(self, *, reloadable: bool) -> None:
        """Begin.

        SIGTERM ends the process with exit code 0: Twisted stops in good order and then kills itself with the same signal,
        so that a service manager sees a death (143) where there was a clean stop. SIGINT is told by the exit code, as Twisted
        does it.

        Args:
            reloadable: There are files to read again. Where there are none SIGHUP does nothing, lest `kill -HUP` end a
                daemon; a terminal that goes away still ends what was begun at it, and nohup is left alone.
        """
        if signal.getsignal(signal.SIGTERM) != getattr(self._reactor, "sigTerm", None):
            return
        signal.signal(signal.SIGTERM, self._on_sigterm)
        # Python, when it ends, takes our handler away and leaves the deadly default: a second SIGTERM in the last milliseconds
        # would be the process' end, and its exit code.
        self._reactor.addSystemEventTrigger(
            "after", "shutdown", signal.signal, signal.SIGTERM, signal.SIG_IGN
        )
        # A shell's background job is started with SIGINT ignored.
        if signal.getsignal(signal.SIGINT) == getattr(self._reactor, "sigInt", None):
            signal.signal(signal.SIGINT, self._on_sigint)
        unheard = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL and not os.isatty(0)
        if unheard or reloadable:
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))

    def _on_sigterm(self, *_: object) -> None:
        if self._is_first("SIGTERM"):
            self._reactor.callFromThread(self._reactor.stop)

    def _on_sigint(self, number: int, frame: Any) -> None:
        if self._is_first("SIGINT"):
            self._reactor.sigInt(number, frame)

    def _is_first(self, name: str) -> bool:
        if self._stopping:
            self._log.info("{name} again: waiting for nobody", name=name)
            self._reactor.callFromThread(self._hurry)
            return False
        self._stopping = True
        self._log.info("{name}: stopping", name=name)
        return True
