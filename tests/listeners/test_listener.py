"""Tests of listeners: a bound socket that speaks one wire protocol."""

from __future__ import annotations

import os
import socket
from collections import Counter
from ipaddress import ip_network
from typing import Any
from unittest import mock

import attrs
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from echosvc.admission import DoorSettings, Gate, Limits, Screens, ScreenSettings
from echosvc.listeners import ListenerSettings, TLSSettings, certificates
from echosvc.listeners import listener as listener_module
from echosvc.listeners.layers import Layers
from echosvc.listeners.listener import Listener, describe
from echosvc.listeners.sockets import Opened, open_all
from echosvc.protocols import DatagramEcho, EchoFactory, WireProtocol, find
from echosvc.transports import rights
from echosvc.transports.addresses import display
from echosvc.transports.hub import hub_for
from tests.doubles import FakeReactor, udp_socket
from tests.listeners.cases import (
    FakeCertificates,
    ListenerCase,
    tcp_listener,
    udp_listener,
    unix_listener,
    unixgram_listener,
)
from tests.machine import OTHER_LOOPBACK, open_descriptors


@attrs.frozen
class Greeting:
    """Settings of a protocol's own."""

    text: str = "hello"


class ListeningCase(ListenerCase):
    """Opens listeners, and turns their reactor by hand."""

    def setUp(self) -> None:
        """Make the reactor."""
        self.reactor = FakeReactor()

    def open(self, settings: ListenerSettings, wire: WireProtocol | None = None) -> Listener:
        """Open one listener."""
        wire = wire or find(settings.protocol)
        (opened,) = open_all([settings])
        listener = Listener(wire, opened, Layers(settings, wire.name))
        self.addCleanup(self.stop, listener)
        return listener

    def start(self, settings: ListenerSettings, wire: WireProtocol | None = None, own: int = 0) -> Listener:
        """Open one listener, and begin to serve."""
        listener = self.open(settings, wire)
        self.gate = Gate(Limits(), Clock())  # its timer is not the listener's
        listener.start(self.reactor, Screens([own], seconds=self.reactor.seconds), self.gate)
        (self.port,) = self.readers()
        return listener

    def readers(self) -> list[Any]:
        """Everything that waits to read."""
        return list(self.reactor.getReaders())

    def stop(self, listener: Listener) -> None:
        """Stop a listener, and the connections that it has accepted."""
        stopped = listener.stop()
        for connection in set(hub_for(self.reactor).getReaders()) - set(self.readers()):
            connection.abortConnection()
        self.reactor.advance(0)
        self.successResultOf(stopped)

    def connect(self, listener: Listener) -> socket.socket:
        """Connect a client over TCP, and accept it."""
        client = socket.create_connection(("127.0.0.1", listener.port), 5)
        self.addCleanup(client.close)
        self.port.doRead()
        return client

    def udp_client(self) -> socket.socket:
        """Make a client's UDP socket."""
        sock = udp_socket()
        self.addCleanup(sock.close)
        return sock


