"""What `echosvc ping` does, once it is known whom to ping and how."""

from __future__ import annotations

import os
import time
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from echosvc.cli._options import CONNECT_TIMEOUT
from echosvc.cli._output import Output
from echosvc.client.connection import connect_datagram, connect_stream
from echosvc.client.datagram import TAG_SIZE, DatagramEchoClient
from echosvc.client.stream import EchoClient
from echosvc.client.target import Target
from echosvc.errors import ConnectionEnded, EchoMismatch, EchosvcError, ExitCode, NoReply
from echosvc.measure import RoundTrips, next_slot
from echosvc.transports import display

__all__ = ["Pinger", "Plan", "ping_target"]


@attrs.frozen(kw_only=True)
class Plan:
    """What to send and when.

    Attributes:
        count: How many probes; None for until Ctrl-C.
        interval: Seconds between them.
        size: Bytes of each on the wire, a datagram's tag included.
        wait: Seconds to wait for each.
    """

    count: int | None
    interval: float
    size: int
    wait: float


class Probes(Protocol):
    """What carries probes, and counts the echoes that are no answer in time."""

    @property
    def payload(self) -> int:
        """Bytes that a probe of the plan's size has for itself."""

    @property
    def irregular(self) -> dict[str, int]:
        """How many echoes were ``late``, ``duplicate`` or ``foreign``."""

    def send(self, payload: bytes) -> Deferred[bytes]:
        """Send a probe. Fires with its payload; fails with `NoReply` after the plan's wait."""


class DatagramProbes:
    """Probes over UDP."""

    def __init__(self, client: DatagramEchoClient, plan: Plan) -> None:
        self.payload = plan.size - TAG_SIZE
        self._client = client
        self._plan = plan

    @property
    def irregular(self) -> dict[str, int]:
        """As the client counted them."""
        client = self._client
        return {"late": client.late, "duplicate": client.duplicate, "foreign": client.foreign}

    def send(self, payload: bytes) -> Deferred[bytes]:
        """Send a datagram."""
        return self._client.echo(payload, self._plan.wait)


class StreamProbes:
    """Probes over one TCP connection, where nothing is lost but much may be late."""

    def __init__(self, client: EchoClient, plan: Plan, clock: IReactorTime, peer: str) -> None:
        self.payload = plan.size
        self.irregular = {"late": 0}
        self._client = client
        self._plan = plan
        self._clock = clock
        self._peer = peer

    def send(self, payload: bytes) -> Deferred[bytes]:
        """Send a stretch of the stream. Its echo is compared even when it is late."""
        in_time: Deferred[bytes] = Deferred()
        no_reply = NoReply(self._peer, self._plan.wait)
        give_up = self._clock.callLater(self._plan.wait, in_time.errback, no_reply)

        def settled(result: bytes | Failure) -> None:
            if give_up.active():
                give_up.cancel()
                in_time.callback(result)
            elif not isinstance(result, Failure):
                self.irregular["late"] += 1

        self._client.echo(payload).addBoth(settled)
        return in_time


