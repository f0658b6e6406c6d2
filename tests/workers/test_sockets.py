"""Tests of the sockets that workers share, on loopback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import Gate, Limits, Screens
from echosvc.errors import InvalidListener, PortInUse
from echosvc.listeners import Foreign, Internet, ListenerSettings, UnixSocket, adopt_listeners
from echosvc.listeners.settings import Place
from echosvc.listeners.sockets import Opened, open_all
from echosvc.workers import sockets as sockets_module
from echosvc.workers.sockets import Shared, close_all, open_shared
from tests.doubles import FakeReactor


def listener(place: Place, protocol: str = "echo", **more: int) -> ListenerSettings:
    """One listener."""
    return ListenerSettings(protocol=protocol, place=place, **more)  # type: ignore[arg-type]


TCP = listener(Internet("tcp", 0, "127.0.0.1"))
UDP = listener(Internet("udp", 0, "127.0.0.1"))


class SharedCase(SynchronousTestCase):
    """Sockets that are closed at the end."""

    def open(self, *settings: ListenerSettings, count: int = 3, kept: Sequence[Shared] = ()) -> list[Shared]:
        """Open them."""
        shared = open_shared(settings, count, FakeReactor(), kept)
        self.addCleanup(close_all, shared)
        return shared


class OpenTests(SharedCase):
    """What is opened."""

    def test_a_port_has_a_socket_for_each_worker(self) -> None:
        """All at one address; the kernel chooses among them."""
        for settings in (TCP, UDP):
            (shared,) = self.open(settings)

            self.assertEqual(len({each.getsockname() for each in shared.sockets}), 1)
            self.assertEqual(len({each.fileno() for each in shared.sockets}), 3)

    def test_a_flow_of_datagrams_stays_with_one(self) -> None:
        """As long as none comes or goes."""
        (shared,) = self.open(UDP)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.connect(shared.sockets[0].getsockname())
            for _ in range(20):
                peer.send(b"x")

        self.assertEqual(sorted(map(_waiting, shared.sockets)), [0, 0, 20])

    def test_all_of_them_are_chosen(self) -> None:
        """Among many flows none is left out."""
        (shared,) = self.open(UDP)
        for _ in range(100):
            with socket.socket(type=socket.SOCK_DGRAM) as peer:
                peer.sendto(b"x", shared.sockets[0].getsockname())

        found = [_waiting(each) for each in shared.sockets]

        self.assertEqual(sum(found), 100)
        self.assertGreater(min(found), 5)

    def test_a_second_instance_is_refused(self) -> None:
        """With workers, or without: it would get a part of the connections, and nobody would know."""
        for settings in (TCP, UDP):
            (shared,) = self.open(settings)
            place = settings.place
            assert isinstance(place, Internet)
            port = shared.sockets[0].getsockname()[1]
            again = listener(Internet(place.transport, port, "127.0.0.1"))

            self.assertRaises(PortInUse, open_shared, [again], 3, FakeReactor())
            self.assertRaises(PortInUse, open_all, [again])

    def test_dual_stack_is_dual_stack_for_all(self) -> None:
        """Every address, IPv4 and IPv6."""
        (shared,) = self.open(listener(Internet("tcp", 0)))

        if shared.sockets[0].family == socket.AF_INET6:
            only = [each.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for each in shared.sockets]
            self.assertEqual(only, [0, 0, 0])
        else:
            self.assertEqual({each.family for each in shared.sockets}, {socket.AF_INET})

    def test_a_unix_socket_is_shared(self) -> None:
        """It can be bound once only; its file goes with it."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "s"
            shared = self.open(listener(UnixSocket("unix", str(path))))

            self.assertEqual(len(shared[0].sockets), 1)
            self.assertIn(str(path), shared[0].text)
            self.assertTrue(path.exists())
            close_all(shared)
            self.assertFalse(path.exists())

    def test_an_endpoint_of_twisted_s_own_is_refused(self) -> None:
        """With the option that leads to it, and the way out."""
        foreign = ListenerSettings(protocol="echo", place=Foreign("haproxy:tcp:1"), origin="--listen x")

        problem = self.assertRaises(InvalidListener, open_shared, [foreign], 2, FakeReactor())

        self.assertIn("--listen x", str(problem))
        self.assertIn("--workers", str(problem))

    def test_a_mistake_opens_nothing(self) -> None:
        """All is checked first."""
        self.assertRaises(InvalidListener, open_shared, [listener(TCP.place, "nobody")], 2, FakeReactor())

    def test_what_cannot_be_served_is_closed(self) -> None:
        """Every socket of it, and of what came before."""
        opened: list[Opened] = []

        def open_and_keep(settings: Sequence[ListenerSettings]) -> list[Opened]:
            opened.extend(open_all(settings))
            return opened

        def refuse(given: list[Opened], _: object) -> None:
            given[0].close()
            raise InvalidListener("x", "no")

        self.patch(sockets_module, "open_all", open_and_keep)
        self.patch(sockets_module, "adopt_listeners", refuse)

        self.assertRaises(InvalidListener, open_shared, [TCP, UDP], 3, FakeReactor())

        self.assertEqual([each.sock and each.sock.fileno() for each in opened], [-1, -1])