class NameTests(ListeningCase):
    """What the log says of a listener."""

    def test_says_what_listens_where(self) -> None:
        """One line, with the protocol and where it is specified."""
        listener = self.open(tcp_listener(interface=OTHER_LOOPBACK))

        place = f"TCP {display(OTHER_LOOPBACK, listener.port or 0)}"
        self.assertEqual(f"echo (RFC 862) listens on {place}", str(listener))
        self.assertEqual(place, listener.where)

    def test_unix_sockets_have_no_port(self) -> None:
        """They are named as their endpoints name them."""
        path = str(self.folder() / "echo")
        listener = self.open(unixgram_listener(path))

        self.assertEqual(f"echo (RFC 862) listens on unixgram:{path}", str(listener))
        self.assertEqual((None, None), (listener.port, listener.udp_port))

    def test_layers_are_named(self) -> None:
        """What every client must speak belongs to the line."""
        listener = self.open(tcp_listener(proxy=(ip_network("10.0.0.0/8"),)))

        self.assertTrue(str(listener).endswith(f":{listener.port}, PROXY from 10.0.0.0/8"))

    def test_only_udp_has_a_udp_port(self) -> None:
        """Which the screen then refuses as a source."""
        self.assertIsNone(self.open(tcp_listener()).udp_port)
        listener = self.open(udp_listener())
        self.assertEqual(listener.port, listener.udp_port)

    def test_only_unix_datagrams_have_a_name_of_their_own(self) -> None:
        """From which our own answers would come back; the screen refuses them, and counts."""
        path = self.folder()
        for settings in (udp_listener(), unix_listener(f"{path}/stream")):
            self.assertIsNone(self.open(settings).own_name)
        listener = self.start(unixgram_listener(f"{path}/s"))
        self.assertEqual(f"{path}/s", listener.own_name)

    def test_users_have_limits(self) -> None:
        """Over UNIX sockets of either kind, unless a local proxy is said to bring all clients under one user."""
        path = str(self.folder() / "s")
        for limited, served in ((True, 1), (False, 3)):
            door = DoorSettings(limits=Limits(max_per_source=1), user_limits=limited)
            listener = self.start(unix_listener(path, door=door))
            for _ in range(3):
                self.client().connect(path)
            self.port.doRead()
            self.assertEqual(Counter({"max-per-source": 3 - served}) + Counter(), listener.drops())
            self.stop(listener)
            listener = self.start(unixgram_listener(path, door=door, screen=ScreenSettings(rate=1.0)))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                for _ in range(3):
                    client.sendto(b"?", path)
                self.port.doRead()
            # One in four of those that come too fast may be let in by lot, though no more than one.
            self.assertIn(listener.drops()["datagram-rate"], (1, 2) if limited else (0,))
            self.stop(listener)

    def test_paths_are_not_answered_without_proc(self) -> None:
        """As in a chroot: it is said at the start, of UNIX datagram sockets alone."""
        listener = self.open(unixgram_listener(f"@echosvc-{os.getpid()}"))
        self.assertEqual([], listener.warnings())
        self.patch(listener_module, "can_answer_paths", lambda: False)
        (said,) = listener.warnings()

        self.assertIn("there is no /proc here", said)
        self.assertEqual([], [each for each in self.open(udp_listener()).warnings() if "proc" in each])

    def test_a_name_of_its_own(self) -> None:
        """Stands before what is spoken, unless it says the same."""
        plain = WireProtocol(name="Shout", rfc="none", summary="x", stream=EchoFactory)
        for wire, settings, said in (
            (find("echo"), tcp_listener(), "echo (RFC 862)"),
            (find("echo"), tcp_listener(name="lines"), "lines: echo (RFC 862)"),
            (plain, tcp_listener(protocol="mine:Shout"), "Shout"),
            (plain, tcp_listener(protocol="mine:Shout", name="Shout"), "Shout"),
            (plain, tcp_listener(protocol="mine:Shout", name="loud"), "loud: Shout"),
        ):
            self.assertEqual(said, describe(wire, settings))


