"""Tests of the way from settings to listeners: everything is opened, or nothing."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echosvc.errors import InvalidListener, ListenError, PortInUse
from echosvc.listeners import ListenerSettings, open_listeners, opening
from echosvc.listeners.foreign import ForeignListener
from echosvc.listeners.listener import Listener
from tests.listeners.cases import (
    FOREIGN,
    FOREIGN_HOST,
    inherited_listener,
    tcp_listener,
    udp_listener,
    unix_listener,
    unixgram_listener,
)
from tests.listeners.test_checking import NO_SUCH_FILE, PROXIES, OpeningCase


class OpenTests(OpeningCase):
    """Everything is opened, or nothing."""

    def open(self, *settings: ListenerSettings) -> Sequence[Listener | ForeignListener]:
        """Open listeners; they are stopped at the end."""
        listeners = open_listeners(settings, self.reactor)
        for each in listeners:
            self.addCleanup(self.reactor.advance, 0)
            self.addCleanup(each.stop)
        return listeners

    def fails(self, kind: Any, *settings: ListenerSettings) -> Any:
        """Expect that they cannot be opened, and that none stays open."""

        def open_and_wait() -> None:
            try:
                open_listeners(settings, self.reactor)
            finally:
                self.reactor.advance(0)  # Twisted's ports close in the next turn

        return self.refused(kind, open_and_wait)

    def test_every_kind(self) -> None:
        """In the order in which they were asked for."""
        folder = self.folder()
        self.pass_on(socket.SOCK_STREAM, socket.SOCK_DGRAM)
        settings = [
            self.foreign(),
            udp_listener(),
            inherited_listener("echo"),
            unix_listener(str(folder / "s")),
            tcp_listener(protocol="streamed"),
            unixgram_listener(str(folder / "d"), protocol="datagrams"),
        ]
        listeners = self.open(*settings)

        self.assertEqual(
            [settings[index] for index in (0, 1, 2, 2, 3, 4, 5)], [each.settings for each in listeners]
        )
        self.assertEqual(
            ["echo", "echo", "echo", "echo", "echo", "streamed", "datagrams"],
            [each.wire.name for each in listeners],
        )
        self.assertEqual(
            [True, False, False, False, False, False, False],
            [isinstance(each, ForeignListener) for each in listeners],
        )
        for path, kind in (("s", socket.SOCK_STREAM), ("d", socket.SOCK_DGRAM)):
            self.client(kind).connect(str(folder / path))
        for each in listeners:
            if each.port is not None and each.udp_port is None:
                host = FOREIGN_HOST if isinstance(each, ForeignListener) else "127.0.0.1"
                socket.create_connection((host, each.port), 5).close()

    def test_nothing(self) -> None:
        """No listeners are no mistake."""
        self.assertEqual([], self.open())

    def test_a_mistake_opens_nothing(self) -> None:
        """It is the first mistake that is raised; no socket was tried."""
        self.patch(socket, "socket", None)
        error = self.fails(
            InvalidListener,
            tcp_listener(),
            tcp_listener(protocol="one", origin="o"),
            tcp_listener(protocol="two"),
        )

        self.assertEqual("o: there is no protocol 'one'; `echosvc protocols` lists them", str(error))

    def test_one_that_cannot_be_opened(self) -> None:
        """Those before it are closed again, and their files removed."""
        path = self.folder() / "echo"
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.fails(
                PortInUse,
                udp_listener(),
                unix_listener(str(path), lockfile=True),
                tcp_listener(taken.getsockname()[1]),
            )

        self.assertFalse(path.exists())

    def test_a_foreign_endpoint_that_cannot_be_opened(self) -> None:
        """Twisted's endpoints come last: those of them that listen already are stopped, the rest is closed."""
        path = self.folder() / "echo"
        family = socket.AF_INET6 if ":" in FOREIGN_HOST else socket.AF_INET
        with socket.create_server((FOREIGN_HOST, 0), family=family) as taken:
            error = self.fails(
                ListenError,
                unix_listener(str(path)),
                self.foreign(),
                self.foreign(FOREIGN.replace(":0:", f":{taken.getsockname()[1]}:")),
                tcp_listener(),
            )

        self.assertIn("already in use; stop what listens there", str(error))
        self.assertEqual([], self.reactor.getReaders())
        self.assertFalse(path.exists())

    def test_inherited_sockets_of_the_wrong_kind(self) -> None:
        """Of which kind a socket is, is known only when it is there; then what it cannot do is refused."""
        for kinds, more, problem in (
            (
                [socket.SOCK_STREAM],
                {"protocol": "datagrams"},
                "datagrams has no stream form; it is spoken over udp and unixgram",
            ),
            (
                [socket.SOCK_STREAM, socket.SOCK_DGRAM],
                {"protocol": "streamed"},
                "streamed has no datagram form; it is spoken over tcp, unix and tls",
            ),
            (
                [socket.SOCK_DGRAM],
                {"proxy": PROXIES},
                "TLS and PROXY headers are for streams; this is for datagrams",
            ),
        ):
            self.pass_on(*kinds)
            error = self.fails(InvalidListener, inherited_listener("echo", **more))

            self.assertEqual(f"--listen x: {problem}", str(error))

    def test_inherited_port_with_a_proxy_that_is_nobody(self) -> None:
        """What would be enough on a UNIX socket refuses everybody on a port."""
        self.pass_on(socket.SOCK_STREAM)
        error = self.fails(InvalidListener, inherited_listener("echo", proxy=()))

        self.assertIn("proxy names nobody", str(error))

    def test_inherited_sockets_of_the_right_kind(self) -> None:
        """The same settings are good for the other kind."""
        self.pass_on(socket.SOCK_STREAM)
        (listener,) = self.open(inherited_listener("echo", protocol="streamed", proxy=PROXIES))

        self.assertTrue(str(listener).endswith(", PROXY from 10.0.0.0/8"), str(listener))

    def test_a_file_that_changes_between_check_and_opening(self) -> None:
        """Whenever it is that something cannot be used, nothing stays open."""
        path = str(self.folder() / "echo")
        checks: list[ListenerSettings] = []

        def check(settings: Sequence[ListenerSettings]) -> list[InvalidListener]:
            checks.extend(settings)
            return []

        self.patch(opening, "check_listeners", check)
        self.fails(InvalidListener, unix_listener(path), tcp_listener(tls=NO_SUCH_FILE))

        self.assertEqual(2, len(checks))
        self.assertFalse(Path(path).exists())
