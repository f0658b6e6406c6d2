"""What is promised of one client that makes much work of few bytes: a turn is bounded by work, not by bytes."""

from __future__ import annotations

from dataclasses import dataclass

from tests.hold.carriers import Carrier, Place
from tests.hold.clients import Pings, answers, ping_steadily
from tests.hold.programs import program
from tests.hold.promise import Promise, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["TURNS"]

#: How often the echo of others may wait for as long as beside a plain client that sends all it can.
TIMES = 2.0

#: How often all is tried. The machine may be late for a moment; what the service does, it does every time.
ATTEMPTS = 3


@dataclass(frozen=True)
class Way:
    """What the client sends.

    Attributes:
        name: What `tls_talker` calls it.
        words: What it is.
        least: Bytes of it that the service must have taken, so that it was tried at all.
    """

    name: str
    words: str
    least: int


WAYS = (
    Way("records", "TLS records of one byte", 200_000),
    Way("keys", "KeyUpdates that ask for none", 50_000),
)


def _turn(way: Way) -> Promise:
    @promise(
        f"TLS-turn-{way.name}",
        f"beside one client that sends {way.words}, others wait at most {TIMES:g} times as long as beside one plain bulk client",
        deadline=90,
        unguarded=r"others wait \d{2,}",
        carrier=Carrier.TLS,
    )
    def keep(run: Run) -> str:
        """Others ping over plain TCP, meanwhile and beside the plain client in the same run."""
        seconds = 8 if run.long else 3
        server = run.serve()
        answers(server.tcp, server.udp)
        tried = []
        for attempt in range(ATTEMPTS):
            run.step = f"attempt {attempt + 1}"
            plain, _ = _beside(server, Place(Carrier.TCP, str(server.tcp)), "bulk", seconds)
            pings, (sent, came, cut) = _beside(server, server.place, way.name, seconds)
            tried.append(
                f"others wait {_said(pings)} beside {sent / 1e3:.0f} kB of them ({came / 1e3:.0f} kB came back, cut off {cut}"
                f" times), {_said(plain)} beside a plain bulk client"
            )
            held = all(pings.quantile(share) <= TIMES * plain.quantile(share) for share in (0.5, 0.99))
            if held:
                break
        figures = ", AFTER ".join(reversed(tried))
        kept(held, figures)
        kept(cut or sent >= way.least, f"{figures}: too few")
        return figures

    return keep


def _beside(server: Server, place: Place, way: str, seconds: int) -> tuple[Pings, tuple[int, int, int]]:
    """Ping beside a client; return the pings, and what came of the client."""
    with program("tls_talker", place, way, seconds) as talker:
        assert talker.stdout is not None
        talker.stdout.readline()
        plain = Place(Carrier.TCP, str(server.tcp))
        pings = ping_steadily(plain, interval=0.005, until=lambda: talker.poll() is not None)
        sent, came, cut = map(int, talker.communicate()[0].split())
    return pings, (sent, came, cut)


def _said(pings: Pings) -> str:
    return (
        f"{pings.median * 1e3:.1f} ms (99 % {pings.quantile(0.99) * 1e3:.0f}, worst {pings.worst * 1e3:.0f})"
    )


TURNS = tuple(_turn(way) for way in WAYS)
