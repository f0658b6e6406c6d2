"""Tests of the running service."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, cast

import attrs
from twisted.application.service import MultiService
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogLevel, LogPublisher, capturedLogs, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import DoorSettings, GateSettings, Limits
from echosvc.errors import ExitCode, InvalidListener, ListenError, PortInUse
from echosvc.listeners import Internet, ListenerSettings, TLSSettings, UnixSocket, certificates
from echosvc.listeners.listener import Listener
from echosvc.protocols import WireProtocol
from echosvc.service import EchoService, open_service
from echosvc.service import echo_service as service_module
from echosvc.settings import Settings
from echosvc.transports import StreamPort, StreamTransport, tls
from echosvc.transports.hub import hub_for
from echosvc.transports.messages import PlainMessages
from echosvc.transports.rights import RESERVE
from tests.certificates import folder_for
from tests.doubles import FakeReactor, udp_socket
from tests.listeners.cases import FakeCertificates


def settings(port: int = 0) -> Settings:
    """Echo over TCP and UDP on loopback."""
    return Settings(
        listeners=tuple(
            ListenerSettings(protocol="echo", place=place)
            for place in (Internet("tcp", port, "127.0.0.1"), Internet("udp", port, "127.0.0.1"))
        )
    )


class SignallingReactor(FakeReactor):
    """A reactor that handles SIGTERM, as a running one does."""

    stops = 0

    def sigTerm(self, *args: object) -> None:
        """What Twisted's reactors install for SIGTERM."""

    def stop(self) -> None:
        """Count."""
        self.stops += 1


class Certificates(FakeCertificates):
    """Certificates that are read again, or cannot be.

    Attributes:
        made: All of them.
        problem: What is wrong with the files; None if nothing.
    """

    made: ClassVar[list[Certificates]] = []
    problem: ClassVar[str | None] = None

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.made.append(self)

    def reload(self) -> None:
        """Count, unless the files are wrong."""
        if self.problem is not None and self.settings.cert == "wrong":
            raise ValueError(self.problem)
        super().reload()

    def warnings(self) -> list[str]:
        """Have one."""
        return [f"{self.settings.cert} has expired"]


