"""Tests of what parent and worker say to each other."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from echosvc.workers.commands import Conversation, Long


class LongTests(SynchronousTestCase):
    """Text of any length."""

    def there_and_back(self, text: str) -> tuple[str, dict[bytes, bytes]]:
        """Write it into a box, and read it again."""
        box: dict[bytes, bytes] = {}
        Long().toBox(b"text", box, {"text": text}, None)
        written = dict(box)
        found: dict[str, Any] = {}
        Long().fromBox(b"text", box, found, None)
        self.assertEqual(box, {})
        return found["text"], written

    def test_nothing(self) -> None:
        """Is still a value."""
        self.assertEqual(self.there_and_back(""), ("", {b"text": b""}))

    def test_more_than_a_value_holds(self) -> None:
        """Is put into as many as it needs, each of which fits, in the middle of a character, too."""
        text = "x" + "é" * 100_000

        found, written = self.there_and_back(text)

        self.assertEqual(found, text)
        self.assertLessEqual(max(map(len, written.values())), 65_535)
        self.assertEqual(len(written), 4)

    def test_half_a_surrogate_pair(self) -> None:
        """Names of files have such."""
        self.assertEqual(self.there_and_back("\udcff")[0], "\udcff")


class ConversationTests(SynchronousTestCase):
    """AMP."""

    def test_it_is_not_logged(self) -> None:
        """Users have not asked for it."""
        conversation = Conversation()

        with capturedLogs() as events:
            conversation.makeConnection(StringTransport())
            conversation.connectionLost()

        self.assertEqual((events, conversation.transport), ([], None))
