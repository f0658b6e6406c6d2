"""How a service is seen: what it has counted, and the admin listener that shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from echosvc.listeners import AnyListener
from echosvc.observe import LatenessWatch, ListenerSnapshot, Snapshot, merge, take_snapshot

if TYPE_CHECKING:
    from echosvc.admin.listener import AdminListener  # which needs an extra

__all__ = ["Seeing"]


class Seeing:
    """Takes snapshots of a service, and shows them to whoever asks.

    What a reload has removed or replaced goes on counting until its last connection has ended, and is remembered: a counter
    that went back would be taken for another start.

    Args:
        reactor: Whose lateness is watched.
        admin: Where to show them; None for nowhere.
        log: Where it is said.
    """

    def __init__(self, reactor: Any, admin: AdminListener | None, log: Logger) -> None:
        self._reactor = reactor
        self._admin = admin
        self._log = log
        self._lateness = LatenessWatch(reactor)
        self._listeners: Sequence[AnyListener] = ()
        self._former: list[AnyListener] = []
        self._past: tuple[ListenerSnapshot, ...] = ()

    def start(self, listeners: Sequence[AnyListener], is_ready: Callable[[], bool]) -> None:
        """Begin.

        Args:
            listeners: Those of the service, now and whenever a snapshot is taken.
            is_ready: Tells whether all of them are up and the service is not stopping.
        """
        self._listeners = listeners
        self._lateness.start()
        if self._admin is not None:
            self._admin.start(self._reactor, lambda: [self.snapshot()], is_ready)
            self._log.info("admin: metrics, health and status at {where}", where=self._admin.where)
            for warning in self._admin.warnings():
                self._log.warn("admin: {problem}", problem=warning)

    def stop(self) -> Deferred[None]:
        """End: the last to go.

        Returns:
            Fires when nothing is shown any more.
        """
        self._lateness.stop()
        stopped = succeed(None) if self._admin is None else self._admin.stop()
        return stopped.addCallback(lambda _: None)

    def remember(self, listener: AnyListener) -> None:
        """Take notice of a listener that the service has no longer."""
        self._former.append(listener)

    def snapshot(self) -> Snapshot:
        """Tell what this process has counted so far."""
        ended = [each for each in self._former if not each.is_serving and not each.snapshot().open]
        self._former = [each for each in self._former if each not in ended]
        self._past = merge([*self._past, *(each.snapshot() for each in ended)])
        counted = [each.snapshot() for each in (*self._listeners, *self._former)]
        return take_snapshot(merge([*counted, *self._past]), self._lateness.read())
