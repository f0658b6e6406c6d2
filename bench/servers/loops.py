"""Plain asyncio protocols, on asyncio's own loop or on uvloop's: ``python -m bench.servers.loops uvloop``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

from bench.servers.ports import announce, bind_both


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    stream, datagram = bind_both()
    await loop.create_server(_Echo, sock=stream)
    await loop.create_datagram_endpoint(_DatagramEcho, sock=datagram)
    announce(stream.getsockname()[1])
    await asyncio.Event().wait()  # for ever


def _main() -> None:
    if sys.argv[1:] == ["uvloop"]:
        import uvloop  # noqa: PLC0415  # a rival, not a dependency

        uvloop.run(_serve())
    else:
        asyncio.run(_serve())


if __name__ == "__main__":
    _main()