class ServiceCase(SynchronousTestCase):
    """Starts a service, and stops it."""

    def start(self, reactor: FakeReactor, described: Settings | None = None) -> EchoService:
        """Start a service as twistd does; `events` is what it logs from then on."""
        self.reactor = reactor
        self.parent = MultiService()
        self.events = self.logged()
        service = open_service(described or settings(), reactor)
        service.setServiceParent(self.parent)
        self.parent.startService()
        self.addCleanup(self.stop)
        return service

    def logged(self) -> Any:
        """Begin to remember what is logged."""
        capture = capturedLogs()
        events = capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)
        return events

    def lines(self) -> list[tuple[Any, str]]:
        """What was logged since the last call."""
        found = [(each["log_level"], formatEvent(each)) for each in self.events]
        self.events.clear()
        return found

    def stop(self) -> None:
        """Stop it, if the test has not."""
        if self.parent.running:
            stopped = self.parent.stopService()
            self.reactor.advance(0)
            self.successResultOf(stopped)

    def fake_tls(self) -> None:
        """Do without files, and without TLS itself."""
        self.patch(certificates, "Certificates", Certificates)
        self.patch(tls, "TLSFactory", lambda factory, *_, **__: factory)
        self.patch(Certificates, "made", [])

    def keep_signals(self) -> None:
        """Restore the handlers of signals at the end."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def run_hooks(self) -> None:
        """Do what is to be done once the reactor runs."""
        for function, args, kwargs in self.reactor.whenRunningHooks:
            function(*args, **kwargs)


class ServiceTests(ServiceCase):
    """Start and stop."""

    def test_does_not_let_its_own_ports_in(self) -> None:
        """A datagram that claims to come from our own port is dropped by the running service."""
        service = self.start(FakeReactor())
        port = next(each for each in self.reactor.getReaders() if each.getHost().type == "UDP")
        received: list[Any] = [(b"forged", [], 0, ("127.0.0.9", service.listeners[1].udp_port))]

        class Forging:
            family = socket.AF_INET

            def recvmsg(self, *_: object) -> Any:
                if not received:
                    raise BlockingIOError
                return received.pop()

        port._messages = PlainMessages(cast(socket.socket, Forging()))
        port.doRead()

        self.assertEqual({"source-port-own": 1}, service.listeners[1].drops())

    def test_does_not_answer_its_own_answers(self) -> None:
        """An answer that comes back to a socket of ours, under the name of another of ours, is dropped and counted."""
        folder = folder_for(self)
        places = [UnixSocket("unixgram", f"{folder}/{name}") for name in ("a", "b")]
        service = self.start(
            FakeReactor(),
            Settings(listeners=tuple(ListenerSettings(protocol="echo", place=each) for each in places)),
        )
        named = [each for each in self.reactor.getReaders() if each.getHost().name]
        one, two = sorted(named, key=lambda each: each.getHost().name)
        one.write(b"answer", places[1].path)
        two.doRead()

        self.assertEqual([{}, {"source-name-own": 1}], [listener.drops() for listener in service.listeners])

    def test_says_what_listens_where(self) -> None:
        """One line for each listener when it starts, and one with what it has served when it stops."""
        service = self.start(FakeReactor())
        ports = [each.where for each in service.listeners]

        self.assertEqual(
            [(LogLevel.info, f"echo (RFC 862) listens on {each}") for each in ports], self.lines()
        )
        self.stop()
        self.assertEqual(
            [
                (LogLevel.info, f"{ports[0]}: stopped after 0 connections"),
                (LogLevel.info, f"{ports[1]}: stopped after 0 datagrams (0 bytes) in, 0 (0 bytes) out"),
            ],
            self.lines(),
        )

    def test_warns_of_what_is_not_as_it_should_be(self) -> None:
        """After the listener's line, with the place it is about; all of it."""
        self.patch(Listener, "warnings", lambda _: ["one", "two"])
        service = self.start(FakeReactor(), Settings(listeners=settings().listeners[:1]))
        where = service.listeners[0].where

        self.assertEqual(
            [(LogLevel.warn, f"{where}: one"), (LogLevel.warn, f"{where}: two")], self.lines()[1:]
        )

    def test_warns_of_what_comes_later(self) -> None:
        """Within the hour, and once: a certificate expires while the service runs."""
        found: list[str] = []
        self.patch(Listener, "warnings", lambda _: list(found))
        service = self.start(FakeReactor(), Settings(listeners=settings().listeners[:1]))
        found.append("one")
        for _ in range(3):
            self.reactor.advance(3600)

        self.assertEqual([(LogLevel.warn, f"{service.listeners[0].where}: one")], self.lines()[1:])

    def test_stops_clean(self) -> None:
        """No socket and no timer is left; and twistd knows by name what it has run."""
        service = self.start(FakeReactor())
        self.assertEqual((2, True), (len(self.reactor.getReaders()), service.running))
        self.assertIs(service, self.parent.getServiceNamed("echosvc"))
        self.stop()

        self.assertFalse(service.running)
        self.assertEqual([], self.reactor.getReaders())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_an_hour_that_ends_in_a_drain(self) -> None:
        """Sockets that are closed are not looked at for warnings; all that follows a drain is done."""
        service = self.start(FakeReactor())
        self.reactor.advance(3599)
        port = service.listeners[0].port
        client = socket.create_connection(("127.0.0.1", port), 5)
        self.addCleanup(client.close)
        (listening,) = (each for each in self.reactor.getReaders() if isinstance(each, StreamPort))
        listening.doRead()
        stopped = self.parent.stopService()
        self.reactor.pump([1.0] * 3)
        self.assertNoResult(stopped)
        self.reactor.pump([1.0] * 15)

        self.successResultOf(stopped)
        self.assertEqual([], self.flushLoggedErrors())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_stops_clean_with_files(self) -> None:
        """The files of UNIX sockets are removed when it stops."""
        path = Path(folder_for(self)) / "file"
        path.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(path)  # the path of a socket must be short
        self.start(
            FakeReactor(),
            Settings(listeners=(ListenerSettings(protocol="echo", place=UnixSocket("unix", "echo")),)),
        )
        self.assertTrue(Path("echo").is_socket())
        self.stop()

        self.assertEqual([], list(Path.cwd().iterdir()))

    def test_tells_what_was_dropped_while_it_runs(self) -> None:
        """Once a minute."""
        service = self.start(FakeReactor())
        self.patch(service.listeners[0], "drops", lambda: Counter({"stall-timeout": 3}))
        self.lines()
        self.reactor.advance(60)

        self.assertEqual(
            [(LogLevel.warn, f"{service.listeners[0].where}: dropped: stall-timeout 3")], self.lines()
        )

    def test_all_listeners_share_one_gate(self) -> None:
        """Its limits are for all connections; whoever is refused is counted where it came."""
        limits = Limits(max_connections=2, max_per_source=1)
        both = tuple(
            ListenerSettings(protocol="echo", place=Internet("tcp", 0, "127.0.0.1")) for _ in range(2)
        )
        service = self.start(FakeReactor(), Settings(listeners=both, gate=GateSettings(limits=limits)))
        clients = []
        for listener in service.listeners:
            clients.append(socket.create_connection(("127.0.0.1", listener.port), 5))
            self.addCleanup(clients[-1].close)
        ports = {each.getHost().port: each for each in self.reactor.getReaders()}
        for listener in service.listeners:
            ports[listener.port].doRead()
        for transport in hub_for(self.reactor).getReaders():
            if isinstance(transport, StreamTransport):
                self.addCleanup(self.reactor.advance, 0)
                self.addCleanup(transport.abortConnection)

        self.assertRaises(ConnectionResetError, clients[1].recv, 1)
        self.assertEqual([{}, {"max-per-source": 1}], [listener.drops() for listener in service.listeners])

    def test_keeps_descriptors_for_those_that_are_sent(self) -> None:
        """Where the kernel cannot refuse them, and there is a UNIX socket, whichever it is."""
        asked: list[int] = []

        def provide(wanted: int, *, ceiling: int | None, spare: int) -> int:
            asked.append(spare)
            return wanted

        self.patch(service_module, "provide_for", provide)
        plain = settings().listeners
        unix = (attrs.evolve(plain[0], place=UnixSocket("unixgram", "@nowhere")),)
        for old in (False, True):
            self.patch(service_module, "kernel_refuses", lambda old=old: not old)
            for what in (
                Settings(listeners=plain),
                Settings(listeners=unix),
                Settings(listeners=(), admin=unix[0]),
            ):
                service_module.EchoService([], FakeReactor(), what)._possible(what)

        self.assertEqual([0] * 4 + [RESERVE] * 2, asked)

    def test_warns_of_fewer_connections_than_were_asked_for(self) -> None:
        """The system has a limit of descriptors; the default only follows it."""
        asked: list[tuple[int, int | None]] = []

        def provide(wanted: int, *, ceiling: int | None, spare: int) -> int:
            self.assertEqual(0, spare)
            asked.append((wanted, ceiling))
            return 10

        self.patch(service_module, "provide_for", provide)
        self.start(FakeReactor(), Settings(listeners=settings().listeners))
        self.assertEqual([LogLevel.info] * 2, [level for level, _ in self.lines()])
        self.stop()
        limits = GateSettings(limits=Limits(max_connections=500))
        self.start(FakeReactor(), Settings(listeners=settings().listeners, gate=limits))
        (warning,) = [line for level, line in self.lines() if level == LogLevel.warn]

        self.assertTrue(
            warning.startswith("max-connections is 10, not 500: the system allows no more"), warning
        )
        self.assertEqual([(65_536, None), (500, None)], asked)

    def test_a_reactor_on_select_has_fewer_descriptors(self) -> None:
        """It cannot watch those from 1024 on, where no epoll does so in its place."""

        class SelectReactor(FakeReactor):
            pass

        self.assertIsNone(service_module._most_descriptors(SelectReactor()))
        self.patch(service_module, "hub_for", lambda reactor: reactor)
        self.assertEqual(1024, service_module._most_descriptors(SelectReactor()))
        self.assertIsNone(service_module._most_descriptors(FakeReactor()))

    def test_opens_all_or_nothing(self) -> None:
        """A service whose port is taken is not made."""
        taken = udp_socket()
        self.addCleanup(taken.close)

        self.assertRaises(PortInUse, open_service, settings(taken.getsockname()[1]), FakeReactor())

    def test_is_not_made_of_mistakes(self) -> None:
        """What describes a listener that cannot be is refused."""
        wrong = Settings(listeners=(ListenerSettings(protocol="ecko", place=Internet("tcp", 0)),))

        self.assertRaises(InvalidListener, open_service, wrong, FakeReactor())


