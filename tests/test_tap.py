"""Tests of twistd's options."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import IService
from twisted.trial.unittest import SynchronousTestCase

from echosvc import __version__
from echosvc.admission import DoorSettings, GateSettings, Limits
from echosvc.errors import ExitCode, UserError
from echosvc.listeners import Foreign, Inherited, Internet, ListenerSettings, TLSSettings, UnixSocket
from echosvc.settings import read_config
from echosvc.tap import Options, makeService
from echosvc.workers.service import WorkersService
from tests.certificates import Authority
from tests.doubles import udp_socket
from tests.settings.cases import ConfigCase

ROOT = Path(__file__).resolve().parent.parent

#: Words of which command lines are made that are nearly right.
_OPTIONS = st.sampled_from(
    [
        *(
            "-p",
            "-i",
            "-l",
            "-c",
            "--port",
            "--tcp-port",
            "--udp-port",
            "--listen",
            "--config",
            "--backlog",
            "--help",
        ),
        *("7", "off", "::1", "echo=tcp:7", "a=b:c@udp:1", "/none.toml", "/", "--stall-timeout", "0.5", "--"),
    ]
)


def _raise_full(text: str) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


class OptionsCase(SynchronousTestCase):
    """Parses command lines."""

    def parse(self, *args: str) -> Options:
        """Parse a good one."""
        options = Options()
        options.parseOptions(list(args))
        return options

    def refuse(self, *args: str, code: int = ExitCode.USAGE) -> str:
        """Parse a bad one: an exit code, one line on standard error, nothing on standard output."""
        return self.ended(code, Options().parseOptions, list(args))

    def ended(self, code: int, function: Callable[..., object], *args: object) -> str:
        """Call what ends the process with this code and one line on standard error; return the line."""
        stderr, stdout = io.StringIO(), io.StringIO()
        self.patch(sys, "stderr", stderr)
        self.patch(sys, "stdout", stdout)
        exited = self.assertRaises(SystemExit, function, *args)
        self.assertEqual((exited.code, stdout.getvalue()), (code, ""))
        text = stderr.getvalue()
        self.assertTrue(text.startswith("echosvc: "))
        self.assertEqual(text.count("\n"), 1)
        return text.removeprefix("echosvc: ").rstrip("\n")

    def listeners(self, *args: str) -> list[tuple[str, str, int]]:
        """Which ports a command line listens on."""
        places = [each.place for each in self.parse(*args).settings.listeners]
        return [(each.transport, each.interface, each.port) for each in places if isinstance(each, Internet)]


class ParsingTests(OptionsCase):
    """From options to settings."""

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

    def test_edges_of_ranges(self) -> None:
        """The ends of a range belong to it."""
        for backlog, buffer in (("1", "2048"), ("65535", str(2**30))):
            for each in self.parse("--backlog", backlog, "--rcvbuf", buffer).settings.listeners:
                self.assertEqual((each.backlog, each.receive_buffer), (int(backlog), int(buffer)))
        self.assertEqual(self.listeners("-p", "65535")[0], ("tcp", "", 65535))

    def test_two_command_lines_do_not_mix(self) -> None:
        """Options keep nothing from one parse to the next."""
        self.parse("-i", "::1")

        self.assertEqual(len(self.listeners("-i", "::1")), 2)

    def test_origin_names_the_option_that_asked(self) -> None:
        """An error about a port can say which option to change."""
        settings = self.parse("--port", "7", "--udp-port", "9").settings

        self.assertEqual([each.origin for each in settings.listeners], ["--port 7", "--udp-port 9"])


class ListenTests(OptionsCase):
    """--listen NAME=ENDPOINT."""

    def one(self, text: str, *more: str) -> ListenerSettings:
        """Parse a command line with one listener."""
        (listener,) = self.parse("--listen", text, *more).settings.listeners
        return listener

    def test_in_place_of_port(self) -> None:
        """Who says what to listen on does not get the default port as well; -l is short for it, and both repeat."""
        settings = self.parse("-l", "echo=tcp:7", "--listen=time=udp:37", "-lecho=unix:/run/x").settings

        self.assertEqual(
            settings.listeners,
            (
                ListenerSettings(protocol="echo", place=Internet("tcp", 7), origin="--listen echo=tcp:7"),
                ListenerSettings(protocol="time", place=Internet("udp", 37), origin="--listen time=udp:37"),
                ListenerSettings(
                    protocol="echo", place=UnixSocket("unix", "/run/x"), origin="--listen echo=unix:/run/x"
                ),
            ),
        )

    def test_beside_port(self) -> None:
        """Beside --port, or one of its kind, it adds to that."""
        listen = ("--listen", "time=udp:37")
        for args, expected in (
            (("-p", "7"), [("tcp", "", 7), ("udp", "", 7)]),
            (("--tcp-port", "7"), [("tcp", "", 7)]),
            (("--udp-port", "7"), [("udp", "", 7)]),
            (("--tcp-port", "off"), []),
            (("--tcp-port", "off", "--udp-port", "off"), []),
            (("-p", "7", "--udp-port", "off"), [("tcp", "", 7)]),
            (("-p", "7", "--tcp-port", "off", "--udp-port", "off"), []),
            (("--tcp-port", "7", "-i", "::1"), [("tcp", "::1", 7)]),
        ):
            for line in ((*listen, *args), (*args, *listen)):
                self.assertEqual(self.listeners(*line), [*expected, ("udp", "", 37)])

    def test_interface_is_for_port(self) -> None:
        """An endpoint says its own; one that holds for none is a mistake, not without effect."""
        for args in ((), ("--tcp-port", "off")):
            self.assertEqual(
                self.refuse("-i", "::1", "--listen", "echo=tcp:7", *args),
                "--interface is for --port; an endpoint has its own: tcp:8080:interface=127.0.0.1",
            )

    def test_endpoints(self) -> None:
        """Every kind of endpoint; an IPv6 address in brackets, or as Twisted has it."""
        for text, place in (
            ("udp:8080:interface=[::1]", Internet("udp", 8080, "::1")),
            ("udp:8080:interface=\\:\\:1", Internet("udp", 8080, "::1")),
            ("tcp:0:interface=127.0.0.1", Internet("tcp", 0, "127.0.0.1")),
            ("unix:@echo", UnixSocket("unix", "@echo")),
            ("unixgram:/run/a@b:mode=600", UnixSocket("unixgram", "/run/a@b", 0o600)),
            ("unix:foo@bar", UnixSocket("unix", "foo@bar")),
            ("UNIX:foo@bar", UnixSocket("unix", "foo@bar")),
            ("systemd:name=echo", Inherited(name="echo")),
            ("tcp6:8080", Foreign("tcp6:8080")),
        ):
            self.assertEqual(self.one(f"echo={text}").place, place)

    def test_layers(self) -> None:
        """What an endpoint says of TLS and PROXY headers reaches the listener."""
        listener = self.one("echo=haproxy:tls:8443:cert=a:key=b:proxy=10.0.0.0/8")

        self.assertEqual(listener.tls, TLSSettings(cert="a", key="b"))
        self.assertEqual(listener.proxy, (ip_network("10.0.0.0/8"),))

    def test_limits(self) -> None:
        """The options hold for it, too; an endpoint's own backlog wins."""
        limits = ("--backlog", "5", "--rcvbuf", "65536", "--stall-timeout", "0.5")
        for text, backlog in (("echo=tcp:7", 5), ("echo=tcp:7:backlog=9", 9)):
            listener = self.one(text, *limits)
            self.assertEqual(
                (listener.backlog, listener.receive_buffer, listener.stall_timeout), (backlog, 65536, 0.5)
            )

    def test_protocol_of_ones_own(self) -> None:
        """NAME=package.module:object@ENDPOINT speaks an object that is nowhere registered, under a name of one's choice."""
        for text, name, protocol in (
            ("echo=tcp:7", "echo", "echo"),
            ("mine=package.module:object@tcp:7", "mine", "package.module:object"),
            ("my-2.x=module:Class.attribute@tcp:7", "my-2.x", "module:Class.attribute"),
        ):
            listener = self.one(text)
            self.assertEqual(
                (listener.name, listener.protocol, listener.place), (name, protocol, Internet("tcp", 7))
            )

    def test_bad_form(self) -> None:
        """NAME=ENDPOINT, and a name that a log can show."""
        for text in ("echo", "tcp:8080", "=tcp:8080", "a b=tcp:8080", "-x=tcp:8080", "päng=tcp:8080", ""):
            self.assertEqual(
                self.refuse("--listen", text),
                f"--listen {text}: must be NAME=ENDPOINT, for example echo=tcp:8080",
            )

    def test_bad_endpoints(self) -> None:
        """What is wrong is said, with the option as it was typed."""
        for text, words in (
            ("echo=tpc:8080", "did you mean tcp:?"),
            ("echo=tcp:", "it is tcp:PORT"),
            ("echo=tcp:x", "port x: must be a number from 0 to 65535"),
            ("echo=8080", "KIND:ARGUMENTS, such as tcp:8080"),
            ("echo=", "KIND:ARGUMENTS, such as tcp:8080"),
            ("mine=module:object@", "endpoint"),
            ("mine=module:object@tcp:x", "port x: must be a number"),
            ("echo=udp:7:interface=::1", "brackets"),
        ):
            said = self.refuse("--listen", text)
            self.assertTrue(said.startswith(f"--listen {text}: "), said)
            self.assertIn(words, said)

    def test_limits_are_checked_first(self) -> None:
        """Every value is checked, also beside a listener that has its own."""
        self.assertIn("--backlog 0", self.refuse("--listen", "echo=tcp:7:backlog=5", "--backlog", "0"))
        self.assertIn("--port x", self.refuse("--listen", "echo=tcp:7", "--port", "x"))
        self.assertIn("--udp-port x", self.refuse("--listen", "echo=tcp:7", "--udp-port", "x"))


