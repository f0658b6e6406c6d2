"""Tests of the endpoint grammar with whatever chance writes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import ip_network

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.trial.unittest import SynchronousTestCase

from echosvc.listeners import (
    Endpoint,
    Foreign,
    Inherited,
    Internet,
    TLSSettings,
    UnixSocket,
    format_endpoint,
    parse_endpoint,
)

#: Anything that can be an argument of a program, but for NUL.
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=26)
_FILES = _TEXT.filter(lambda path: not path.startswith("@"))
_PORTS = st.integers(0, 65535)
_INTERFACES = st.one_of(
    st.just(""),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6, network="2000::/3").map(str),
    st.just("fe80::1%eth0"),
)
_MODES = st.integers(0, 0o777)
_PLACES = st.one_of(
    st.builds(Internet, st.sampled_from(["tcp", "udp"]), _PORTS, _INTERFACES),
    st.builds(UnixSocket, st.just("unix"), _FILES, _MODES, st.booleans()),
    st.builds(UnixSocket, st.just("unixgram"), _FILES, _MODES),
    st.builds(UnixSocket, st.sampled_from(["unix", "unixgram"]), _TEXT.map("@".__add__)),
    st.builds(Inherited, name=_TEXT),
    st.builds(Inherited, index=st.integers(0, 9999)),
    st.just(Foreign("tcp6:1:interface=\\:\\:1")),
)

#: Pieces that mean something, in any order, among others that do not.
_PIECES = st.one_of(
    st.sampled_from(["tcp:", "udp:", "unix:", "unixgram:", "tls:", "systemd:", "haproxy:", "tcp6:", "ssl:"]),
    st.sampled_from(["interface=", "mode=", "lockfile=", "proxy=", "backlog=", "name=", "index=", "cert="]),
    st.sampled_from([":", "=", "[", "]", "\\", "::1", "10.0.0.0/8", "80", "certdir=x", "alpn="]),
    st.text(max_size=3),
)


class RandomTests(SynchronousTestCase):
    """Whatever is written."""

    @given(_PLACES)
    @example(UnixSocket("unix", "a:b=c[d]\\", 0o007, lockfile=True))
    @example(UnixSocket("unix", "@\\"))
    @example(Inherited(name="a:b=[c]\\"))
    def test_what_is_written_is_read(self, place: Internet | UnixSocket | Inherited | Foreign) -> None:
        """A place comes back from its endpoint string, whatever its names are made of."""
        self.assertEqual(Endpoint(place=place), parse_endpoint(format_endpoint(place)))

    @given(st.one_of(st.text(), st.lists(_PIECES, max_size=8).map("".join)))
    @example("unix:\udc80\ud800")
    def test_nothing_but_an_endpoint_or_a_refusal(self, text: str) -> None:
        """No string is anything else; nothing but ValueError is ever raised."""
        with contextlib.suppress(ValueError):
            self.assertIsInstance(parse_endpoint(text), Endpoint)

    @given(st.one_of(st.text(), st.lists(_PIECES, max_size=8).map("".join)))
    @example("haproxy:tcp6:1")
    def test_twisted_never_reads_a_kind_of_ours(self, text: str) -> None:
        """What is left to Twisted is never what the grammar has a kind for: Twisted's own believes and loses more."""
        with contextlib.suppress(ValueError):
            place = parse_endpoint(text.swapcase()).place
            if isinstance(place, Foreign):
                self.assertIn(endpoints._parse(place.description)[0][0].lower(), ("tcp6", "stdio"))

    @given(st.permutations(["interface=[::1]", "backlog=5", "certdir=d", "alpn=a,b", "proxy=10.0.0.0/8"]))
    def test_named_parts_stand_in_any_order(self, parts: Sequence[str]) -> None:
        """Their order means nothing."""
        expected = Endpoint(
            place=Internet("tcp", 1, "::1"),
            tls=TLSSettings(cert_dir="d", alpn=("a", "b")),
            backlog=5,
            proxy=(ip_network("10.0.0.0/8"),),
        )

        self.assertEqual(expected, parse_endpoint(":".join(["tls:1", *parts])))