class StreamTests(ListeningCase):
    """Connections."""

    def test_over_tcp(self) -> None:
        """A connection is accepted, served and counted."""
        listener = self.start(tcp_listener())
        client = self.connect(listener)
        client.sendall(b"hello")
        hub_for(self.reactor).doRead()

        self.assertEqual(b"hello", client.recv(99))
        self.assertEqual("1 connections", listener.totals())
        self.assertEqual({}, listener.drops())

    def test_over_unix(self) -> None:
        """The same; and the file goes with the listener."""
        path = self.folder() / "echo"
        listener = self.start(unix_listener(str(path)))
        client = self.client()
        client.connect(str(path))
        self.port.doRead()
        client.sendall(b"hello")
        hub_for(self.reactor).doRead()

        self.assertEqual(b"hello", client.recv(99))
        self.assertEqual("1 connections", listener.totals())
        self.stop(listener)
        self.assertFalse(path.exists())

    def test_whoever_takes_nothing_is_aborted(self) -> None:
        """After the listener's own time; TCP and UNIX alike, and it is counted."""
        path = str(self.folder() / "echo")
        for settings in (tcp_listener(stall_timeout=80.0), unix_listener(path, stall_timeout=80.0)):
            listener = self.start(settings)
            self.assertEqual(80.0, self.port.stall_timeout)
            self.port.aborts["stall-timeout"] += 1

            self.assertEqual({"stall-timeout": 1}, listener.drops())
            self.stop(listener)

    def test_what_a_layer_refuses_is_counted(self) -> None:
        """Beside what was aborted."""
        listener = self.start(tcp_listener(proxy=(ip_network("10.0.0.0/8"),)))
        stranger = self.connect(listener)
        self.port.aborts["stall-timeout"] += 2

        self.assertRaises(ConnectionResetError, stranger.recv, 1)
        self.assertEqual({"proxy-untrusted": 1, "stall-timeout": 2}, listener.drops())

    def test_whoever_may_not_come_in_is_counted(self) -> None:
        """Beside what was aborted and what a layer has refused."""
        listener = self.start(
            tcp_listener(
                proxy=(ip_network("127.0.0.0/8"),), door=DoorSettings(limits=Limits(max_connections=1))
            )
        )
        first, _, third = [
            self.connect(listener) for _ in range(3)
        ]  # one more may be in until it is announced
        self.port.aborts["accept-EMFILE"] += 2
        first.sendall(b"GET / HTTP/1.0\r\n\r\n")
        hub_for(self.reactor).doRead()

        self.assertRaises(ConnectionResetError, third.recv, 1)
        self.assertEqual({"max-connections": 1, "accept-EMFILE": 2, "proxy-malformed": 1}, listener.drops())

    def test_whoever_is_not_allowed_is_reset(self) -> None:
        """TCP alone: who may connect to a UNIX socket is said by its file."""
        path = str(self.folder() / "echo")
        door = DoorSettings(allow=("192.0.2.0/24",))
        listener = self.start(tcp_listener(door=door))
        self.assertRaises(ConnectionResetError, self.connect(listener).recv, 1)
        self.assertEqual({"access-denied": 1}, listener.drops())
        self.stop(listener)
        listener = self.start(unix_listener(path, door=door))
        client = self.client()
        client.connect(path)
        self.port.doRead()

        self.assertEqual({}, listener.drops())

    def test_behind_a_proxy_the_client_is_asked_for(self) -> None:
        """By the list of the listener."""
        listener = self.start(
            tcp_listener(proxy=(ip_network("127.0.0.0/8"),), door=DoorSettings(allow=("192.0.2.0/24",)))
        )
        for source, answer in (("192.0.2.1", b"hello"), ("203.0.113.1", b"reset")):
            client = self.connect(listener)
            client.sendall(f"PROXY TCP4 {source} 192.0.2.2 5 7\r\nhello".encode())
            hub_for(self.reactor).doRead()
            self.reactor.advance(0)
            try:
                self.assertEqual(answer, client.recv(99))
            except ConnectionResetError:
                self.assertEqual(answer, b"reset")

        self.assertEqual({"access-denied": 1}, listener.drops())

    def test_connections_are_read_at_a_pace(self) -> None:
        """If a rate is said: a second's worth at once; TCP and UNIX alike."""
        path = str(self.folder() / "echo")
        for settings, read in (
            (tcp_listener(door=DoorSettings(byte_rate=100.0)), 100),
            (tcp_listener(door=DoorSettings(byte_rate_total=200.0)), 200),
            (tcp_listener(door=DoorSettings(byte_rate=100.0, byte_rate_total=50.0)), 50),
            (unix_listener(path, door=DoorSettings(byte_rate=1e9)), 300),
        ):
            listener = self.start(settings)
            client = (
                self.client()
                if listener.port is None
                else socket.create_connection(("127.0.0.1", listener.port))
            )
            self.addCleanup(client.close)
            if listener.port is None:
                client.connect(path)
            self.port.doRead()
            client.sendall(b"x" * 300)
            for _ in range(4):
                hub_for(self.reactor).doRead()

            self.assertEqual(read, len(client.recv(999)))
            for waiting in list(self.port.pace._waiting):
                waiting.abortConnection()
            self.stop(listener)

    def test_an_idle_connection_is_ended(self) -> None:
        """After the listener's own time."""
        listener = self.start(tcp_listener(door=DoorSettings(idle_timeout=3.0)))
        client = self.connect(listener)
        for _ in range(30):
            self.gate._tick()
            self.gate.now += 0.25
            hub_for(self.reactor).doRead()

        self.assertEqual(b"", client.recv(1))
        self.assertEqual({"idle-timeout": 1}, listener.drops())

    def test_lists_of_networks_are_read_again(self) -> None:
        """For the connections to come; one that is wrong changes nothing. Before it serves, too."""
        path = self.folder() / "allowed"
        path.write_text("127.0.0.1\n")
        listener = self.open(tcp_listener(door=DoorSettings(allow=(f"@{path}",))))
        path.write_text("192.0.2.1\n")
        listener.reload()
        listener.start(self.reactor, Screens([]), Gate(Limits(), Clock()))
        (self.port,) = self.readers()
        self.assertRaises(ConnectionResetError, self.connect(listener).recv, 1)
        path.write_text("127.0.0.1\n")
        listener.reload()
        client = self.connect(listener)
        path.write_text("nobody\n")
        self.assertIn(f"{path}:1: ", str(self.assertRaises(ValueError, listener.reload)))
        self.connect(listener)
        client.sendall(b"hello")
        hub_for(self.reactor).doRead()

        self.assertEqual(b"hello", client.recv(99))
        self.assertEqual({"access-denied": 1}, listener.drops())

    def test_settings_are_handed_to_the_protocol(self) -> None:
        """The listener's own."""
        handed: list[Greeting] = []

        def make(options: Greeting) -> IProtocolFactory:
            handed.append(options)
            return EchoFactory()

        wire = WireProtocol(name="greeting", rfc="none", summary="x", stream=make, options=Greeting)
        self.start(tcp_listener(options=Greeting("hi")), wire)

        self.assertEqual([Greeting("hi")], handed)


