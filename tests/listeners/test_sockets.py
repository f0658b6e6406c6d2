"""Tests of how sockets are opened, and of what is said when one cannot be."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from echosvc.errors import AddressNotAvailable, ExitCode, ListenError, ListenNotPermitted, PortInUse
from echosvc.listeners import Foreign, Internet, ListenerSettings, sockets
from echosvc.listeners.sockets import Opened, open_all, open_socket, where
from echosvc.transports.linux import LINUX, SO_RCVBUFFORCE
from tests.listeners.cases import (
    ListenerCase,
    tcp_listener,
    udp_listener,
    unix_listener,
)
from tests.machine import OTHER_LOOPBACK, family_of, needs_ipv6, open_descriptors

#: A loopback address that nobody else uses: a number that is free there for UDP is free for TCP.
ALONE = "127.83.41.7"


class SocketCase(ListenerCase):
    """Opens sockets and closes them."""

    def bind(self, *listeners: ListenerSettings) -> list[socket.socket]:
        """Open the sockets of some listeners."""
        opened = open_all(listeners)
        for each in opened:
            self.addCleanup(each.close)
        return [each.sock for each in opened if each.sock is not None]

    def fails(self, *listeners: ListenerSettings) -> ListenError:
        """Expect that they cannot be opened, and that none stays open."""
        error = self.refused(ListenError, open_all, listeners)
        assert isinstance(error, ListenError)
        return error

    def break_bind(self, number: int, family: socket.AddressFamily | None = None) -> None:
        """Make every bind (of a family) fail with an error."""

        class Broken(socket.socket):
            def bind(self, address: Any) -> None:
                if family in (None, self.family):
                    raise OSError(number, os.strerror(number))
                super().bind(address)

        self.patch(socket, "socket", Broken)


class OpeningTests(SocketCase):
    """What is opened is what was asked for."""

    def test_one_free_number_serves_tcp_and_udp(self) -> None:
        """Port 0 takes one number for both, on every address."""
        opened = self.bind(
            tcp_listener(),
            udp_listener(),
            tcp_listener(interface=OTHER_LOOPBACK),
            udp_listener(interface=OTHER_LOOPBACK),
        )

        self.assertEqual(len({sock.getsockname()[1] for sock in opened}), 1)

    def test_listeners_on_one_address_have_a_free_number_each(self) -> None:
        """Where a number cannot be shared there is another, which those that follow share; each exactly as asked."""
        pair = (tcp_listener(), udp_listener())
        numbers = [
            sock.getsockname()[1] for sock in self.bind(*pair, *pair, tcp_listener(interface=OTHER_LOOPBACK))
        ]

        self.assertEqual(numbers, [numbers[0], numbers[0], numbers[2], numbers[2], numbers[2]])
        self.assertNotEqual(numbers[0], numbers[2])

    def test_one_address_is_part_of_every_address(self) -> None:
        """Whichever comes first, they cannot share a number."""
        for first, second in (("", "127.0.0.1"), ("127.0.0.1", ""), (OTHER_LOOPBACK, "")):
            numbers = {
                sock.getsockname()[1]
                for sock in self.bind(tcp_listener(interface=first), tcp_listener(interface=second))
            }

            self.assertEqual(len(numbers), 2)

    def test_a_number_that_is_named_is_not_shared(self) -> None:
        """Port 0 asks for a free number, whatever others name."""
        (taken,) = self.bind(udp_listener(interface=ALONE))
        port = taken.getsockname()[1]
        named, other = self.bind(tcp_listener(port, ALONE), udp_listener(interface=ALONE))

        self.assertEqual(named.getsockname()[1], port)
        self.assertNotEqual(other.getsockname()[1], port)

    def test_looks_for_another_number_while_one_of_the_two_is_taken(self) -> None:
        """The free TCP number may be a taken UDP one; then another is tried."""
        refused: list[int] = []

        class Picky(socket.socket):
            def bind(self, address: Any) -> None:
                if self.type == socket.SOCK_DGRAM and len(refused) < 3:
                    refused.append(address[1])
                    raise OSError(errno.EADDRINUSE, "taken")
                super().bind(address)

        self.patch(socket, "socket", Picky)
        stream, datagram = self.bind(tcp_listener(), udp_listener())

        self.assertEqual(len(refused), 3)
        self.assertEqual(stream.getsockname(), datagram.getsockname())

    @needs_ipv6
    def test_every_address_is_one_dual_stack_socket(self) -> None:
        """IPv4 and IPv6 clients reach the same socket."""
        (sock,) = self.bind(tcp_listener(interface=""))
        port = sock.getsockname()[1]

        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 5).close()
        self.assertEqual(where(sock), f"TCP [::]:{port} (IPv6 and IPv4)")

    def test_every_address_is_ipv4_where_ipv6_is_missing(self) -> None:
        """A machine without IPv6 serves IPv4, and says so."""
        self.break_bind(errno.EADDRNOTAVAIL, socket.AF_INET6)
        (sock,) = self.bind(udp_listener(interface=""))

        self.assertEqual(where(sock), f"UDP 0.0.0.0:{sock.getsockname()[1]}")

    def test_ipv6_wildcard_is_ipv6_alone(self) -> None:
        """`::` and `0.0.0.0` can be listened on side by side, each for its own family."""
        family_of("::")
        six, four = self.bind(tcp_listener(interface="::"), tcp_listener(interface="0.0.0.0"))

        self.assertEqual(six.getsockname()[1], four.getsockname()[1])
        self.assertEqual(where(six), f"TCP [::]:{six.getsockname()[1]}")

    def test_sockets_never_block(self) -> None:
        """The reactor must never wait in one."""
        self.assertEqual(
            [sock.getblocking() for sock in self.bind(tcp_listener(), udp_listener())], [False, False]
        )

    def test_datagrams_have_room_to_wait(self) -> None:
        """The receive buffer is larger than the system's own; TCP's is left to the system, which lets it grow."""
        for kind, listener, larger in (
            (socket.SOCK_DGRAM, udp_listener(), True),
            (socket.SOCK_STREAM, tcp_listener(), False),
        ):
            with socket.socket(socket.AF_INET, kind) as plain:
                default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            (sock,) = self.bind(listener)

            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > default, larger)

    def test_root_has_as_much_room_as_it_asks_for(self) -> None:
        """Above the system's limit, where that is lower."""
        if os.geteuid() != 0 or not LINUX:
            raise SkipTest("needs root, on Linux")
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
        (sock,) = self.bind(udp_listener(receive_buffer=4 * limit))

        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 8 * limit)

    def room_asked_for(self, size: int) -> list[int]:
        """Open a socket as a user who may not pass the limit; return how its room was asked for."""
        asked: list[int] = []

        class Ordinary(socket.socket):
            def setsockopt(self, level: int, option: int, *value: Any) -> None:
                if option in (socket.SO_RCVBUF, SO_RCVBUFFORCE):
                    asked.append(option)
                if option == SO_RCVBUFFORCE:
                    raise PermissionError(errno.EPERM, "no")
                super().setsockopt(level, option, *value)

        self.patch(socket, "socket", Ordinary)
        self.bind(udp_listener(receive_buffer=size))
        return asked

    def test_others_have_what_the_system_allows(self) -> None:
        """Being refused more is no error: the service says so when it starts."""
        self.patch(sockets, "LINUX", True)

        self.assertEqual(self.room_asked_for(2**30), [socket.SO_RCVBUF, SO_RCVBUFFORCE])

    def test_nobody_asks_for_more_than_is_needed(self) -> None:
        """Where it was granted already, and on systems that know no other way."""
        self.assertEqual(self.room_asked_for(4096), [socket.SO_RCVBUF])
        self.patch(sockets, "LINUX", False)
        self.assertEqual(self.room_asked_for(2**30), [socket.SO_RCVBUF])

    def test_as_many_connections_wait_as_the_backlog_says(self) -> None:
        """It is what the system is told."""
        told: list[int] = []

        class Listening(socket.socket):
            def listen(self, backlog: int = 0) -> None:
                told.append(backlog)
                super().listen(backlog)

        self.patch(socket, "socket", Listening)
        self.bind(tcp_listener(backlog=7), udp_listener(backlog=7))

        self.assertEqual(told, [7])

    def test_a_restart_finds_its_port_free(self) -> None:
        """While connections of the last run are in TIME_WAIT."""
        (first,) = self.bind(tcp_listener(interface=ALONE))
        port = first.getsockname()[1]
        client = socket.create_connection(first.getsockname())
        self.addCleanup(client.close)
        accepted, _ = first.accept()
        accepted.close()  # first: so that the wait is on this side
        client.close()
        first.close()

        self.assertEqual(self.bind(tcp_listener(port, ALONE))[0].getsockname()[1], port)

    def test_the_number_is_the_one_given(self) -> None:
        """Not the description's own: that may be 0."""
        settings = tcp_listener(interface=ALONE)
        (taken,) = self.bind(udp_listener(interface=ALONE))
        port = taken.getsockname()[1]
        assert isinstance(settings.place, Internet)
        sock = open_socket(settings, settings.place, port)
        self.addCleanup(sock.close)

        self.assertEqual(sock.getsockname(), (ALONE, port))

    def test_two_services_cannot_share_a_udp_port(self) -> None:
        """SO_REUSEADDR on UDP would let the kernel split one port's datagrams between two services."""
        (first,) = self.bind(udp_listener())

        self.assertIsInstance(self.fails(udp_listener(port=first.getsockname()[1])), PortInUse)


