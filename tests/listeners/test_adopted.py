"""Tests of the options that a socket from a service manager brings along, with real sockets."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from echosvc.admission import Gate, Limits, Screens
from echosvc.listeners import adopted, inherited
from echosvc.listeners.listener import Listener
from echosvc.listeners.opening import open_listeners, succeed
from echosvc.listeners.settings import BACKLOG
from echosvc.transports.linux import LINUX, SOL_UDP, UDP_GRO, UDP_SEGMENT
from tests.doubles import FakeReactor
from tests.listeners.cases import inherited_listener
from tests.listeners.test_inherited import InheritedCase
from tests.machine import FAMILIES

IP, IPV6, TCP, SO = socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP, socket.SOL_SOCKET
SO_LINGER = struct.pack("@ii", 1, 5)

#: By name: level, number, and a value other than that of a new socket. For datagrams, for streams, and for either.
DATAGRAM = {
    "SO_BROADCAST": (SO, 6, 1),
    "SO_TIMESTAMP": (SO, 29, 1),
    "SO_TIMESTAMPNS": (SO, 35, 1),
    "SO_RXQ_OVFL": (SO, 40, 1),
    "SO_WIFI_STATUS": (SO, 41, 1),
    "SO_TIMESTAMP_NEW": (SO, 63, 1),
    "SO_TIMESTAMPNS_NEW": (SO, 64, 1),
    "SO_RCVMARK": (SO, 75, 1),
    "SO_RCVPRIORITY": (SO, 82, 1),
    "IP_RECVOPTS": (IP, 6, 1),
    "IP_RETOPTS": (IP, 7, 1),
    "IP_RECVTTL": (IP, 12, 1),
    "IP_RECVTOS": (IP, 13, 1),
    "IP_PASSSEC": (IP, 18, 1),
    "IP_RECVORIGDSTADDR": (IP, 20, 1),
    "IP_CHECKSUM": (IP, 23, 1),
    "IP_RECVFRAGSIZE": (IP, 25, 1),
    "UDP_CORK": (SOL_UDP, 1, 1),
    "UDP_ENCAP": (SOL_UDP, 100, 2),
    "UDP_SEGMENT": (SOL_UDP, UDP_SEGMENT, 2),
    "UDP_GRO": (SOL_UDP, UDP_GRO, 1),
}
DATAGRAM_IPV6 = {
    "IP_PKTINFO": (IP, 8, 1),
    "IPV6_2292PKTINFO": (IPV6, 2, 1),
    "IPV6_2292HOPOPTS": (IPV6, 3, 1),
    "IPV6_2292DSTOPTS": (IPV6, 4, 1),
    "IPV6_2292RTHDR": (IPV6, 5, 1),
    "IPV6_2292HOPLIMIT": (IPV6, 8, 1),
    "IPV6_FLOWINFO": (IPV6, 11, 1),
    "IPV6_RECVHOPLIMIT": (IPV6, 51, 1),
    "IPV6_RECVHOPOPTS": (IPV6, 53, 1),
    "IPV6_RECVRTHDR": (IPV6, 56, 1),
    "IPV6_RECVDSTOPTS": (IPV6, 58, 1),
    "IPV6_RECVPATHMTU": (IPV6, 60, 1),
    "IPV6_RECVTCLASS": (IPV6, 66, 1),
    "IPV6_RECVORIGDSTADDR": (IPV6, 74, 1),
    "IPV6_RECVFRAGSIZE": (IPV6, 77, 1),
}
EITHER = {
    "SO_TIMESTAMPING": (SO, 37, 26),  # TX and RX by software, and reported
    "IP_RECVERR": (IP, 11, 1),
    "IP_RECVERR_RFC4884": (IP, 26, 1),
}
EITHER_IPV6 = {"IPV6_RECVERR": (IPV6, 25, 1), "IPV6_RECVERR_RFC4884": (IPV6, 31, 1)}
STREAM: dict[str, tuple[int, int, Any]] = {
    "SO_OOBINLINE": (SO, 10, 1),
    "SO_LINGER": (SO, socket.SO_LINGER, SO_LINGER),
    "SO_RCVLOWAT": (SO, 18, 100),
    "TCP_CORK": (TCP, 3, 1),
}

#: How packets travel: for either type, for streams, and for one family.
RESPECTED: dict[str, tuple[int, int, Any]] = {
    "SO_DONTROUTE": (SO, 5, 1),
    "SO_SNDBUF": (SO, 7, 9216),
    "SO_KEEPALIVE": (SO, 9, 1),
    "SO_PRIORITY": (SO, 12, 4),
    "SO_RCVTIMEO": (SO, 20, struct.pack("@ll", 1, 0)),
    "SO_SNDTIMEO": (SO, 21, struct.pack("@ll", 1, 0)),
    "SO_MARK": (SO, 36, 7),
    "SO_BUSY_POLL": (SO, 46, 20),
    "SO_MAX_PACING_RATE": (SO, 47, 10**9),
    "IP_TOS": (IP, 1, 0x10),
    "IP_TTL": (IP, 2, 99),
    "IP_MTU_DISCOVER": (IP, 10, 3),
    "IP_FREEBIND": (IP, 15, 1),
    "IP_TRANSPARENT": (IP, 19, 1),
    "IP_MINTTL": (IP, 21, 2),
}
RESPECTED_STREAM: dict[str, tuple[int, int, Any]] = {
    "TCP_MAXSEG": (TCP, 2, 1000),
    "TCP_KEEPIDLE": (TCP, 4, 77),
    "TCP_LINGER2": (TCP, 8, 20),
    "TCP_DEFER_ACCEPT": (TCP, 9, 3),
    "TCP_CONGESTION": (TCP, 13, b"reno"),
    "TCP_USER_TIMEOUT": (TCP, 18, 9000),
    "TCP_FASTOPEN": (TCP, 23, 10),
}
RESPECTED_IPV6: dict[str, tuple[int, int, Any]] = {
    "IPV6_UNICAST_HOPS": (IPV6, 16, 99),
    "IPV6_TCLASS": (IPV6, 67, 0x10),
}


class OptionCase(InheritedCase):
    """Makes sockets of either type and family."""

    def setUp(self) -> None:
        """Skip where the numbers mean something else."""
        super().setUp()
        if not LINUX:
            raise SkipTest("needs Linux")
        self.reactor = FakeReactor()

    def sock(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """Make a bound socket that listens if it is a stream, as a service manager does."""
        sock = socket.socket(family, kind)
        self.addCleanup(sock.close)
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen(7)
        return sock

    def pass_on(self, sock: socket.socket) -> None:
        """Have one socket passed, under the name echo."""
        self.patch(inherited, "_passed", [("echo", sock.fileno())])

    def serve(self, sock: socket.socket) -> Listener:
        """Start a listener on a socket."""
        self.pass_on(sock)
        (listener,) = open_listeners([inherited_listener("echo")], self.reactor)
        assert isinstance(listener, Listener)
        self.addCleanup(self.reactor.advance, 0)
        self.addCleanup(listener.stop)
        listener.start(self.reactor, Screens([]), Gate(Limits(), self.reactor))
        return listener

    def differing(self, sock: socket.socket, options: dict[str, tuple[int, int, Any]]) -> dict[str, Any]:
        """Set those of some options that the system knows and allows; return what they are then."""
        found = []
        for name, (level, number, value) in options.items():
            with contextlib.suppress(OSError):
                before = read(sock, level, number)
                sock.setsockopt(level, number, value)
                self.assertNotEqual(before, read(sock, level, number), name)
                found.append(name)
        self.assertTrue(found)
        return {name: read(sock, *options[name][:2]) for name in found}  # one may have changed another

    def every_socket(self, check: Callable[[socket.socket, bool, bool], None]) -> None:
        """Check each type and family."""
        for family in FAMILIES:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                check(self.sock(family, kind), kind == socket.SOCK_STREAM, family == socket.AF_INET6)


def read(sock: socket.socket, level: int, number: int) -> bytes:
    """Read an option, whatever its type is."""
    return sock.getsockopt(level, number, 16)


def ours(*, stream: bool, ipv6: bool) -> dict[str, tuple[int, int, Any]]:
    """Every option that is set on a socket of a kind."""
    return (
        EITHER
        | (STREAM if stream else DATAGRAM)
        | (EITHER_IPV6 if ipv6 else {})
        | (DATAGRAM_IPV6 if ipv6 and not stream else {})
    )


class SetOptionTests(OptionCase):
    """What changes what is read, sent or waited for is as on a socket of our own."""

    def test_each(self) -> None:
        """Whatever a service manager has set is what it is on a new socket."""

        def check(sock: socket.socket, stream: bool, ipv6: bool) -> None:  # noqa: FBT001  # a callback
            options = ours(stream=stream, ipv6=ipv6)
            fresh = {
                name: read(sock, level, number)
                for name, (level, number, _) in options.items()
                if _known(sock, level, number)
            }
            found = self.differing(sock, options)
            self.pass_on(sock)
            (taken,) = self.adopt(name="echo")
            for name in found:
                level, number, _ = options[name]
                now = read(taken, level, number)
                self.assertEqual(fresh[name][:4], now[:4], name)  # SO_LINGER keeps its seconds, and is off

        self.every_socket(check)

    def test_connections_that_wait_already(self) -> None:
        """They have the listener's old options until they are accepted."""
        for family in FAMILIES:
            sock = self.sock(family, socket.SOCK_STREAM)
            options = ours(stream=True, ipv6=family == socket.AF_INET6)
            found = self.differing(sock, options)
            with socket.create_connection(sock.getsockname()[:2]):
                before = set(self.reactor.getReaders())
                self.serve(sock)
                (port,) = set(self.reactor.getReaders()) - before
                port.doRead()
                (connection,) = port.door.connections()
                self.addCleanup(connection.connectionLost, Failure(ConnectionDone()))
                accepted = connection.socket
                for name in found:
                    level, number, _ = options[name]
                    now = read(accepted, level, number)[:4]
                    self.assertEqual(int(name == "SO_RCVLOWAT"), int.from_bytes(now, "little"), name)

    def test_no_signal_tells_that_it_is_ready(self) -> None:
        """SIGIO would end the process."""
        for family, kind in ((FAMILIES[0], socket.SOCK_STREAM), (FAMILIES[-1], socket.SOCK_DGRAM)):
            sock = self.sock(family, kind)
            fcntl.fcntl(sock, fcntl.F_SETFL, fcntl.fcntl(sock, fcntl.F_GETFL) | os.O_ASYNC)
            self.pass_on(sock)
            self.adopt(name="echo")

            flags = fcntl.fcntl(sock, fcntl.F_GETFL)
            self.assertEqual((0, os.O_NONBLOCK), (flags & os.O_ASYNC, flags & os.O_NONBLOCK))

    def test_a_system_that_knows_none_of_them(self) -> None:
        """What is not known there is left out."""
        self.patch(adopted, "_DATAGRAM", ((SO, 9999),))
        self.pass_on(self.sock(socket.AF_INET, socket.SOCK_DGRAM))

        self.assertEqual(1, len(self.adopt(name="echo")))


