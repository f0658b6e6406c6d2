"""Tests of configuration files that nobody would write."""

from __future__ import annotations

from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from echosvc.errors import InvalidConfig
from echosvc.settings import read_config
from tests.settings.cases import ConfigCase

_ENDPOINTS = st.sampled_from(
    [
        "tcp:0",
        "udp:0",
        "tcp:7",
        "unix:/x",
        "unixgram:@x",
        "systemd:name=x",
        "haproxy:tcp:1",
        "tls:1:cert=a:key=b",
        "tcp6:1",
    ]
)
_SOME = st.one_of(
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.datetimes(),
    st.lists(st.text(max_size=3), max_size=3),
)
_TLS = st.dictionaries(
    st.sampled_from(["cert", "key", "certdir", "client-ca", "alpn", "min-version", "ciphers", "x"]),
    _SOME,
    max_size=4,
)
_NETWORKS = st.sampled_from(["10.0.0.0/8", "::/0", "10.0.0.1/8", "a", ""])
_LISTENER = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.sampled_from(
            ["echo", "chargen", "qotd", "ecko", "", "no.such:thing", ":", "echosvc.errors:ExitCode"]
        )
        | _SOME,
        "endpoint": _ENDPOINTS | st.lists(_ENDPOINTS, max_size=3) | _SOME,
        "name": _SOME,
        "proxy": _NETWORKS | st.lists(_NETWORKS, max_size=3) | _SOME,
        "tls": _TLS | _SOME,
        "options": st.dictionaries(st.sampled_from(["file", "allow-amplification", "x"]), _SOME, max_size=2)
        | _SOME,
        "backlog": _SOME,
        "stall-timeout": _SOME,
        "colour": _SOME,
    },
)
_FILE = st.fixed_dictionaries(
    {},
    optional={
        "defaults": st.dictionaries(st.sampled_from(["backlog", "rcvbuf", "x"]), _SOME, max_size=2) | _SOME,
        "listener": st.lists(_LISTENER | _SOME, max_size=4) | _SOME,
        "colour": _SOME,
    },
)
#: Pieces of which files are made that are nearly TOML.
_PIECES = st.sampled_from(
    [
        *("[[listener]]", "[listener.tls]", "[defaults]", "[", "]", "'", '"', "=", ".", "#", "{", "}", ","),
        *("protocol", "endpoint", "backlog", "1", "1.5", "true"),
        *("\n", " ", "\r", "\0", "\u2028", "'''", '"tcp:7"', 'protocol = "echo"\n'),
    ]
)


class FuzzTests(ConfigCase):
    """Random files: settings come of them, or mistakes that name the file, in one line each."""

    def check(self, content: bytes) -> None:
        """Read a file that may say anything."""
        path = self.file(content)
        try:
            self.assertTrue(read_config(path))
        except InvalidConfig as problem:
            for each in problem.mistakes:
                self.assertTrue(each.startswith(f"{path}:"), each)
                self.assertTrue(each.isprintable(), each)
                line = each.removeprefix(f"{path}:").partition(":")[0]
                self.assertTrue(line.startswith(" ") or 1 <= int(line) <= content.count(b"\n") + 1, each)

    @given(st.binary(max_size=40))
    def test_any_bytes(self, content: bytes) -> None:
        """Whatever is in a file."""
        self.check(content)

    @given(st.lists(_PIECES | st.text(max_size=3), max_size=30).map("".join))
    def test_nearly_toml(self, text: str) -> None:
        """Whatever is typed."""
        self.check(text.encode(errors="replace"))

    @given(_FILE)
    def test_any_settings(self, table: dict[str, Any]) -> None:
        """Whatever is said in good TOML."""
        self.check(tomli_w.dumps(table).encode())
