"""Tests of the datagram screen."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import count, islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import AccessList, DatagramScreen, Screens, ScreenSettings, Sources
from echosvc.admission import screen as screen_module
from echosvc.admission.rules import Rules
from echosvc.transports import Arrival
from tests.admission.batches import Batch, arrival

HERE = arrival("127.0.0.1", asked="127.0.0.1")
ONE, TWO, SIX = arrival("192.0.2.1"), arrival("192.0.2.2"), arrival("2001:db8::1")


class ScreenCase(SynchronousTestCase):
    """Makes screens on a clock."""

    def screen(
        self, *, allow: Any = (), deny: Any = (), answer_rate: float | None = None, **settings: Any
    ) -> DatagramScreen:
        """Make the screen of a service on port 7, without luck in the lottery."""
        self.clock = Clock()
        access = AccessList.read(allow, deny)
        screens = Screens([7], seconds=self.clock.seconds)
        made = screens.screen(ScreenSettings(**settings), access, answer_rate=answer_rate)
        if made._rate is not None:
            made._rate._until_drawn = 10**9
        return made

    def let_in(self, screen: DatagramScreen, sender: Arrival, count: int) -> int:
        """Ask about datagrams of one sender, in one batch; return how many are let in."""
        return count - len(screen(Batch([sender] * count)))


class RulesTests(ScreenCase):
    """What follows from the envelope alone."""

    def test_each_is_told_its_own_reason(self) -> None:
        """In one batch; and the second time as the first."""
        screen = self.screen()
        batch = Batch(
            [ONE, arrival("192.0.2.1", 7), SIX, arrival("192.0.2.1", 0), arrival("224.0.0.1"), HERE]
        )
        refused = {1: ("source-port-own", 0), 3: ("source-port-zero", 0), 4: ("source-multicast", 0)}

        self.assertEqual(refused, screen(batch))
        self.assertEqual(refused, screen(batch))

    def test_a_batch_of_one_sender(self) -> None:
        """Is judged as a whole."""
        self.assertEqual({}, self.screen()(Batch([ONE] * 3)))
        refused = ("source-port-low", 0)
        self.assertEqual(
            dict.fromkeys(range(3), refused), self.screen()(Batch([arrival("192.0.2.1", 53)] * 3))
        )

    def test_a_low_port_that_is_allowed(self) -> None:
        """At this listener."""
        self.assertEqual({}, self.screen(low_ports=(862,))(Batch([arrival("192.0.2.1", 862)])))

    def test_the_access_list(self) -> None:
        """Whoever may not ask is refused, of either family, on this machine, too."""
        screen = self.screen(deny=["192.0.2.2", "2001:db8::/32", "127.0.0.0/8"])

        refused = dict.fromkeys((1, 2, 3), ("access-denied", 0))
        self.assertEqual(refused, screen(Batch([ONE, TWO, SIX, HERE])))

    def test_another_access_list(self) -> None:
        """Holds from the next datagram on, also for those who have asked before; what they have used up stays so."""
        screen = self.screen(deny=["192.0.2.1"], rate=8.0, burst=2)
        self.assertEqual([0, 1], [self.let_in(screen, ONE, 1), self.let_in(screen, TWO, 1)])
        screen.use(AccessList.read([], ["192.0.2.2"]))

        self.assertEqual([2, 0], [self.let_in(screen, ONE, 5), self.let_in(screen, TWO, 1)])
        screen.use(AccessList())
        self.assertEqual([0, 1], [self.let_in(screen, ONE, 5), self.let_in(screen, TWO, 5)])

    def test_an_envelope_is_read_once(self) -> None:
        """As long as it is remembered."""
        screen = self.screen()
        first, second = Batch([ONE, TWO, ONE]), Batch([TWO, ONE, SIX])
        screen(first)
        screen(second)

        self.assertEqual(([ONE, TWO], [SIX]), (list(dict.fromkeys(first.described)), second.described))

    def test_a_storm_does_not_fill_the_memory(self) -> None:
        """Whoever is heard of meanwhile is not read again."""
        self.patch(screen_module, "_REMEMBERED", 100)
        screen = self.screen()
        screen(Batch([ONE, TWO]))
        for number in range(100):
            forged = [arrival(f"10.{number}.{low}.1") for low in range(60)]
            batch = Batch([ONE, *forged])
            screen(batch)
            self.assertNotIn(ONE, batch.described)

        self.assertLessEqual(len(screen._envelopes), 200)
        self.assertLessEqual(len(screen._allowances), 200)


class RateTests(ScreenCase):
    """How many are let in."""

    def test_one_source_whatever_its_port_and_whatever_it_asks(self) -> None:
        """An IPv4 address, or an IPv6 /64."""
        screen = self.screen(rate=80.0, burst=10)
        for a, b in (
            (arrival("192.0.2.1", 40_000), arrival("192.0.2.1", 40_001, "198.51.100.8")),
            (arrival("2001:db8::1"), arrival("2001:db8::ffff:1")),
        ):
            self.assertIs(screen._judge(a), screen._judge(b))
            self.assertEqual([6, 4], [self.let_in(screen, a, 6), self.let_in(screen, b, 6)])
            self.assertEqual({0: ("datagram-rate", 0), 1: ("datagram-rate", 0)}, screen(Batch([a, b])))
        self.assertEqual(10, self.let_in(screen, arrival("2001:db8:0:1::1"), 20))

    def test_others_wait_for_nobody(self) -> None:
        """In the same batch: one has sent too much, the other has not."""
        screen = self.screen(rate=80.0, burst=3)

        refused = dict.fromkeys((5, 6), ("datagram-rate", 0))
        self.assertEqual(refused, screen(Batch([ONE, TWO, ONE, TWO, ONE, ONE, ONE, SIX])))

    def test_without_a_burst_it_is_a_seconds_worth(self) -> None:
        """And then the rate."""
        screen = self.screen(rate=80.0)

        self.assertEqual(80, self.let_in(screen, ONE, 100))
        self.clock.advance(0.1)
        self.assertEqual(7, self.let_in(screen, ONE, 100))

    def test_a_message_that_holds_several(self) -> None:
        """Is let in as far as it may; of one sender, and among others."""
        for others in ((), (TWO,)):
            screen = self.screen(rate=80.0, burst=10)
            batch = Batch([ONE, ONE, ONE, *others], {0: 6, 1: 6})

            self.assertEqual({1: ("datagram-rate", 4), 2: ("datagram-rate", 0)}, screen(batch))
        screen = self.screen(rate=80.0, burst=10)
        self.assertEqual({}, screen(Batch([ONE, ONE], {0: 6})))
        self.assertEqual({0: ("datagram-rate", 3)}, screen(Batch([ONE], {0: 6})))

    def test_all_together(self) -> None:
        """However many they are."""
        screen = self.screen(rate=80.0, burst=10, total=25.0)

        self.assertEqual([10, 10, 5], [self.let_in(screen, each, 20) for each in (ONE, TWO, SIX)])
        self.assertEqual({0: ("datagram-rate-total", 0)}, screen(Batch([arrival("192.0.2.3")])))

    def test_newcomers(self) -> None:
        """Only so many can be got to know; those who are known, whatever their port, do not suffer, nor does this machine."""
        self.patch(screen_module, "NEWCOMERS", 30)
        self.patch(screen_module, "NEWCOMERS_AT_ONCE", 3)
        screen = self.screen()
        self.assertEqual({}, screen(Batch([ONE, TWO, arrival("192.0.2.1", 40_001)])))

        refused = dict.fromkeys((2, 5), ("newcomer-rate", 0))
        batch = [
            ONE,
            SIX,
            arrival("192.0.2.4"),
            HERE,
            TWO,
            arrival("192.0.2.5"),
            arrival("192.0.2.2", 40_002),
        ]
        self.assertEqual(refused, screen(Batch(batch)))
        self.assertEqual({0: ("newcomer-rate", 0)}, screen(Batch([arrival("192.0.2.4")])))
        self.clock.advance(0.04)
        self.assertEqual({}, screen(Batch([arrival("192.0.2.4"), arrival("192.0.2.4", 40_001)])))

    def test_newcomers_where_nobody_is_limited(self) -> None:
        """Nor are they."""
        self.patch(screen_module, "NEWCOMERS_AT_ONCE", 1)

        self.assertEqual({}, self.screen(rate=0.0, total=0.0)(Batch([ONE, TWO, SIX])))

    def test_this_machine_is_not_limited(self) -> None:
        """Nobody else can send in its name, and it can load itself without us."""
        screen = self.screen(rate=1.0, total=1.0)

        self.assertEqual(1000, self.let_in(screen, HERE, 1000))
        for _ in range(2):
            self.assertEqual({}, screen(Batch([HERE, arrival("::1", asked="::1")] * 100)))

    def test_no_limit(self) -> None:
        """None at all, or one of the two."""
        self.assertEqual(10**4, self.let_in(self.screen(rate=0.0, total=0.0), ONE, 10**4))
        self.assertEqual(70, self.let_in(self.screen(rate=0.0, total=70.0), ONE, 10**3))
        self.assertEqual(80, self.let_in(self.screen(rate=80.0, total=0.0), ONE, 10**3))

    def test_what_was_refused_takes_no_token(self) -> None:
        """A forger from a port that is never answered uses up nothing."""
        screen = self.screen(rate=80.0, burst=5, total=5.0)
        self.let_in(screen, arrival("192.0.2.1", 53), 100)

        self.assertEqual(5, self.let_in(screen, ONE, 10))

    def test_sources_of_another_size(self) -> None:
        """As the service's settings have it."""
        screens = Screens([7], seconds=Clock().seconds, sources=Sources(24, 64))
        screen = screens.screen(ScreenSettings(rate=8.0, burst=3), AccessList())
        assert screen._rate is not None
        screen._rate._until_drawn = 10**9

        self.assertEqual([3, 0], [self.let_in(screen, each, 5) for each in (ONE, TWO)])


