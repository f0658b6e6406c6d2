"""Tests of answers over UNIX datagram sockets: they go to a socket of who has asked, and nowhere else."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.protocols import DatagramEcho
from echosvc.transports import UnixDatagramPort, unix_names, unixgram
from echosvc.transports.linux import LINUX, SCM_CREDENTIALS
from echosvc.transports.unix_names import UnixPeer, sender
from tests.certificates import folder_for
from tests.doubles import FakeReactor
from tests.machine import open_descriptors
from tests.transports.ports import Recorder

#: A user that is not the one who runs the tests.
ANOTHER = 12_345

#: Which names a socket may have by which it is answered, and which not.
FOREIGN = {"answer-to-foreign-path": 1}


class NameCase(SynchronousTestCase):
    """Opens a port, and clients that ask it."""

    def setUp(self) -> None:
        """Open a port that echoes."""
        if not LINUX:
            raise SkipTest("needs Linux")
        self.folder = Path(folder_for(self)).absolute()
        self.port = self.open_port(DatagramEcho())

    def open_port(self, protocol: Any) -> UnixDatagramPort:
        """Open a port."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = str(self.folder / f"s{id(protocol)}")
        sock.bind(self.address)
        port = UnixDatagramPort(sock, protocol, cast(Any, FakeReactor()))
        port.startListening()
        self.addCleanup(port.connectionLost)
        return port

    def client(self, name: Path | bytes | str) -> socket.socket:
        """Open a client's socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        sock.bind(name if isinstance(name, bytes) else str(name))
        return sock

    def ask(self, name: Path | bytes | str, text: bytes = b"?") -> socket.socket:
        """Ask in some name; nothing is read yet."""
        client = self.client(name)
        client.sendto(text, self.address)
        return client

    def nothing(self, sock: socket.socket) -> None:
        """Nothing has come in."""
        sock.setblocking(False)
        self.assertRaises(BlockingIOError, sock.recv, 9)


class AnswerTests(NameCase):
    """Where an answer goes."""

    def test_a_socket_of_the_sender(self) -> None:
        """By its path, also through links to its folder; and by an abstract name."""
        (self.folder / "a").mkdir()
        (self.folder / "b").symlink_to("a")
        names: list[Path | bytes] = [
            self.folder / "c",
            self.folder / "b" / "c",
            b"\0echosvc-test-%d" % os.getpid(),
        ]
        clients = [self.ask(name) for name in names]
        self.port.doRead()

        self.assertEqual([b"?"] * 3, [client.recv(9) for client in clients])
        self.assertEqual({}, self.port.drops)

    def test_many_of_them(self) -> None:
        """However many datagrams come in together; no descriptor is left."""
        self.port.doRead()
        before = open_descriptors()
        one, two = (self.client(self.folder / name) for name in ("1", "2"))
        for number in range(3):
            for client in (one, two):
                client.sendto(b"%d" % number, self.address)
        during = open_descriptors() - 2
        self.port.doRead()

        for client in (one, two):
            self.assertEqual([b"0", b"1", b"2"], [client.recv(9) for _ in range(3)])
        self.assertEqual((before, before), (during, open_descriptors() - 2))

    def test_a_relative_name(self) -> None:
        """It would lead to another socket from our own folder: it is never answered."""
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)
        client = self.ask("c")
        self.port.doRead()

        self.nothing(client)
        self.assertEqual({"answer-to-relative-path": 1}, self.port.drops)

    def test_a_link(self) -> None:
        """The sender's path has become a link to another socket by the time of the answer."""
        other = self.client(self.folder / "other")
        self.ask(self.folder / "c")
        (self.folder / "c").unlink()
        (self.folder / "c").symlink_to("other")
        self.port.doRead()

        self.nothing(other)
        self.assertEqual(FOREIGN, self.port.drops)

    def test_a_socket_of_another_user(self) -> None:
        """Its folder, or one above, has become a link to a folder of another user's."""
        if os.geteuid():
            raise SkipTest("needs root")
        (self.folder / "theirs").mkdir()
        other = self.client(self.folder / "theirs" / "c")
        os.chown(self.folder / "theirs" / "c", ANOTHER, ANOTHER)
        (self.folder / "mine").mkdir()
        self.ask(self.folder / "mine" / "c")
        (self.folder / "mine").rename(self.folder / "moved")
        (self.folder / "mine").symlink_to("theirs")
        self.port.doRead()

        self.nothing(other)
        self.assertEqual(FOREIGN, self.port.drops)

    def test_no_socket(self) -> None:
        """A file, or nothing at all."""
        for put, drops in ((True, FOREIGN), (False, {"send-ENOENT": 1})):
            self.port.drops.clear()
            self.ask(self.folder / "c")
            (self.folder / "c").unlink()
            if put:
                (self.folder / "c").write_text("")
            self.port.doRead()
            (self.folder / "c").unlink(missing_ok=True)

            self.assertEqual(drops, self.port.drops)

    def test_without_proc(self) -> None:
        """In a chroot without /proc no path is answered; an abstract name is."""
        self.patch(unixgram, "can_answer_paths", lambda: False)
        self.port = self.open_port(DatagramEcho())
        path, name = self.ask(self.folder / "c"), self.ask(b"\0echosvc-test-%d" % os.getpid())
        self.port.doRead()

        self.assertEqual(b"?", name.recv(9))
        self.nothing(path)
        self.assertEqual({"answer-without-proc": 1}, self.port.drops)

    def test_later(self) -> None:
        """A protocol is told the user, and may answer when it likes: the same holds then."""
        recorder = Recorder()
        port = self.open_port(recorder)
        client = self.ask(self.folder / "c")
        port.doRead()
        ((_, peer),) = cast(Any, recorder.received)
        self.assertEqual((str(self.folder / "c"), os.getuid()), (peer, peer.uid))
        port.write(b"late", peer)
        self.assertEqual((b"late", 1, 4), (client.recv(9), port.datagrams_out, port.bytes_out))
        (self.folder / "c").rename(self.folder / "d")
        (self.folder / "c").symlink_to("d")
        port.write(b"later", peer)

        self.nothing(client)
        self.assertEqual(FOREIGN, port.drops)

    def test_a_name_of_the_protocols_own(self) -> None:
        """What no peer has chosen is sent to as it is."""
        client = self.client(self.folder / "c")
        (self.folder / "link").symlink_to("c")
        self.port.write(b"first", str(self.folder / "link"))

        self.assertEqual(b"first", client.recv(9))


