"""The screen: the check that every received datagram passes before a protocol sees it.

All that follows from who sent a datagram, and where to, is found out once for each envelope and remembered: the rules, the access
list, and whose tokens it takes. What is left to do for a datagram is to look that up and to count: 90 ns.
"""

from __future__ import annotations

import socket
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import attrs

from echosvc.admission.access import AccessList
from echosvc.admission.gate import ACCESS_DENIED
from echosvc.admission.rate import FREE, Allowance, Everyone, Rate, Verdict, refused_for
from echosvc.admission.recent import Recent
from echosvc.admission.rules import Rules, is_loopback
from echosvc.admission.sources import Sources
from echosvc.admission.users import UserScreen
from echosvc.transports import Arrival, Envelopes, Refusal, Source

__all__ = [
    "ANSWER_RATE",
    "DATAGRAM_RATE",
    "DATAGRAM_RATE_TOTAL",
    "NEWCOMER_RATE",
    "DatagramScreen",
    "ScreenSettings",
    "Screens",
]

DATAGRAM_RATE = "datagram-rate"
"""More came in from one source than are let in in a second."""

DATAGRAM_RATE_TOTAL = "datagram-rate-total"
"""More came in than are let in in a second, whoever sends them."""

ANSWER_RATE = "answer-rate"
"""More came in than a protocol answers in a second whose answers may be longer than what they answer."""

NEWCOMER_RATE = "newcomer-rate"
"""More sources came in a second that were not heard of lately than can be got to know; those who were, twice, are not meant."""

#: Sources that may be got to know in a second. Each costs 3 us, and its answer a send of its own: a storm of forged ones
#: would take all our time (it did, at 90 000 a second), and the kernel would drop the datagrams of those who are known.
NEWCOMERS = 10_000

#: And at once: while that is done, what comes in meanwhile must fit into the receive buffer (some 5000).
NEWCOMERS_AT_ONCE = 1000

#: Regular sources, those that were heard of twice, in a generation of those that are remembered, and for how many seconds it
#: lasts at least, while it is newcomers who become regulars: half of it may do so at once, the rest in that time. Forged sources
#: are hardly ever repeated; a forger who repeats each once fills it no sooner. Only one who goes on in as many names as there is
#: room for pushes out those who are heard of less often. Some 3 MiB at most.
_REGULARS, _REGULARS_SECONDS = 16_384, 60.0

#: The part of an answer rate that one source may have: nobody is shot at with more, and nobody takes it from all others.
ANSWER_PART = 1 / 2

#: Envelopes in a generation of what is remembered, and sources; together some 7 MiB at most. However many newcomers there are,
#: a source is known for 0.8 s at least after it was first heard of. If it is heard of again in that time, it is a regular one.
_REMEMBERED = 8192

_UNKNOWN = refused_for(NEWCOMER_RATE)


@attrs.frozen(kw_only=True)
class ScreenSettings:
    """What is let in at one listener.

    Attributes:
        low_ports: Source ports below 1024, or 2049, from which datagrams are let in all the same.
        rate: Datagrams in a second from one source that is not on this machine; 0 for any number. Ten thousand: quicker than
            anybody pings (112 Mbit/s with full frames), and few for whom forged datagrams would have us shoot at.
        burst: How many may come at once after a pause; 0 for a second's worth.
        total: Datagrams in a second from all such sources; 0 for any number. About as many as one process answers.
    """

    low_ports: tuple[int, ...] = ()
    rate: float = 10_000.0
    burst: float = 0.0
    total: float = 200_000.0