class AdmissionTests(ConfigCase, OptionsCase):
    """Who may connect, how many, how fast and for how long."""

    def test_defaults(self) -> None:
        """Nothing is said."""
        found = self.parse().settings

        self.assertEqual(GateSettings(), found.gate)
        self.assertEqual([DoorSettings()] * 2, [each.door for each in found.listeners])

    def test_every_listener_of_the_command_line(self) -> None:
        """Has what is said of each."""
        found = self.parse(
            *("--allow", "10.0.0.0/8", "--allow", "::1", "--deny", "10.1.0.0/16"),
            *("--idle-timeout", "60", "--lifetime", "1.5", "--port", "7", "--listen", "echo=tcp:8"),
            *("--user-limits", "off"),
        ).settings.listeners
        door = DoorSettings(
            allow=("10.0.0.0/8", "::1"),
            deny=("10.1.0.0/16",),
            idle_timeout=60.0,
            lifetime=1.5,
            user_limits=False,
        )

        self.assertEqual([door] * 3, [each.door for each in found])

    def test_all_together(self) -> None:
        """Have one set of limits."""
        found = self.parse(
            *("--max-connections", "100", "--max-per-source", "7"),
            *("--accept-rate", "50.5", "--accept-rate-per-source", "2"),
        ).settings.gate
        limits = Limits(max_connections=100, max_per_source=7, accept_rate=50.5, accept_rate_per_source=2.0)

        self.assertEqual(GateSettings(limits=limits), found)

    def test_no_timeout(self) -> None:
        """Off, or 0 seconds."""
        for value in ("off", "0"):
            (door, _) = (each.door for each in self.parse("--idle-timeout", value).settings.listeners)
            self.assertEqual(0.0, door.idle_timeout)

    def test_over_a_file(self) -> None:
        """What is typed holds for all listeners together; the rest is the file's."""
        path = self.file(
            "limits = {max-connections = 5, max-queued = 2000000, accept-rate = 3.0}\n"
            '[[listener]]\nprotocol = "echo"\nendpoint = "tcp:7"\n'
        )
        found = self.parse("--config", path, "--max-connections", "9").settings.gate

        self.assertEqual(
            GateSettings(limits=Limits(max_connections=9, accept_rate=3.0), max_queued=2_000_000), found
        )

    def test_what_is_said_of_no_listener(self) -> None:
        """Would be taken to hold for those of a file, which say it themselves."""
        path = self.file('[[listener]]\nprotocol = "echo"\nendpoint = "tcp:7"\n')
        for option, value in (
            ("--allow", "::1"),
            ("--deny", "::1"),
            ("--idle-timeout", "9"),
            ("--lifetime", "9"),
            ("--user-limits", "on"),
        ):
            self.assertEqual(
                f"{option} is for --port and --listen; a file says it in [[listener]] or [defaults]",
                self.refuse("--config", path, option, value),
            )
            for more in (("--port", "1"), ("--listen", "echo=tcp:1")):
                self.parse("--config", path, option, value, *more)

    def test_wrong_values(self) -> None:
        """Each is refused with the option's name."""
        count = "must be a number from 1 to 10000000"
        rate = "must be a number from 0.001 to 1000000"
        time = "must be a number of seconds from 1, to which it is exact, or off"
        for option, value, remedy in (
            ("--max-connections", "0", count),
            ("--max-connections", "many", count),
            ("--max-per-source", "10000001", count),
            ("--accept-rate", "0", rate),
            ("--accept-rate", "-1", rate),
            ("--accept-rate-per-source", "1e3", rate),
            ("--idle-timeout", "0.5", time),
            ("--lifetime", "never", time),
            ("--user-limits", "no", "must be on or off"),
        ):
            self.assertEqual(f"{option} {value}: {remedy}", self.refuse(option, value))
            self.assertIn(option, self.refuse("--config", "/none", option, value))

    def test_words_in_capitals(self) -> None:
        """An option's words mean the same in any case, as an endpoint's kind does."""
        for option, values in {
            "--tcp-port": ("off", "OFF"),
            "--idle-timeout": ("off", "Off"),
            "--lifetime": ("off", "OFF"),
            "--user-limits": ("off", "OFF"),
            "--datagram-rate": ("off", "OFF"),
            "--datagram-burst": ("off", "OFF"),
            "--datagram-rate-total": ("off", "OFF"),
            "--log-connections": ("on", "ON"),
            "--log-format": ("json", "JSON"),
            "--workers": ("auto", "AUTO"),
        }.items():
            small, large = (self.parse(option, value).settings for value in values)
            self.assertEqual(small, large, option)
            self.assertNotEqual(
                self.parse(option, values[0], "--port", "0").settings, self.parse("--port", "0")
            )

    def test_workers(self) -> None:
        """A number, or one for each processor; an option before the file."""
        path = self.file('[service]\nworkers = 3\n[[listener]]\nprotocol = "time"\nendpoint = "udp:37"')

        self.assertEqual(0, self.parse().settings.workers)
        self.assertEqual("auto", self.parse("--workers", "auto").settings.workers)
        self.assertEqual(3, self.parse("--config", path).settings.workers)
        self.assertEqual(2, self.parse("--config", path, "--workers", "2").settings.workers)
        self.assertEqual(
            "--workers many: must be a number from 0 to 256, or auto", self.refuse("--workers", "many")
        )

    def test_workers_are_another_service(self) -> None:
        """It holds the sockets, and starts nothing before it is started."""
        service: Any = makeService(self.parse("--port", "0", "--interface", "127.0.0.1", "--workers", "2"))
        self.addCleanup(service.stopService)

        self.assertIsInstance(service, WorkersService)

    def test_grace(self) -> None:
        """How long connections have to finish: ten seconds, what a file says, or what the command line says."""
        path = self.file('[service]\ngrace = 3\n[[listener]]\nprotocol = "time"\nendpoint = "udp:37"')

        self.assertEqual(10.0, self.parse().settings.grace)
        self.assertEqual(0.5, self.parse("--grace", "0.5").settings.grace)
        self.assertEqual(3.0, self.parse("--config", path).settings.grace)
        self.assertEqual(0.0, self.parse("--config", path, "--grace", "0").settings.grace)
        self.assertEqual(
            "--grace soon: must be a number of seconds, for example 30; 0 waits for nobody",
            self.refuse("--grace", "soon"),
        )

    def test_again(self) -> None:
        """The same options are understood anew; what a file says by now counts, and the options are as they were."""
        path = self.file('[[listener]]\nprotocol = "time"\nendpoint = "udp:37"')
        options = self.parse("--config", path, "--grace", "7")
        Path(path).write_text('[[listener]]\nprotocol = "time"\nendpoint = "udp:38"')
        again = options.again()

        self.assertEqual((7.0, Internet("udp", 38)), (again.grace, again.listeners[0].place))
        self.assertEqual(Internet("udp", 37), options.settings.listeners[0].place)
        Path(path).write_text("nonsense")
        self.assertRaises(UserError, options.again)

    def test_wrong_networks(self) -> None:
        """Each is refused, and so is a file with a wrong one in it."""
        path = self.file("10.0.0.0/8\n10.0.0.1/8\n", "networks")

        self.assertTrue(
            self.refuse("--allow", "ten").startswith("--allow: 'ten' is no network; give one such as ")
        )
        self.assertTrue(
            self.refuse("--deny", f"@{path}").startswith(f"--deny: {path}:2: '10.0.0.1/8' is an address")
        )


