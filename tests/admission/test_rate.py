"""Tests of how many datagrams are let in in a second: of each source, and in all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.rate import FREE, LOT, Allowance, Everyone, Rate, Verdict, refused_for
from tests.waiting import until


class RateCase(SynchronousTestCase):
    """Has a clock, and no luck in the lottery unless a test says so."""

    def setUp(self) -> None:
        """Begin anywhere."""
        self.clock = Clock()
        self.clock.advance(1_000_000.5)
        self.patch(secrets, "randbelow", lambda below: below - 1)

    def rate(self, rate: float, burst: float) -> Rate:
        """Limit sources."""
        made = Rate(rate, burst, self.clock.seconds, "rate")
        made._until_drawn = 10**9
        return made

    def everyone(self, rate: float) -> Everyone:
        """Limit all together."""
        return Everyone(rate, rate, self.clock.seconds, "total")


def send(verdict: Verdict, count: int) -> tuple[int, str | None]:
    """Send one by one; return how many are let in, and the last reason why not."""
    inside, reason = 0, None
    for _ in range(count):
        if verdict.left >= 1:
            verdict.left -= 1
        elif refusal := verdict.ask(1):
            reason = refusal[0]
            continue
        inside += 1
    return inside, reason


class AllowanceTests(RateCase):
    """So many of each source, and so many of all."""

    def test_tells_who_is_heard_of_again(self) -> None:
        """From the second datagram on, each time that it takes tokens; not while it gets none."""
        told: list[bytes] = []
        one = Allowance(b"one", self.rate(8.0, 4), None, told.append)

        send(one, 1)
        self.assertEqual([], told)
        send(one, 1)
        self.assertEqual([b"one"], told)
        send(one, 2)
        before = len(told)
        self.assertEqual((0, "rate"), send(one, 10))
        self.assertEqual(before, len(told))

    def test_a_burst_and_then_the_rate(self) -> None:
        """Of which an eighth is kept back, for the lot."""
        one = Allowance(b"one", self.rate(1600.0, 500), None)

        self.assertEqual((500, "rate"), send(one, 1000))
        self.clock.advance(0.1)
        self.assertEqual((140, "rate"), send(one, 1000))
        self.clock.advance(100)
        self.assertEqual((500, "rate"), send(one, 1000))

    def test_sources_do_not_share(self) -> None:
        """One has used up its own, the other has not; but who comes again under another name does."""
        rate = self.rate(100.0, 10)

        self.assertEqual((10, "rate"), send(Allowance(b"one", rate, None), 50))
        self.assertEqual((10, "rate"), send(Allowance(b"two", rate, None), 50))
        self.assertEqual((0, "rate"), send(Allowance(b"one", rate, None), 50))

    def test_all_share_what_is_for_all(self) -> None:
        """Whoever comes when that is used up is told so, and no lot helps."""
        rate, everyone = self.rate(100.0, 10), self.everyone(15.0)
        rate._until_drawn = 0

        self.assertEqual((10, None), send(Allowance(b"one", rate, everyone), 10))
        self.assertEqual((5, "total"), send(Allowance(b"two", rate, everyone), 6))
        self.assertEqual((0, "total"), send(Allowance(b"three", rate, everyone), 1))
        self.clock.advance(0.2)
        self.assertEqual((3, "total"), send(Allowance(b"four", rate, everyone), 4))

    def test_only_all_are_limited(self) -> None:
        """Each of them may have as much as there is."""
        self.assertEqual((7, "total"), send(Allowance(b"one", None, self.everyone(7.0)), 10))

    def test_an_hour_of_silence(self) -> None:
        """Is not followed by an hour's worth, of nobody and of all."""
        one = Allowance(b"one", None, self.everyone(7.0))
        send(one, 20)
        self.clock.advance(3600)

        self.assertEqual((7, "total"), send(one, 100))

    def test_who_is_never_heard_of_again_costs_one_token(self) -> None:
        """So that a storm of forged names takes no more from the rest than it sends."""
        rate, everyone = self.rate(1e6, 1e6), self.everyone(1000.0)
        for number in range(900):
            self.assertEqual((1, None), send(Allowance(b"%d" % number, rate, everyone), 1))

        self.assertEqual((100, "total"), send(Allowance(b"honest", rate, everyone), 200))

    def test_tokens_are_taken_by_the_handful(self) -> None:
        """One who goes on asks its bucket ever more rarely."""
        rate = self.rate(1e6, 1e6)
        asked: list[int] = []
        take = rate.take

        def counted(key: bytes, count: int = 1) -> int:
            asked.append(count)
            return take(key, count)

        rate.take = counted
        send(Allowance(b"one", rate, None), 2000)

        self.assertEqual([1, 2, 4, 8, 16, 32, 64, 128], asked[:8])
        self.assertEqual({256}, set(asked[8:]))

    def test_several_at_once(self) -> None:
        """Are let in as far as the tokens go: a message may hold more than there ever are."""
        one = Allowance(b"one", self.rate(100.0, 10), None)

        self.assertEqual(("rate", 10), one.ask(64))
        self.assertEqual(("rate", 0), one.ask(64))

    def test_others_are_not_asked(self) -> None:
        """Some may always, some never."""
        self.assertEqual((1000, None), send(FREE, 1000))
        self.assertEqual((0, "no"), send(refused_for("no"), 1000))
        self.assertEqual(("no", 0), refused_for("no").ask(9))
        self.assertRaises(NotImplementedError, Verdict(0).ask, 1)


