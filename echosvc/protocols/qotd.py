"""Qotd (RFC 865): the quote of the day.

Plain Twisted classes that also run without the rest of echosvc:

    endpoint.listen(QotdFactory(QotdOptions(file="quotes.txt")))
    reactor.listenUDP(8017, DatagramQotd())
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from twisted.internet.interfaces import IReactorTime

from echosvc.protocols.saying import DatagramSaying, SayingFactory
from echosvc.protocols.wire import WireProtocol

__all__ = ["QOTD", "DatagramQotd", "QotdFactory", "QotdOptions", "quote_of_the_day"]

#: A quote, with its line ends, has fewer characters than this (RFC 865).
_LIMIT = 512

#: What is quoted where no file is named, in the form of such a file.
_BUILT_IN = """\
She could not be silent when another spoke, nor speak before another did:
answering Echo.
        -- after Ovid, Metamorphoses III
%
A drop hollows out the stone, not by force but by falling often.
        -- after Ovid, Letters from the Black Sea, and those who added to it
%
Make haste slowly.
        -- a saying of the emperor Augustus, says Suetonius
%
Trust, but verify.
        -- Russian proverb
%
Measure seven times, cut once.
        -- Russian proverb
%
Little strokes fell great oaks.
        -- Poor Richard's Almanack
%
For want of a nail the shoe was lost.
        -- English proverb
%
Every path has its puddle.
        -- English proverb
%
As you shout into the forest, so it echoes back.
        -- German proverb
%
Still waters run deep.
        -- English proverb
%
Grain by grain, the hen fills her crop.
        -- Spanish proverb
%
A timeout is an opinion; a reset is a fact.
        -- echosvc
%
Late, lost and refused are three different answers.
        -- echosvc
%
An empty datagram is a datagram.
        -- echosvc
%
The average was fine. The slowest in a hundred was somebody.
        -- echosvc
%
Half-closed is not closed: some have finished speaking and still listen.
        -- echosvc
"""


@attrs.frozen(kw_only=True)
class QotdOptions:
    """What a listener's settings may say of qotd.

    The file is read once, when the options are made: later the service may have lost the right to, or its root.

    Attributes:
        file: A text file of quotes, as fortune's are: a line with a single ``%`` stands between two. A quote is printing
            ASCII characters, spaces and line ends, fewer than 512 in all; tabs are expanded to every eighth column.
            Empty for the quotes that are built in.

    Raises:
        ValueError: The file cannot be read, has no quote, or has one that is not as above: one line that names the
            file, the quote and the line where it begins.
    """

    file: str = ""

    #: What was read, as it is sent: lines end with CR LF. Options with other quotes are not equal: a reload takes effect.
    quotes: tuple[bytes, ...] = attrs.field(init=False, repr=False)

    @quotes.default
    def _read(self) -> tuple[bytes, ...]:
        if not self.file:
            return _parse(_BUILT_IN, "built in")
        try:
            text = Path(self.file).read_text(encoding="utf-8-sig", errors="replace")
        except OSError as problem:
            raise ValueError(f"file {self.file}: {problem.strerror}") from problem
        return _parse(text, f"file {self.file}")


def _parse(text: str, where: str) -> tuple[bytes, ...]:
    quotes: list[bytes] = []
    begins = 1
    lines: list[str] = []
    for number, line in enumerate([*text.split("\n"), "%"], 1):
        if line.rstrip(" ") != "%":
            lines.append(line.expandtabs().rstrip(" "))
            continue
        if quote := "\n".join(lines).strip("\n"):  # nothing between two separators is no quote
            quotes.append(_checked(quote, f"{where}, quote {len(quotes) + 1} (line {begins})"))
        begins, lines = number + 1, []
    if not quotes:
        raise ValueError(f"{where}: there is no quote in it")
    return tuple(quotes)


def _checked(quote: str, where: str) -> bytes:
    if wrong := re.search(r"[^\n -~]", quote):
        raise ValueError(f"{where}: {wrong.group()!r} is not a printing ASCII character (RFC 865)")
    said = quote.replace("\n", "\r\n").encode("ascii") + b"\r\n"
    if len(said) >= _LIMIT:
        raise ValueError(
            f"{where}: {len(said)} characters with its line ends; RFC 865 has fewer than {_LIMIT}"
        )
    return said


def quote_of_the_day(quotes: Sequence[bytes], now: float) -> bytes:
    """Pick the quote of a day: each has its turn, and all who ask on one day (UTC) are told the same.

    Args:
        quotes: At least one.
        now: Seconds since 1970-01-01 00:00 UTC.
    """
    return quotes[int(now // 86_400) % len(quotes)]


class QotdFactory(SayingFactory):
    """Tells each connection the quote of the day, and closes it (RFC 865).

    Args:
        options: Where the quotes come from; None for those that are built in.
        now: Returns seconds since 1970-01-01 00:00 UTC.
        reactor: As in `SayingFactory`.
    """

    def __init__(
        self,
        options: QotdOptions | None = None,
        *,
        now: Callable[[], float] = time.time,
        reactor: IReactorTime | None = None,
    ) -> None:
        quotes = (options or QotdOptions()).quotes
        super().__init__(lambda: quote_of_the_day(quotes, now()), reactor=reactor)


class DatagramQotd(DatagramSaying):
    """Answers each datagram with the quote of the day (RFC 865).

    Args:
        options: Where the quotes come from; None for those that are built in.
        now: Returns seconds since 1970-01-01 00:00 UTC.
    """

    def __init__(self, options: QotdOptions | None = None, *, now: Callable[[], float] = time.time) -> None:
        quotes = (options or QotdOptions()).quotes
        super().__init__(lambda: quote_of_the_day(quotes, now()))


QOTD = WireProtocol(
    name="qotd",
    rfc="RFC 865",
    summary="tells the quote of the day",
    stream=QotdFactory,
    datagram=DatagramQotd,
    options=QotdOptions,
    amplifies=True,
)
