"""What has to run in a process of its own: one parser, fed with mutations of what it understands.

A program of its own, ``python -m tests.hold.fuzzer``::

    blind TARGET COUNT SEED SECONDS     our own mutations, which know nothing of the code
    atheris TARGET COUNT SEED SECONDS   libFuzzer's, which look for code that was not run yet
    hypothesis TARGET COUNT SEED SECONDS   random input of every kind, no mutations

With one more word, the name of a promise, its guard is switched off first (`tests.hold.unguarded`).

It ends after so many inputs or seconds, and prints how many there were, how many were understood, and the most
milliseconds of processor time that one took. It ends with a traceback and 1 if a parser did not do what it must.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.hold.parsers import TARGETS, Target
from tests.hold.unguarded import switch_off

__all__ = ["Tally", "mutations"]

#: Bytes of the longest input: more only takes longer.
LONGEST = 600

#: Seconds of processor time that one input may take: a hundred times what the slowest takes.
SLOWEST = 1.0

#: Bytes that mean something to one parser or another, or often have been forgotten.
_SPECIAL = (b"\0", b"\xff", b"\x7f", b"\x80", b"\r", b"\n", b" ", b":", b"%", b"[", b"0", b"9")


class Tally:
    """Judges inputs and counts.

    Args:
        target: Judges.

    Attributes:
        inputs: How many there were.
        understood: How many of them were.
        slowest: The most seconds of processor time that one took.
    """

    def __init__(self, target: Target) -> None:
        self._judge = target.judge
        self.inputs = self.understood = 0
        self.slowest = 0.0

    def __call__(self, data: bytes) -> None:
        """Judge one.

        Raises:
            Exception: Whatever the judge raises, with the input as a note.
        """
        before = time.thread_time()
        try:
            self.understood += self._judge(data)
            took = time.thread_time() - before
            assert took < SLOWEST, f"it took {took:.1f} s"
        except Exception as problem:
            problem.add_note(f"the input: {data!r}")
            raise
        self.inputs += 1
        self.slowest = max(self.slowest, took)

    def __str__(self) -> str:
        """Write what the program prints."""
        return f"{self.inputs} {self.understood} {self.slowest * 1e3:.1f}"


def mutations(seeds: tuple[bytes, ...], seed: int) -> Iterator[bytes]:
    """Make one mutation of the seeds after the other, for ever, always the same for the same seed."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            _mutate(data, chance, seeds)
        yield bytes(data[:LONGEST])


def _mutate(data: bytearray, chance: random.Random, seeds: tuple[bytes, ...]) -> None:
    """Change one place: what stands there goes, or stays, and something else comes, or nothing."""
    at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 16))
    match chance.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at : at + 1] = chance.choice(_SPECIAL)
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = chance.randbytes(length)
        case 4:
            data[at:at] = data[at : at + length]
        case 5:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at : at + length * chance.randrange(2)] = other[start : start + 4 * length]
        case 6:
            del data[at:]


def _blind(target: Target, tally: Tally, count: int, seed: int, until: float) -> None:
    for data in mutations(target.seeds, seed):
        tally(data)
        if tally.inputs >= count or (tally.inputs % 64 == 0 and time.monotonic() > until):
            return


def _hypothesis(target: Target, tally: Tally, count: int, seed: int, until: float) -> None:
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415  # 0.5 s that the other engines do without
    from hypothesis import seed as seeded  # noqa: PLC0415
    from hypothesis import strategies as some  # noqa: PLC0415

    # Text as it is, pieces of what is understood, and anything.
    text = some.text().map(lambda each: each.encode("utf-8", "surrogatepass"))
    pieces = some.lists(some.sampled_from(target.seeds) | some.binary(max_size=20)).map(b"".join)

    @seeded(seed)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pieces | text | some.binary())
    def judge(data: bytes) -> None:
        if time.monotonic() < until:
            tally(data[:LONGEST])

    judge()


def _atheris(name: str, count: int, seed: int, until: float) -> None:
    """It never returns: libFuzzer ends the process, and so do we when there was enough."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["echosvc", "echosvc_sockperf"]):
        target = TARGETS[name]()
    tally = Tally(target)
    corpus = Path("corpus")
    corpus.mkdir()
    for number, each in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(each)

    def one(data: bytes) -> None:
        tally(data)
        if tally.inputs >= count or time.monotonic() > until:
            sys.stdout.write(f"{tally}\n")
            sys.stdout.flush()
            os._exit(0)

    atheris.Setup([sys.argv[0], f"-seed={seed}", f"-max_len={LONGEST}", "-verbosity=0", "corpus"], one)
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    """Do what the command line says, in the current directory, which is left full of files."""
    engine, name, count, seed, seconds, *without = arguments
    for promise in without:
        switch_off(promise)
    until = time.monotonic() + float(seconds)
    if engine == "atheris":
        _atheris(name, int(count), int(seed), until)
    target = TARGETS[name]()
    tally = Tally(target)
    run = {"blind": _blind, "hypothesis": _hypothesis}[engine]
    run(target, tally, int(count), int(seed), until)
    sys.stdout.write(f"{tally}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
