"""Tests of the harness's own parts: what it reads, decides and prints. The promises themselves are not run."""

from __future__ import annotations

import contextlib
import errno
import io
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.hold import __main__ as command
from tests.hold import service
from tests.hold.__main__ import PROMISES, main
from tests.hold.carriers import Carrier, Place, over
from tests.hold.clients import in_threads
from tests.hold.datagram import sizes
from tests.hold.kernel import Connection, connection, held_memory, parse_connection, parse_memory
from tests.hold.promise import (
    KEEPS,
    Broken,
    Promise,
    Result,
    Skipped,
    carried,
    kept,
    promise,
    select,
    summary,
)
from tests.hold.run import Run, Subject
from tests.hold.runner import execute
from tests.hold.service import Listening, listening, trouble
from tests.hold.unguarded import GUARDS
from tests.hold.unix import OLD_KERNEL
from tests.waiting import until

#: Switches off what it is told, each in a child, so that all is imported once; prints how many there were.
_SWITCH_OFF = """
import os, sys, traceback
from tests.hold.unguarded import switch_off
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            switch_off(name)
        except BaseException:
            sys.stderr.write(name + ": " + traceback.format_exc())
            sys.stderr.flush()
        os._exit(0)
    os.waitpid(child, 0)
print(len(sys.argv) - 1)
"""


def _names(listed: str) -> list[str]:
    """What --list names."""
    return [line.split()[0] for line in listed.splitlines()]


def returning(figures: str, *, stock: str | None = None, xinetd: str | None = None) -> Promise:
    """A promise that is kept at once."""

    @promise("X1", "something", deadline=5, stock=stock, xinetd=xinetd)
    def keep(run: Run) -> str:
        return figures

    return keep


def raising(problem: Exception, *, stock: str | None = None) -> Promise:
    """A promise that ends with an exception at once."""

    @promise("X1", "something", deadline=5, stock=stock)
    def keep(run: Run) -> str:
        raise problem

    return keep


class LogTests(SynchronousTestCase):
    """What is read from a server's log."""

    def test_listening(self) -> None:
        """Every line about a listener is understood, with and without a note after the port."""
        log = (
            "2026-01-02T03:04:05+0000 [-] twistd 26.10.0 starting up.\n"
            "2026-01-02T03:04:05+0000 [echosvc#info] echo (RFC 862) listens on TCP [::]:40123 (IPv6 and IPv4)\n"
            "2026-01-02T03:04:05+0000 [echosvc#info] echo (RFC 862) listens on UDP 127.0.0.1:7\n"
        )

        self.assertEqual([Listening("TCP", "[::]", 40123), Listening("UDP", "127.0.0.1", 7)], listening(log))

    def test_stopping_is_not_listening(self) -> None:
        """A line that names a port for another reason is not taken for a listener."""
        self.assertEqual([], listening("TCP [::]:40123 (IPv6 and IPv4): stopped after 3 connections\n"))

    def test_trouble(self) -> None:
        """The first line with a traceback or an unhandled error is found."""
        self.assertEqual(
            "[-] Unhandled Error", trouble("all is well\n[-] Unhandled Error\n\tTraceback (most recent…\n")
        )

    def test_no_trouble(self) -> None:
        """A healthy log has nothing to be found."""
        self.assertIsNone(trouble("echo (RFC 862) listens on TCP [::]:40123\nSIGTERM: stopping\n"))


