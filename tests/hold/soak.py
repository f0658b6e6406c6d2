"""What is promised in the long run: nothing wrong, nothing lost, nothing left."""

from __future__ import annotations

import time

from tests.hold.clients import IPV4, answers
from tests.hold.programs import program
from tests.hold.promise import KEEPS, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["soak", "steady_rate"]

MIB = 1024 * 1024

#: Bytes by which memory may differ afterwards.
MOST = 2 * MIB

#: Datagrams in a second.
RATE = 20_000


@promise(
    "T02",
    "clients come and go, end or reset, and others stay: no wrong byte, no descriptor, memory or line of log left over",
    deadline=900,
    stock=KEEPS,
    unguarded=r"\+\d+\.\d MiB",
)
def soak(run: Run) -> str:
    """For ten minutes with --long, else for 8 seconds."""
    server = run.serve()
    seconds, warm_up = (600, 30) if run.long else (8, 3)
    run.step = "warm-up"
    _churn(server, warm_up)
    at_start, before, lines = _descriptors_left(server), server.anonymous(), len(server.log().splitlines())
    run.step = "soak"
    connections, echoed, datagrams, wrong = _churn(server, seconds)
    left = _descriptors_left(server) - at_start
    growth = server.anonymous() - before
    lines = len(server.log().splitlines()) - lines
    answers(server.tcp, server.udp)
    figures = (
        f"{connections} connections, {echoed / 1e9:.2f} GB and {datagrams} datagrams in {seconds} s, {wrong} wrong;"
        f" {left} descriptors and {growth / MIB:+.1f} MiB left, {lines} lines of log"
    )
    kept(wrong == left == lines == 0 and abs(growth) <= MOST, figures)
    kept(not run.long or connections >= 1_000_000 or echoed >= 10e9, f"{figures}: too little")
    return figures


def _churn(server: Server, seconds: float) -> list[int]:
    """Have two processes of clients; return the sums of what they count."""
    with (
        program("soaker", "churn", IPV4, server.tcp, seconds, 1) as one,
        program("soaker", "churn", IPV4, server.tcp, seconds, 2) as other,
    ):
        counts = [list(map(int, each.communicate()[0].split())) for each in (one, other)]
    kept(all(counts), "a client of the test has failed")
    return [sum(each) for each in zip(*counts, strict=True)]


def _descriptors_left(server: Server) -> int:
    """Wait until what clients have closed is closed there, too; return how many descriptors stay."""
    found = server.descriptors()
    for _ in range(100):
        time.sleep(0.1)
        before, found = found, server.descriptors()
        if found == before:
            break
    return found


@promise(
    "T08",
    f"{RATE} datagrams of 64 bytes a second from four sockets: all come back, and from this machine nobody has to be slower",
    deadline=60,
    stock=KEEPS,
    xinetd=r"^\d+ of \d+ came back",
    unguarded=r"of \d+ came back",
)
def steady_rate(run: Run) -> str:
    """For 30 seconds with --long, else for 4."""
    server = run.serve()
    with program("soaker", "pace", IPV4, server.udp, 30 if run.long else 4, RATE) as client:
        sent, came, wrong = map(int, client.communicate()[0].split())
    figures = f"{came} of {sent} came back, {wrong} wrong"
    kept(sent == came and not wrong and sent > RATE, figures)
    return figures
