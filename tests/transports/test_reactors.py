"""The same transports on every reactor, each in a process of its own."""

from __future__ import annotations

import importlib.util
import select
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.transports.echo_on import SIZES

ROOT = Path(__file__).resolve().parent.parent.parent


class ReactorTests(SynchronousTestCase):
    """What is sent comes back, whatever the reactor."""

    def echo_on(self, reactor: str) -> str:
        """Run an echo and its client; return whether a hub served them."""
        command = [sys.executable, "-m", "tests.transports.echo_on", reactor]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        *sizes, served = done.stdout.split("\n", len(SIZES)) if done.stdout else [done.stderr]
        self.assertEqual([str(size) for size in SIZES], sizes, done.stderr)
        return served.strip()

    def test_epoll(self) -> None:
        """An epoll in an epoll."""
        if not hasattr(select, "epoll"):
            raise SkipTest("needs epoll")
        self.assertEqual(self.echo_on("epoll"), "hub")

    def test_asyncio(self) -> None:
        """A hub needs only somebody who can watch a descriptor."""
        self.assertEqual(self.echo_on("asyncio"), "hub" if hasattr(select, "epoll") else "no hub")

    def test_uvloop(self) -> None:
        """Nor is libuv too foreign."""
        if importlib.util.find_spec("uvloop") is None:
            raise SkipTest("needs uvloop")
        self.assertEqual(self.echo_on("uvloop"), "hub" if hasattr(select, "epoll") else "no hub")

    def test_poll_without_epoll(self) -> None:
        """On another system the reactor itself watches our connections."""
        if not hasattr(select, "poll"):
            raise SkipTest("needs poll")
        self.assertEqual(self.echo_on("poll"), "no hub")

    def test_select_without_epoll(self) -> None:
        """And so does the plainest one."""
        self.assertEqual(self.echo_on("select"), "no hub")