class EveryoneTests(RateCase):
    """The tokens of all together."""

    def test_an_empty_bucket_is_not_asked_for_each(self) -> None:
        """A storm asks for each of its datagrams; for a millisecond the answer is known."""
        everyone = self.everyone(100_000)
        for _ in until(lambda: not everyone.take(1)):
            pass
        self.patch(everyone, "_bucket", None)

        self.assertEqual([0] * 1000, [everyone.take(1) for _ in range(1000)])

    def test_what_flows_in_meanwhile_is_not_lost(self) -> None:
        """It is there when the bucket is asked again."""
        everyone = self.everyone(100_000)
        for _ in until(lambda: not everyone.take(1)):
            pass
        self.clock.advance(0.0005)
        self.assertEqual(0, everyone.take(1))
        self.clock.advance(0.0006)

        self.assertEqual(110, sum(everyone.take(1) for _ in range(1000)))

    def test_a_clock_that_is_set_back(self) -> None:
        """Keeps nobody out for an hour."""
        everyone = self.everyone(100_000)
        for _ in until(lambda: not everyone.take(1)):
            pass
        self.clock.rightNow -= 3600
        everyone.take(1)
        self.clock.advance(0.0015)

        self.assertEqual(1, everyone.take(1))


class LotTests(RateCase):
    """Some of what comes too fast is let in all the same, so that nobody can be silenced in whose name others send."""

    def test_one_in_four_is_drawn(self) -> None:
        """On average; which one, nobody can tell."""
        gaps = iter([0, 6, 2, 4] * 1000)
        self.patch(secrets, "randbelow", lambda _: next(gaps))
        rate = Rate(8e6, 1, self.clock.seconds, "rate")
        drawn = 0
        for _ in range(4000):
            self.clock.advance(1)
            drawn += rate.draw(b"one", 1)

        self.assertEqual(4000 // LOT, drawn)

    def test_several_of_one_message_are_drawn(self) -> None:
        """As many as come singly would be, while there are tokens."""
        rate = Rate(8.0, 1, self.clock.seconds, "rate")
        rate._by_lot.take = lambda _, count=1: count  # type: ignore[method-assign, assignment]
        rate._until_drawn = 0

        self.assertEqual(64 // 7 + 1, rate.draw(b"one", 64))

    def test_all_of_a_message_may_be_drawn(self) -> None:
        """Then it is not refused; and it takes from what all have."""
        rate, everyone = self.rate(100.0, 1), self.everyone(2.0)
        one = Allowance(b"one", rate, everyone)
        rate._until_drawn = 0

        self.assertIsNone(one.ask(1))
        self.assertIsNone(one.ask(1))
        self.clock.advance(0.001)
        self.assertEqual(("rate", 0), one.ask(1))

    def test_who_is_drawn_takes_from_what_all_have(self) -> None:
        """And is not let in if there is nothing."""
        rate, everyone = self.rate(100.0, 1), self.everyone(1.0)
        one = Allowance(b"one", rate, everyone)
        rate._until_drawn = 0

        self.assertIsNone(one.ask(1))
        self.assertEqual(("rate", 0), one.ask(1))

    def test_a_silencer_fails(self) -> None:
        """Somebody forges a source at just its rate, each time a token is there. Its own datagrams still get through."""
        self.patch(secrets, "randbelow", lambda below: below // 2)
        rate = Rate(1000.0, 10, self.clock.seconds, "rate")
        victim = Allowance(b"victim", rate, None)
        send(victim, 100)
        heard = 0
        for turn in range(10_000):
            self.clock.advance(1 / 875)
            send(victim, 1)  # forged
            if turn % 10 == 0:
                heard += send(victim, 1)[0]

        self.assertGreater(heard, 1000 / LOT * 0.8)

    @given(
        st.integers(1, 300), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 90)))
    )
    def test_never_more_than_the_rate(self, rate: int, burst: int, turns: Sequence[tuple[int, int]]) -> None:
        """Over any time, lots and all: the burst, one for the lot, and what time has added; and the burst at least."""
        clock = Clock()
        one = Allowance(b"one", Rate(rate, burst, clock.seconds, "rate"), None)
        inside = came = 0
        for sixteenths, count in turns:
            clock.advance(sixteenths / 16)
            inside += send(one, count)[0]
            came += count

            self.assertLessEqual(inside, burst + 1 + rate * clock.seconds() + 0.01)
            self.assertGreaterEqual(inside, min(burst, came))
