"""The matching client, as a library: send bytes, and know that the same bytes came back.

    client = await connect("localhost:8080")
    assert await client.echo(b"hello") == b"hello"

What went wrong arrives as an error of `echosvc.errors`.
"""

from echosvc.client.connection import connect, connect_datagram, connect_stream
from echosvc.client.datagram import MAX_PAYLOAD, TAG_SIZE, DatagramEchoClient
from echosvc.client.pipe import EchoPipe
from echosvc.client.stream import EchoClient, EchoClientFactory
from echosvc.client.target import Target

__all__ = [
    "MAX_PAYLOAD",
    "TAG_SIZE",
    "DatagramEchoClient",
    "EchoClient",
    "EchoClientFactory",
    "EchoPipe",
    "Target",
    "connect",
    "connect_datagram",
    "connect_stream",
]
