"""Tests of what a wire protocol is to the house."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramEcho, EchoFactory, WireProtocol


@attrs.frozen
class Greeting:
    """Settings of a protocol's own."""

    text: str = "hello"


class WireTests(SynchronousTestCase):
    """What builds the protocols of a listener."""

    def test_without_settings(self) -> None:
        """Builders are called without arguments, each time anew."""
        wire = WireProtocol(name="x", rfc="none", summary="x", stream=EchoFactory, datagram=DatagramEcho)

        self.assertIsInstance(wire.make_stream(), EchoFactory)
        self.assertIsInstance(wire.make_datagram(), DatagramEcho)
        self.assertIsNot(wire.make_stream(), wire.make_stream())

    def test_with_settings(self) -> None:
        """Builders are called with the listener's own, or with the defaults."""
        made: list[object] = []
        build: Any = made.append
        wire = WireProtocol(name="x", rfc="none", summary="x", stream=build, datagram=build, options=Greeting)
        make: Any
        for make in (wire.make_stream, wire.make_datagram):
            make()
            make(Greeting("hi"))

        self.assertEqual([Greeting(), Greeting("hi")] * 2, made)

    def test_without_a_form(self) -> None:
        """What a protocol has no form for is not built."""
        streamed = WireProtocol(name="s", rfc="none", summary="x", stream=EchoFactory)
        datagrams = WireProtocol(name="d", rfc="none", summary="x", datagram=DatagramEcho)

        with self.assertRaisesRegex(ValueError, "^s has no datagram form$"):
            streamed.make_datagram()
        with self.assertRaisesRegex(ValueError, "^d has no stream form$"):
            datagrams.make_stream()
