"""Tests of listeners on sockets that a service manager has opened, of either kind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from echosvc.admission import Gate, Limits, Screens
from echosvc.errors import ListenError
from echosvc.listeners import inherited
from echosvc.listeners.listener import Listener
from echosvc.listeners.opening import open_listeners
from echosvc.listeners.sockets import open_all, where
from tests.doubles import FakeReactor
from tests.listeners.cases import ListenerCase, inherited_listener
from tests.listeners.test_inherited import InheritedCase
from tests.machine import open_descriptors

ROOT = Path(__file__).resolve().parent.parent.parent


class ServingTests(InheritedCase):
    """Either kind is served."""

    def setUp(self) -> None:
        """Make the reactor."""
        super().setUp()
        self.reactor = FakeReactor()

    def listeners(self, name: str) -> list[Listener]:
        """Open and start the listeners on sockets of a name."""
        listeners = open_listeners([inherited_listener(name)], self.reactor)
        for each in listeners:
            self.addCleanup(self.reactor.advance, 0)
            self.addCleanup(each.stop)
            each.start(self.reactor, Screens([]), Gate(Limits(), self.reactor))
        return [each for each in listeners if isinstance(each, Listener)]

    def serve(self, sock: socket.socket) -> Any:
        """Start a listener on one socket; return its port."""
        self.patch(inherited, "_passed", [("echo", sock.fileno())])
        before = set(self.reactor.getReaders())
        self.listeners(name="echo")
        (port,) = set(self.reactor.getReaders()) - before
        return port

    def test_one_listener_for_each_socket_of_a_name(self) -> None:
        """Streams and datagrams side by side, which is what one socket unit for echo would have."""
        stream, datagrams = self.stream(), self.datagrams()
        self.hand_over(stream, datagrams)
        self.announce(2, "echo:echo")
        listeners = self.listeners(name="echo")

        self.assertEqual([where(stream), where(datagrams)], [each.where for each in listeners])
        self.assertEqual([None, datagrams.getsockname()[1]], [each.udp_port for each in listeners])

    def test_blocking_datagram_sockets_do_not_block(self) -> None:
        """As systemd passes them; one would stop the whole reactor after its first datagram."""
        for family in (socket.AF_INET, socket.AF_UNIX):
            datagrams = self.datagrams(family)
            self.assertTrue(datagrams.getblocking())
            port = self.serve(datagrams)
            client = self.datagrams(family)
            client.settimeout(5)
            client.sendto(b"hello", datagrams.getsockname())
            port.doRead()

            self.assertEqual(b"hello", client.recv(9))
            self.assertFalse(os.get_blocking(datagrams.fileno()))

    def test_blocking_stream_sockets_do_not_block(self) -> None:
        """A reactor that is told of a connection that is gone already must not wait for the next."""
        stream = self.stream()
        self.assertTrue(os.get_blocking(stream.fileno()))
        port = self.serve(stream)

        self.assertFalse(os.get_blocking(stream.fileno()))
        port.doRead()

    def test_datagrams_have_room_to_wait(self) -> None:
        """As much as a socket of our own would; a UNIX socket's room is its sender's."""
        for family, grown in ((socket.AF_INET, True), (socket.AF_UNIX, False)):
            datagrams = self.datagrams(family)
            before = datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.patch(inherited, "_passed", [("echo", datagrams.fileno())])
            for each in open_all([inherited_listener(name="echo", receive_buffer=before)]):
                each.close()

            after = datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertEqual(grown, after > before)

    def test_one_socket_by_its_name_and_by_its_number(self) -> None:
        """Each of the two would get a part of the clients: the second is refused, and a second try of the first is not."""
        self.hand_over(self.stream(), self.stream())
        self.announce(2, "echo:other")
        inherited.remember()
        before = open_descriptors()
        twice = [inherited_listener(name="echo", origin="one"), inherited_listener(index=0, origin="two")]
        error = self.assertRaises(ListenError, open_all, twice)

        self.assertEqual(before, open_descriptors())
        self.assertEqual(
            "two: systemd:index=0: the socket is already taken by one; leave out one of the two", str(error)
        )
        for each in open_all([twice[0], inherited_listener(index=1)]):
            each.close()

    def test_nothing_is_left_open_when_a_later_one_fails(self) -> None:
        """The copies are closed again; what was passed is not."""
        self.hand_over(self.stream())
        self.announce(1, "echo")
        inherited.remember()
        before = open_descriptors()
        self.assertRaises(
            ListenError, open_all, [inherited_listener(name="echo"), inherited_listener(name="no")]
        )

        self.assertEqual(before, open_descriptors())
        self.assertEqual(1, len(self.adopt(name="echo")))


class ProcessTests(ListenerCase):
    """A process of its own, to which descriptor 3 is passed."""

    PROGRAM = """
import os, socket, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
from echosvc.listeners import Inherited, inherited, parse_endpoint
assert "twisted.internet.endpoints" not in sys.modules
parse_endpoint("tcp6:0")
import twisted.internet.endpoints
(sock,) = inherited.adopt(Inherited(**eval(sys.argv[2])), "test", {})
print(sock.getsockname()[1], os.get_inheritable(3), [name for name in os.environ if "LISTEN" in name])
"""

    def test_ours_comes_before_twisteds(self) -> None:
        """Twisted's endpoints take the sockets out of the environment; the import that brings them comes later."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            for which, more in (
                ("{'name': 'echo'}", {"LISTEN_FDNAMES": "echo"}),
                ("{'index': 0}", {}),  # Twisted alone would find nothing
            ):
                done = subprocess.run(
                    [sys.executable, "-c", self.PROGRAM, str(sock.fileno()), which],
                    cwd=ROOT,
                    env={**os.environ, "LISTEN_FDS": "1", **more},
                    pass_fds=[sock.fileno()],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )

                self.assertEqual(f"{sock.getsockname()[1]} False []\n", done.stdout, done.stderr)