class TermTests(ServiceCase):
    """SIGTERM."""

    def test_stops_the_reactor_without_a_mark(self) -> None:
        """Twisted would remember the signal and die of it; ours only stops."""
        self.keep_signals()
        reactor = SignallingReactor()
        signal.signal(signal.SIGTERM, reactor.sigTerm)
        self.start(reactor)
        self.assertEqual(reactor.sigTerm, signal.getsignal(signal.SIGTERM))
        self.run_hooks()
        self.lines()
        signal.raise_signal(signal.SIGTERM)

        self.assertEqual(1, reactor.stops)
        self.assertEqual([(LogLevel.info, "SIGTERM: stopping")], self.lines())

    def test_a_second_one_changes_nothing(self) -> None:
        """A reactor that is stopping already cannot be stopped; asking it again would be a traceback."""
        self.keep_signals()
        reactor = SignallingReactor()
        signal.signal(signal.SIGTERM, reactor.sigTerm)
        self.start(reactor)
        self.run_hooks()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

        self.assertEqual(1, reactor.stops)

    def test_is_left_alone_where_the_reactor_does(self) -> None:
        """Embedded in something else, signals are that something's business; SIGHUP, too."""
        self.keep_signals()
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
        self.fake_tls()
        self.start(FakeReactor(), with_tls("good"))
        self.run_hooks()

        self.assertEqual(before, [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)])


