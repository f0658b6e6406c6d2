"""What ping sends and when, and what it says in the end, without a network."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.cli._output import Output
from echosvc.cli._pinging import Pinger, Plan, StreamProbes
from echosvc.client import EchoClient
from echosvc.errors import (
    ConnectionEnded,
    EchoMismatch,
    EchosvcError,
    ExitCode,
    NoReply,
    OutputError,
    Refused,
)
from tests.client.doubles import CLOSED, on_a_wire


class Page(Output):
    """Standard output as lines; fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.full = False

    def line(self, text: str) -> None:
        """Take a line."""
        if self.full:
            raise OutputError("full")
        self.lines.append(text)


class Service:
    """Carries probes; the test answers them."""

    payload = 8

    def __init__(self, clock: Clock) -> None:
        self.irregular: dict[str, int] = {}
        self.answers: list[Deferred[bytes]] = []
        self.times: list[float] = []
        self._clock = clock

    def send(self, payload: bytes) -> Deferred[bytes]:
        """Take a probe."""
        self.times.append(self._clock.seconds())
        self.answers.append(Deferred())
        return self.answers[-1]


class PingerTests(SynchronousTestCase):
    """One ping from start to summary."""

    def ping(self, count: int | None = None, interval: float = 1.0) -> None:
        """Start."""
        self.clock = Clock()
        self.page = Page()
        self.service = Service(self.clock)
        plan = Plan(count=count, interval=interval, size=8, wait=5)
        self.pinger = Pinger(self.service, plan, self.clock, self.page, target="there:7", peer="192.0.2.1:7")
        self.pinger.start("TCP")

    def answer(self, number: int, problem: EchosvcError | None = None) -> None:
        """Answer a probe."""
        answer = self.service.answers[number - 1]
        if problem is None:
            answer.callback(b"")
        else:
            answer.errback(problem)

    def result(self) -> tuple[ExitCode, str]:
        """What it ended with, and the line of the summary that counts."""
        code = self.successResultOf(self.pinger.done)
        self.assertEqual([], self.clock.getDelayedCalls())
        return code, next(line for line in self.page.lines if " sent, " in line)

    def test_all_back(self) -> None:
        """It ends with the summary when the last probe is answered."""
        self.ping(count=2)
        self.answer(1)
        self.clock.advance(1)
        self.assertNoResult(self.pinger.done)
        self.answer(2)

        self.assertEqual((ExitCode.OK, "2 sent, 2 received, 0% lost, time 1000 ms"), self.result())
        self.assertEqual("PING there:7 (192.0.2.1:7) over TCP: 8 bytes", self.page.lines[0])
        self.assertTrue(re.fullmatch(r"8 bytes from 192\.0\.2\.1:7: seq=1 time=\S+ ms", self.page.lines[1]))

    def test_schedule(self) -> None:
        """Probes leave at whole intervals after the start, however late the timer is served."""
        self.ping(count=5, interval=10)
        for seconds in (10.5, 9.5, 10, 15, 4.9, 0.1):
            self.clock.advance(seconds)

        self.assertEqual([0, 10.5, 20, 30, 45], self.service.times)
        for number in range(1, 6):
            self.answer(number)
        self.result()

    def test_stopped_process(self) -> None:
        """A process that was stopped for a minute does not make up for it in a burst."""
        self.ping()
        self.clock.advance(60)
        self.clock.advance(1)

        self.assertTrue(len(self.service.times) <= 4, self.service.times)
        self.pinger.done.cancel()
        self.result()

    def test_interrupted(self) -> None:
        """Ctrl-C prints the summary; what is on the way counts as lost."""
        self.ping()
        self.answer(1)
        self.clock.advance(1)
        self.pinger.done.cancel()

        code, counts = self.result()
        self.assertEqual(ExitCode.NO_REPLY, code)
        self.assertTrue(counts.startswith("2 sent, 1 received, 50% lost"))
        shown = len(self.page.lines)
        self.answer(2)
        self.assertEqual(shown, len(self.page.lines))

    def test_loss(self) -> None:
        """Some answers and some silence are a loss, even if a probe was refused."""
        self.ping(count=3, interval=0.001)
        self.clock.pump([0.001, 0.001])
        self.answer(1)
        self.answer(2, NoReply("192.0.2.1:7", 5))
        self.answer(3, Refused("192.0.2.1:7"))

        code, counts = self.result()
        self.assertEqual(ExitCode.NO_REPLY, code)
        self.assertTrue(counts.startswith("3 sent, 1 received, 66.7% lost"))
        self.assertIn("seq=2: no reply from 192.0.2.1:7 within 5 s", self.page.lines)

    def test_wrong_bytes_count_most(self) -> None:
        """One wrong answer decides the exit code, whatever else happens."""
        self.ping(count=2, interval=0.001)
        self.clock.advance(0.001)
        self.answer(1, EchoMismatch(3, b"a", b"b"))
        self.answer(2, NoReply("192.0.2.1:7", 5))

        self.assertEqual(ExitCode.WRONG_BYTES, self.result()[0])

    def test_irregular(self) -> None:
        """What came late, twice or from elsewhere is in the summary."""
        self.ping(count=1)
        self.service.irregular = {"late": 1, "duplicate": 0, "foreign": 2}
        self.answer(1)

        self.assertEqual("1 sent, 1 received, 0% lost, 1 late, 2 foreign, time 0 ms", self.result()[1])

    def test_connection_ends(self) -> None:
        """When the connection ends, that is said once, and the summary follows."""
        self.ping()
        self.answer(1)
        for _ in range(2):
            self.pinger.end(ConnectionEnded("gone"))

        self.assertEqual(ExitCode.NO_REPLY, self.result()[0])
        self.assertEqual(1, self.page.lines.count("gone"))

    def test_output_fails(self) -> None:
        """When a line cannot be written, nothing more is sent or said."""
        self.ping(interval=10)
        self.page.full = True
        self.answer(1)

        self.failureResultOf(self.pinger.done, OutputError)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.pinger.end(ConnectionEnded("gone"))

    def test_summary_fails(self) -> None:
        """When the summary cannot be written, that is how it ends."""
        self.ping()
        self.page.full = True
        self.pinger.done.cancel()

        self.failureResultOf(self.pinger.done, OutputError)

    def test_header_fails(self) -> None:
        """When the header cannot be written, nothing is sent."""
        self.patch(Page, "line", Output.line)
        self.patch(Page, "write", fail)
        self.ping()

        self.failureResultOf(self.pinger.done, OutputError)
        self.assertEqual([], self.service.times)

    def test_bug(self) -> None:
        """What is not a matter of the network is not counted as a loss."""
        self.ping()
        self.service.answers[0].errback(ZeroDivisionError())

        self.failureResultOf(self.pinger.done, ZeroDivisionError)


def fail(*_: object) -> None:
    """Stand in for a write to a full disk."""
    raise OutputError("full")


class StreamProbesTests(SynchronousTestCase):
    """Probes over TCP."""

    def setUp(self) -> None:
        """Connect."""
        self.clock = Clock()
        self.client = EchoClient()
        on_a_wire(self.client)
        plan = Plan(count=None, interval=1, size=8, wait=5)
        self.probes = StreamProbes(self.client, plan, self.clock, "192.0.2.1:7")

    def test_late(self) -> None:
        """A late echo is no answer, but it is compared, and counted as late."""
        answer = self.probes.send(b"one")
        self.clock.advance(5)
        self.failureResultOf(answer, NoReply)
        second = self.probes.send(b"two")

        self.client.dataReceived(b"onetwo")

        self.assertEqual(b"two", self.successResultOf(second))
        self.assertEqual({"late": 1}, self.probes.irregular)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_never(self) -> None:
        """A probe that was given up and then lost with the connection is told of once."""
        answer = self.probes.send(b"one")
        self.clock.advance(5)
        self.failureResultOf(answer, NoReply)
        self.client.connectionLost(CLOSED)

        self.assertEqual({"late": 0}, self.probes.irregular)
