"""The stream kit finds what is wrong, says so, and lets pass what is right: in memory and on real sockets."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import Echo, WireProtocol, find
from echosvc.protocols.chargen import Chargen
from echosvc.testing import ListenerConformance, LoopbackReactor, StreamConformance, _promises, narrow_socket
from echosvc.transports import StreamPort
from tests.testing import broken_streams as broken
from tests.testing.kits import broken_promises, make_case

#: The promises, by the tests that hold them.
SEGMENTS = "test_the_answer_does_not_depend_on_segments"
END = "test_everything_before_the_end_of_input_is_answered"
NOTHING = "test_no_input"
ABORT = "test_an_abort_leaves_nothing_behind"
FLOOD = "test_a_client_that_never_reads_costs_little"
SLOW = "test_a_slow_reader_gets_everything"
MANY = "test_many_clients_at_once"
ANY = "test_any_bytes_raise_nothing"


def wire_of(protocol: type[Protocol]) -> WireProtocol:
    """Make a wire protocol of a protocol class."""
    return WireProtocol(
        name=protocol.__name__.lower(),
        rfc="none",
        summary="for a test",
        stream=lambda: broken.factory_of(protocol),
    )


def same(_: object, sent: bytes) -> bytes:
    """Expect an echo."""
    return sent


def joined(_: object, sent: bytes) -> bytes:
    """Expect an echo with short line ends."""
    return sent.replace(b"\r\n", b"\n")


class KitCase(SynchronousTestCase):
    """Runs the kit."""

    def broken(
        self,
        protocol: type[Protocol],
        expected: Callable[[Any, bytes], bytes] | None = same,
        **attributes: Any,
    ) -> dict[str, str]:
        """Run the kit on a protocol, and return what it has found."""
        if expected is not None:
            attributes["expected"] = expected
        return broken_promises(self.case(wire=wire_of(protocol), **attributes))

    def case(self, **attributes: Any) -> type[SynchronousTestCase]:
        """Make a test case as an author would write it."""
        return make_case(StreamConformance, **attributes)

    def finds(self, protocol: type[Protocol], *tests: str, **attributes: Any) -> None:
        """Hold that just these tests fail, each with a message that says what a conforming protocol does."""
        found = self.broken(protocol, **attributes)

        self.assertEqual(set(found), set(tests))
        for said in found.values():
            self.assertIn("A conforming protocol ", said)


class FindingTests(KitCase):
    """Every promise is broken by somebody, and found out by the test that holds it, and by no other."""

    def test_an_answer_that_depends_on_segments(self) -> None:
        """A byte that arrives alone is a byte like any other."""
        self.finds(broken.LoneBytes, SEGMENTS)

    def test_an_answer_that_is_lost_at_the_end(self) -> None:
        """What is queued when the client finishes is dropped."""
        self.finds(broken.DroppingAtTheEnd, END)

    def test_a_client_that_says_nothing(self) -> None:
        """It is told something that nobody expects."""
        self.finds(broken.Asking, NOTHING)

    def test_a_client_that_waits_like_the_server(self) -> None:
        """It has been told everything, and the connection stays."""
        self.finds(
            broken.WaitingForTheClient, NOTHING, expected=lambda _, __: b"one thing", closes_first=True
        )

    def test_a_timer_that_is_left(self) -> None:
        """The client is gone, and the timer is not."""
        self.finds(broken.LeavingTimers, ABORT)

    def test_a_timer_that_is_left_on_the_installed_reactor(self) -> None:
        """It is found there, too."""
        with mock.patch.dict(sys.modules, {"twisted.internet.reactor": Clock()}):
            self.finds(broken.LeavingTimersElsewhere, ABORT)

    def test_an_end_that_was_not_expected(self) -> None:
        """Something is raised when the connection is lost without a word."""
        self.finds(broken.RaisingWhenLost, ABORT)

    def test_memory_without_bound(self) -> None:
        """A client that never reads makes the queue grow."""
        self.finds(broken.Hoarding, FLOOD)

    def test_memory_without_bound_outside_of_the_queue(self) -> None:
        """So does one whose answers the protocol itself keeps."""
        self.finds(broken.WaitingForTheEnd, FLOOD)

    def test_a_slow_reader_that_is_dropped(self) -> None:
        """A minute of reading is too long for some."""
        self.finds(broken.Impatient, SLOW)

    def test_connections_that_share(self) -> None:
        """What one client has begun, another is told."""
        self.finds(broken.Sharing, MANY)

    def test_bytes_that_raise(self) -> None:
        """Not everything is text."""
        self.finds(broken.Decoding, ANY)

    def test_bytes_that_are_lost(self) -> None:
        """No byte is special."""
        self.finds(broken.Stripping, ANY)


class FindingOnLoopbackTests(FindingTests):
    """The same on real sockets, through our own port."""

    def case(self, **attributes: Any) -> type[SynchronousTestCase]:
        """Make a test case that serves on loopback."""
        return make_case(OnLoopback, **attributes)

    def test_an_answer_that_is_lost_at_the_end(self) -> None:
        """How much the kernel has room for is its own affair: what else is lost varies."""
        self.assertIn(END, self.broken(broken.DroppingAtTheEnd))


class MoreFindingTests(KitCase):
    """What is wrong in more than one way, or can be seen in memory alone."""

    def test_a_line_end_that_is_cut_in_two(self) -> None:
        """It is the same as one that is not."""
        self.assertIn("Sent byte by byte", self.broken(broken.LineCutting, joined)[SEGMENTS])

    def test_a_connection_that_is_never_closed(self) -> None:
        """The client has finished, and the server waits, for ever: it does not even see that the client is gone."""
        self.finds(broken.NeverClosing, END, NOTHING, ABORT)

    def test_a_pause_without_end(self) -> None:
        """Who pauses must resume."""
        self.finds(broken.NeverResuming, END, FLOOD)

    def test_a_timed_call_that_raises(self) -> None:
        """It is shown, as whatever else is raised."""
        self.assertIn("RuntimeError: too late", self.broken(broken.Stumbling)[NOTHING])

    def test_writing_without_looking(self) -> None:
        """A protocol that writes and writes is stopped before it has taken all memory, and told how it is done."""
        found = self.broken(broken.Rushing, None, endless=True)

        self.assertIn("Register a producer", found[NOTHING])

    def test_writing_without_being_asked(self) -> None:
        """So is one that writes a little each turn, to a client that says nothing and reads nothing."""
        self.finds(broken.Chatty, FLOOD, expected=lambda _, __: b"x" * 100, endless=True)

    def test_an_end_that_never_comes(self) -> None:
        """Who sends without end should say so."""
        self.patch(_promises, "ENDLESS", 2 * 1024 * 1024)
        found = self.broken(Chargen)

        self.assertIn("endless = True", found[NOTHING])

    def test_an_answer_that_is_not_the_expected_one(self) -> None:
        """Both are shown, where they differ."""
        found = self.broken(broken.LoneBytes, lambda _, sent: sent.upper())

        self.assertIn("they differ from byte 1 on", found[SLOW])


class PassingTests(KitCase):
    """What is right passes."""

    def test_an_echo_of_ours(self) -> None:
        """With what is expected, or without a word about it."""
        self.finds(Echo)
        self.finds(Echo, expected=None)

    def test_a_protocol_that_takes_its_time(self) -> None:
        """An answer to each segment may come a second later, and meanwhile nothing need be read, if patience is so long."""
        self.finds(broken.Delaying, patience=120)

    def test_a_protocol_without_end(self) -> None:
        """Without a word about what it says."""
        self.assertEqual(broken_promises(self.case(wire=find("chargen"), endless=True)), {})
        self.finds(broken.Finishing, expected=None, endless=True)

    def test_an_answer_that_varies(self) -> None:
        """A pattern says enough."""

        def any_letters(_: object, sent: bytes) -> re.Pattern[bytes]:
            return re.compile(rb"(?s).{%d}" % len(sent))

        self.finds(Echo, expected=any_letters)


class UsingTests(KitCase):
    """A kit that is used wrongly says so."""

    def test_nothing_to_test(self) -> None:
        """The author has to name the wire protocol."""
        found = broken_promises(make_case(StreamConformance))

        self.assertIn("Case.wire is the WireProtocol that is to be tested, not None", found[NOTHING])

    def test_nothing_to_send(self) -> None:
        """An empty sample would test nothing."""
        self.assertIn("`sample` is empty", self.broken(Echo, sample=b"")[SEGMENTS])

    def test_no_listener(self) -> None:
        """The kit for listeners has to be told how to open one."""
        self.assertIn("Case.serve opens", broken_promises(make_case(ListenerConformance))[NOTHING])

    def test_no_client(self) -> None:
        """And how to reach it."""
        case = make_case(ListenerConformance, serve=lambda _, __: None)

        self.assertIn("Case.connect returns", broken_promises(case)[NOTHING])


class OnLoopback(ListenerConformance):
    """Serves whatever is tested on a port of ours."""

    address: tuple[str, int]

    def serve(self, reactor: LoopbackReactor) -> None:
        """Listen."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = sock.getsockname()
        StreamPort(sock, self.make_factory(reactor), reactor, stall_timeout=300).startListening()

    def connect(self) -> socket.socket:
        """Connect."""
        return narrow_socket(self.address)