class Screens:
    """Makes the screens of a service's listeners.

    Args:
        own_ports: Every UDP port of the service.
        own_names: The name of every UNIX datagram socket of the service.
        seconds: Tells the time, in seconds of a clock that is not set.
        sources: Who counts as one source.
    """

    def __init__(
        self,
        own_ports: Iterable[int],
        own_names: Iterable[Source] = (),
        *,
        seconds: Callable[[], float] = time.monotonic,
        sources: Sources | None = None,
    ) -> None:
        self._own_ports = tuple(own_ports)
        self._seconds = seconds
        self._sources = sources or Sources()
        self._own_names = tuple(own_names)
        self._made: list[tuple[weakref.ref[DatagramScreen], ScreenSettings]] = []
        self._made_of_users: weakref.WeakSet[UserScreen] = weakref.WeakSet()

    def change(self, own_ports: Iterable[int], own_names: Iterable[Source] = ()) -> None:
        """Have every screen know other ports and names as our own: listeners were opened, or removed."""
        self._own_ports, self._own_names = tuple(own_ports), tuple(own_names)
        for each in self._made_of_users:
            each.use_own(self._own_names)
        self._made = [(screen, settings) for screen, settings in self._made if screen() is not None]
        for reference, settings in self._made:
            if (screen := reference()) is not None:
                screen.use_rules(Rules(self._own_ports, settings.low_ports))

    def screen(
        self,
        settings: ScreenSettings,
        access: AccessList,
        *,
        answer_rate: float | None = None,
    ) -> DatagramScreen:
        """Make the screen of one listener.

        Args:
            settings: What is let in there.
            access: Who may ask at all.
            answer_rate: Datagrams in a second from all sources, this machine's included, half of them from one other source,
                if the protocol's answers may be longer than what they answer; None if they are not.
        """
        everyone = rate = None
        reasons = (DATAGRAM_RATE, DATAGRAM_RATE_TOTAL)
        each, total = settings.rate, settings.total
        if answer_rate is not None:
            reasons = (ANSWER_RATE, ANSWER_RATE)
            each = min(filter(None, (each, answer_rate * ANSWER_PART)))
            total = min(filter(None, (total, answer_rate)))
        if each:
            burst = each if answer_rate is not None else settings.burst or each
            rate = Rate(each, burst, self._seconds, reasons[0])
        if total:
            everyone = Everyone(total, total, self._seconds, reasons[1])
        made = DatagramScreen(
            Rules(self._own_ports, settings.low_ports),
            access,
            self._sources,
            rate=rate,
            everyone=everyone,
            newcomers=Everyone(NEWCOMERS, NEWCOMERS_AT_ONCE, self._seconds, NEWCOMER_RATE),
            local=everyone if answer_rate is not None else None,
            seconds=self._seconds,
        )
        self._made.append((weakref.ref(made), settings))
        return made

    def user_screen(self, settings: ScreenSettings, *, user_limits: bool = True) -> UserScreen:
        """Make the screen of one listener for this machine's users.

        Args:
            settings: What is let in there.
            user_limits: Whether each user has a rate, and not only all together.
        """
        rate = everyone = None
        if settings.rate and user_limits:
            rate = Rate(settings.rate, settings.burst or settings.rate, self._seconds, DATAGRAM_RATE)
        if settings.total:
            everyone = Everyone(settings.total, settings.total, self._seconds, DATAGRAM_RATE_TOTAL)
        made = UserScreen(self._own_names, rate=rate, everyone=everyone)
        self._made_of_users.add(made)
        return made


