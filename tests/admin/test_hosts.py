"""Tests of which names mean this machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admin.hosts import is_loopback_host


class HostTests(SynchronousTestCase):
    """What requests have in their ``Host`` header."""

    def test_this_machine(self) -> None:
        """Names and addresses, with and without a port, in capitals, with the dot at the end that means the whole name."""
        for name in (
            "localhost",
            "LocalHost.",
            "echo.localhost",
            "127.0.0.1",
            "127.255.3.4",
            "127.0.0.1.",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f00:1]",
        ):
            for host in (name, f"{name}:9007", f"{name}:", f" {name} "):
                self.assertTrue(is_loopback_host(host), host)

    def test_other_hosts(self) -> None:
        """Also those that only begin or end as this machine does, and what no browser sends."""
        for name in (
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "localhost..",
            ".localhost.example",
            "128.0.0.1",
            "10.0.0.1",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "[::]",
            "[::2]",
            "[::ffff:10.0.0.1]",
            "[::1%lo]",
            "::1",
            "localhost@evil.example",
            "localhost:80@evil.example",
            "localhost, evil.example",
            "evil.example#localhost",
            "",
            ":9007",
            "[]",
            "[::1",
        ):
            for host in (name, f"{name}:9007"):
                self.assertFalse(is_loopback_host(host), host)

    @given(st.text())
    def test_whatever_is_sent(self, host: str) -> None:
        """Is this machine or not; nothing is raised."""
        self.assertIn(is_loopback_host(host), (True, False))
