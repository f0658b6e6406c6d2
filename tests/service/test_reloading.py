"""Tests of what a reload does: which listeners stay, change, come and go, and that a wrong one changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import DoorSettings, GateSettings, Limits, ScreenSettings
from echosvc.errors import InvalidConfig
from echosvc.listeners import Foreign, Inherited, Internet, ListenerSettings, UnixSocket
from echosvc.service import EchoService, open_service
from echosvc.service.reloading import Plan, plan
from echosvc.settings import Settings
from echosvc.transports.hub import hub_for
from tests.doubles import FakeReactor

TCP, UDP = Internet("tcp", 0, "127.0.0.1"), Internet("udp", 0, "127.0.0.1")


def echo(place: Any, **more: Any) -> ListenerSettings:
    """Echo somewhere."""
    return ListenerSettings(protocol="echo", place=place, **more)


def listener(settings: ListenerSettings) -> Any:
    """A listener, as far as a plan looks at it."""
    return SimpleNamespace(settings=settings)


class PlanTests(SynchronousTestCase):
    """How listeners differ from settings."""

    def test_the_same(self) -> None:
        """Where nothing has changed, nothing is to be done, whoever says it."""
        one = listener(echo(TCP, origin="--port 0"))

        self.assertEqual(Plan(unchanged=[one]), plan([one], [echo(TCP, origin="echosvc.toml:3")]))

    def test_changed(self) -> None:
        """What has the same place is the same listener, with other settings."""
        one, other = listener(echo(TCP)), echo(TCP, stall_timeout=5.0)

        self.assertEqual(Plan(changed=[(one, other)]), plan([one], [other]))

    def test_another_place(self) -> None:
        """What has another place is another listener."""
        one, other = listener(echo(TCP)), echo(Internet("tcp", 0, "127.0.0.2"))

        self.assertEqual(Plan(removed=[one], added=[other]), plan([one], [other]))

    def test_the_same_place_twice(self) -> None:
        """Of several with one place (port 0, which is another number for each) each is found once."""
        one, other = listener(echo(TCP)), listener(echo(TCP))
        found = plan([one, other], [echo(TCP), echo(TCP), echo(TCP)])

        self.assertEqual(([one, other], 1), (found.unchanged, len(found.added)))

    def test_inherited(self) -> None:
        """Whoever asked for inherited sockets may have got several: all of them are meant."""
        place = Inherited(name="echo")
        both = [listener(echo(place)), listener(echo(place))]
        new = echo(place, stall_timeout=5.0)

        self.assertEqual([(both[0], new), (both[1], new)], plan(both, [new]).changed)


class ReloadCase(SynchronousTestCase):
    """A service that is told something else."""

    def setUp(self) -> None:
        """Serve TCP and UDP."""
        self.reactor = FakeReactor()
        self.settings = Settings(listeners=(echo(TCP), echo(UDP)))
        capture = capturedLogs()
        self.events: Any = capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)
        self.service = self.serve(self.settings)

    def serve(self, settings: Settings, reread: Callable[[], Settings] | None = None) -> EchoService:
        """Start a service."""
        service = open_service(settings, self.reactor, reread=reread or (lambda: self.settings))
        service.startService()
        self.addCleanup(self.stop, service)
        self.events.clear()
        return service

    def stop(self, service: EchoService) -> None:
        """Stop it, and whoever is left."""
        for transport in hub_for(self.reactor).getReaders():
            if transport not in self.reactor.getReaders():
                transport.abortConnection()
        self.reactor.advance(0)
        stopped = service.stopService() if service.running else None
        for _ in range(30):
            self.reactor.advance(0.1)
        if stopped is not None:
            self.successResultOf(stopped)

    def reload(self, *listeners: ListenerSettings, **more: Any) -> None:
        """Say something else, and have it read."""
        self.settings = attrs.evolve(self.settings, listeners=listeners or self.settings.listeners, **more)
        self.service.reload()
        self.reactor.advance(0)

    def said(self) -> list[str]:
        """What was logged since."""
        found = [formatEvent(each) for each in self.events]
        self.events.clear()
        return found

    def ports(self) -> list[int]:
        """Where is listened now."""
        return [each.port for each in self.service.listeners if each.port is not None]

    def turn(self) -> None:
        """Have everybody read who is watched."""
        for reader in [*self.reactor.getReaders()]:
            reader.doRead()

    def connect(self, port: int) -> socket.socket:
        """Connect by TCP, and be accepted."""
        client = socket.create_connection(("127.0.0.1", port), 5)
        self.addCleanup(client.close)
        self.turn()
        return client

    def answer(self, client: socket.socket) -> bytes:
        """Have a word echoed."""
        client.sendall(b"word")
        self.turn()
        self.turn()
        client.settimeout(2)
        return client.recv(10)


class ReloadTests(ReloadCase):
    """What becomes of sockets and connections."""

    def test_nothing_has_changed(self) -> None:
        """Everything is as before, and says so."""
        before = list(self.service.listeners)
        self.reload()

        self.assertEqual(before, self.service.listeners)
        self.assertEqual(["reloaded: 0 opened, 0 changed, 0 removed, 2 as before"], self.said())

    def test_changed(self) -> None:
        """What has other settings goes on on the same port; whoever is connected stays, and others come."""
        ports = self.ports()
        client = self.connect(ports[0])
        waiting = socket.create_connection(("127.0.0.1", ports[0]), 5)
        self.addCleanup(waiting.close)
        self.reload(echo(TCP, backlog=7, stall_timeout=3.0), echo(UDP, receive_buffer=100_000))

        self.assertEqual(ports, self.ports())
        self.assertEqual(b"word", self.answer(client))
        self.assertEqual(b"word", self.answer(waiting))
        self.assertEqual(3.0, self.service.listeners[0].settings.stall_timeout)
        self.assertIn("reloaded: 0 opened, 2 changed, 0 removed, 0 as before", self.said())

    def test_datagrams_that_wait(self) -> None:
        """What has come in before a change is answered after it."""
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.connect(("127.0.0.1", self.ports()[1]))
        client.send(b"word")
        self.reload(echo(TCP), echo(UDP, screen=ScreenSettings(rate=5.0)))
        self.turn()
        client.settimeout(2)

        self.assertEqual(b"word", client.recv(10))

    def test_removed(self) -> None:
        """What is no longer asked for is closed, and whoever came in there may finish."""
        port = self.ports()[0]
        client = self.connect(port)
        self.reload(echo(UDP))

        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)
        self.assertEqual(b"word", self.answer(client))
        for _ in range(40):
            self.reactor.advance(0.1)
            self.turn()
        self.assertEqual(b"", client.recv(1))
        self.assertEqual(1, len(self.service.listeners))

    def test_added(self) -> None:
        """What is new is opened."""
        self.reload(echo(TCP), echo(UDP), echo(Internet("tcp", 0, "127.0.0.2")))
        client = socket.create_connection(("127.0.0.2", self.ports()[2]), 5)
        self.addCleanup(client.close)

        self.assertEqual(b"word", self.answer(client))
        self.assertTrue(any("listens on TCP 127.0.0.2" in line for line in self.said()))

    def test_files_of_sockets(self) -> None:
        """The file of a UNIX socket is there as long as anybody listens on it, and no longer."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        place = UnixSocket("unix", f"{folder.name}/echo.sock")
        self.reload(echo(place))
        self.reload(echo(place, stall_timeout=3.0))
        there = Path(place.path).exists()
        self.reload(echo(TCP))

        self.assertEqual((True, False), (there, Path(place.path).exists()))

    def test_own_ports(self) -> None:
        """Datagrams from a port that has been opened since are taken for a loop, too."""
        self.reload(echo(TCP), echo(UDP), echo(Internet("udp", 0, "127.0.0.2")))
        old, new = self.service.listeners[1], self.service.listeners[2]
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        assert new.port is not None
        client.bind(("127.0.0.3", new.port))
        client.sendto(b"loop?", ("127.0.0.1", old.port))
        self.turn()

        self.assertEqual(1, old.drops()["source-port-own"])

    def test_limits(self) -> None:
        """Other limits hold at once, and whoever is in counts."""
        self.connect(self.ports()[0])
        self.reload(gate=GateSettings(limits=Limits(max_connections=1)))
        client = self.connect(self.ports()[0])

        self.assertRaises(ConnectionResetError, self.answer, client)

    def test_leaving_after_a_change(self) -> None:
        """Whoever came in before a change leaves his place when he goes."""
        client = self.connect(self.ports()[0])
        self.reload(
            echo(TCP, stall_timeout=3.0), echo(UDP), gate=GateSettings(limits=Limits(max_connections=1))
        )
        client.close()
        self.turn()
        self.turn()
        (tcp,) = [each.port for each in self.service.listeners if each.udp_port is None]
        newcomer = self.connect(tcp or 0)

        self.assertEqual(b"word", self.answer(newcomer))

    def test_networks(self) -> None:
        """Who may connect is what is said last."""
        self.reload(echo(TCP, door=DoorSettings(deny=("127.0.0.0/8",))), echo(UDP))
        tcp = next(each for each in self.service.listeners if each.settings.place == TCP)
        assert tcp.port is not None

        self.assertRaises(ConnectionResetError, self.answer, self.connect(tcp.port))


