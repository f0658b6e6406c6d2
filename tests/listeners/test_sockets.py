"""Tests of how sockets are opened, and of what is said when one cannot be."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.errors import AddressNotAvailable, ExitCode, ListenError, ListenNotPermitted, PortInUse
from echosvc.listeners import ListenerSettings
from echosvc.listeners.sockets import bind_all, where


def tcp(port: int = 0, interface: str = "127.0.0.1", **more: Any) -> ListenerSettings:
    """Describe a TCP listener."""
    return ListenerSettings(
        protocol="echo", transport="tcp", port=port, interface=interface, origin=f"--port {port}", **more
    )


def udp(port: int = 0, interface: str = "127.0.0.1", **more: Any) -> ListenerSettings:
    """Describe a UDP listener."""
    return ListenerSettings(
        protocol="echo", transport="udp", port=port, interface=interface, origin=f"--port {port}", **more
    )


class SocketCase(SynchronousTestCase):
    """Opens sockets and closes them."""

    def bind(self, *listeners: ListenerSettings) -> list[socket.socket]:
        """Open the sockets of some listeners."""
        opened = bind_all(listeners)
        for sock in opened:
            self.addCleanup(sock.close)
        return opened

    def fails(self, *listeners: ListenerSettings) -> ListenError:
        """Expect that they cannot be opened, and that none stays open."""
        before = len(list(Path("/dev/fd").iterdir()))
        error = self.assertRaises(ListenError, bind_all, listeners)
        self.assertEqual(len(list(Path("/dev/fd").iterdir())), before)
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
        opened = self.bind(tcp(), udp(), tcp(interface="::1"), udp(interface="::1"))

        self.assertEqual(len({sock.getsockname()[1] for sock in opened}), 1)

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
        stream, datagram = self.bind(tcp(), udp())

        self.assertEqual(len(refused), 3)
        self.assertEqual(stream.getsockname(), datagram.getsockname())

    def test_every_address_is_one_dual_stack_socket(self) -> None:
        """IPv4 and IPv6 clients reach the same socket."""
        (sock,) = self.bind(tcp(interface=""))
        port = sock.getsockname()[1]

        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 5).close()
        self.assertEqual(where(sock), f"TCP [::]:{port} (IPv6 and IPv4)")

    def test_every_address_is_ipv4_where_ipv6_is_missing(self) -> None:
        """A machine without IPv6 serves IPv4, and says so."""
        self.break_bind(errno.EADDRNOTAVAIL, socket.AF_INET6)
        (sock,) = self.bind(udp(interface=""))

        self.assertEqual(where(sock), f"UDP 0.0.0.0:{sock.getsockname()[1]}")

    def test_ipv6_wildcard_is_ipv6_alone(self) -> None:
        """`::` and `0.0.0.0` can be listened on side by side, each for its own family."""
        six, four = self.bind(tcp(interface="::"), tcp(interface="0.0.0.0"))

        self.assertEqual(six.getsockname()[1], four.getsockname()[1])
        self.assertEqual(where(six), f"TCP [::]:{six.getsockname()[1]}")

    def test_sockets_never_block(self) -> None:
        """The reactor must never wait in one."""
        self.assertEqual([sock.getblocking() for sock in self.bind(tcp(), udp())], [False, False])

    def test_datagrams_have_room_to_wait(self) -> None:
        """The receive buffer is larger than the system's own."""
        default = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(default.close)
        (sock,) = self.bind(udp())

        self.assertGreaterEqual(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
            default.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        )

    def test_two_services_cannot_share_a_udp_port(self) -> None:
        """SO_REUSEADDR on UDP would let the kernel split one port's datagrams between two services."""
        (first,) = self.bind(udp())

        self.assertIsInstance(self.fails(udp(port=first.getsockname()[1])), PortInUse)


class RefusalTests(SocketCase):
    """What cannot be opened is said in one line that names the option and the way out."""

    def test_port_in_use(self) -> None:
        """The line names option, address and what to do; what was opened before is closed again."""
        (first,) = self.bind(tcp())
        port = first.getsockname()[1]
        error = self.fails(udp(port=port), tcp(port=port))

        self.assertIsInstance(error, PortInUse)
        self.assertEqual(error.exit_code, ExitCode.UNAVAILABLE)
        self.assertIn(f"--port {port}: TCP 127.0.0.1:{port}: already in use;", str(error))
        self.assertIn("choose another port", str(error))

    def test_gives_up_when_no_number_is_free_for_both(self) -> None:
        """The search for a free number ends."""
        self.break_bind(errno.EADDRINUSE)

        self.assertIsInstance(self.fails(tcp(), udp()), PortInUse)

    def test_port_that_needs_privileges(self) -> None:
        """Port 7 as an ordinary user: permission, with the way to get it."""
        self.break_bind(errno.EACCES)
        error = self.fails(tcp(port=7, interface=""))

        self.assertIsInstance(error, ListenNotPermitted)
        self.assertEqual(error.exit_code, ExitCode.PERMISSION)
        self.assertIn("--port 7: TCP *:7: not permitted;", str(error))

    def test_address_of_another_machine(self) -> None:
        """An address that is not ours is named with the option that gave it."""
        error = self.fails(tcp(interface="203.0.113.9"))

        self.assertIsInstance(error, AddressNotAvailable)
        self.assertEqual(error.exit_code, ExitCode.SYSTEM)
        self.assertIn("--interface 203.0.113.9:", str(error))

    def test_link_that_does_not_exist(self) -> None:
        """A link-local address on a link that is not there."""
        error = self.fails(udp(interface="fe80::1%nosuch0"))

        self.assertIsInstance(error, AddressNotAvailable)
        self.assertIn("no such network interface", str(error))

    def test_anything_else_the_system_says(self) -> None:
        """Out of descriptors, say: the system's own words, with the option."""
        self.break_bind(errno.EMFILE)
        error = self.fails(tcp(port=8007))

        self.assertEqual(error.exit_code, ExitCode.SYSTEM)
        self.assertEqual(str(error), f"--port 8007: TCP 127.0.0.1:8007: {os.strerror(errno.EMFILE)}")

    def test_port_seven_as_root(self) -> None:
        """Nothing but the right to it stands between root and port 7."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        try:
            self.bind(udp(port=7))
        except PortInUse:
            raise SkipTest("port 7 is in use") from None