class LookTests(NameCase):
    """Looking at what is at a path."""

    def test_what_cannot_be_looked_at(self) -> None:
        """The error is counted, and no descriptor is left."""
        self.ask(self.folder / "c")
        before = open_descriptors()

        def fail(_: int) -> os.stat_result:
            raise OSError(errno.EIO, "broken")

        self.patch(os, "fstat", fail)
        self.port.doRead()

        self.assertEqual({"send-EIO": 1}, self.port.drops)
        self.assertEqual(before, open_descriptors())


class SenderTests(SynchronousTestCase):
    """Which user has sent a datagram."""

    def user(self, process: int, uid: int, *, mapped: bool = False) -> int | None:
        """What is made of what the kernel says."""
        self.patch(unix_names, "_knows_all_users", lambda: not mapped)
        data = struct.pack("@iII", process, uid, 7)
        return sender([(1, 99, b""), (socket.SOL_SOCKET, SCM_CREDENTIALS, data)])

    def test_known(self) -> None:
        """Any user; also one whose process is in another namespace; also nobody, where there is such a user."""
        self.assertEqual([0, 5, 65_534], [self.user(1, 0), self.user(0, 5), self.user(1, 65_534)])

    def test_unknown(self) -> None:
        """One from another user namespace; one who sent before the kernel was asked; and where it tells nothing."""
        self.assertEqual([None] * 3, [self.user(1, 65_534, mapped=True), self.user(0, 65_534), sender([])])

    def test_all_users_are_known_unless_they_are_mapped(self) -> None:
        """As the kernel says of this process."""
        whole = Path("/proc/self/uid_map").exists() and os.getuid() == 0
        if whole and Path("/proc/self/uid_map").read_text().split()[2] == "4294967295":
            self.assertTrue(unix_names._knows_all_users())
        self.patch(Path, "read_text", lambda _: "0 100000 65536\n")
        self.assertFalse(unix_names._knows_all_users())

        def fail(_: Path) -> str:
            raise FileNotFoundError

        self.patch(Path, "read_text", fail)
        self.assertFalse(unix_names._knows_all_users())

    def test_an_unknown_user_has_no_path(self) -> None:
        """It is not answered, whoever owns what is there."""
        folder = folder_for(self)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(f"{folder}/c")

            self.assertEqual(
                unix_names.TO_FOREIGN_PATH, unix_names.open_socket_of(UnixPeer.of(f"{folder}/c", None))
            )