class LeavingTests(SharedCase):
    """What is left of a socket when one of those who have it goes."""

    def test_a_worker_that_stops_leaves_its_socket_listening(self) -> None:
        """For its successor, who has it, too: whoever connects meanwhile waits there."""
        (shared,) = self.open(TCP)
        reactor = FakeReactor()
        (served,) = adopt_listeners([Opened(TCP, shared.sockets[0].dup())], reactor)
        gate = Gate(Limits(), reactor)
        served.start(reactor, Screens([]), gate)

        served.stop()
        gate.stop()
        reactor.advance(0)

        self.assertEqual(shared.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 1)


class AgainTests(SharedCase):
    """What is opened when some is open."""

    def test_the_same_place_keeps_its_sockets(self) -> None:
        """Nobody who waits there is turned away; what else is asked for is opened, in its order."""
        before = self.open(TCP)

        after = self.open(UDP, TCP, kept=before)

        self.assertEqual(after[1].sockets, before[0].sockets)
        self.assertEqual([each.opened.settings for each in after], [UDP, TCP])

    def test_what_is_said_of_it_is_what_is_said_now(self) -> None:
        """Another protocol on the same socket, with another backlog."""
        before = self.open(TCP)

        (after,) = self.open(listener(TCP.place, "discard", backlog=5), kept=before)

        self.assertIn("discard", after.text)
        self.assertEqual(after.sockets, before[0].sockets)

    def test_a_buffer_is_adjusted(self) -> None:
        """On every socket."""
        before = self.open(UDP)

        (after,) = self.open(listener(UDP.place, receive_buffer=8192), kept=before)

        sizes = [each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for each in after.sockets]
        self.assertEqual(sizes, [16384] * 3)

    def test_only_what_is_not_needed_is_closed(self) -> None:
        """The others go on listening."""
        before = self.open(TCP, UDP)
        after = self.open(TCP, kept=before)

        close_all(before, after)

        self.assertGreaterEqual(before[0].sockets[0].fileno(), 0)
        self.assertEqual([each.fileno() for each in before[1].sockets], [-1] * 3)

    def test_a_reload_that_fails_closes_only_what_it_has_opened(self) -> None:
        """The port of the second is taken by the first one's own socket."""
        before = self.open(TCP)
        port = before[0].sockets[0].getsockname()[1]

        self.assertRaises(
            PortInUse, open_shared, [UDP, TCP, listener(Internet("tcp", port))], 3, FakeReactor(), before
        )

        self.assertGreaterEqual(before[0].sockets[2].fileno(), 0)


def _waiting(sock: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while sock.recv(10):
            count += 1
    return count