class KernelTests(SynchronousTestCase):
    """What the kernel is asked about connections."""

    def setUp(self) -> None:
        """Make both ends of one."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.client = socket.create_connection(self.listener.getsockname())
        self.addCleanup(self.client.close)
        self.server, _ = self.listener.accept()
        self.addCleanup(self.server.close)
        self.there = self.client.getsockname()

    def ask(self) -> Connection | None:
        """What it says of the server's end."""
        return connection(self.listener.getsockname(), self.there)

    def test_connection(self) -> None:
        """Bytes that nobody has read are counted, and a process holds the socket."""
        self.client.sendall(b"x" * 512)

        self.assertEqual(Connection(unacknowledged=0, unread=512, owned=True), self.ask())

    def test_unacknowledged(self) -> None:
        """Bytes that the peer has no room for are counted."""
        self.server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in until(lambda: False):
                self.server.send(bytes(100_000))
        found = self.ask()

        self.assertTrue(found is not None and found.unacknowledged > 0)

    def test_orphan(self) -> None:
        """A connection that the kernel finishes alone has no owner."""
        self.server.close()
        found = self.ask()

        self.assertFalse(found is None or found.owned)

    def test_gone(self) -> None:
        """Of a connection that there is not, the kernel names the listener, which is not meant."""
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        self.server.close()

        self.assertIsNone(self.ask())

    def test_unknown(self) -> None:
        """Where nobody listens either, there is nothing."""
        self.listener.close()

        self.assertIsNone(connection(("127.0.0.1", 1), self.there))

    def test_refusal(self) -> None:
        """Another error than that is raised."""
        answer = struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -errno.EPERM)

        self.assertRaises(PermissionError, parse_connection, answer)

    def test_memory(self) -> None:
        """What the kernel holds for the server's end is more than what waits there, and is nothing where there is no connection."""
        port = self.listener.getsockname()[1]
        before = held_memory(Place(Carrier.TCP, str(port)))
        self.client.send(bytes(50_000))
        for _ in range(1000):  # until the kernel has brought it
            if held_memory(Place(Carrier.TCP, str(port))) > 50_000:
                break

        self.assertGreater(held_memory(Place(Carrier.TCP, str(port))), 50_000)
        self.assertLess(before, 50_000)
        self.assertEqual(0, held_memory(Place(Carrier.TCP, "1")))

    def test_memory_refused(self) -> None:
        """An error is raised, and the end of the answers is told."""
        refusal = struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -errno.EPERM)

        self.assertRaises(PermissionError, parse_memory, refusal)
        self.assertIsNone(parse_memory(struct.pack("=IHHIIi", 20, 3, 0, 0, 0, 0)))


class ResultTests(SynchronousTestCase):
    """What is printed."""

    def test_line(self) -> None:
        """A result is one line: name, outcome, figures."""
        self.assertEqual(
            "T01 pass 100/100 equal, 800 MB", str(Result("T01", "pass", "100/100 equal, 800 MB"))
        )

    def test_control(self) -> None:
        """The line of a control says who it is, and whether it came out as it must."""
        self.assertEqual(
            [
                "T05 stock Twisted, as it must: 1/21",
                "T05 without its guard, NOT as it must: 21/21",
                "T05 xinetd, skip: not installed",
            ],
            [
                str(Result("T05", "pass", "1/21", Subject.STOCK)),
                str(Result("T05", "fail", "21/21", Subject.UNGUARDED)),
                str(Result("T05", "skip", "not installed", Subject.XINETD)),
            ],
        )

    def test_summary(self) -> None:
        """The last line counts the outcomes."""
        results = [Result("A", "pass", ""), Result("B", "skip", ""), Result("C", "pass", "")]

        self.assertEqual("2 passed, 0 failed, 1 skipped", summary(results))


class SelectTests(SynchronousTestCase):
    """Which promises are run."""

    def names(self, *wanted: str) -> list[str]:
        """The names of what is selected from all promises."""
        return [each.name for each in select(wanted, PROMISES)]

    def test_all(self) -> None:
        """Without a name, every promise is run."""
        self.assertEqual([each.name for each in PROMISES], self.names())

    def test_number(self) -> None:
        """A number means every promise of that number, in any case."""
        names = ("T11-memory", "T11-crowd", "T11-close", "T11-slow", "T11-stuck")

        self.assertEqual([*(each for name in names for each in over(name)), "T11-kernel"], self.names("t11"))

    def test_word(self) -> None:
        """A whole name means that promise alone."""
        self.assertEqual(["T01", "T01-urgent", "T11-close"], self.names("T11-close", "T01"))

    def test_unknown(self) -> None:
        """A name that there is not is an error, even if it begins like one that there is."""
        self.assertRaises(KeyError, self.names, "T1")

    def test_carriers(self) -> None:
        """A promise over each carrier is one of its number, with a name and figures of its own."""
        self.assertEqual(["T07", "T07-tls", "T07-unix", "T07-proxy"], self.names("T07"))
        self.assertEqual(["T07-unix"], self.names("t07-unix"))

        texts = {each.name: each.text for each in PROMISES}
        self.assertIn("10000 connections echo; idle, each costs at most 2 KiB", texts["T07"])
        self.assertIn("connections over TLS echo; idle, each costs at most 16 KiB", texts["T07-tls"])

    def test_names_differ(self) -> None:
        """No two promises have the same name."""
        self.assertEqual(len(PROMISES), len({each.name for each in PROMISES}))


