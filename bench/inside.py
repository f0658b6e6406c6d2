"""``python -m bench.inside``: nanoseconds per message of our own steps, without system calls.

End-to-end figures have a noise of some 4 %: that is ten times what a counter costs.
"""

from __future__ import annotations

import socket
import sys
import timeit
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from bench.errors import NoFigure
from echosvc.admission import AccessList, Screens, ScreenSettings
from echosvc.protocols import DatagramEcho
from echosvc.transports import DatagramPort
from echosvc.transports.batched_messages import BatchedMessages
from echosvc.transports.messages import BATCH
from echosvc.transports.mmsg import ENVELOPE

__all__ = ["main"]

#: Repetitions of which the quickest counts: whatever was slower had company.
ROUNDS = 7
TIMES = 2000


def steps(host: str, peers: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the steps that a batch of datagrams takes, on a port that holds one.

    Args:
        host: Where the port listens.
        peers: How many peers the batch comes from.

    Yields:
        The step's name, and a call that takes it once for `BATCH` datagrams.

    Raises:
        NoFigure: This system has no recvmmsg.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    screen = Screens([7]).screen(ScreenSettings(), AccessList())
    port: Any = DatagramPort(sock, DatagramEcho(), MemoryReactorClock(), screen=screen)
    port.startListening()
    clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(peers)]
    try:
        for number in range(BATCH):  # 7 is prime to 50: no two neighbours are of one peer
            clients[number * 7 % peers].sendto(b"x" * 64, sock.getsockname())
        messages = port._messages
        if not isinstance(messages, BatchedMessages) or messages.receive() != BATCH:
            raise NoFigure("this system has no recvmmsg")
        yield from _steps_of(port, messages)
        yield from _screen_steps(messages)
        messages.release()
    finally:
        port.connectionLost()
        for client in clients:
            client.close()


def _steps_of(port: Any, messages: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    everyone = range(BATCH)
    tables, screen = messages._tables, port._screen
    yield "envelopes", lambda: seal(messages)
    yield "envelopes, screen", lambda: screen(seal(messages))
    port._screen = None
    yield "counters, in", lambda: port._admit(messages, everyone)
    messages.send_back = lambda _: []
    yield "counters, out", lambda: port._send_back(everyone)
    del messages.send_back
    port._screen = screen

    def lay_answers() -> None:
        messages._envelopes = []
        order, answers = messages._group(everyone)
        tables.lay_pieces(order, messages.lengths)
        tables.lay_answers(answers)

    yield "group and lay out the answers", lay_answers
    tables.send = lambda _fd, _first, number: number

    def everything() -> None:
        messages._envelopes = []
        port._serve(messages, port._admit(messages, everyone))

    yield "everything but system calls", everything


def seal(messages: Any) -> Any:
    """Make the envelopes anew, as for each batch: to look up one that was looked up before is quicker."""
    messages._envelopes = []
    messages._sealed()
    return messages


def _screen_steps(messages: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """The screen where peers are others than this machine, of which each datagram is a token."""
    hosts = count(0x0A000000)  # 10.0.0.0

    def address(peers: int) -> None:
        envelopes = messages._tables.envelopes
        for index, host in zip(range(BATCH), cycle([next(hosts) for _ in range(peers)]), strict=False):
            at = index * ENVELOPE + (
                20 if messages._is_ipv6 else 4
            )  # the last 4 bytes of either family's address
            if messages._is_ipv6:
                envelopes[at - 12 : at] = b"\x20\x01" + host.to_bytes(4, "big") + bytes(6)
            envelopes[at : at + 4] = host.to_bytes(4, "big")

    def judging(settings: ScreenSettings) -> Callable[[], object]:
        screen = Screens([7]).screen(settings, AccessList())
        return lambda: screen(seal(messages))

    wide = ScreenSettings(rate=1e9, total=1e9)
    for peers in (1, 50):
        address(peers)
        yield f"envelopes, screen, {peers} elsewhere", judging(wide)
    yield "envelopes, screen, 50 over the rate", judging(ScreenSettings(rate=1.0))
    yield "addresses for the next", lambda: address(BATCH)
    judge = judging(wide)

    def judge_never_seen() -> None:
        address(BATCH)
        judge()

    yield "addresses, envelopes, screen, never seen", judge_never_seen


def main() -> int:
    """Print a line for each step."""
    try:
        for host, peers in (("127.0.0.1", 1), ("127.0.0.1", 50), ("::1", 50)):
            for name, step in steps(host, peers):
                quickest = min(timeit.repeat(step, number=TIMES, repeat=ROUNDS))
                nanoseconds = quickest / TIMES / BATCH * 1e9
                print(f"UDP {host:9}  {peers:2} peers  {name:40} {nanoseconds:5.0f} ns per datagram")  # noqa: T201
    except NoFigure as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
