"""Tests of what signals do."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from echosvc.service.signals import Signals


class FakeReactor:
    """Handles signals, and does at once what it is to do later."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.at_the_end: list[Any] = []

    def addSystemEventTrigger(self, phase: str, event: str, function: Callable[..., Any], *args: Any) -> None:
        """Remember what is to be done at the end."""
        self.at_the_end.append((phase, event, lambda: function(*args)))

    def sigTerm(self, *_: object) -> None:
        """Twisted's own way with SIGTERM."""

    def sigInt(self, *_: object) -> None:
        """Twisted's own way with SIGINT."""
        self.done.append("sigInt")

    def stop(self) -> None:
        """Take notice."""
        self.done.append("stop")

    def callFromThread(self, what: Callable[[], Any]) -> None:
        """Do it."""
        what()


class SignalsTests(SynchronousTestCase):
    """A process whose reactor handles signals."""

    def setUp(self) -> None:
        """Keep the handlers of the test runner."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = FakeReactor()
        signal.signal(signal.SIGTERM, self.reactor.sigTerm)
        signal.signal(signal.SIGINT, self.reactor.sigInt)
        self.said: list[str] = []
        observer: Any = lambda event: self.said.append(event["log_format"].format(**event))  # noqa: E731
        log = Logger(namespace="test", observer=observer)
        done = self.reactor.done
        self.signals = Signals(
            self.reactor, log, hurry=lambda: done.append("hurry"), reload=lambda: done.append("reload")
        )

    def test_sigterm(self) -> None:
        """The first one stops in good order."""
        self.signals.handle(reloadable=False)
        signal.raise_signal(signal.SIGTERM)

        self.assertEqual((["stop"], ["SIGTERM: stopping"]), (self.reactor.done, self.said))

    def test_sigterm_again(self) -> None:
        """The second one does not wait for anybody."""
        self.signals.handle(reloadable=False)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

        self.assertEqual(["stop", "hurry"], self.reactor.done)
        self.assertEqual("SIGTERM again: waiting for nobody", self.said[1])

    def test_sigterm_at_the_end(self) -> None:
        """One that comes when the reactor has ended does not make another exit code."""
        self.signals.handle(reloadable=False)
        ((phase, event, do),) = self.reactor.at_the_end
        do()

        self.assertEqual(
            ("after", "shutdown", signal.SIG_IGN), (phase, event, signal.getsignal(signal.SIGTERM))
        )

    def test_sigint(self) -> None:
        """Ctrl-C stops in good order, too, and is told by the exit code as Twisted has it; a second one does not wait."""
        self.signals.handle(reloadable=False)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

        self.assertEqual(["sigInt", "hurry"], self.reactor.done)

    def test_sigint_ignored(self) -> None:
        """A background job of a shell does not hear Ctrl-C."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.signals.handle(reloadable=False)

        self.assertEqual(signal.SIG_IGN, signal.getsignal(signal.SIGINT))

    def test_sighup(self) -> None:
        """Where there are files, they are read again."""
        self.signals.handle(reloadable=True)
        signal.raise_signal(signal.SIGHUP)

        self.assertEqual(["reload"], self.reactor.done)

    def test_sighup_for_nothing(self) -> None:
        """Without files it does not end a daemon; at a terminal it does what it always does."""
        for terminal, handled in ((True, False), (False, True)):
            signal.signal(signal.SIGTERM, self.reactor.sigTerm)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            self.patch(os, "isatty", lambda _, terminal=terminal: terminal)
            self.signals.handle(reloadable=False)

            self.assertEqual(handled, signal.getsignal(signal.SIGHUP) != signal.SIG_DFL)

    def test_somebody_else(self) -> None:
        """Where the reactor does not handle signals, nor do we."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.signals.handle(reloadable=True)

        self.assertEqual(signal.SIG_IGN, signal.getsignal(signal.SIGTERM))
        self.assertEqual(self.reactor.sigInt, signal.getsignal(signal.SIGINT))