class ExecuteTests(SynchronousTestCase):
    """How a promise is judged."""

    def outcome(self, each: Promise, subject: Subject = Subject.SERVICE) -> tuple[str, str]:
        """Outcome and figures, without the time that was taken."""
        result = execute(each, subject)
        return result.outcome, result.figures.rpartition(", ")[0]

    def test_kept(self) -> None:
        """A promise that returns is kept."""
        self.assertEqual(("pass", "3 of 3"), self.outcome(returning("3 of 3")))

    def test_broken(self) -> None:
        """A promise that says so is broken."""
        self.assertEqual(("fail", "2 of 3"), self.outcome(raising(Broken("2 of 3"))))

    def test_skipped(self) -> None:
        """A promise that this machine cannot show is skipped."""
        self.assertEqual(("skip", "needs root"), self.outcome(raising(Skipped("needs root"))))

    def test_unforeseen(self) -> None:
        """Any other exception breaks the promise, and is shown whole on standard error."""
        self.patch(sys, "stderr", shown := io.StringIO())

        self.assertEqual(("fail", "ValueError: what"), self.outcome(raising(ValueError("what"))))
        self.assertIn("Traceback", shown.getvalue())

    def test_deadline(self) -> None:
        """A promise that takes too long is broken, wherever it waits."""

        @promise("X1", "something", deadline=0.05)
        def hangs(run: Run) -> str:
            threading.Event().wait(60)
            return "never"

        self.assertEqual(("fail", "not through after 0.05 s"), self.outcome(hangs))

    def test_carried(self) -> None:
        """Over each carrier the promise is told the carrier and its figures; only over plain TCP others are held to it."""

        @carried("X1", "something{over}", {Carrier.TCP: 1, Carrier.UNIX: 2}, deadline=5, stock="[12]")
        def says(run: Run, number: int) -> str:
            return f"{run.carrier.value} {number}"

        self.assertEqual(["X1", "X1-unix"], [each.name for each in says])
        self.assertEqual(["something", "something over a UNIX socket"], [each.text for each in says])
        self.assertEqual([("pass", "tcp 1"), ("pass", "unix 2")], [self.outcome(each) for each in says])
        self.assertEqual([{Subject.STOCK}, set()], [set(each.known) for each in says])

    def test_left_behind(self) -> None:
        """What a promise was using is closed when it breaks."""
        closed: list[str] = []

        class Thing:
            def __enter__(self) -> None: ...

            def __exit__(self, *_: object) -> None:
                closed.append("thing")

        @promise("X1", "something", deadline=5)
        def breaks(run: Run) -> str:
            run.using(Thing())
            raise Broken("it")

        self.outcome(breaks)

        self.assertEqual(["thing"], closed)

    def test_control_fails_as_it_must(self) -> None:
        """A control passes by breaking the promise in the way that is known of the stock server."""
        each = raising(Broken("1/21 answered"), stock=r"^1/21")

        self.assertEqual(("pass", "1/21 answered"), self.outcome(each, Subject.STOCK))

    def test_control_fails_otherwise(self) -> None:
        """A control that breaks the promise in another way proves nothing."""
        each = raising(Broken("nobody listens"), stock=r"^1/21")

        self.assertEqual(("fail", "nobody listens"), self.outcome(each, Subject.STOCK))

    def test_control_keeps(self) -> None:
        """A control that keeps the promise shows that the test cannot fail."""
        each = returning("21/21", stock=r"^1/21")

        self.assertEqual(("fail", "keeps it: 21/21"), self.outcome(each, Subject.STOCK))

    def test_control_may_keep(self) -> None:
        """Where it is known of a control that it keeps the promise, it must."""
        self.patch(shutil, "which", lambda name: name)
        each = returning("21/21", xinetd=KEEPS)

        self.assertEqual(("pass", "keeps it: 21/21"), self.outcome(each, Subject.XINETD))

    def test_control_missing(self) -> None:
        """A control that is not installed is skipped."""
        self.patch(shutil, "which", lambda name: None)
        each = returning("21/21", xinetd=KEEPS)

        self.assertEqual("skip", execute(each, Subject.XINETD).outcome)

    def test_unguarded(self) -> None:
        """What is started without a guard is told which one, and nothing is told so afterwards."""

        @promise("X1", "something", deadline=5, unguarded=r"without=X1$")
        def says(run: Run) -> str:
            raise Broken(service.twistd()[-1])

        self.assertEqual("pass", execute(says, Subject.UNGUARDED).outcome)
        self.assertIsNone(service.without())


