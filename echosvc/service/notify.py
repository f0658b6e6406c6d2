"""Tells a service manager how the service is: systemd's notification protocol, as sd_notify(3) describes it.

Own code, because the protocol is one datagram. Of what PyPI has, `sdnotify` (last released in 2017) waits for a manager that does
not read, and has neither watchdog nor reload; `systemd-python` and `cysystemd` are built against libsystemd.

Nothing here is ever fatal: a service that serves is not ended because nobody listens to what it says of itself.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, MutableMapping
from math import inf
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echosvc.observe.snapshot import ListenerSnapshot

__all__ = ["Notifier", "figures"]

_log = Logger(namespace="echosvc")

#: Seconds between two looks at the figures; they are sent if they have changed.
STATUS_INTERVAL = 10.0

#: The part of the watchdog's period after which it is told again. Half is what sd_watchdog_enabled(3) asks for, and a timer is
#: always late by a little.
WATCHDOG_PART = 0.4

#: Seconds after which is tried again what the manager's queue had no room for.
RETRY = 0.1


#: Seconds that a manager is asked for while connections are drained, once a second.
EXTENSION = 5.0


class Notifier:
    """Tells a service manager how the service is; does nothing where there is none.

    It is connected from the beginning, so that neither dropped privileges nor another root directory stand in its way later.

    Args:
        reactor: Keeps time. The watchdog is told from its timers: they stop when it is stuck.
        environment: Says where the manager listens, and how often it wants to hear. That is taken out of it: what is
            started later must not speak for us.
    """

    def __init__(self, reactor: Any, environment: MutableMapping[str, str]) -> None:
        self._reactor = reactor
        self._waiting: list[bytes] = []
        self._complained = False
        self._figures: Callable[[], str] = str
        self._told = ""
        self._extended = -inf
        self._status_loop = self._loop(self._report)
        self._watchdog_loop = self._loop(lambda: self._send("WATCHDOG=1"))
        self._retry_loop = self._loop(self._retry)
        period = environment.pop("WATCHDOG_USEC", "")
        self._period = int(period) / 1e6 if period.isascii() and period.isdigit() else 0.0
        self._watched = environment.pop("WATCHDOG_PID", "")
        self._socket = self._connect(environment.pop("NOTIFY_SOCKET", ""))

    def ready(self) -> None:
        """Say that everything answers: at the start, and after a reload. From the first time on the watchdog is told."""
        # Only now: a daemon has another process id than the one that was started.
        self._told = self._figures()
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={_one_line(self._told)}", keep=True)
        if self._period and self._watched in ("", str(os.getpid())) and not self._watchdog_loop.running:
            self._start(self._watchdog_loop, self._period * WATCHDOG_PART, now=True)

    def report(self, figures: Callable[[], str]) -> None:
        """Tell figures while they change, from now on and with every `ready`.

        Args:
            figures: Tells them, in a line for people.
        """
        self._figures = figures
        if not self._status_loop.running:
            self._start(self._status_loop, STATUS_INTERVAL, now=False)

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` has to follow, whatever comes of it."""
        # CLOCK_MONOTONIC is what the manager compares it with; Type=notify-reload does not believe in a reload without it.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", keep=True)

    def stopping(self) -> None:
        """Say that the service is about to end. Figures are no longer told; the watchdog is, until `close`."""
        self._stop(self._status_loop)
        self._send("STOPPING=1", keep=True)

    def extend(self, seconds: float) -> None:
        """Ask the manager not to lose patience while the service starts, reloads or stops.

        Args:
            seconds: How long it has to wait from now on. Within them it wants to be asked again, or to see the end.
        """
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def draining(self, left: int) -> None:
        """Say how many connections are waited for, and ask for more time; once a second, however often this is called.

        Args:
            left: How many.
        """
        now = self._reactor.seconds()
        if now - self._extended >= 1:
            self._extended = now
            self.status(f"draining: {left} connections left")
            self.extend(EXTENSION)

    def status(self, text: str) -> None:
        """Say in a line for people what is going on.

        Args:
            text: The line.
        """
        self._told = text
        self._send(f"STATUS={_one_line(text)}")

    def close(self) -> None:
        """Say nothing any more."""
        self._stop(self._status_loop)
        self._stop(self._watchdog_loop)
        self._stop(self._retry_loop)
        self._waiting.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _report(self) -> None:
        if (figures := self._figures()) != self._told:
            self.status(figures)

    def _connect(self, address: str) -> socket.socket | None:
        if not address:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError as problem:
            sock.close()
            self._complain(f"NOTIFY_SOCKET={address}", problem)
            return None
        return sock

    def _send(self, *lines: str, keep: bool = False) -> None:
        """Send one message.

        Args:
            lines: What it says.
            keep: Send it later if the manager's queue is full. What is not kept is said again anyway.
        """
        message = "\n".join(lines).encode(errors="replace")
        if (self._waiting or not self._is_taken(message)) and keep:
            self._waiting.append(message)
            if not self._retry_loop.running:
                self._start(self._retry_loop, RETRY, now=False)

    def _retry(self) -> None:
        while self._waiting and self._is_taken(self._waiting[0]):
            self._waiting.pop(0)
        if not self._waiting:
            self._retry_loop.stop()

    def _is_taken(self, message: bytes) -> bool:
        """Send; tell whether there was room for it. Whatever else is wrong will be wrong the next time, too."""
        if self._socket is not None:
            try:
                self._socket.send(message)
            except BlockingIOError:
                return False
            except OSError as problem:
                self._complain("the service manager hears nothing of us", problem)
        return True

    def _complain(self, what: str, problem: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.warn("{what}: {problem}", what=what, problem=str(problem))

    def _loop(self, function: Callable[[], object]) -> LoopingCall:
        loop = LoopingCall(function)
        loop.clock = self._reactor
        return loop

    def _start(self, loop: LoopingCall, interval: float, *, now: bool) -> None:
        if self._socket is not None:
            loop.start(interval, now=now)

    @staticmethod
    def _stop(loop: LoopingCall) -> None:
        if loop.running:
            loop.stop()


def figures(listeners: Iterable[ListenerSnapshot]) -> str:
    """Tell in a line what is and was served, as ``systemctl status`` shows it.

    Args:
        listeners: What each listener has counted.
    """
    counted = list(listeners)
    parts = []
    if any(not each.is_datagram for each in counted):
        opened, still = sum(each.opened for each in counted), sum(each.open for each in counted)
        parts.append(f"{still} connections of {opened} so far")
    if any(each.is_datagram for each in counted):
        parts.append(f"{sum(each.datagrams_in for each in counted)} datagrams")
    return ", ".join(parts)


def _one_line(text: str) -> str:
    """A line break would begin another message."""
    return " ".join(text.split())