class OpenedTests(SocketCase):
    """What was opened, of every kind, in the order in which it was asked for."""

    def test_every_kind(self) -> None:
        """A place that Twisted opens has no socket yet, and a UNIX socket has its file."""
        path = str(self.folder() / "echo")
        wanted = [
            udp_listener(),
            ListenerSettings(protocol="echo", place=Foreign("tcp6:0")),
            unix_listener(path),
            tcp_listener(),
        ]
        opened = open_all(wanted)
        for each in opened:
            self.addCleanup(each.close)

        self.assertEqual([each.settings for each in opened], wanted)
        self.assertEqual([each.sock is None for each in opened], [False, True, False, False])
        self.assertEqual([each.file is None for each in opened], [True, True, False, True])

    def test_closing(self) -> None:
        """Nothing is open afterwards, and no file is left."""
        path = str(self.folder() / "echo")
        before = open_descriptors()
        for each in open_all([tcp_listener(), unix_listener(path, lockfile=True)]):
            each.close()
        Opened(tcp_listener(), None).close()

        self.assertEqual(open_descriptors(), before)
        self.assertFalse(Path(path).exists())

    def test_closing_removes_no_other_socket(self) -> None:
        """Not even one whose file got the number of ours, which is free as soon as our socket is closed."""
        path = str(self.folder() / "echo")
        (opened,) = open_all([unix_listener(path)])
        Path(path).unlink()
        close = socket.socket.close

        def close_and_come_next(sock: socket.socket) -> None:
            close(sock)
            with socket.socket(socket.AF_UNIX) as other:
                if not Path(path).exists():
                    other.bind(path)
                close(other)

        self.patch(socket.socket, "close", close_and_come_next)
        opened.close()

        self.assertTrue(Path(path).exists())