class RegularTests(ScreenCase):
    """Who was heard of twice is no newcomer any more, whatever comes in between."""

    def setUp(self) -> None:
        """Have little memory, and ten newcomers."""
        super().setUp()
        self.patch(screen_module, "NEWCOMERS", 10)
        self.patch(screen_module, "NEWCOMERS_AT_ONCE", 10)
        self.patch(screen_module, "_REMEMBERED", 5)
        self.patch(screen_module, "_REGULARS", 20)
        self.hosts = count(0x0A000000)  # 10.0.0.0

    def storm(self, screen: DatagramScreen, seconds: int, times: int = 1) -> None:
        """Send from a hundred sources in a second, each as often."""
        for _ in range(seconds):
            for host in islice(self.hosts, 100):
                for _ in range(times):
                    screen(Batch([arrival(str(ip_address(host)))]))
            self.clock.advance(1)
        self.assertIsNone(screen._allowances.find(ONE.source))
        self.assertIsNone(screen._envelopes.find(ONE))
        for host in islice(self.hosts, 10):
            screen(Batch([arrival(str(ip_address(host)))]))
        self.assertEqual({0: ("newcomer-rate", 0)}, screen(Batch([SIX])))

    def test_a_storm(self) -> None:
        """A source that was heard of but twice is let in, from another port, too; one that was heard of once is not."""
        screen = self.screen()
        for sender in (ONE, ONE, TWO):
            screen(Batch([sender]))
        self.storm(screen, 1000)

        self.assertEqual({}, screen(Batch([arrival("192.0.2.1", 50_000)])))
        self.assertEqual({}, screen(Batch([ONE])))
        self.assertEqual({0: ("newcomer-rate", 0)}, screen(Batch([TWO])))

    def test_two_at_once(self) -> None:
        """Are twice."""
        screen = self.screen()
        screen(Batch([ONE, ONE]))
        self.storm(screen, 100)

        self.assertEqual({}, screen(Batch([ONE])))

    def test_a_reload(self) -> None:
        """Another access list and other ports make nobody a newcomer."""
        screen = self.screen()
        screen(Batch([ONE, ONE]))
        self.storm(screen, 100)
        screen.use(AccessList.read([], ["192.0.2.2"]))
        self.assertEqual({}, screen(Batch([ONE])))
        self.storm(screen, 100)
        screen.use_rules(Rules([40_001]))

        self.assertEqual({1: ("source-port-own", 0)}, screen(Batch([ONE, arrival("192.0.2.1", 40_001)])))
        screen.use_rules(Rules([ONE.port]))
        self.assertEqual({0: ("source-port-own", 0)}, screen(Batch([ONE])))

    def test_a_forger_who_repeats_each_of_his_sources(self) -> None:
        """Pushes nobody out who is heard of once in half a minute, nor fills more than the memory, in any time."""
        screen = self.screen()
        screen(Batch([ONE, ONE]))
        for _ in range(50):
            self.storm(screen, 30, times=2)
            self.assertEqual({}, screen(Batch([ONE])))

        self.assertLessEqual(len(screen._regulars), 40)
        self.assertGreater(len(screen._regulars), 20)

    def test_who_sends_much(self) -> None:
        """Becomes a regular once, and leaves others their place."""
        screen = self.screen()
        for _ in range(10_000):
            screen(Batch([ONE]))
        for _ in range(2):
            screen(Batch([TWO]))
        self.storm(screen, 100)

        self.assertEqual({}, screen(Batch([ONE, TWO])))

    def test_who_goes_on_under_the_same_envelope(self) -> None:
        """Stays as well: he is seen when what is known of envelopes is handed on to the next generation."""
        screen = self.screen()
        screen(Batch([ONE, ONE]))
        for host in islice(self.hosts, 500):
            screen(Batch([arrival(str(ip_address(host)))] * 2))
            if host % 4 == 0:
                batch = Batch([ONE, TWO])
                self.assertNotIn(0, screen(batch))
                self.assertNotIn(ONE, batch.described)
            self.clock.advance(10)

        self.assertTrue(screen._regulars.find(ONE.source))

    def test_who_may_not_ask_is_no_regular(self) -> None:
        """However often."""
        screen = self.screen(deny=["192.0.2.1"])
        for _ in range(5):
            screen(Batch([ONE, arrival("192.0.2.2", 53), HERE]))

        self.assertEqual(0, len(screen._regulars))


