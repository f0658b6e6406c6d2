"""What is promised of the small protocols: echo, discard, chargen, qotd, daytime and time do what their RFCs say."""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.hold.clients import HOSTS, IPV4, NOT_TRIED, in_threads, receive_exactly
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.small_service import Service, start, start_all, the_rest

__all__ = ["amplification", "rfc_table"]

#: RFC 864: 95 lines of 72 characters and CR LF, line N from character N on.
RING = b"".join(bytes(32 + (line + place) % 95 for place in range(72)) + b"\r\n" for line in range(95))

#: RFC 868: what the time was on 1 January 1970.
EPOCH = 2_208_988_800

#: A header of IPv4 and one of UDP.
HEADERS = 28


class Checks:
    """Counts what holds.

    Attributes:
        family: For which clients the next checks are made.
        made: How many checks were made.
        failed: What did not hold, and for whom.
    """

    def __init__(self) -> None:
        self.family = ""
        self.made = 0
        self.failed: list[str] = []

    def __call__(self, what: str, holds: object) -> None:
        """Make a check.

        Args:
            what: What is to hold.
            holds: Whether it does.
        """
        self.made += 1
        if not holds:
            self.failed.append(f"{self.family}: {what}")


@promise(
    "T04",
    "echo, discard, chargen, qotd, daytime and time are exact to their RFCs: TCP and UDP, IPv4 and IPv6",
    deadline=60,
    unguarded="not: .*chargen",
)
def rfc_table(run: Run) -> str:
    """One service that speaks all six, and one with the settings that some of them have."""
    check = Checks()
    ports = start_all(run)
    other_ports = start(run, "--config", _write_config(run.directory), expected=3)
    for family, host in HOSTS.items():
        run.step = check.family = family
        service = Service(host, ports)
        for checks in (_echo, _discard, _chargen, _chargen_datagrams, _saying):
            checks(service, check)
        _settings(Service(host, other_ports), check)
    figures = f"{check.made - len(check.failed)}/{check.made} checks hold{NOT_TRIED}"
    kept(not check.failed, f"{figures}; not: {'; '.join(check.failed)}")
    kept(check.made >= 60 * len(HOSTS) / 2, f"{figures}, of 60 or more")
    return figures


def _write_config(directory: Path) -> str:
    quotes, config = directory / "quotes.txt", directory / "small.toml"
    quotes.write_text("Two lines,\n\tone quote.\n%\n")
    config.write_text(
        '[[listener]]\nprotocol = "chargen"\nendpoint = "udp:0"\noptions = { allow-amplification = true }\n'
        f'[[listener]]\nprotocol = "qotd"\nendpoint = ["tcp:0", "udp:0"]\noptions = {{ file = "{quotes}" }}\n'
    )
    return str(config)


def _echo(service: Service, check: Checks) -> None:
    """RFC 862."""
    tell = partial(service.tell, "echo", finish=True)
    every = bytes(range(256)) * 4000
    check("TCP echo returns a megabyte of every octet", tell(every) == every)
    check("TCP echo returns nothing for nothing", tell(b"") == b"")
    for size in (0, 1, 512, 1400):
        word = every[:size]
        check(f"UDP echo returns {size} bytes", service.ask("echo", word) == word)
    check("UDP echo answers once", service.count_answers("echo", [b"", b"x"]) == 2)


def _discard(service: Service, check: Checks) -> None:
    """RFC 863."""
    with service.connect("discard") as sock:
        sock.sendall(bytes(10_000_000))  # a service that stops reading stops this, too
        check(
            "TCP discard takes 10 MB and is silent",
            not select.select([sock], [], [], 0.1)[0],
        )
        sock.shutdown(socket.SHUT_WR)
        check("TCP discard closes when the client has finished", the_rest(sock) == b"")
    for payload in (b"", b"x", bytes(1400)):
        silent = service.count_answers("discard", [payload]) == 0
        check(f"UDP discard does not answer {len(payload)} bytes", silent)


def _chargen(service: Service, check: Checks) -> None:
    """RFC 864 over TCP."""
    with service.connect("chargen") as sock:
        first = receive_exactly(sock, 2 * len(RING))
        check("TCP chargen sends 95 lines of the ring", first[: len(RING)] == RING)
        check("TCP chargen begins again with line 95", first[len(RING) :] == RING)
        sock.sendall(b"stop\r\n" * 1000)
        check(
            "TCP chargen goes on whatever it is sent",
            receive_exactly(sock, len(RING)) == RING,
        )
        time.sleep(0.3)  # its buffers and ours are full long before
        check(
            "TCP chargen has no seam where the client had stopped reading",
            receive_exactly(sock, 1000 * len(RING)) == 1000 * RING,
        )
        sock.shutdown(socket.SHUT_WR)
        check(
            "TCP chargen goes on for a client that has half-closed",
            receive_exactly(sock, 1000 * len(RING)) == 1000 * RING,
        )
    with service.connect("chargen") as sock:
        receive_exactly(sock, 1)
        reset_in_place_of_fin = struct.pack("ii", 1, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_in_place_of_fin)
    with service.connect("chargen") as sock:
        check("TCP chargen survives a rude abort", receive_exactly(sock, len(RING)) == RING)


def _chargen_datagrams(service: Service, check: Checks) -> None:
    """RFC 864 over UDP, but for the length, which is at most that of the request."""
    for size in (0, 1, 64, 512, 1400):
        answer = service.ask("chargen", bytes(size))
        holds = answer is not None and len(answer) <= min(size, 512) and RING.startswith(answer)
        check(f"UDP chargen answers {size} bytes with no more of the ring", holds)
    lengths = {len(service.ask("chargen", bytes(512)) or b"") for _ in range(10)}
    check("UDP chargen's lengths are random", len(lengths) > 1)
    check("UDP chargen answers once", service.count_answers("chargen", [b"", b"x"]) == 2)


