"""Tests of twistd's options."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import IService
from twisted.trial.unittest import SynchronousTestCase

from echosvc import __version__
from echosvc.errors import ExitCode
from echosvc.tap import Options, makeService
from tests.doubles import udp_socket

ROOT = Path(__file__).resolve().parent.parent


class OptionsCase(SynchronousTestCase):
    """Parses command lines."""

    def parse(self, *args: str) -> Options:
        """Parse a good one."""
        options = Options()
        options.parseOptions(list(args))
        return options

    def refuse(self, *args: str) -> str:
        """Parse a bad one: exit code 64, one line on standard error, nothing on standard output."""
        stderr, stdout = io.StringIO(), io.StringIO()
        self.patch(sys, "stderr", stderr)
        self.patch(sys, "stdout", stdout)
        exited = self.assertRaises(SystemExit, Options().parseOptions, list(args))
        self.assertEqual(exited.code, ExitCode.USAGE)
        self.assertEqual(stdout.getvalue(), "")
        text = stderr.getvalue()
        self.assertTrue(text.startswith("echosvc: "))
        self.assertEqual(text.count("\n"), 1)
        return text.removeprefix("echosvc: ").rstrip("\n")


class ParsingTests(OptionsCase):
    """From options to settings."""

    def listeners(self, *args: str) -> list[tuple[str, str, int]]:
        """What a command line listens on."""
        return [(each.transport, each.interface, each.port) for each in self.parse(*args).settings.listeners]

    def test_without_options(self) -> None:
        """Port 8007, TCP and UDP, every address."""
        self.assertEqual(self.listeners(), [("tcp", "", 8007), ("udp", "", 8007)])

    def test_port(self) -> None:
        """One number for both."""
        self.assertEqual(self.listeners("-p", "0"), [("tcp", "", 0), ("udp", "", 0)])

    def test_ports_of_their_own(self) -> None:
        """Either can be elsewhere, or left out."""
        self.assertEqual(self.listeners("--port", "7", "--udp-port", "9"), [("tcp", "", 7), ("udp", "", 9)])
        self.assertEqual(self.listeners("--tcp-port", "off"), [("udp", "", 8007)])
        self.assertEqual(self.listeners("--udp-port", "off"), [("tcp", "", 8007)])

    def test_interfaces(self) -> None:
        """Each address given is listened on."""
        self.assertEqual(
            self.listeners("-i", "127.0.0.1", "--interface", "::1", "--udp-port", "off"),
            [("tcp", "127.0.0.1", 8007), ("tcp", "::1", 8007)],
        )

    def test_sizes_and_times(self) -> None:
        """Backlog, buffer and timeout reach every listener."""
        for each in self.parse(
            "--backlog", "5", "--rcvbuf", "65536", "--stall-timeout", "0.5"
        ).settings.listeners:
            self.assertEqual((each.backlog, each.receive_buffer, each.stall_timeout), (5, 65536, 0.5))

    def test_two_command_lines_do_not_mix(self) -> None:
        """Options keep nothing from one parse to the next."""
        self.parse("-i", "::1")

        self.assertEqual(len(self.listeners("-i", "::1")), 2)

    def test_origin_names_the_option_that_asked(self) -> None:
        """An error about a port can say which option to change."""
        settings = self.parse("--port", "7", "--udp-port", "9").settings

        self.assertEqual([each.origin for each in settings.listeners], ["--port 7", "--udp-port 9"])


class RefusalTests(OptionsCase):
    """Every mistake is one line that names option and value, and exit code 64."""

    def test_bad_ports(self) -> None:
        """A port is a number from 0 to 65535."""
        for option in ("--port", "--tcp-port", "--udp-port"):
            for value in ("abc", "-1", "65536", "", "1.5", "1_0", " 1", "٣", "8080x", "9" * 5000):
                self.assertTrue(
                    self.refuse(option, value).startswith(f"{option} {value}: must be a number from 0")
                )

    def test_bad_port_beside_good_ones(self) -> None:
        """A value that is not used is still checked."""
        self.assertIn("--port abc", self.refuse("--port", "abc", "--tcp-port", "1", "--udp-port", "2"))

    def test_off_is_not_a_port(self) -> None:
        """Only one of the two can be left out, by its own option."""
        self.assertIn("--port off", self.refuse("--port", "off"))

    def test_both_off(self) -> None:
        """There would be nothing to serve."""
        self.assertIn("nothing to serve", self.refuse("--tcp-port", "off", "--udp-port", "off"))

    def test_bad_sizes_and_times(self) -> None:
        """Backlog, buffer and timeout have their ranges."""
        for option, values in {
            "--backlog": ("0", "65536", "many"),
            "--rcvbuf": ("0", "4M", "2000000000"),
            "--stall-timeout": ("0", "-1", "nan", "inf", "1e3", "soon"),
        }.items():
            for value in values:
                self.assertTrue(self.refuse(option, value).startswith(f"{option} {value}: must be"))

    def test_bad_interfaces(self) -> None:
        """Names, nonsense, the same twice, and link-local addresses without their link."""
        self.assertIn("127.0.0.1 and ::1 are localhost", self.refuse("-i", "localhost"))
        self.assertIn("--interface example.org: must be", self.refuse("-i", "example.org"))
        self.assertIn("fe80::1%eth0", self.refuse("-i", "fe80::1"))
        self.assertIn("given twice", self.refuse("-i", "::1", "-i", "::1"))

    def test_unknown_options(self) -> None:
        """A near miss is offered the right name."""
        self.assertEqual(self.refuse("--prot", "1"), "--prot: no such option; did you mean --port?")
        self.assertEqual(
            self.refuse("--xyzzy"), "--xyzzy: no such option; `twistd echosvc --help` lists them"
        )
        self.assertIn("-q: no such option", self.refuse("-q"))

    def test_option_without_its_value(self) -> None:
        """The option is named."""
        self.assertIn("--port: requires argument", self.refuse("--port"))

    def test_arguments_that_are_not_options(self) -> None:
        """`twistd echosvc 8080` is a likely slip."""
        self.assertEqual(self.refuse("8080"), "8080: not an option; did you mean --port 8080?")
        self.assertEqual(self.refuse("start"), "start: not an option")

    @given(st.lists(st.text(max_size=8), max_size=4))
    def test_no_command_line_makes_a_traceback(self, args: list[str]) -> None:
        """Whatever is typed, parsing ends with settings or with an exit code."""
        self.patch(sys, "stderr", io.StringIO())
        self.patch(sys, "stdout", io.StringIO())
        try:
            self.assertTrue(self.parse(*args).settings.listeners)
        except SystemExit as exited:
            self.assertIn(exited.code, (0, ExitCode.USAGE))


class HelpTests(OptionsCase):
    """Help that teaches."""

    def ask(self, option: str) -> str:
        """Ask for a text and leave."""
        stdout = io.StringIO()
        self.patch(sys, "stdout", stdout)
        exited = self.assertRaises(SystemExit, Options().parseOptions, [option])
        self.assertEqual(exited.code, 0)
        return stdout.getvalue()

    def test_help(self) -> None:
        """A summary, the RFC, examples, and every option."""
        text = self.ask("--help")

        for word in ("RFC 862", "twistd -n echosvc --port 8080", "nc -N", "Exit codes"):
            self.assertIn(word, text)
        for option in ("--port", "--tcp-port", "--udp-port", "--interface", "--backlog", "--rcvbuf"):
            self.assertIn(option, text)

    def test_version(self) -> None:
        """Our own version, not only Twisted's."""
        self.assertTrue(self.ask("--version").startswith(f"echosvc {__version__} "))