class RefusalTests(SocketCase):
    """What cannot be opened is said in one line that names the option and the way out."""

    def test_port_in_use(self) -> None:
        """The line names option, address and what to do; what was opened before is closed again."""
        (first,) = self.bind(tcp_listener())
        port = first.getsockname()[1]
        error = self.fails(udp_listener(port=port), tcp_listener(port=port))

        self.assertIsInstance(error, PortInUse)
        self.assertEqual(error.exit_code, ExitCode.UNAVAILABLE)
        self.assertEqual(
            f"--port {port}: TCP 127.0.0.1:{port}: already in use; stop what listens there (`ss -lntp` shows it)"
            " or choose another port, 0 for any free one",
            str(error),
        )

    def test_port_in_use_on_ipv6_alone(self) -> None:
        """Serving IPv4 in place of every address would not be what was asked for."""
        family_of("::")
        (first,) = self.bind(tcp_listener(interface="::"))

        self.assertIsInstance(self.fails(tcp_listener(first.getsockname()[1], "")), PortInUse)

    def test_gives_up_when_no_number_is_free_for_both(self) -> None:
        """The search for a free number ends."""
        self.break_bind(errno.EADDRINUSE)

        self.assertIsInstance(self.fails(tcp_listener(), udp_listener()), PortInUse)

    def test_the_way_out_fits_the_transport(self) -> None:
        """`ss -lntp` shows who has a TCP port, `ss -lnup` who has a UDP one."""
        for listener, option in ((tcp_listener, "t"), (udp_listener, "u")):
            (first,) = self.bind(listener())
            error = self.fails(listener(first.getsockname()[1]))

            self.assertIn(f"(`ss -ln{option}p` shows it)", str(error))

    def test_port_that_needs_privileges(self) -> None:
        """Port 7 as an ordinary user: permission, with the way to get it."""
        self.break_bind(errno.EACCES)
        error = self.fails(tcp_listener(port=7, interface=""))

        self.assertIsInstance(error, ListenNotPermitted)
        self.assertEqual(error.exit_code, ExitCode.PERMISSION)
        self.assertEqual(
            "--port 7: TCP *:7: not permitted; ports below 1024 need root (twistd --uid drops it again) or"
            " CAP_NET_BIND_SERVICE; or choose a port from 1024 on",
            str(error),
        )

    def test_address_of_another_machine(self) -> None:
        """An address that is not ours is named with the option that gave it."""
        error = self.fails(tcp_listener(interface="203.0.113.9"))

        self.assertIsInstance(error, AddressNotAvailable)
        self.assertEqual(error.exit_code, ExitCode.SYSTEM)
        self.assertIn("--interface 203.0.113.9:", str(error))

    def test_address_of_another_machine_in_an_endpoint(self) -> None:
        """There the endpoint is what is wrong."""
        error = self.fails(tcp_listener(interface="203.0.113.9", origin="--listen echo=tcp:0"))

        self.assertTrue(
            str(error).startswith(
                "--listen echo=tcp:0: TCP 203.0.113.9:0: Cannot assign requested address; give"
            )
        )

    def test_every_address_where_there_is_none(self) -> None:
        """A machine without IPv6 and IPv4 says so of both."""
        self.break_bind(errno.EADDRNOTAVAIL)
        error = self.fails(tcp_listener(port=8007, interface=""))

        self.assertIn("--interface *: TCP *:8007: ", str(error))

    def test_link_that_does_not_exist(self) -> None:
        """A link-local address on a link that is not there."""
        family_of("::")
        error = self.fails(udp_listener(interface="fe80::1%nosuch0"))

        self.assertIsInstance(error, AddressNotAvailable)
        self.assertEqual(
            error.problem,
            "no such network interface; give an address of this machine (`ip address` lists them)",
        )

    def test_anything_else_the_system_says(self) -> None:
        """Out of descriptors, say: the system's own words, with the option."""
        self.break_bind(errno.EMFILE)
        error = self.fails(tcp_listener(port=8007))

        self.assertEqual(error.exit_code, ExitCode.SYSTEM)
        self.assertEqual(str(error), f"--port 8007: TCP 127.0.0.1:8007: {os.strerror(errno.EMFILE)}")

    def test_port_seven_as_root(self) -> None:
        """Nothing but the right to it stands between root and port 7."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        try:
            self.bind(udp_listener(port=7))
        except PortInUse:
            raise SkipTest("port 7 is in use") from None