def with_tls(*names: str) -> Settings:
    """A plain listener, and one with TLS for each name of a certificate."""
    return Settings(
        listeners=tuple(
            ListenerSettings(
                protocol="echo",
                place=Internet("tcp", 0, "127.0.0.1"),
                tls=TLSSettings(cert=name, key="key") if name else None,
            )
            for name in ("", *names)
        )
    )


class ReloadTests(ServiceCase):
    """SIGHUP reads certificates and keys again."""

    def setUp(self) -> None:
        """Do without files."""
        self.fake_tls()
        self.keep_signals()
        signal.signal(
            signal.SIGHUP, lambda *_: None
        )  # else it would end the tests where the service ignores it

    def run_service(self, *names: str) -> EchoService:
        """Start a service on a reactor that handles signals, and forget what it logged."""
        reactor = SignallingReactor()
        signal.signal(signal.SIGTERM, reactor.sigTerm)
        service = self.start(reactor, with_tls(*names))
        self.run_hooks()
        self.lines()
        return service

    def reloads(self) -> list[int]:
        """How often the certificates that are served were read again."""
        # The first of each name was only made to find mistakes.
        return [each.reloads for each in Certificates.made[len(Certificates.made) // 2 :]]

    def test_sighup(self) -> None:
        """Every listener that speaks TLS, with a line in the log for each."""
        service = self.run_service("one", "two")
        signal.raise_signal(signal.SIGHUP)

        self.assertEqual([1, 1], self.reloads())
        said = []
        for name, each in zip(("one", "two"), service.listeners[1:], strict=True):
            said.append((LogLevel.info, f"{each.where}: certificates read again"))
            said.append((LogLevel.warn, f"{each.where}: {name} has expired"))
        self.assertEqual(said, self.lines())

    def test_is_done_between_two_turns_of_the_reactor(self) -> None:
        """A signal comes at any moment, also in the middle of a handshake."""
        self.run_service("one")
        later: list[Any] = []
        self.patch(self.reactor, "callFromThread", later.append)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual([0], self.reloads())
        later.pop()()

        self.assertEqual([1], self.reloads())

    def test_without_tls(self) -> None:
        """It does nothing to a daemon, and says so."""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.patch(os, "isatty", lambda _: False)
        self.run_service()
        signal.raise_signal(signal.SIGHUP)

        self.assertEqual(
            [
                (
                    LogLevel.info,
                    "SIGHUP: no listener has certificates or lists of networks: there is nothing to read again",
                )
            ],
            self.lines(),
        )

    def test_without_tls_where_somebody_else_has_a_say(self) -> None:
        """At a terminal that goes away, and under nohup, the signal does what it always does."""
        for handler, terminal in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            self.patch(os, "isatty", lambda _, terminal=terminal: terminal)
            self.run_service()

            self.assertEqual(handler, signal.getsignal(signal.SIGHUP))
            self.stop()

    def test_lists_of_networks(self) -> None:
        """Where they are in files; those that are not cannot have changed."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/networks"
        Path(path).write_text("10.0.0.0/8\n")
        doors = [DoorSettings(allow=("::1",)), DoorSettings(deny=(f"@{path}",))]
        reactor = SignallingReactor()
        signal.signal(signal.SIGTERM, reactor.sigTerm)
        place = Internet("tcp", 0, "127.0.0.1")
        listeners = tuple(ListenerSettings(protocol="echo", place=place, door=door) for door in doors)
        service = self.start(reactor, Settings(listeners=listeners))
        self.run_hooks()
        self.lines()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(
            [(LogLevel.info, f"{service.listeners[1].where}: networks read again")], self.lines()
        )
        Path(path).write_text("ten\n")
        service.reload()
        ((level, line),) = self.lines()

        self.assertEqual(LogLevel.error, level)
        self.assertIn(f": not reloaded: {path}:1: 'ten' is no network", line)

    def test_what_is_wrong_changes_nothing(self) -> None:
        """One line in the log that says what; the listener goes on with what it has, and others are reloaded."""
        self.patch(Certificates, "problem", "certificate file wrong: cannot be read")
        service = self.run_service("wrong", "good")
        service.reload()

        self.assertEqual([0, 1], self.reloads())
        self.assertEqual(
            [
                (
                    LogLevel.error,
                    f"{service.listeners[1].where}: not reloaded: certificate file wrong: cannot be read",
                ),
                (LogLevel.info, f"{service.listeners[2].where}: certificates read again"),
                (LogLevel.warn, f"{service.listeners[2].where}: good has expired"),
            ],
            self.lines(),
        )

    def test_whatever_one_raises_the_others_are_read(self) -> None:
        """Also what nobody has thought of."""

        def fail() -> None:
            raise RuntimeError("bug")

        service = self.run_service("one", "two")
        self.patch(service.listeners[1], "reload", fail)
        service.reload()

        self.assertEqual(
            (LogLevel.error, f"{service.listeners[1].where}: not reloaded: bug"), self.lines()[0]
        )
        self.assertEqual([0, 1], self.reloads())

    def test_a_certificate_that_has_expired(self) -> None:
        """Is served all the same, with a warning."""
        reactor = FakeReactor()
        service = self.start(reactor, with_tls("old"))

        self.assertIn((LogLevel.warn, f"{service.listeners[1].where}: old has expired"), self.lines())


class BadFactory(Factory[Protocol]):
    """Raises when it begins."""

    raised: Exception = RuntimeError("bug")

    def startFactory(self) -> None:
        """Raise."""
        raise self.raised


BAD = WireProtocol(name="bad", rfc="none", summary="raises", stream=BadFactory)


class BadStartTests(ServiceCase):
    """A protocol that raises when it begins."""

    def bad(self) -> ListenerSettings:
        """Describe a listener that cannot begin."""
        return ListenerSettings(protocol=f"{__name__}:BAD", place=Internet("tcp", 0, "127.0.0.1"))

    def test_nothing_is_served_then(self) -> None:
        """A service of which a part is missing would look well. The error names the listener, its place and what was raised."""
        good = settings().listeners
        reactor = FakeReactor()
        service = open_service(Settings(listeners=(good[0], self.bad(), good[1])), reactor)
        refused = self.assertRaises(ListenError, service.startService)
        reactor.advance(0)

        self.assertEqual(
            f"{refused.option}: {service.listeners[1].where}: bad cannot begin: RuntimeError('bug')",
            str(refused),
        )
        self.assertEqual(ExitCode.SYSTEM, refused.exit_code)
        self.assertEqual([], reactor.getReaders())
        for listener in (service.listeners[0], service.listeners[1]):
            self.assertRaises(
                ConnectionRefusedError, socket.create_connection, ("127.0.0.1", listener.port), 5
            )
        self.assertIs(LogPublisher, type(globalLogPublisher))  # its guard is gone

    def test_what_is_not_permitted(self) -> None:
        """A protocol that is refused something, memory included, ends with the code after which no unit tries again.

        A callback of cffi's (pyOpenSSL's) raises MemoryError where MemoryDenyWriteExecute= is set.
        """
        for refusal in (MemoryError("cannot allocate write+execute memory"), PermissionError(13, "no")):
            self.patch(BadFactory, "raised", refusal)
            service = open_service(Settings(listeners=(self.bad(),)), FakeReactor())
            refused = self.assertRaises(ListenError, service.startService)

            self.assertIn(f"bad cannot begin: {refusal!r}", str(refused))
            self.assertEqual(ExitCode.PERMISSION, refused.exit_code)