class ConfigTests(ConfigCase, OptionsCase):
    """--config FILE."""

    def test_in_place_of_port(self) -> None:
        """What the file says is served, and nothing else."""
        path = self.file('[[listener]]\nprotocol = "time"\nendpoint = "udp:37"')
        for args in (("--config", path), ("-c", path)):
            self.assertEqual(self.parse(*args).settings.listeners, read_config(path).listeners)

    def test_beside_others(self) -> None:
        """Options come first, then --listen, then the file; the file has its own limits."""
        path = self.file('[[listener]]\nprotocol = "time"\nendpoint = "udp:37"\n')
        found = self.parse(
            "-c", path, "-l", "echo=tcp:1", "--tcp-port", "7", "--backlog", "5"
        ).settings.listeners

        self.assertEqual(
            [each.origin for each in found], ["--tcp-port 7", "--listen echo=tcp:1", f"{path}:3"]
        )
        self.assertEqual([each.backlog for each in found], [5, 5, 1024])

    def test_wrong_file(self) -> None:
        """Exit code 78, the first mistake with its line, and how many more there are."""
        path = self.file("colour = 1\nsize = 2\n[[listener]]\n")
        said = self.refuse("--config", path, code=ExitCode.CONFIG)

        self.assertTrue(said.startswith(f"{path}:1: unknown key colour"), said)
        self.assertTrue(said.endswith("(and 3 more; `echosvc config check` tells all)"), said)

    def test_no_file(self) -> None:
        """A file that cannot be read has the same exit code."""
        path = str(self.folder / "none.toml")

        self.assertEqual(
            self.refuse("--config", path, code=ExitCode.CONFIG), f"{path}: No such file or directory"
        )

    def test_wrong_option_beside_a_wrong_file(self) -> None:
        """What was typed comes first."""
        self.assertIn("--backlog 0", self.refuse("--config", "/none", "--backlog", "0"))
        self.assertIn("--listen x", self.refuse("--config", "/none", "--listen", "x"))


