"""What is promised of input that nobody foresaw: every parser takes it or refuses it in words, and the service goes on."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.hold.clients import IPV4, answers, connect, in_threads
from tests.hold.fuzzer import mutations
from tests.hold.parsers import TARGETS
from tests.hold.promise import Broken, kept, promise
from tests.hold.run import Run
from tests.hold.service import environment, without

__all__ = ["mutated_input", "mutated_traffic"]

#: How many mutations each parser meets in the long run: few of those for which a file is read.
COUNTS = {
    "proxy": 350_000,
    "control": 250_000,
    "sockperf": 250_000,
    "target": 120_000,
    "networks": 20_000,
    "quotes": 20_000,
    "endpoint": 15_000,
    "config": 10_000,
}

#: The least that is enough, for a long run and a short one.
AT_LEAST = {True: 1_000_000, False: 250_000}

#: Processes at once.
AT_ONCE = 3

#: Where they start, so that each run is the same.
SEED = 25

#: Seconds after which a parser is left: several times what its number takes, since other programs may run beside it.
SECONDS = 150.0

MIB = 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One parser and whoever makes its input.

    Attributes:
        engine: As `tests.hold.fuzzer` names it.
        target: Likewise.
        count: How many inputs.
    """

    engine: str
    target: str
    count: int


@promise(
    "T25",
    "mutations of what they understand leave every parser of ours in one piece, whole or cut in two:"
    " PROXY headers, control messages, endpoints, targets, TOML, networks, quotes, the example's messages",
    deadline=900,
    unguarded="^proxy by",
)
def mutated_input(run: Run) -> str:
    """Our own mutations for the number, atheris' for the corners that need code to be seen, hypothesis' for the rest."""
    jobs = [Job("blind", name, count if run.long else count // 4) for name, count in COUNTS.items()]
    others = [engine for engine in ("hypothesis", "atheris") if find_spec(engine)]
    few = {"hypothesis": 200, "atheris": 5000}
    jobs += [Job(engine, name, few[engine] * (20 if run.long else 1)) for engine in others for name in COUNTS]
    kept(COUNTS.keys() == TARGETS.keys(), "not every parser has a number")
    done = in_threads(lambda number: _fuzz(run, jobs[number]), count=len(jobs), at_once=AT_ONCE)
    totals = {
        engine: sum(tally[0] for job, tally in zip(jobs, done, strict=True) if job.engine == engine)
        for engine in ("blind", *others)
    }
    each = [
        f"{job.target} {tally[0]} ({tally[1] / tally[0]:.0%} understood)"
        for job, tally in zip(jobs, done, strict=True)
        if job.engine == "blind"
    ]
    missing = "".join(
        f", {engine} NOT TRIED: it is not installed"
        for engine in ("hypothesis", "atheris")
        if engine not in others
    )
    figures = (
        f"{totals['blind']} mutations: {', '.join(each)}; {', '.join(f'{totals[engine]} by {engine}' for engine in others)}{missing};"
        f" seed {SEED}, 0 faults, the slowest took {max(tally[2] for tally in done):.0f} ms"
    )
    kept(totals["blind"] >= AT_LEAST[run.long], f"{figures}: too few")
    kept(
        all(tally[1] for job, tally in zip(jobs, done, strict=True) if job.engine == "blind"),
        f"{figures}: one understands nothing",
    )
    return figures


def _fuzz(run: Run, job: Job) -> tuple[int, int, float]:
    """Run one job; return how many inputs there were, how many were understood, and the most milliseconds for one.

    Raises:
        Broken: A parser did what it must not.
    """
    directory = run.directory / f"{job.engine}-{job.target}"
    directory.mkdir()
    run.step = f"{job.target} by {job.engine}"
    command = [sys.executable, "-m", "tests.hold.fuzzer", job.engine, job.target, str(job.count), str(SEED)]
    ours = {**environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [*command, str(SECONDS), *filter(None, [without()])],
        cwd=directory,
        env=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        run.using(contextlib.ExitStack()).callback(process.kill)  # which does nothing if it has ended
        said, problem = process.communicate()
    if process.returncode:
        raise Broken(f"{job.target} by {job.engine}: {_last_words(problem)}")
    inputs, understood, slowest = said.split()
    return int(inputs), int(understood), float(slowest)


def _last_words(problem: str) -> str:
    """Find in a traceback what was wrong and with which input."""
    found = [line for line in problem.splitlines() if re.match(r"\w*(Error|Exception)\b|the input: ", line)]
    return " / ".join(dict.fromkeys(found)) or problem[-500:]


@promise(
    "T25-wire",
    "mutated PROXY headers and datagrams leave the running service in one piece: no traceback, no memory",
    deadline=300,
    unguarded="Traceback|Unhandled",
)
def mutated_traffic(run: Run) -> str:
    """What comes back of a stream is what stood behind the header, or nothing; of a datagram, the datagram."""
    server = run.serve("--listen", f"echo=haproxy:tcp:0:interface={IPV4}")
    tcp = {each.host: each.port for each in server.listening(3) if each.transport == "TCP"}
    behind, plain = tcp.pop(IPV4), next(iter(tcp.values()))
    seeds = TARGETS["proxy"]().seeds
    connections, datagrams = (20_000, 200_000) if run.long else (2_000, 10_000)
    segments = list(itertools.islice(mutations(seeds, SEED), connections))

    def is_borne(number: int) -> int:
        came = _exchange(behind, segments[number])
        kept(segments[number].endswith(came), f"{segments[number]!r} was answered with {came!r}")
        return len(came)

    def echoed(begin: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.connect((IPV4, server.udp))
            for payload in itertools.islice(mutations(seeds, begin), datagrams // AT_ONCE):
                sock.send(payload)
                came = sock.recv(65535)
                kept(came == payload, f"the datagram {payload!r} was answered with {came!r}")

    for number in range(100):  # what every process allocates once is there before memory is measured
        is_borne(number)
    before = server.resident()
    run.step = "connections"
    answered = sum(size > 0 for size in in_threads(is_borne, count=connections, at_once=8))
    run.step = "datagrams"
    in_threads(echoed, count=AT_ONCE, at_once=AT_ONCE)
    growth = server.resident() - before
    figures = (
        f"{connections} connections with mutated PROXY headers, {answered} of them answered; {datagrams} datagrams of"
        f" 0 to {max(map(len, segments))} bytes, all echoed; {growth / MIB:+.1f} MiB"
    )
    kept(0 < answered < connections, figures)
    kept(growth <= 2 * MIB, figures)
    answers(plain, server.udp)
    return figures


def _exchange(port: int, data: bytes) -> bytes:
    """Send a stream, end it, and return what came back until it ended or broke.

    Raises:
        Broken: It was left open.
    """
    came = bytearray()
    with contextlib.suppress(OSError), connect(IPV4, port) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        try:
            while piece := sock.recv(4096):
                came += piece
        except TimeoutError as problem:
            raise Broken(
                f"the service keeps a connection open that had said {data!r}, and its end"
            ) from problem
    return bytes(came)