class MakeServiceTests(OptionsCase):
    """From options to a bound service."""

    def test_binds_before_it_returns(self) -> None:
        """The ports are taken before twistd forks and drops privileges."""
        service: Any = makeService(self.parse("-p", "0", "-i", "127.0.0.1"))
        self.addCleanup(lambda: [each.stop() for each in service.listeners])

        self.assertTrue(IService.providedBy(service))
        self.assertNotEqual(service.listeners[0].port, 0)

    def test_port_in_use_is_one_line_and_an_exit_code(self) -> None:
        """69, and a line that names the option."""
        taken = udp_socket()
        self.addCleanup(taken.close)
        stderr = io.StringIO()
        self.patch(sys, "stderr", stderr)
        number = taken.getsockname()[1]
        exited = self.assertRaises(SystemExit, makeService, self.parse("-p", str(number), "-i", "127.0.0.1"))

        self.assertEqual(exited.code, ExitCode.UNAVAILABLE)
        self.assertTrue(stderr.getvalue().startswith(f"echosvc: --port {number}: UDP 127.0.0.1:"))

    def test_options_do_not_import_the_reactor(self) -> None:
        """`twistd --reactor` must still be able to choose one when the options are read."""
        code = "import sys, echosvc.tap; sys.exit('twisted.internet.reactor' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
