"""Tests of sockets that a service manager has opened and passes on."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from unittest import mock

from twisted.internet import endpoints
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SkipTest

from echosvc.errors import ListenError
from echosvc.listeners import Inherited, inherited
from echosvc.transports.linux import LINUX
from tests.listeners.cases import ListenerCase
from tests.machine import OTHER_LOOPBACK

#: Where passed descriptors begin in these tests: above whatever the test runner has open.
START = 200


class InheritedCase(ListenerCase):
    """Passes sockets to this process, as if a service manager had."""

    def setUp(self) -> None:
        """Forget what was passed to the test runner, if anything was."""
        self.patch(inherited, "_passed", None)
        self.patch(inherited, "_START", START)
        environment = mock.patch.dict(os.environ)
        environment.start()
        self.addCleanup(environment.stop)
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)

    def hand_over(self, *sockets: socket.socket | int) -> None:
        """Lay descriptors where a service manager puts them, and keep nothing of our own."""
        for number, sock in enumerate(sockets, START):
            descriptor = sock if isinstance(sock, int) else sock.fileno()
            self.assertEqual(number, fcntl.fcntl(descriptor, fcntl.F_DUPFD, number))
            os.set_inheritable(number, True)
            self.addCleanup(os.close, number)

    def announce(self, count: int | str, names: str | None = None, pid: int | None = None) -> None:
        """Say in the environment what was passed."""
        os.environ["LISTEN_PID"] = str(os.getpid() if pid is None else pid)
        os.environ["LISTEN_FDS"] = str(count)
        if names is not None:
            os.environ["LISTEN_FDNAMES"] = names

    def stream(self, host: str = "127.0.0.1") -> socket.socket:
        """Make a listening TCP socket."""
        sock = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.addCleanup(sock.close)
        return sock

    def datagrams(self, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Make a bound datagram socket."""
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(str(self.folder() / "d") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        return sock

    def adopt(self, name: str | None = None, index: int | None = None) -> list[socket.socket]:
        """Take sockets; they are closed at the end."""
        taken = inherited.adopt(Inherited(name, index), "--listen x", {})
        for sock in taken:
            self.addCleanup(sock.close)
        return taken

    def names(self, *taken: socket.socket) -> list[object]:
        """Tell where sockets are bound."""
        return [each.getsockname() for each in taken]

    def fails(self, name: str | None = None, index: int | None = None) -> ListenError:
        """Expect that they cannot be had, and that nothing is left open."""
        error = self.refused(ListenError, inherited.adopt, Inherited(name, index), "--listen x", {})
        assert isinstance(error, ListenError)
        return error


class AdoptingTests(InheritedCase):
    """Which socket is meant."""

    def setUp(self) -> None:
        """Pass three sockets, two of them with the same name."""
        super().setUp()
        self.sockets = [self.stream(), self.datagrams(), self.stream(OTHER_LOOPBACK)]
        self.hand_over(*self.sockets)

    def test_by_name(self) -> None:
        """All that have it, in their order: a socket unit may have several of either kind, and all are served."""
        self.announce(3, "echo:other:echo")

        self.assertEqual(self.names(self.sockets[0], self.sockets[2]), self.names(*self.adopt(name="echo")))
        self.assertEqual(self.names(self.sockets[1]), self.names(*self.adopt(name="other")))

    def test_by_number(self) -> None:
        """From 0, whatever their names."""
        self.announce(3, "echo:other:echo")

        for index, sock in enumerate(self.sockets):
            self.assertEqual(self.names(sock), self.names(*self.adopt(index=index)))

    def test_without_names(self) -> None:
        """As systemd-socket-activate passes them."""
        self.announce(3)

        self.assertEqual(self.names(self.sockets[2]), self.names(*self.adopt(index=2)))
        self.assertEqual(
            "no such socket was passed; there are: 0 (no name), 1 (no name), 2 (no name)",
            self.fails(name="echo").problem,
        )

    def test_with_fewer_names_than_sockets(self) -> None:
        """The rest have none."""
        self.announce(3, "echo")

        self.assertEqual(self.names(self.sockets[0]), self.names(*self.adopt(name="echo")))
        self.assertIn("0 echo, 1 (no name), 2 (no name)", str(self.fails(index=3)))

    def test_with_more_names_than_sockets(self) -> None:
        """They mean nothing."""
        self.announce(1, "echo:other")

        self.assertEqual("no such socket was passed; there are: 0 echo", self.fails(name="other").problem)

    def test_again(self) -> None:
        """What is closed is a copy: a second try, or a second listener, finds the same sockets."""
        self.announce(3, "echo:other:echo")
        for sock in self.adopt(name="echo"):
            sock.close()

        self.assertEqual(self.names(self.sockets[0]), self.names(*self.adopt(index=0)))

    def test_the_environment_is_read_once_and_cleaned(self) -> None:
        """What we start later must not take our sockets for its own: neither by the variables nor by inheritance."""
        self.announce(3, "echo:other:echo")
        inherited.remember()
        inherited.remember()

        self.assertEqual([], [name for name in os.environ if name.startswith("LISTEN_")])
        self.assertEqual([False] * 3, [os.get_inheritable(START + index) for index in range(3)])
        self.assertEqual([False], [os.get_inheritable(sock.fileno()) for sock in self.adopt(name="other")])


class AnnouncementTests(InheritedCase):
    """What the environment may say."""

    NONE = (
        "no socket was passed to this process; start it by a socket unit (or systemd-socket-activate), and"
        " twistd with -n"
    )

    def test_nothing(self) -> None:
        """The error names what was asked for, and how it comes to be passed."""
        self.assertEqual(f"--listen x: systemd:name=echo: {self.NONE}", str(self.fails(name="echo")))
        self.assertEqual(f"--listen x: systemd:index=0: {self.NONE}", str(self.fails(index=0)))

    def test_for_somebody_else(self) -> None:
        """Variables that were meant for another process are left alone: it may be one that we start."""
        self.hand_over(self.stream())
        self.announce(1, "echo", pid=os.getpid() + 1)

        self.assertEqual(self.NONE, self.fails(name="echo").problem)
        self.assertEqual("echo", os.environ["LISTEN_FDNAMES"])
        self.assertTrue(os.get_inheritable(START))

    def test_no_number(self) -> None:
        """What cannot be read passes nothing."""
        for count in ("", "x", "-1", "0"):
            self.patch(inherited, "_passed", None)
            self.announce(count, "echo")

            self.assertEqual(self.NONE, self.fails(name="echo").problem)
        self.patch(inherited, "_passed", None)
        self.announce(1)
        del os.environ["LISTEN_FDS"]
        self.assertEqual(self.NONE, self.fails(index=0).problem)

    def test_more_than_there_are(self) -> None:
        """A descriptor that is not open is named, and the others can be had."""
        sock = self.stream()
        self.hand_over(sock)
        self.announce(2, "echo:gone")

        self.assertEqual(self.names(sock), self.names(*self.adopt(name="echo")))
        self.assertEqual(
            f"descriptor {START + 1} is no socket (Bad file descriptor)", self.fails(name="gone").problem
        )

    def test_what_twisted_has_read(self) -> None:
        """Where its endpoints were imported first, it has taken the sockets out of the environment, and is asked."""
        sock = self.stream()
        self.hand_over(sock)
        self.announce(1, "echo")
        read = ListenFDs.fromEnvironment(start=START)
        self.patch(endpoints._SystemdParser, "_sddaemon", read)

        self.assertNotIn("LISTEN_PID", os.environ)
        self.assertEqual(self.names(sock), self.names(*self.adopt(name="echo")))
        self.assertFalse(os.get_inheritable(START))

    def test_twisted_was_not_imported(self) -> None:
        """Then it has read nothing either."""
        with mock.patch.dict(sys.modules):
            del sys.modules["twisted.internet.endpoints"]

            self.assertEqual(self.NONE, self.fails(index=0).problem)


class UnsuitableTests(InheritedCase):
    """What is passed may be something else."""

    def test_no_socket(self) -> None:
        """A file, say, or a FIFO."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        self.hand_over(reading)
        os.close(reading)
        self.announce(1, "echo")

        self.assertEqual(
            f"--listen x: systemd:name=echo: descriptor {START} is no socket"
            " (Socket operation on non-socket)",
            str(self.fails(name="echo")),
        )

    def test_a_connection(self) -> None:
        """As a socket unit with Accept=yes passes one."""
        listening = self.stream()
        client = socket.create_connection(listening.getsockname())
        self.addCleanup(client.close)
        self.hand_over(client)
        self.announce(1, "echo")

        self.assertEqual(
            "it is a connection, not a listening socket; the socket unit needs Accept=no",
            self.fails(index=0).problem,
        )

    def test_a_kind_that_cannot_be_served(self) -> None:
        """By type or by family, in words that a socket unit's author knows."""
        sequenced = self.client(socket.SOCK_SEQPACKET)
        self.hand_over(sequenced)
        self.announce(1, "echo")

        self.assertEqual(
            "a socket of family AF_UNIX and type SOCK_SEQPACKET cannot be served", self.fails(index=0).problem
        )

    def test_a_family_that_cannot_be_served(self) -> None:
        """The kernel's own, for example."""
        if not LINUX:
            raise SkipTest("needs Linux")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE) as kernel:
            self.hand_over(kernel)
        self.announce(1)

        self.assertEqual(
            "a socket of family AF_NETLINK and type SOCK_DGRAM cannot be served", self.fails(index=0).problem
        )

    def test_the_second_of_a_name(self) -> None:
        """The first is not served without it: all or nothing."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        self.hand_over(self.stream(), reading)
        os.close(reading)
        self.announce(2, "echo:echo")

        self.assertIn(f"descriptor {START + 1} is no socket", str(self.fails(name="echo")))