class RespectedOptionTests(OptionCase):
    """What says how packets travel is the operator's."""

    def test_each(self) -> None:
        """It is after the service has begun what it was before."""

        def check(sock: socket.socket, stream: bool, ipv6: bool) -> None:  # noqa: FBT001  # a callback
            options = RESPECTED | (RESPECTED_STREAM if stream else {}) | (RESPECTED_IPV6 if ipv6 else {})
            found = self.differing(sock, options)
            self.serve(sock)
            for name, before in found.items():
                level, number, _ = options[name]
                self.assertEqual(before, read(sock, level, number), name)

        self.every_socket(check)

    def test_what_has_to_be_said_before_binding(self) -> None:
        """SO_REUSEPORT and IPV6_V6ONLY."""
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.setsockopt(SO, socket.SO_REUSEPORT, 1)
        sock.setsockopt(IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::", 0))
        listener = self.serve(sock)

        self.assertEqual(1, sock.getsockopt(SO, socket.SO_REUSEPORT))
        self.assertEqual(f"UDP [::]:{sock.getsockname()[1]}", listener.where)

    def test_unix_sockets(self) -> None:
        """They are served whatever they bring along; none of it reaches a connection or the way a datagram is read."""
        sock, client = self.datagrams(socket.AF_UNIX), self.datagrams(socket.AF_UNIX)
        for number, value in ((18, 1000), (16, 1), (29, 1), (34, 1), (socket.SO_LINGER, SO_LINGER)):
            sock.setsockopt(SO, number, value)  # SO_RCVLOWAT, SO_PASSCRED, SO_TIMESTAMP, SO_PASSSEC
        before = set(self.reactor.getReaders())
        self.serve(sock)
        (port,) = set(self.reactor.getReaders()) - before
        client.sendto(b"hello", sock.getsockname())
        port.doRead()
        client.settimeout(5)

        self.assertEqual(b"hello", client.recv(9))

    def test_a_backlog(self) -> None:
        """The service manager's holds, over a reload, too: `backlog` is for sockets that the service opens."""
        sock = self.sock(socket.AF_INET, socket.SOCK_STREAM)
        listener = self.serve(sock)
        after = succeed(listener, inherited_listener("echo", backlog=BACKLOG.default))
        self.addCleanup(after.retire)
        most_that_may_wait = struct.unpack("@28xI", sock.getsockopt(TCP, socket.TCP_INFO, 32))[0]

        self.assertEqual(7, most_that_may_wait)


class UnsuitableOptionTests(OptionCase):
    """Some sockets cannot be served in whatever way their options are set."""

    def says(self, sock: socket.socket, *words: str) -> None:
        """Expect a refusal with some words in it."""
        self.addCleanup(sock.close)
        self.pass_on(sock)
        problem = self.fails(name="echo").problem
        for each in words:
            self.assertIn(each, problem)

    def test_connected_datagram_sockets(self) -> None:
        """They hear of one peer alone."""
        one, other = (self.sock(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        one.connect(other.getsockname())
        self.says(one, f"connected to '127.0.0.1:{other.getsockname()[1]}'", "only bound")
        unix, peer = (self.datagrams(socket.AF_UNIX) for _ in range(2))
        unix.connect(peer.getsockname())
        self.says(unix, f"connected to {peer.getsockname()!r}")

    def test_without_an_address(self) -> None:
        """No client could reach them."""
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            self.says(socket.socket(family, socket.SOCK_DGRAM), "bound to no address")

    def test_shut_down(self) -> None:
        """They are ready for ever, which nothing undoes."""
        for sock in (self.sock(socket.AF_INET, socket.SOCK_DGRAM), self.datagrams(socket.AF_UNIX)):
            with contextlib.suppress(OSError):  # the kernel does it all the same
                sock.shutdown(socket.SHUT_RD)
            self.says(sock, "shut down")

    def test_of_another_protocol(self) -> None:
        """UDP-Lite and SCTP are of the same types."""
        for kind, number in ((socket.SOCK_DGRAM, 136), (socket.SOCK_STREAM, 132)):
            try:
                sock = socket.socket(socket.AF_INET, kind, number)
            except OSError:
                continue
            self.says(sock, f"protocol {number}", "TCP and UDP can")

    def test_an_error_that_waits_is_no_end(self) -> None:
        """A socket with an ICMP error in its queue is served, and the queue is emptied."""
        sock, gone = (self.sock(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        sock.setsockopt(IP, 11, 1)
        where = gone.getsockname()
        gone.close()
        sock.sendto(b"x", where)
        self.serve(sock)

        self.assertRaises(BlockingIOError, sock.recvmsg, 9, 100, socket.MSG_ERRQUEUE)


def _known(sock: socket.socket, level: int, number: int) -> bool:
    try:
        read(sock, level, number)
    except OSError:
        return False
    return True
