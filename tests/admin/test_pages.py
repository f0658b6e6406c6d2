"""Tests of what the admin listener answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admin.pages import Answer, Pages
from echosvc.observe import Snapshot
from tests.admin.test_metrics import SNAPSHOT


class PagesTests(SynchronousTestCase):
    """Pages."""

    ready = True

    def ask(self, path: str, taken: Any = (SNAPSHOT,), accept: str = "") -> Answer:
        """Ask for a page."""
        pages = Pages(lambda: taken, lambda: self.ready)
        return self.successResultOf(pages.answer(path, accept))

    def test_an_index(self) -> None:
        """Names every page, and each is there."""
        index = self.ask("/")
        listed = [line.split()[0] for line in index.body.decode().splitlines() if line.startswith("/")]

        self.assertEqual((200, ["/metrics", "/healthz", "/readyz", "/status"]), (index.code, listed))
        self.assertEqual({200}, {self.ask(each).code for each in listed})

    def test_any_other(self) -> None:
        """There is none."""
        for path in ("", "/x", "/metrics/", "//", "/../etc/passwd", "*"):
            self.assertEqual(404, self.ask(path).code)

    def test_health(self) -> None:
        """Whoever answers turns, ready or not."""
        self.ready = False

        self.assertEqual(Answer(200, b"ok\n"), self.ask("/healthz"))

    def test_readiness(self) -> None:
        """As a code, which is all that Kubernetes and HAProxy look at."""
        self.assertEqual(Answer(200, b"ready\n"), self.ask("/readyz"))
        self.ready = False
        self.assertEqual(Answer(503, b"not ready\n"), self.ask("/readyz"))

    def test_status(self) -> None:
        """Every process as it is, and listeners added up."""
        other = attrs.evolve(SNAPSHOT, worker=2)
        answer = self.ask("/status", (SNAPSHOT, other))
        status = json.loads(answer.body)

        self.assertEqual((200, "application/json", True), (answer.code, answer.kind, status["ready"]))
        self.assertEqual([SNAPSHOT, other], [Snapshot.from_json(each) for each in status["processes"]])
        echo = status["listeners"][0]
        self.assertEqual(("echo", 18, 6, 200), (echo["name"], echo["opened"], echo["open"], echo["bytes_in"]))
        self.assertEqual({"peer-closed": 8, "idle-timeout": 4}, echo["closed"])
        self.ready = False
        self.assertIs(False, json.loads(self.ask("/status").body)["ready"])

    def test_metrics(self) -> None:
        """In the format that was asked for."""
        plain = self.ask("/metrics")
        self.assertIn(b"\nechosvc_ready 1.0\n", plain.body)
        self.assertTrue(plain.kind.startswith("text/plain; version="))
        self.assertTrue(
            self.ask("/metrics", accept="application/openmetrics-text").kind.startswith(
                "application/openmetrics-text"
            )
        )
        self.ready = False
        self.assertIn(b"\nechosvc_ready 0.0\n", self.ask("/metrics").body)

    def test_other_processes_may_take_a_while(self) -> None:
        """Their snapshots are waited for."""
        later: Deferred[Sequence[Snapshot]] = Deferred()
        answers = [Pages(lambda: later, lambda: True).answer("/status", "")]
        self.assertNoResult(answers[0])
        later.callback([SNAPSHOT])

        self.assertEqual(200, self.successResultOf(answers[0]).code)
        self.assertEqual(200, self.ask("/metrics", succeed([SNAPSHOT])).code)

    def test_no_snapshot(self) -> None:
        """What went wrong is told to whoever answers."""
        for path in ("/metrics", "/status"):
            pages = Pages(lambda: fail(ValueError("gone")), lambda: True)

            self.failureResultOf(pages.answer(path, ""), ValueError)