class Pinger:
    """Sends probes on schedule, and writes a line for each and a summary.

    Args:
        probes: Carries them.
        plan: What to send and when.
        clock: Keeps time.
        output: Where lines go.
        target: Who is asked, as the user wrote it.
        peer: Who is asked, as an address.

    Attributes:
        done: Fires with the exit code after the summary was written. Cancelling it (Ctrl-C) ends the
            pinging and writes the summary; what is still on the way then counts as lost. Fails with
            `OutputError` if a line could not be written.
    """

    def __init__(
        self, probes: Probes, plan: Plan, clock: IReactorTime, output: Output, *, target: str, peer: str
    ) -> None:
        self.done: Deferred[ExitCode] = Deferred(lambda _: self._finish())
        self._probes = probes
        self._plan = plan
        self._clock = clock
        self._output = output
        self._target = target
        self._peer = peer
        self._trips = RoundTrips()
        self._start = clock.seconds()
        self._next: IDelayedCall | None = None
        self._waiting = 0
        self._problem: EchosvcError | None = None  # the gravest so far: the latest, but wrong bytes stay

    def start(self, carrier: str) -> None:
        """Write the header and send the first probe.

        Args:
            carrier: What carries the probes, for the header.
        """
        self._say(f"PING {self._target} ({self._peer}) over {carrier}: {self._plan.size} bytes")
        if not self.done.called:
            self._probe(0)

    def end(self, problem: EchosvcError) -> None:
        """End early: there is no connection any more.

        Args:
            problem: Why.
        """
        if self.done.called:
            return
        if not isinstance(self._problem, EchoMismatch):  # else a probe's line has said so
            self._say(str(problem))
        self._remember(problem)
        self._finish()

    def _probe(self, slot: int) -> None:
        self._trips.sent += 1
        self._waiting += 1
        number = self._trips.sent
        payload = os.urandom(self._probes.payload)
        sent_at = time.perf_counter_ns()
        answer = self._probes.send(payload).addCallbacks(
            self._came_back, self._did_not, (number, sent_at), errbackArgs=(number,)
        )
        if self._plan.count is None or number < self._plan.count:
            elapsed = self._clock.seconds() - self._start
            slot = next_slot(slot, elapsed, self._plan.interval)
            delay = max(0.0, slot * self._plan.interval - elapsed)
            self._next = self._clock.callLater(delay, self._probe, slot)
        else:
            self._next = None
        answer.addCallback(self._settled).addErrback(self._give_up)

    def _came_back(self, _: bytes, number: int, sent_at: int) -> None:
        seconds = (time.perf_counter_ns() - sent_at) / 1e9
        self._trips.add(seconds)
        self._say(f"{self._plan.size} bytes from {self._peer}: seq={number} time={_ms(seconds)} ms")

    def _did_not(self, failure: Failure, number: int) -> None:
        if not isinstance(failure.value, EchosvcError):
            failure.raiseException()
        self._remember(failure.value)
        self._say(f"seq={number}: {failure.value}")

    def _settled(self, _: None) -> None:
        self._waiting -= 1
        if not self._waiting and self._next is None:
            self._finish()

    def _remember(self, problem: EchosvcError) -> None:
        if not isinstance(self._problem, EchoMismatch):
            self._problem = problem

    def _say(self, text: str) -> None:
        """Write a line; a failure to do so ends everything."""
        if not self.done.called:
            try:
                self._output.line(text)
            except EchosvcError:
                self._give_up(Failure())

    def _finish(self) -> None:
        """Write the summary and report the exit code."""
        if self.done.called:
            return
        self._stop_probing()
        for line in self._summary():
            self._say(line)
        if not self.done.called:
            self.done.callback(self._code())

    def _give_up(self, failure: Failure) -> None:
        self._stop_probing()
        if not self.done.called:
            self.done.errback(failure)

    def _stop_probing(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _summary(self) -> list[str]:
        trips = self._trips
        counts = [f"{trips.sent} sent", f"{trips.received} received", f"{100 * trips.loss:.3g}% lost"]
        counts += [f"{count} {what}" for what, count in self._probes.irregular.items() if count]
        counts += [f"time {1000 * (self._clock.seconds() - self._start):.0f} ms"]
        lines = ["", f"--- {self._target} echo statistics ---", ", ".join(counts)]
        if trips.received:
            figures = (trips.minimum, trips.mean, trips.maximum, trips.mdev)
            lines.append(f"rtt min/avg/max/mdev = {'/'.join(map(_ms, figures))} ms")
        return lines

    def _code(self) -> ExitCode:
        if self._problem is None:
            return ExitCode.NO_REPLY if self._trips.lost else ExitCode.OK
        if isinstance(self._problem, EchoMismatch) or not self._trips.received:
            return self._problem.exit_code
        return ExitCode.NO_REPLY


async def ping_target(reactor: Any, target: Target, plan: Plan, output: Output) -> ExitCode:
    """Ping until the plan or the user ends it.

    Args:
        reactor: Runs it.
        target: The echo service.
        plan: What to send and when.
        output: Where lines go.

    Returns:
        Whether everything came back in time and the same.

    Raises:
        EchosvcError: There was no connection at all, or a line could not be written.
    """
    over_tcp = target.kind == "tcp"
    pinger = await (_over_stream if over_tcp else _over_datagrams)(reactor, target, plan, output)
    pinger.start(target.kind.upper())
    return await pinger.done


async def _over_stream(reactor: Any, target: Target, plan: Plan, output: Output) -> Pinger:
    client = await connect_stream(target, reactor=reactor, timeout=CONNECT_TIMEOUT)
    address: Any = client.transport.getPeer()
    peer = display(address.host, address.port)
    probes = StreamProbes(client, plan, reactor, peer)
    pinger = Pinger(probes, plan, reactor, output, target=target.where, peer=peer)
    client.when_gone().addCallback(lambda why: pinger.end(client.problem or ConnectionEnded(why)))
    return pinger


async def _over_datagrams(reactor: Any, target: Target, plan: Plan, output: Output) -> Pinger:
    client = await connect_datagram(target, reactor=reactor, timeout=CONNECT_TIMEOUT)
    probes = DatagramProbes(client, plan)
    return Pinger(probes, plan, reactor, output, target=target.where, peer=display(*client.peer))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f}"
