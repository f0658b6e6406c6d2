"""The service and the client together on pytest's own reactor, with fixtures as a user's test-suite would."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from twisted.internet import reactor

from echosvc.client import connect
from echosvc.listeners import Internet, ListenerSettings
from echosvc.service import EchoService, open_service
from echosvc.settings import Settings


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]  # pytest-twisted is untyped
async def service() -> AsyncIterator[EchoService]:
    """A running echo service on loopback, TCP and UDP on one free port."""
    running = open_service(
        Settings(
            listeners=tuple(
                ListenerSettings(protocol="echo", place=Internet(transport, 0, "127.0.0.1"))
                for transport in ("tcp", "udp")
            )
        ),
        reactor,
    )
    running.startService()
    yield running
    await running.stopService()


async def test_echo_over_tcp(service: EchoService) -> None:
    """Bytes come back on a connection."""
    client = await connect(f"127.0.0.1:{service.listeners[0].port}")
    assert await client.echo(b"hello") == b"hello"
    await client.close()


async def test_echo_over_udp(service: EchoService) -> None:
    """A datagram comes back."""
    client = await connect(f"udp:127.0.0.1:{service.listeners[1].port}")
    assert await client.echo(b"hello") == b"hello"
    await client.close()
