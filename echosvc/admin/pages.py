"""What the admin listener answers, apart from how HTTP carries it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from echosvc import __version__
from echosvc.admin.metrics import render
from echosvc.observe import Snapshot, merge

__all__ = ["Answer", "Pages", "Snapshots"]

Snapshots = Callable[[], Sequence[Snapshot] | Deferred[Sequence[Snapshot]]]
"""Takes a snapshot of each process that serves; at once, or when those others have answered."""

_TEXT = "text/plain; charset=utf-8"

_INDEX = """\
echosvc
/metrics   for Prometheus (text format or OpenMetrics)
/healthz   200 as long as the service turns
/readyz    200 if every listener is up and the service is not stopping, else 503
/status    the same figures as JSON, for people and scripts
"""


@attrs.frozen
class Answer:
    """What is answered.

    Attributes:
        code: HTTP's status.
        body: What is shown.
        kind: Its content type.
    """

    code: int
    body: bytes
    kind: str = _TEXT

    @classmethod
    def text(cls, code: int, text: str) -> Answer:
        """Answer in words."""
        return cls(code, text.encode())


class Pages:
    """Finds the answer to a path.

    Args:
        snapshots: Takes a snapshot of each process.
        is_ready: Tells whether every listener is up and the service is not stopping.
    """

    def __init__(self, snapshots: Snapshots, is_ready: Callable[[], bool]) -> None:
        self._snapshots = snapshots
        self._is_ready = is_ready

    def answer(self, path: str, accept: str) -> Deferred[Answer]:
        """Find an answer.

        Args:
            path: Without what follows a question mark.
            accept: What the client can read, as HTTP says it (``Accept``).
        """
        if path == "/metrics":
            return self._taken().addCallback(self._metrics, accept)
        if path == "/status":
            return self._taken().addCallback(self._status)
        return succeed(self._at_once(path))

    def _taken(self) -> Deferred[Sequence[Snapshot]]:
        take: Callable[[], Any] = self._snapshots
        return maybeDeferred(take)

    def _at_once(self, path: str) -> Answer:
        match path:
            case "/":
                return Answer.text(200, _INDEX)
            case "/healthz":
                return Answer.text(200, "ok\n")
            case "/readyz":
                ready = self._is_ready()
                return Answer.text(200, "ready\n") if ready else Answer.text(503, "not ready\n")
        return Answer.text(404, "no such page; / lists them\n")

    def _metrics(self, snapshots: Sequence[Snapshot], accept: str) -> Answer:
        return Answer(200, *render(snapshots, ready=self._is_ready(), accept=accept))

    def _status(self, snapshots: Sequence[Snapshot]) -> Answer:
        listeners = merge(each for snapshot in snapshots for each in snapshot.listeners)
        status: dict[str, Any] = {
            "version": __version__,
            "ready": self._is_ready(),
            "listeners": [{**attrs.asdict(each), "open": each.open} for each in listeners],
            "processes": [each.to_json() for each in snapshots],
        }
        return Answer(200, json.dumps(status, indent=2).encode() + b"\n", "application/json")