class DatagramScreen:
    """Decides about batches of datagrams; a `echosvc.transports.Screen`. Made by `Screens`.

    Args:
        rules: What follows from port and address.
        access: Who may ask at all.
        sources: Who counts as one source.
        rate: What each source may have that is not on this machine; None for any number.
        everyone: What all of those may have; None for any number.
        newcomers: How many of those may be got to know.
        local: What those on this machine may have, of which nobody is forged by others; None for any number.
        seconds: Tells the time, in seconds of a clock that is not set.
    """

    def __init__(
        self,
        rules: Rules,
        access: AccessList,
        sources: Sources,
        *,
        rate: Rate | None,
        everyone: Everyone | None,
        newcomers: Everyone,
        local: Everyone | None,
        seconds: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._access = access
        self._sources = sources
        self._rate = rate
        self._everyone = everyone
        self._newcomers = newcomers
        self._local = FREE if local is None else Allowance(b"", None, local)
        self._envelopes: Recent[Hashable, Verdict] = Recent(_REMEMBERED)
        self._allowances: Recent[bytes, Verdict] = Recent(_REMEMBERED)
        self._regulars: Recent[bytes, bool] = Recent(_REGULARS)
        half = _REGULARS / 2
        self._promotions = Everyone(half / _REGULARS_SECONDS, half, seconds, NEWCOMER_RATE)

    def use_rules(self, rules: Rules) -> None:
        """Go by other rules from now on. Everybody's tokens stay what they are, and who is known."""
        self._rules = rules
        self._envelopes = Recent(_REMEMBERED)

    def use(self, access: AccessList) -> None:
        """Go by another access list from now on. Everybody's tokens stay what they are, and who is known."""
        self._access = access
        self._envelopes = Recent(_REMEMBERED)

    def __call__(self, messages: Envelopes) -> Mapping[int, Refusal]:
        """Decide about a batch.

        Args:
            messages: At least one.

        Returns:
            The position of each message that is refused, why, and how many of its datagrams are not.
        """
        envelopes = messages.envelopes()
        first = envelopes[0]
        if envelopes.count(first) == len(envelopes):  # of one peer, as often where much comes in: 10 ns each
            verdict = self._envelopes.young.get(first) or self._verdict(messages, first)
            counts = messages.counts()
            total = len(envelopes) - len(counts) + sum(counts.values())
            if verdict.left >= total:
                verdict.left -= total
                return {}
            return _exactly([verdict] * len(envelopes), counts)
        found = list(map(self._envelopes.young.get, envelopes))
        if found.count(FREE) == len(found):
            return {}
        if None in found:
            verdicts = [
                self._verdict(messages, envelope) if verdict is None else verdict
                for verdict, envelope in zip(found, envelopes, strict=True)
            ]
        else:
            verdicts = found  # type: ignore[assignment]  # there is no None in it
        if messages.coalesced:
            return _exactly(verdicts, messages.counts())
        short = False
        for verdict in verdicts:
            verdict.left -= 1
            if verdict.left < 0:
                short = True
        if not short:
            return {}
        for verdict in verdicts:
            verdict.left += 1
        return _exactly(verdicts, {})

    def _verdict(self, messages: Envelopes, envelope: Hashable) -> Verdict:
        """Find out about an envelope that was not seen lately."""
        verdict = self._envelopes.find(envelope)
        if verdict is None:
            verdict = self._judge(messages.arrival(envelope))
            if verdict is not _UNKNOWN:
                self._envelopes.add(envelope, verdict)
        else:
            self._regulars.find(verdict.source)  # who goes on stays
        return verdict

    def _judge(self, arrival: Arrival) -> Verdict:
        source = arrival.source
        if reason := self._rules.refuses(arrival):
            return refused_for(reason)
        if not self._access.is_empty and not self._access.admits(_text(source)):
            return refused_for(ACCESS_DENIED)
        if is_loopback(source):
            return self._local
        if self._rate is None and self._everyone is None:
            return FREE
        key = self._sources.key(source)
        regular = self._regulars.find(key)
        allowance = self._allowances.find(key)
        if allowance is None:
            if not regular and not self._newcomers.take(1):
                return _UNKNOWN
            allowance = Allowance(key, self._rate, self._everyone, self._heard_again)
            self._allowances.add(key, allowance)
        return allowance

    def _heard_again(self, source: bytes) -> None:
        """Count a source among the regular ones."""
        if not self._regulars.find(source) and self._promotions.take(1):
            self._regulars.add(source, True)


def _exactly(verdicts: Sequence[Verdict], counts: Mapping[int, int]) -> Mapping[int, Refusal]:
    """Go through a batch in which somebody may have too many."""
    refused: dict[int, Refusal] = {}
    for position, verdict in enumerate(verdicts):
        count = counts.get(position, 1)
        if verdict.left >= count:
            verdict.left -= count
        elif refusal := verdict.ask(count):
            refused[position] = refusal
    return refused


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