class AnswerRateTests(ScreenCase):
    """A protocol whose answers may be longer than what they answer."""

    def test_one_source_has_half(self) -> None:
        """Nobody takes it from all others."""
        screen = self.screen(answer_rate=100.0, burst=5.0)

        self.assertEqual([50, 50, 0], [self.let_in(screen, each, 200) for each in (ONE, TWO, SIX)])
        self.assertEqual({0: ("answer-rate", 0)}, screen(Batch([ONE])))

    def test_this_machine_shares_it(self) -> None:
        """It may have all of it: no one else can take it in its name."""
        screen = self.screen(answer_rate=100.0)

        self.assertEqual([100, 0], [self.let_in(screen, HERE, 200), self.let_in(screen, ONE, 5)])

    def test_less_is_less(self) -> None:
        """If the other limits are lower, they hold; if they are off, this one does."""
        low = self.screen(answer_rate=1000.0, rate=80.0, total=100.0)
        self.assertEqual([80, 20], [self.let_in(low, each, 200) for each in (ONE, TWO)])
        alone = self.screen(answer_rate=100.0, rate=0.0, total=0.0)
        self.assertEqual([50, 50, 0], [self.let_in(alone, each, 200) for each in (ONE, TWO, SIX)])


_arrivals = st.builds(
    lambda source, port, asked: Arrival.of(source.packed, port, asked.packed),
    st.ip_addresses(),
    st.integers(0, 65_535),
    st.ip_addresses(),
)