class GuardTests(SynchronousTestCase):
    """What is switched off in the service."""

    def test_every_guard_has_a_promise(self) -> None:
        """Each promise that knows what the service does without its guard has one, and no guard is left over."""
        known = {each.name for each in PROMISES if Subject.UNGUARDED in each.known}

        self.assertEqual(known, set(GUARDS) - {OLD_KERNEL})  # which a promise switches off by itself

    def test_every_promise_has_a_guard(self) -> None:
        """T01 to T26 all show that they can fail."""
        numbered = {each.name for each in PROMISES if re.match(r"T(0[1-9]|1\d|2[0-6])\b", each.name)}

        self.assertEqual(set(), numbered - set(GUARDS))

    def test_guards_are_there(self) -> None:
        """Each can be switched off in the service as it is now, in a process of its own."""
        names = sorted({off: name for name, off in GUARDS.items()}.values())  # several promises may share one
        done = subprocess.run(
            [sys.executable, "-c", _SWITCH_OFF, *names],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

        self.assertEqual((f"{len(names)}\n", ""), (done.stdout, done.stderr))


class MainTests(SynchronousTestCase):
    """The command line."""

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self.patch(sys, "stdout", out := io.StringIO())
        self.patch(sys, "stderr", err := io.StringIO())
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return code, out.getvalue(), err.getvalue()

    def test_list(self) -> None:
        """--list prints one line for each promise and runs none."""
        code, out, _ = self.run_main("--list")

        self.assertEqual((0, len(PROMISES)), (code, len(out.splitlines())))

    def test_list_controls(self) -> None:
        """--control stock --list prints those of which it is known how stock Twisted comes out, and so for xinetd."""
        for name, subject in command.CONTROLS.items():
            _, out, _ = self.run_main("--control", name, "--list")

            listed = {line.split()[0] for line in out.splitlines()}
            self.assertEqual({each.name for each in PROMISES if subject in each.known}, listed)
            self.assertLessEqual({"T01", "T03", "T05", "T13", "T14", "T20", "T22"}, listed)
            self.assertNotIn("T28", listed)

    def test_carrier(self) -> None:
        """--carrier leaves out what is promised over others, also of a number."""
        _, over_all, _ = self.run_main("--list", "T11", "T15")
        _, plain, _ = self.run_main("--list", "--carrier", "tcp", "T11", "T15")
        _, other, _ = self.run_main("--list", "--carrier", "unix", "T11")

        self.assertEqual(
            [each for each in _names(over_all) if not each.endswith(("-tls", "-unix", "-proxy"))],
            _names(plain),
        )
        self.assertEqual([each for each in _names(over_all) if each.endswith("-unix")], _names(other))
        self.assertEqual(64, self.run_main("--carrier", "unix", "T15")[0])

    def test_unknown_promise(self) -> None:
        """A promise that there is not is a usage error of one line."""
        self.assertEqual(
            (64, "", "tests.hold: T99: no such promise; --list lists them\n"), self.run_main("T99")
        )

    def test_no_control(self) -> None:
        """A promise that has no control cannot be run with one."""
        code, _, err = self.run_main("--control", "stock", "T28")

        self.assertEqual(
            (64, "tests.hold: T28: no such promise for stock Twisted; --list lists them\n"), (code, err)
        )

    def test_no_uvloop(self) -> None:
        """Without uvloop nothing is tried on it, and the line says so."""
        self.patch(service, "_reactor", None)
        self.patch(command, "find_spec", lambda name: None)

        self.assertEqual(
            (0, "NOT TRIED: uvloop is not installed; 0 passed, 0 failed, 1 skipped\n", ""),
            self.run_main("--reactor", "uvloop", "T28"),
        )

    def test_unknown_reactor(self) -> None:
        """A reactor that there is not is a usage error."""
        self.assertEqual(64, self.run_main("--reactor", "kqueue", "T28")[0])

    def test_long(self) -> None:
        """--long reaches the promise."""
        asked: list[bool] = []

        def keep(each: Promise, subject: Subject, *, long: bool) -> Result:
            asked.append(long)
            return Result(each.name, "pass", "")

        self.patch(command, "execute", keep)
        self.run_main("T28")
        self.run_main("--long", "T28")

        self.assertEqual([False, True], asked)

    def test_unknown_option(self) -> None:
        """An option that there is not is a usage error."""
        self.assertEqual(64, self.run_main("--nonsense")[0])


class PartsTests(SynchronousTestCase):
    """Small things that promises are made of."""

    def test_threads_keep_the_order(self) -> None:
        """Results come in the order of the numbers, whichever thread was first."""
        self.assertEqual([0, 1, 4, 9, 16], in_threads(lambda number: number**2, count=5, at_once=3))

    def test_threads_raise(self) -> None:
        """The first failure is raised where the threads are waited for."""

        def fail(number: int) -> None:
            kept(number != 2, f"number {number}")

        problem = self.assertRaises(Broken, in_threads, fail, count=5, at_once=2)
        self.assertEqual("number 2", str(problem))

    def test_sizes(self) -> None:
        """Every size to 2100 is tried, both sides of the stock server's limit, and the largest."""
        tried = sizes(65507)

        self.assertEqual([*range(2101)], tried[:2101])
        self.assertLessEqual({8191, 8192, 8193, 65506, 65507}, set(tried))
        self.assertEqual(65507, tried[-1])
