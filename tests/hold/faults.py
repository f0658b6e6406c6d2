"""What is promised when the system fails: a call that returns an error harms at most whom it was made for.

The errors are injected into the running service by strace(1), which makes a call return one in place of being made.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hold.calls import CALLS, PROXY_HOST, REFUSED, TLS_HOST, Call, Place, one_over_tls
from tests.hold.clients import IPV4, connect, one_datagram, receive_exactly
from tests.hold.listeners import _write_certificates
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server, trouble

__all__ = ["failing_calls"]

#: Echoes over each transport after every fault.
ECHOES = 100

#: How often a fault is injected, and seconds after which the next one has its turn anyway.
OFTEN, SECONDS = 20, 4.0

#: Seconds for the service to close what its clients have closed.
SETTLE = 3.0

#: When a call fails, as strace has it: FIRST..LAST+STEP. It ends by itself: a service that strace leaves in the middle of
#: an injected call is told that there is no such call (ENOSYS).
FIRST = "1..1"
EVERY_FIFTH = f"5..{5 * OFTEN}+5"
BOTH = f"1..{5 * OFTEN - 4}+5"

#: How many errors there must be at least, and how often they are injected.
AT_LEAST = {False: (80, 1500), True: (100, 2000)}


@promise(
    "T23",
    f"a system call that fails harms nobody else: {ECHOES} echoes over TCP and UDP after each, no traceback, no descriptor lost",
    deadline=900,
    stock=r"Traceback|Unhandled",
    unguarded="Traceback|Unhandled|Connection refused",
)
def failing_calls(run: Run) -> str:
    """One call and one error after the other, under traffic that makes the call."""
    if shutil.which("strace") is None:
        raise Skipped("needs strace")
    server, place = _serve(run)
    torture = _Torture(server, place, run.directory / "calls")
    with connect(IPV4, place.tcp) as idle:
        torture.check("at the start")
        for call, error in _chosen(run, place):
            for when in (FIRST, EVERY_FIFTH) if run.long else (BOTH,):
                run.step = f"{call.names} fails with {error}"
                torture.inject(call, error, when)
        idle.sendall(b"still there")
        kept(receive_exactly(idle, 11) == b"still there", f"{torture}; an idle connection was cut")
    errors, often = AT_LEAST[run.long]
    kept(torture.errors >= errors and torture.injected >= often, f"{torture}: too few")
    return str(torture)


def _serve(run: Run) -> tuple[Server, Place]:
    """Start it with every kind of listener."""
    if run.control:
        server = run.serve()
        return server, Place(server.pid, server.tcp, server.udp)
    directory = run.directory / "sockets"
    directory.mkdir()
    ways = [
        f"unix:{directory}/stream",
        f"unixgram:{directory}/datagrams",
        f"haproxy:tcp:0:interface={PROXY_HOST}",
        f"tls:0:cert={directory}/server.crt:key={directory}/server.key:interface={TLS_HOST}",
    ]
    _write_certificates(directory)
    server = run.serve("--deny", REFUSED, *(f"--listen=echo={way}" for way in ways))
    found = {each.host: each.port for each in server.listening(4) if each.transport == "TCP"}
    tls, proxy = found.pop(TLS_HOST, None), found.pop(PROXY_HOST)
    return server, Place(server.pid, found.popitem()[1], server.udp, directory, tls, proxy)


def _chosen(run: Run, place: Place) -> Iterator[tuple[Call, str]]:
    """All; or, for a short look, of each call every other one."""
    for call in CALLS:
        if place.has(call.listener):
            for error in call.errors[:: 1 if run.long else 2]:
                yield call, error


class _Torture:
    """Injects faults, checks the service after each, and counts.

    Args:
        server: The service.
        place: Where it is reached.
        calls: A file for strace.

    Attributes:
        errors: Combinations of a call and an error that were injected at least once.
        injected: How often in all.
    """

    def __init__(self, server: Server, place: Place, calls: Path) -> None:
        self._server = server
        self._place = place
        self._calls = calls
        self._descriptors: int | None = None
        self._recovery = 0.0
        self._unreached: list[str] = []
        self._done: set[tuple[str, str, str]] = set()
        self.injected = 0

    @property
    def errors(self) -> int:
        """How many combinations of a call and an error there were."""
        return len(self._done)

    def __str__(self) -> str:
        """Write the figures."""
        unreached = f"; never called: {', '.join(self._unreached)}" if self._unreached else ""
        return (
            f"{self.errors} combinations of a call and an error, {self.injected} injected, {ECHOES}/{ECHOES} TCP and UDP"
            f" echoes after each, the first after {self._recovery * 1e3:.0f} ms at most{unreached}"
        )

    def inject(self, call: Call, error: str, when: str) -> None:
        """Have a call fail under traffic, and see what is left.

        Raises:
            Broken: The service has not borne it.
            Skipped: strace may not do this here.
        """
        name = f"{call.names}: {error} ({when})"
        often = 1 if when == FIRST else OFTEN
        with self._failing(call, error, when):
            until = time.monotonic() + SECONDS
            while (count := self._count()) < often and time.monotonic() < until:
                call.traffic(self._place)
        count = self._count()
        self.injected += count
        if count:
            self._done.add((call.names, error, call.listener))
        else:
            self._unreached.append(name)
        if call.leaks:
            self._descriptors = None
        self.check(name)

    @contextlib.contextmanager
    def _failing(self, call: Call, error: str, when: str) -> Iterator[None]:
        # A "?" before a name: it need not exist on this machine.
        names = ",".join(f"?{name}" for name in call.names.split(","))
        command = ["strace", "-f", "-o", str(self._calls), "-p", str(self._server.pid)]
        command += ["-e", f"trace={names}", "-e", f"inject={names}:error={error}:when={when}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            try:
                assert strace.stderr is not None
                said = strace.stderr.readline()
                if "attached" not in said:
                    raise Skipped(f"strace cannot attach: {said.strip()}")
                yield
            finally:
                strace.terminate()  # it lets the service go before it ends

    def _count(self) -> int:
        return self._calls.read_text(errors="replace").count("(INJECTED)")

    def check(self, after: str) -> None:
        """Echo, and look at the log and the descriptors.

        Args:
            after: What came before.

        Raises:
            Broken: Something is wrong.
        """
        kept(self._server.alive(), f"{self}; the service died of {after}")
        try:
            self._echo()
        except (Broken, OSError) as problem:
            raise Broken(f"{self}; after {after}: {problem}") from problem
        found = trouble(self._server.log())
        kept(found is None, f"{self}; after {after} the log has: {found}")
        if self._descriptors is None:
            self._descriptors = self._server.descriptors()
        until = time.monotonic() + SETTLE
        while (open_now := self._server.descriptors()) > self._descriptors:
            lost = open_now - self._descriptors
            kept(time.monotonic() < until, f"{self}; after {after} {lost} descriptors are lost")
            time.sleep(0.01)

    def _echo(self) -> None:
        started = time.monotonic()
        with connect(IPV4, self._place.tcp) as sock:
            for number in range(ECHOES):
                word = f"{number:08d}".encode()
                sock.sendall(word)
                if receive_exactly(sock, len(word)) != word:
                    raise Broken(f"echo {number} over TCP was wrong")
                if number == 0:
                    self._recovery = max(self._recovery, time.monotonic() - started)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)  # it has closed, too
        for number in range(ECHOES):
            word = f"{number:08d}".encode()
            if one_datagram(IPV4, self._place.udp, word) != word:
                raise Broken(f"datagram {number} was not answered")
        if self._place.tls is not None:
            one_over_tls(self._place)