class AnythingTests(ScreenCase):
    """Whatever comes."""

    @given(
        st.lists(_arrivals, min_size=1, max_size=6).flatmap(
            lambda some: st.lists(st.lists(st.sampled_from(some), min_size=1, max_size=64), max_size=8)
        ),
        st.dictionaries(st.integers(0, 63), st.integers(2, 64), max_size=5),
    )
    def test_nothing_is_let_in_twice_and_nothing_raises(
        self, batches: list[list[Arrival]], several: dict[int, int]
    ) -> None:
        """Each of them is refused for its own reason, or counted: no source has more than its burst, nor have all."""
        screen = self.screen(rate=8.0, burst=20, total=50.0)
        inside: dict[bytes, int] = {}
        for arrivals in batches:
            counts = {index: count for index, count in several.items() if index < len(arrivals)}
            refused = screen(Batch(arrivals, counts))
            for index, each in enumerate(arrivals):
                reason, kept = refused.get(index, ("", counts.get(index, 1)))
                rule = screen._rules.refuses(each)
                if rule:
                    self.assertEqual((rule, 0), (reason, kept))
                    continue
                self.assertIn(reason, ("", "datagram-rate", "datagram-rate-total"))
                if each.source[0] != 127 and each.source != bytes(15) + b"\1":
                    key = screen._sources.key(each.source)
                    inside[key] = inside.get(key, 0) + kept

        self.assertLessEqual(max(inside.values(), default=0), 21)
        self.assertLessEqual(sum(inside.values()), 50)