class DatagramTests(ListeningCase):
    """Datagrams."""

    def test_over_udp_behind_the_screen(self) -> None:
        """An honest datagram is echoed and counted; a dropped one is counted under its reason."""
        client, own = self.udp_client(), self.udp_client()
        listener = self.start(udp_listener(), own=own.getsockname()[1])
        for sock in (own, client):
            sock.sendto(b"hello", ("127.0.0.1", listener.port))
        self.port.doRead()

        self.assertEqual(b"hello", client.recv(100))
        self.assertEqual({"source-port-own": 1}, listener.drops())
        self.assertEqual("1 datagrams (5 bytes) in, 1 (5 bytes) out", listener.totals())

    def test_over_unix(self) -> None:
        """There are no ports to screen; whoever has no name cannot be answered, which is counted."""
        folder = self.folder()
        listener = self.start(unixgram_listener(str(folder / "echo")))
        named, nameless = (self.client(socket.SOCK_DGRAM) for _ in range(2))
        named.bind(str(folder / "client"))
        for sock in (nameless, named):
            sock.sendto(b"hello", str(folder / "echo"))
        self.port.doRead()

        self.assertEqual(b"hello", named.recv(100))
        self.assertEqual({"send-ENOTCONN": 1}, listener.drops())
        self.assertEqual("2 datagrams (10 bytes) in, 1 (5 bytes) out", listener.totals())
        self.stop(listener)
        self.assertFalse((folder / "echo").exists())

    def test_settings_are_handed_to_the_protocol(self) -> None:
        """The listener's own, over UDP and UNIX."""
        handed: list[Greeting] = []

        def make(options: Greeting) -> DatagramProtocol:
            handed.append(options)
            return DatagramEcho()

        wire = WireProtocol(name="greeting", rfc="none", summary="x", datagram=make, options=Greeting)
        path = str(self.folder() / "echo")
        for settings in (
            udp_listener(options=Greeting("hi")),
            unixgram_listener(path, options=Greeting("hi")),
        ):
            self.stop(self.start(settings, wire))

        self.assertEqual([Greeting("hi")] * 2, handed)


