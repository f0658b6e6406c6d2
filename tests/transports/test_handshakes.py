"""Tests of how many handshakes may be unfinished."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.handshakes import Handshakes


class One:
    """A handshake that remembers whether it has made room.

    Args:
        among: Where it is known.
        source: What it is counted for.
    """

    def __init__(self, among: Handshakes, source: str) -> None:
        self.made_room = False
        self._among = among
        among.add(self, source)

    def make_room(self) -> None:
        """Remember, and leave."""
        self.made_room = True
        self._among.remove(self)


class HandshakesTests(SynchronousTestCase):
    """Eight of them."""

    def setUp(self) -> None:
        """None yet."""
        self.unfinished = Handshakes(8)

    def begin(self, count: int, source: str) -> list[One]:
        """Begin some."""
        return [One(self.unfinished, source) for _ in range(count)]

    def test_a_source_has_three_quarters(self) -> None:
        """Its own oldest makes room for what exceeds that, and no other source's."""
        first = self.begin(1, "a")
        greedy = self.begin(8, "b")

        self.assertEqual([each.made_room for each in greedy], [True] * 2 + [False] * 6)
        self.assertEqual((first[0].made_room, len(self.unfinished)), (False, 7))

    def test_the_oldest_of_all_makes_room(self) -> None:
        """Whatever its source."""
        first, second, third = self.begin(1, "a"), self.begin(4, "b"), self.begin(4, "c")

        self.assertTrue(first[0].made_room)
        self.assertFalse(any(each.made_room for each in second + third))
        self.assertEqual(len(self.unfinished), 8)

    def test_one_that_is_there_is_not_counted_again(self) -> None:
        """It stays as old as it is, and nothing makes room for it."""
        first, second = self.begin(1, "a"), self.begin(6, "b")
        self.unfinished.add(first[0], "a")
        self.unfinished.add(second[0], "b")
        self.assertEqual(len(self.unfinished), 7)
        self.begin(2, "c")

        self.assertEqual([each.made_room for each in first + second], [True] + [False] * 6)

    def test_one_that_is_done_needs_none(self) -> None:
        """To say so twice is to say it once; nothing of a source is kept that has no handshake."""
        for source in map(str, range(100)):
            (one,) = self.begin(1, source)
            self.unfinished.remove(one)
            self.unfinished.remove(one)
            self.assertFalse(one.made_room)

        self.assertEqual((len(self.unfinished), self.unfinished._by_source), (0, {}))
