"""What `echosvc talk` does, once it is known whom to talk to."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from echosvc.cli._conversation import Conversation
from echosvc.cli._datagrams import PlainDatagrams
from echosvc.cli._input import Input, Lines
from echosvc.cli._options import CONNECT_TIMEOUT
from echosvc.cli._output import Output, remark
from echosvc.client.connection import connect_datagram, connect_stream, open_datagram, open_stream
from echosvc.client.datagram_pipe import pipe_datagrams
from echosvc.client.pipe import EchoPipe
from echosvc.client.target import Target
from echosvc.errors import ConnectionEnded, ExitCode
from echosvc.transports import display

__all__ = ["converse", "pipe"]


async def pipe(reactor: Any, target: Target, output: Output, patience: float) -> None:
    """Send standard input, and write what comes back right to standard output.

    Args:
        reactor: Runs it.
        target: The echo service.
        output: Standard output.
        patience: Seconds without anything coming back after which it fails.

    Raises:
        EchosvcError: Not everything came back the same.
    """
    source = Input(reactor)
    if target.kind == "tcp":
        stream = EchoPipe(source, output.write, reactor, patience=patience)
        await open_stream(target, stream, reactor=reactor, timeout=CONNECT_TIMEOUT)
        await stream.done
    else:
        client = await connect_datagram(target, reactor=reactor, timeout=CONNECT_TIMEOUT)
        await pipe_datagrams(client, source, output.write, patience=patience)


async def converse(reactor: Any, target: Target, output: Output, patience: float) -> ExitCode:
    """Send lines as they are typed, and print what comes back.

    Args:
        reactor: Runs it.
        target: The echo service.
        output: Standard output, for echoes alone; everything else is written to standard error.
        patience: Seconds after which the user is told that nothing came back.

    Returns:
        Whether everything came back the same.

    Raises:
        EchosvcError: The connection could not be made, or ended before the user ended it.
    """
    conversation = Conversation(Lines(Input(reactor)), output, reactor, patience)
    over_tcp = target.kind == "tcp"
    return await (_over_stream if over_tcp else _over_datagrams)(reactor, target, conversation)


async def _over_stream(reactor: Any, target: Target, conversation: Conversation) -> ExitCode:
    client = await connect_stream(target, reactor=reactor, timeout=CONNECT_TIMEOUT)
    peer: Any = client.transport.getPeer()
    _introduce(target, display(peer.host, peer.port))

    def ask(line: bytes) -> Deferred[bytes]:
        return client.echo(line + b"\n").addCallback(lambda echo: echo[:-1])

    client.when_gone().addCallback(lambda why: conversation.end(client.problem or ConnectionEnded(why)))
    return await conversation.hold(ask)


async def _over_datagrams(reactor: Any, target: Target, conversation: Conversation) -> ExitCode:
    def build(peer: tuple[str, int]) -> PlainDatagrams:
        return PlainDatagrams(peer, conversation.unasked)

    datagrams = await open_datagram(target, build, reactor=reactor, timeout=CONNECT_TIMEOUT)
    _introduce(target, display(*datagrams.peer))
    return await conversation.hold(datagrams.ask)


def _introduce(target: Target, address: str) -> None:
    verb = "connected to" if target.kind == "tcp" else "sending datagrams to"
    remark(f'{verb} {target.where} ({address}); "q" or Ctrl-D ends\n')