class RefusalTests(OptionsCase):
    """Every mistake is one line that names option and value, and exit code 64."""

    def test_bad_ports(self) -> None:
        """A port is a number from 0 to 65535."""
        for option in ("--port", "--tcp-port", "--udp-port"):
            for value in ("abc", "-1", "65536", "", "1.5", "1_0", " 1", "٣", "8080x", "9" * 5000):
                self.assertTrue(
                    self.refuse(option, value).startswith(f"{option} {value}: must be a number from 0")
                )

    def test_off_is_offered_where_it_is_one(self) -> None:
        """The message says what would have been right for this option."""
        for option, hint in (("--port", ""), ("--tcp-port", ", or off"), ("--udp-port", ", or off")):
            self.assertEqual(
                self.refuse(option, "of"), f"{option} of: must be a number from 0 to 65535{hint}"
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
        self.assertIn("nothing to serve", self.refuse("-p", "7", "--tcp-port", "off", "--udp-port", "off"))

    def test_bad_sizes_and_times(self) -> None:
        """Backlog, buffer and timeout have their ranges."""
        for option, values in {
            "--backlog": ("0", "65536", "many"),
            "--rcvbuf": ("2047", "4M", str(2**30 + 1)),
            "--stall-timeout": ("0", "-1", "nan", "inf", "1e3", "soon"),
        }.items():
            for value in values:
                self.assertTrue(self.refuse(option, value).startswith(f"{option} {value}: must be"))

    def test_bad_interfaces(self) -> None:
        """Names, nonsense, the same twice, and link-local addresses without their link."""
        self.assertIn("127.0.0.1 and ::1 are localhost", self.refuse("-i", "localhost"))
        self.assertIn("--interface example.org: must be", self.refuse("-i", "example.org"))
        self.assertIn("fe80::1%eth0", self.refuse("-i", "fe80::1"))
        self.assertEqual(
            "--interface : is empty: give an address, or leave it out for every one", self.refuse("-i", "")
        )
        self.assertEqual("--interface ::1: given twice", self.refuse("-i", "::1", "-i", "::1"))

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
        self.assertEqual(self.refuse("echo=tcp:8080"), "echo=tcp:8080: not an option")
        self.assertEqual(self.refuse("8080"), "8080: not an option; did you mean --port 8080?")
        self.assertEqual(self.refuse("start"), "start: not an option")

    def test_what_no_line_can_show(self) -> None:
        """What was typed may have line ends and worse in it: the message stays one line."""
        self.assertTrue(self.refuse("--port", "1\n2\x1b[2J").startswith("--port 1\\n2\\x1b[2J: must be"))
        self.assertEqual(self.refuse("--a\nb"), "option --a\\nb not recognized")

    def test_nobody_can_be_told(self) -> None:
        """Where standard error is closed, or full, the exit code is what there is."""
        full = io.StringIO()
        self.patch(full, "write", _raise_full)
        for stderr in (None, full):
            self.patch(sys, "stderr", stderr)
            exited = self.assertRaises(SystemExit, Options().parseOptions, ["--port", "x"])
            self.assertEqual(exited.code, ExitCode.USAGE)

    @given(st.lists(_OPTIONS | st.text(max_size=8), max_size=5))
    def test_no_command_line_makes_a_traceback(self, args: list[str]) -> None:
        """Whatever is typed, parsing ends with settings or with an exit code."""
        self.patch(sys, "stderr", io.StringIO())
        self.patch(sys, "stdout", io.StringIO())
        try:
            self.assertTrue(self.parse(*args).settings.listeners)
        except SystemExit as exited:
            self.assertIn(exited.code, (0, ExitCode.USAGE, ExitCode.CONFIG))


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
        known = Options()
        for option in known.longOpt:
            self.assertIn(f"--{option}", text)
        self.assertIn("-l, --listen=", text)
        self.assertIn("-c, --config=", text)
        for word in ("udp:PORT", "unixgram:PATH", "tls:PORT", "systemd:name=", "haproxy:", "interface=[::1]"):
            self.assertIn(word, text)

    def test_help_tells_the_exit_codes(self) -> None:
        """Those with which twistd can end."""
        codes = self.ask("--help").partition("Exit codes:")[2].partition("\n\n")[0]
        for code in (
            ExitCode.OK,
            ExitCode.USAGE,
            ExitCode.UNAVAILABLE,
            ExitCode.SYSTEM,
            ExitCode.PERMISSION,
            ExitCode.CONFIG,
        ):
            self.assertRegex(codes, rf"[ \n]{code.value} ")

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
        options = f"--udp-port {taken.getsockname()[1]}"
        said = self.ended(
            ExitCode.UNAVAILABLE,
            makeService,
            self.parse(*options.split(), "--tcp-port", "off", "-i", "127.0.0.1"),
        )

        self.assertTrue(said.startswith(f"{options}: UDP 127.0.0.1:"), said)

    def test_what_cannot_be_spoken(self) -> None:
        """What only shows when protocols are looked for is one line and 64 all the same."""
        for args, expected in (
            (
                ("-l", "ecko=tcp:0"),
                "--listen ecko=tcp:0: there is no protocol 'ecko'; did you mean echo?",
            ),
            (
                ("-l", "x=echosvc.protocols:none@tcp:0"),
                "--listen x=echosvc.protocols:none@tcp:0: protocol echosvc.protocols:none cannot be loaded:",
            ),
            (
                ("-l", "x=echosvc.protocols:EchoFactory@udp:0"),
                "--listen x=echosvc.protocols:EchoFactory@udp:0: EchoFactory has no datagram form",
            ),
            (
                ("-l", "echo=tcp:7", "-l", "time=tcp:7"),
                "--listen time=tcp:7: tcp:7 is already taken by --listen echo=tcp:7",
            ),
            (("-p", "7", "-l", "time=udp:7"), "--listen time=udp:7: udp:7 is already taken by --port 7"),
        ):
            said = self.ended(ExitCode.USAGE, makeService, self.parse(*args))
            self.assertTrue(said.startswith(expected), said)

    def test_protocol_of_ones_own(self) -> None:
        """An object that is nowhere registered is served."""
        service: Any = makeService(
            self.parse("-l", "mine=echosvc.protocols:EchoFactory@tcp:0:interface=127.0.0.1")
        )
        self.addCleanup(lambda: [each.stop() for each in service.listeners])

        self.assertTrue(str(service.listeners[0]).startswith("mine: EchoFactory listens on TCP 127.0.0.1:"))


class ReactorTests(ConfigCase):
    """`twistd --reactor` must still be able to choose a reactor while the options are read."""

    def imports_reactor(self, *args: str) -> bool:
        """Whether reading a good command line has imported it, in a process of its own."""
        code = (
            "import sys, echosvc.tap\n"
            "echosvc.tap.Options().parseOptions(sys.argv[1:])\n"
            "print('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return {"True\n": True, "False\n": False}[done.stdout]

    def test_not_by_options(self) -> None:
        """Ports, endpoints of ours, and one of Twisted's own, for which all of them are looked through."""
        self.assertFalse(
            self.imports_reactor(
                *("-p", "7", "--listen", "echo=tcp:8", "--listen", "echo=tls:8443:cert=a:key=b"),
                *("--listen", "echo=tcp6:9", "--listen", "echo=systemd:index=0"),
            )
        )

    def test_not_by_a_file(self) -> None:
        """Nor by a file, whose protocols are looked for and whose certificates are read."""
        cert, key = Authority().issue("example.org").write(self.folder)
        path = self.file(
            f"""
            [[listener]]
            protocol = "echo"
            endpoint = ["tcp:1", "tcp6:2", "tls:3:cert={cert}:key={key}", "unixgram:@x"]
            [[listener]]
            protocol = "echosvc.protocols:EchoFactory"
            endpoint = "tcp:4"
            """
        )

        self.assertFalse(self.imports_reactor("--config", path))