class RefusedTests(ReloadCase):
    """A reload that cannot be."""

    def assert_as_before(self, said: str) -> None:
        """Nothing has changed, and one line says why."""
        (line,) = self.said()
        self.assertIn(f"not reloaded, all is as before: {said}", line)
        self.assertEqual(b"word", self.answer(self.connect(self.ports()[0])))

    def test_wrong_configuration(self) -> None:
        """A configuration that makes no sense changes nothing."""

        def wrong() -> Settings:
            raise InvalidConfig(["echosvc.toml:3: unknown key"])

        self.service = self.serve(self.settings, wrong)
        self.reload()
        self.assert_as_before("echosvc.toml:3: unknown key")

    def test_taken(self) -> None:
        """If one port is taken, none is opened, and nothing else is changed."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        new = Internet("tcp", 0, "127.0.0.2")
        before = list(self.service.listeners)
        self.reload(
            echo(TCP, stall_timeout=3.0),
            echo(new),
            echo(Internet("tcp", taken.getsockname()[1], "127.0.0.1")),
        )

        self.assertEqual(before, self.service.listeners)
        self.assert_as_before("listener: TCP 127.0.0.1:")

    def test_a_mistake(self) -> None:
        """What no listener can be is found before anything is opened."""
        self.reload(echo(TCP), ListenerSettings(protocol="ecko", place=UDP))
        self.assert_as_before("listener: ")

    def test_a_form_that_there_is_not(self) -> None:
        """Nor can a listener become something that it cannot be."""
        self.reload(echo(TCP, proxy=()), echo(UDP))
        self.assert_as_before("listener: proxy names nobody")

    def test_twisted_endpoints(self) -> None:
        """Those of Twisted's own cannot be changed while they listen."""
        place = Foreign("tcp6:0:interface=\\:\\:1")
        self.service = self.serve(Settings(listeners=(echo(TCP), echo(place))))
        self.reload(echo(TCP), echo(place, stall_timeout=3.0))
        self.assert_as_before("listener: one of Twisted's own endpoints cannot be changed")

    def test_while_stopping(self) -> None:
        """A service that is stopping does not begin anew."""
        self.connect(self.ports()[0])
        self.service.stopService()
        self.said()
        self.reload(echo(UDP))

        self.assertEqual([], self.said())

    def test_a_protocol_that_fails(self) -> None:
        """A protocol that raises when it begins leaves the one before it where it was."""

        class Fails:
            def __call__(self, *_: object) -> None:
                raise RuntimeError("no")

        self.patch(type(self.service.listeners[0]), "start", Fails().__call__)
        before = list(self.service.listeners)
        self.reload(echo(TCP, stall_timeout=3.0), echo(UDP))

        self.assertEqual(before, self.service.listeners)
        self.assertTrue(any(each["log_level"] == LogLevel.critical for each in self.events))
        self.flushLoggedErrors(RuntimeError)