class EndTests(ListeningCase):
    """Stopping, and what it leaves."""

    def test_can_be_stopped_before_it_was_started(self) -> None:
        """A service that never ran leaves no socket open, and no file."""
        path = self.folder() / "echo"
        before = open_descriptors()
        for settings in (tcp_listener(), udp_listener(), unix_listener(str(path), lockfile=True)):
            listener = self.open(settings)
            self.assertEqual("0 connections", listener.totals())
            self.assertEqual({}, listener.drops())
            self.successResultOf(listener.stop())

            self.assertEqual(before, open_descriptors())
        self.assertFalse(path.exists())

    def stop_and_listen(self, listener: Listener) -> list[tuple[object, str | None]]:
        """Stop a listener; return what the log says of it."""
        with capturedLogs() as events:
            self.stop(listener)
        self.assertLessEqual({event["log_namespace"] for event in events}, {"echosvc"})
        return [(event["log_level"], formatEvent(event)) for event in events]

    def test_a_file_that_cannot_be_removed_is_a_line_in_the_log(self) -> None:
        """A warning, no traceback; the socket is closed all the same."""
        path = self.folder() / "echo"
        listener = self.start(unix_listener(str(path)))
        with mock.patch("pathlib.Path.unlink", side_effect=PermissionError(13, "Permission denied")):
            said = self.stop_and_listen(listener)

        self.assertEqual([(LogLevel.warn, f"{path} stays behind: Permission denied")], said)
        self.assertRaises(ConnectionRefusedError, self.client().connect, str(path))

    def test_waits_for_room_for_the_descriptors_of_what_waits(self) -> None:
        """A UNIX datagram socket is read before it is closed, though too many descriptors wait to be closed."""
        self.patch(rights, "SO_PASSRIGHTS", 0x7FFF)  # as before Linux 6.16
        path = str(self.folder() / "echo")
        listener = self.start(unixgram_listener(path))
        self.client(socket.SOCK_DGRAM).sendto(b"hello", path)
        with mock.patch.object(rights.SENT, "_waiting", rights.WAITING + 1):
            stopped = listener.stop()
            self.reactor.advance(rights.REST)
            self.assertNoResult(stopped)
        self.reactor.pump([rights.REST, 0])

        self.successResultOf(stopped)
        self.assertIn("1 datagrams (5 bytes) in", listener.totals())

    def test_stops_in_silence_otherwise(self) -> None:
        """Nothing is logged of what went well: the service's own line says that it has stopped."""
        for settings in (unix_listener(str(self.folder() / "echo")), tcp_listener(), udp_listener()):
            self.assertEqual([], self.stop_and_listen(self.start(settings)))


class WarningTests(ListeningCase):
    """What is not as it was asked for."""

    def test_says_when_the_system_grants_a_smaller_buffer(self) -> None:
        """The way to get the rest is part of the line."""
        sock = udp_socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        settings = udp_listener()
        (said,) = Listener(find("echo"), Opened(settings, sock), Layers(settings, "echo")).warnings()

        self.assertEqual(
            "receive buffer is 8192 bytes, not 4194304: more is lost in a burst; "
            "`sysctl -w net.core.rmem_max=4194304` allows it",
            said,
        )

    def test_says_nothing_of_what_was_just_granted(self) -> None:
        """The system counts its own overhead, and says the double of what was set."""
        sock = udp_socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        settings = udp_listener(receive_buffer=8192)

        self.assertEqual(
            [], Listener(find("echo"), Opened(settings, sock), Layers(settings, "echo")).warnings()
        )

    def test_says_nothing_when_all_is_well(self) -> None:
        """Streams and UNIX sockets have no such buffer; and half of what the system grants is its own."""
        folder = self.folder()
        for settings in (
            udp_listener(receive_buffer=4096),
            tcp_listener(),
            unix_listener(str(folder / "s")),
            unixgram_listener(str(folder / "d")),
        ):
            self.assertEqual([], self.open(settings).warnings())

    def test_certificates(self) -> None:
        """What they say of themselves is passed on, and they are read again when asked."""
        made: list[FakeCertificates] = []

        def read(*settings: Any) -> FakeCertificates:
            made.append(FakeCertificates(*settings))
            return made[-1]

        self.patch(certificates, "Certificates", read)
        listener = self.open(tcp_listener(tls=TLSSettings(cert="a", key="b")))
        listener.reload()

        self.assertEqual(["it has expired"], listener.warnings())
        self.assertEqual([1], [each.reloads for each in made])
        self.assertEqual(Counter(), listener.drops())
