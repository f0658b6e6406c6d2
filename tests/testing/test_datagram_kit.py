"""The datagram kit finds what is wrong, says so, and lets pass what is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramEcho, WireProtocol
from echosvc.testing import ANYTHING, DatagramConformance
from tests.testing import broken_datagrams as broken
from tests.testing.kits import broken_promises, make_case

#: The promises, by the tests that hold them.
EMPTY = "test_the_empty_datagram"
SIZES = "test_every_size"
ASKER = "test_the_answer_goes_to_whoever_asked"
BATCH = "test_a_batch_is_answered_as_single_datagrams_are"
ONCE = "test_one_answer_at_most"
LENGTH = "test_no_answer_is_longer_than_its_request"
ANY = "test_any_datagram_raises_nothing"
CLOSED = "test_a_closed_port_leaves_nothing_behind"


def same(_: object, sent: bytes) -> bytes:
    """Expect an echo."""
    return sent


class KitCase(SynchronousTestCase):
    """Runs the kit."""

    def broken(
        self,
        protocol: type[DatagramProtocol],
        expected: Callable[[Any, bytes], object] | None = same,
        *,
        amplifies: bool = False,
        **attributes: Any,
    ) -> dict[str, str]:
        """Run the kit on a protocol, and return what it has found."""
        if expected is not None:
            attributes["expected"] = expected
        wire = WireProtocol(name="x", rfc="none", summary="x", datagram=protocol, amplifies=amplifies)
        return broken_promises(make_case(DatagramConformance, wire=wire, **attributes))

    def finds(self, protocol: type[DatagramProtocol], *tests: str, **attributes: Any) -> None:
        """Hold that just these tests fail, each with a message that says what a conforming protocol does."""
        found = self.broken(protocol, **attributes)

        self.assertEqual(set(found), set(tests))
        for said in found.values():
            self.assertIn("A conforming protocol ", said)


def on_clock(protocol: Callable[[IReactorTime], DatagramProtocol]) -> dict[str, Any]:
    """Make a protocol that has to be handed a clock, as an author would."""
    return {"make_protocol": lambda _, reactor: protocol(reactor)}


class FindingTests(KitCase):
    """Every promise is broken by somebody, and found out by the test that holds it."""

    def test_an_empty_datagram_that_is_ignored(self) -> None:
        """No bytes are a datagram."""
        self.finds(broken.IgnoringTheEmpty, EMPTY)

    def test_an_empty_datagram_that_raises(self) -> None:
        """It is the first of its kind in a batch, too."""
        self.finds(broken.Raising, EMPTY, BATCH)

    def test_a_datagram_that_is_cut(self) -> None:
        """The rest of a large one is missing."""
        self.finds(broken.Truncating, SIZES)

    def test_an_address_that_was_made_anew(self) -> None:
        """It looks the same, and has forgotten where it was asked."""
        self.finds(broken.RemakingAddresses, ASKER)

    def test_an_answer_to_somebody_else(self) -> None:
        """Everyone's answers go to the first who has asked."""
        self.finds(broken.AnsweringTheFirst, ASKER)

    def test_an_asker_without_a_name(self) -> None:
        """It cannot be answered, and must not be looked into."""
        self.finds(broken.Naming, ASKER)

    def test_a_batch_that_is_changed_too_much(self) -> None:
        """It can be changed in place, and what is sent back is what it is then."""
        self.finds(broken.ChangingTooMuch, BATCH)

    def test_a_batch_that_is_answered_in_another_order(self) -> None:
        """For one peer the order is kept."""
        self.finds(broken.Reversing, BATCH)

    def test_a_batch_that_is_answered_in_part(self) -> None:
        """What came one by one was answered."""
        self.finds(broken.SkippingInBatches, BATCH)

    def test_two_answers(self) -> None:
        """One too many."""
        self.finds(broken.Stuttering, ONCE)

    def test_an_answer_that_is_longer_than_its_request(self) -> None:
        """Unless the wire protocol says so of itself."""

        def thanks(_: object, sent: bytes) -> bytes:
            return sent + b" thanks!"

        def without_the_largest(case: DatagramConformance, sent: bytes) -> object:
            return ANYTHING if len(sent) > 65_000 else thanks(case, sent)

        self.finds(broken.Amplifying, LENGTH, expected=without_the_largest)
        self.finds(broken.Amplifying, expected=without_the_largest, amplifies=True)

    def test_bytes_that_raise(self) -> None:
        """Not everything is text."""
        self.finds(broken.Decoding, ANY)

    def test_a_timer_that_is_left(self) -> None:
        """The port is closed, and the timer goes on."""
        self.finds(DatagramEcho, CLOSED, **on_clock(broken.LeavingTimers))

    def test_an_answer_where_none_is_expected(self) -> None:
        """It is shown."""
        found = self.broken(DatagramEcho, lambda _, __: None)

        self.assertIn("no answer was expected, and it answered b'' (0 bytes)", found[EMPTY])


class PassingTests(KitCase):
    """What is right passes."""

    def test_an_echo(self) -> None:
        """By the batch, one by one, with what is expected and without a word about it."""
        for protocol in (DatagramEcho, broken.OneByOne):
            self.finds(protocol)
            self.finds(protocol, expected=None)

    def test_a_protocol_that_takes_its_time(self) -> None:
        """An answer may come later."""
        self.finds(DatagramEcho, **on_clock(broken.Delaying))

    def test_a_protocol_that_is_silent(self) -> None:
        """It knows no batches and answers nothing."""
        self.finds(DatagramProtocol, expected=lambda _, __: None)

    def test_an_answer_that_varies(self) -> None:
        """A pattern says enough, in a batch, too."""

        def as_many(_: object, sent: bytes) -> re.Pattern[bytes]:
            return re.compile(rb"(?s).{%d}" % len(sent))

        self.finds(broken.Varying, expected=as_many)
