"""Tests of where datagrams in the host's own name are kept away: at every UDP socket, from its beginning to its end."""

from __future__ import annotations

import socket
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest

from echosvc.admission import Gate, Limits, Screens
from echosvc.listeners import ListenerSettings, inherited
from echosvc.listeners.listener import Listener
from echosvc.listeners.opening import open_listeners, succeed
from echosvc.listeners.sockets import open_all, open_beside
from echosvc.transports import own_source
from echosvc.transports.linux import LINUX
from tests.doubles import FakeReactor
from tests.listeners.cases import inherited_listener, tcp_listener, udp_listener, unixgram_listener
from tests.listeners.test_inherited import InheritedCase


class OwnSourceCase(InheritedCase):
    """Notes what is attached."""

    def setUp(self) -> None:
        """Skip where there are no filters."""
        super().setUp()
        if not LINUX:
            raise SkipTest("needs Linux")
        self.reactor = FakeReactor()
        self.attached: list[socket.socket] = []
        self.patch(own_source, "_attach", lambda sock, _: self.attached.append(sock))

    def open(self, settings: ListenerSettings) -> socket.socket:
        """Open a listener's socket."""
        (opened,) = open_all([settings])
        self.addCleanup(opened.close)
        assert opened.sock is not None
        return opened.sock

    def start(self, settings: ListenerSettings) -> Listener:
        """Start a listener."""
        (listener,) = open_listeners([settings], self.reactor)
        assert isinstance(listener, Listener)
        self.addCleanup(self.reactor.advance, 0)
        self.addCleanup(listener.stop)
        listener.start(self.reactor, Screens([]), Gate(Limits(), FakeReactor()))
        return listener

    def pass_on(self, sock: socket.socket) -> None:
        """Have one socket passed, under the name echo."""
        self.patch(inherited, "_passed", [("echo", sock.fileno())])


class OpeningTests(OwnSourceCase):
    """A socket never hears what it must not."""

    def test_before_it_is_bound(self) -> None:
        """Nothing can have arrived then, on the socket of a second worker either."""
        names: list[Any] = []

        def note(sock: socket.socket, _: bytes) -> None:
            names.append(sock.getsockname()[1])

        self.patch(own_source, "_attach", note)
        settings = udp_listener()
        open_beside(settings, self.open(settings)).close()

        self.assertEqual([0, 0], names)

    def test_when_it_is_passed_on(self) -> None:
        """As early as can be."""
        self.pass_on(self.datagrams())
        self.open(inherited_listener("echo"))

        self.assertEqual(1, len(self.attached))

    def test_others_need_none(self) -> None:
        """Over TCP a forger gets no connection, and a UNIX socket has no devices."""
        for settings in (tcp_listener(), unixgram_listener(str(self.folder() / "d"))):
            self.start(settings)

        self.assertEqual([], self.attached)


class ServingTests(OwnSourceCase):
    """While a listener serves, its filter is what the host's addresses are."""

    def change(self, *problems: str) -> None:
        """Give the host another address; the system may say that this cannot be told."""

        def read() -> str:
            if problems:
                raise OSError(5, problems[0], "/proc")
            return f"fd00000000000000000000000000000{len(self.attached) % 10} 02 40 00 80 eth0"

        self.attached.clear()
        self.patch(own_source, "_read_table", read)

    def test_changes(self) -> None:
        """They are noticed within a second, as long as it serves."""
        listener = self.start(udp_listener())
        self.change()
        for seconds, attached in ((0.5, 0), (0.5, 1), (1, 2)):
            self.reactor.advance(seconds)
            self.assertEqual(attached, len(self.attached))
        listener.stop()
        self.reactor.advance(5)

        self.assertEqual((2, []), (len(self.attached), self.reactor.getDelayedCalls()))

    def test_a_successor(self) -> None:
        """It goes on, and the one before does not."""
        listener = self.start(udp_listener())
        after = succeed(listener, udp_listener())
        after.start(self.reactor, Screens([]), Gate(Limits(), FakeReactor()))
        self.addCleanup(after.stop)
        listener.retire()
        self.change()
        self.reactor.advance(1)

        self.assertEqual(1, len(self.attached))

    def test_what_cannot_be_told(self) -> None:
        """It is said at the start; later it is said once, until something else is wrong."""
        self.change("gone")
        listener = self.start(udp_listener())
        said = "datagrams that another host forges in the name of an IPv6 address of this one are not recognised: "
        self.assertEqual([f"{said}gone (/proc)"], [each for each in listener.warnings() if "forges" in each])
        self.change()
        other = self.start(udp_listener())
        self.change("broken")
        with capturedLogs() as logged:
            self.reactor.pump([1, 1, 1])

        self.assertEqual(
            [f"{other.where}: {said}broken (/proc)"],
            [formatEvent(each) for each in logged if each["log_format"]],
        )