def _saying(service: Service, check: Checks) -> None:
    """RFC 865, 867 and 868: one thing is said."""
    for name in SAID:
        for payload, finish, how in (
            (b"", False, "who says nothing"),
            (bytes(50_000), False, "who has sent 50 kB"),
            (b"", True, "who has half-closed"),
        ):
            right = _is_right(name, partial(service.tell, name, payload, finish=finish))
            check(f"TCP {name} tells one {how}, and ends", right)
        for payload in (b"", b"what?", bytes(1400)):
            right = _is_right(name, partial(service.ask, name, payload))
            check(f"UDP {name} answers {len(payload)} bytes", right)
        check(f"UDP {name} answers once", service.count_answers(name, [b"", b"x"]) == 2)
    names = list(SAID)
    cut = in_threads(lambda number: _is_cut(service, names[number]), count=len(names), at_once=len(names))
    for name, is_cut in zip(names, cut, strict=True):
        check(f"TCP {name} cuts one who sends without end", is_cut)


def _settings(service: Service, check: Checks) -> None:
    """What a listener's own settings change."""
    lengths = [len(service.ask("chargen", b"") or b"") for _ in range(10)]
    check(
        "UDP chargen answers nothing with 0 to 512 characters where that is allowed",
        0 < max(lengths) <= 512 and len(set(lengths)) > 1,
    )
    quote = b"Two lines,\r\n        one quote.\r\n"
    check("TCP qotd tells a quote of the file", service.tell("qotd", b"") == quote)
    check("UDP qotd tells a quote of the file", service.ask("qotd", b"") == quote)


# -- what is said


def _is_quote(said: bytes, before: int, after: int) -> bool:
    """RFC 865: one or several lines of printing characters, fewer than 512."""
    return 0 < len(said) < 512 and re.fullmatch(rb"([ -~]*\r\n)+", said) is not None


def _is_daytime(said: bytes, before: int, after: int) -> bool:
    """RFC 867: the line of one of the seconds in question. We run in the C locale, whose names are English."""
    return said in {
        time.strftime(f"%A, %B {moment.tm_mday}, %Y %H:%M:%S-UTC\r\n", moment).encode()
        for moment in map(time.gmtime, range(before, after + 1))
    }


def _is_time(said: bytes, before: int, after: int) -> bool:
    """RFC 868: one of the seconds in question, in four octets."""
    return len(said) == 4 and said in {
        struct.pack("!I", (moment + EPOCH) % 2**32) for moment in range(before, after + 1)
    }


SAID: dict[str, Callable[[bytes, int, int], bool]] = {
    "qotd": _is_quote,
    "daytime": _is_daytime,
    "time": _is_time,
}


def _is_right(name: str, ask: Callable[[], bytes | None]) -> bool:
    before = int(time.time())
    said = ask()
    return said is not None and SAID[name](said, before, int(time.time()))


def _is_cut(service: Service, name: str) -> bool:
    """Send a little all the time, for at most 10 s, and see whether that is ended."""
    with service.connect(name) as sock:
        for _ in range(200):
            try:
                sock.sendall(b"and another thing")
            except OSError:
                return True
            time.sleep(0.05)
    return False


@promise(
    "T18",
    "no UDP answer of echo, discard and chargen is longer than its request; those of the others are short",
    deadline=60,
    xinetd="^chargen answered 0 bytes with 1024;",  # whatever RFC 864 says of 512
    unguarded="^chargen answered",
)
def amplification(run: Run) -> str:
    """In the default configuration, the longest of ten answers each to requests of five sizes."""
    service = Service(IPV4, start_all(run))
    rows = []
    broken = []
    for name in service.names():
        run.step = name
        longest = [_longest(service, name, size) for size in SIZES]
        broken += [
            f"{name} answered {size} bytes with {out}"
            for size, out in zip(SIZES, longest, strict=True)
            if out is not None and out > BOUNDS.get(name, size)
        ]
        rows.append(_row(name, longest))
    figures = f"bytes out for {_list(SIZES)} in, and the most on the wire: {'; '.join(rows)}"
    kept(not broken, f"{'; '.join(broken)}; {figures}")
    return figures


#: Bytes of payload in a request.
SIZES = (0, 1, 64, 512, 1400)

#: The longest that a protocol says, whatever it is asked. Others answer with no more than they are asked with.
BOUNDS = {"qotd": 511, "daytime": len("Wednesday, September 30, 2026 23:59:59-UTC\r\n"), "time": 4}


def _longest(service: Service, name: str, size: int) -> int | None:
    """How long the longest of ten answers is; None if there is none."""
    if name == "discard":
        return None if service.count_answers(name, [bytes(size)] * 10) == 0 else size + 1
    answers = []
    for _ in range(10):
        answers.append(service.ask(name, bytes(size)))
        time.sleep(0.002)  # xinetd throws away what comes at once after its answer
    kept(None not in answers, f"{name} left {size} bytes without an answer")
    return max(len(answer) for answer in answers if answer is not None)


def _row(name: str, longest: Sequence[int | None]) -> str:
    wire = [
        0 if out is None else (out + HEADERS) / (size + HEADERS)
        for size, out in zip(SIZES, longest, strict=True)
    ]
    return f"{name} {_list(longest)} ({max(wire):.2f})"


def _list(numbers: Sequence[int | None]) -> str:
    return "/".join("-" if number is None else str(number) for number in numbers)
