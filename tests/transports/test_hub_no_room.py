"""Tests of the hub when the kernel cannot watch another descriptor."""

from __future__ import annotations

import errno
import os
import select
from typing import Any

from echosvc.transports.hub import NO_ROOM_REST
from tests.transports.test_hub import HubCase


class FullEpoll:
    """An epoll that has room only when the test says so.

    Args:
        epoll: What it stands for.

    Attributes:
        problem: The error of every registration; 0 for none.
    """

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.problem = errno.ENOMEM

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def register(self, fd: int, events: int) -> None:
        """Register, if there is room."""
        if self.problem:
            raise OSError(self.problem, os.strerror(self.problem))
        self._epoll.register(fd, events)


class NoRoomTests(HubCase):
    """Whoever cannot be watched at once is watched a little later."""

    def setUp(self) -> None:
        """Make the hub, and leave it no room."""
        super().setUp()
        self.epoll = self.hub._epoll = FullEpoll(self.hub._epoll)

    def later(self) -> None:
        """Let the time pass after which it is tried again."""
        self.reactor.advance(NO_ROOM_REST)

    def test_is_served_as_soon_as_there_is_room(self) -> None:
        """ENOMEM and ENOSPC are no errors of the connection: it waits, and what it has got by then is read."""
        for problem in (errno.ENOMEM, errno.ENOSPC):
            self.epoll.problem = problem
            member = self.member(edge_triggered=True)
            member.peer.send(b"word")
            self.later()
            self.assertEqual(member.read, [])
            self.epoll.problem = 0
            self.later()
            self.hub.doRead()
            self.assertEqual(member.read, [b"word"])

    def test_what_it_wants_by_then_counts(self) -> None:
        """It has begun to wait for room to write meanwhile, and to read no longer."""
        member = self.member()
        self.hub.addWriter(member)
        self.hub.removeReader(member)
        self.epoll.problem = 0
        self.later()
        member.peer.send(b"word")
        self.hub.doRead()
        self.assertEqual((member.read, member.writes), ([], 1))

    def test_who_has_left_is_forgotten(self) -> None:
        """It was removed before it could be watched; its number may be somebody else's."""
        member = self.member()
        self.hub.removeReader(member)
        self.epoll.problem = 0
        self.later()
        self.assertEqual(self.hub.getReaders(), [])
        self.assertRaises(FileNotFoundError, self.epoll.unregister, member.fileno())

    def test_what_can_never_be_watched_is_an_error(self) -> None:
        """A file is none of what epoll knows (EPERM), now or later."""
        self.epoll.problem = errno.EPERM
        self.assertRaises(PermissionError, self.member)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
