"""How a target is understood."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.client import Target
from echosvc.errors import ExitCode, InvalidTarget

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,20}(\.[a-z][a-z0-9]{0,10}){0,2}", fullmatch=True)
PORTS = st.integers(1, 65535)


class UnderstoodTests(SynchronousTestCase):
    """What is accepted."""

    def test_host_and_port(self) -> None:
        """HOST:PORT is a TCP target."""
        self.assertEqual(Target("tcp", "localhost", 8080), Target.parse("localhost:8080"))

    def test_udp(self) -> None:
        """A prefix udp: makes it a UDP target."""
        self.assertEqual(Target("udp", "192.0.2.1", 7), Target.parse("udp:192.0.2.1:7"))
        self.assertEqual(Target("udp", "192.0.2.1", 7), Target.parse("UDP:192.0.2.1:7"))

    def test_ipv6(self) -> None:
        """An IPv6 address stands in brackets, with or without a prefix, and may have a scope."""
        self.assertEqual(Target("tcp", "::1", 7), Target.parse("[::1]:7"))
        self.assertEqual(Target("udp", "fe80::1%eth0", 7), Target.parse("udp:[fe80::1%eth0]:7"))

    def test_default_kind(self) -> None:
        """A caller may say what a target without prefix means, and a prefix overrides it."""
        self.assertEqual("udp", Target.parse("localhost:7", kind="udp").kind)
        self.assertEqual("tcp", Target.parse("tcp:localhost:7", kind="udp").kind)

    def test_two_arguments(self) -> None:
        """HOST PORT on a command line needs no brackets for IPv6, and --udp makes it UDP."""
        self.assertEqual(Target("tcp", "::1", 7), Target.from_arguments(["::1", "7"]))
        self.assertEqual(Target("tcp", "::1", 7), Target.from_arguments(["[::1]", "7"]))
        self.assertEqual(Target("udp", "localhost", 7), Target.from_arguments(["localhost", "7"], udp=True))

    def test_one_argument(self) -> None:
        """HOST:PORT on a command line follows --udp, and udp: may be said twice."""
        self.assertEqual(Target("udp", "localhost", 7), Target.from_arguments(["localhost:7"], udp=True))
        self.assertEqual(Target("udp", "localhost", 7), Target.from_arguments(["udp:localhost:7"], udp=True))

    @given(st.sampled_from(["tcp", "udp"]), NAMES | st.ip_addresses().map(str), PORTS)
    def test_round_trip(self, kind: str, host: str, port: int) -> None:
        """A target written as text is understood as the same target."""
        target = Target(kind, host, port)  # type: ignore[arg-type]  # tcp or udp

        self.assertEqual(target, Target.parse(str(target)))

    def test_where(self) -> None:
        """A target is shown with brackets round an IPv6 address."""
        self.assertEqual("[::1]:7", Target("udp", "::1", 7).where)


class RefusedTests(SynchronousTestCase):
    """What is not accepted, and what the error says about the way out."""

    def assert_refused(self, text: str, remedy: str) -> None:
        """Parsing must fail, with this in the error."""
        error = self.assertRaises(InvalidTarget, Target.parse, text)
        self.assertIn(remedy, str(error))
        self.assertEqual(ExitCode.USAGE, error.exit_code)

    def test_missing_port(self) -> None:
        """A target without a port is told how to write one."""
        for text in ("localhost", "localhost:", "[::1]", "udp:localhost", "[::1]:"):
            self.assert_refused(text, "the port is missing")

    def test_missing_host(self) -> None:
        """A target without a host is told so."""
        for text in (":8080", "udp::8080", "[]:8080"):
            self.assert_refused(text, "the host is missing")

    def test_bad_port(self) -> None:
        """A port is a number from 1 to 65535 in plain digits."""
        for port in ("0", "65536", "-1", "abc", "8o8o", "٣", "1 ", "99999999999999999999"):
            self.assert_refused(f"localhost:{port}", "a number from 1 to 65535")

    def test_bare_ipv6(self) -> None:
        """An IPv6 address without brackets is told about brackets."""
        self.assert_refused("::1:8080", "needs brackets")
        self.assert_refused("udp:2001:db8::1:8080", "needs brackets")

    def test_what_the_client_cannot_do(self) -> None:
        """It is said what it cannot do, and a command that can; what was typed is quoted for the shell."""
        for arguments, remedy in (
            (["tls:localhost:8443"], "speak TLS yet; `openssl s_client -quiet -connect localhost:8443` does"),
            (["TLS:[::1]:8443"], "speak TLS yet; `openssl s_client -quiet -connect '[::1]:8443'` does"),
            (
                ["tls:localhost", "8443"],
                "speak TLS yet; `openssl s_client -quiet -connect localhost:8443` does",
            ),
            (["ssl:a;b:1"], "speak TLS yet; `openssl s_client -quiet -connect 'a;b:1'` does"),
            (["unix:/run/an echo.sock"], "connect to UNIX sockets; `nc -N -U '/run/an echo.sock'` does"),
        ):
            for udp in (False, True):
                error = self.assertRaises(InvalidTarget, Target.from_arguments, arguments, udp=udp)
                self.assertEqual(f"target {':'.join(arguments)!r}: the client does not {remedy}", str(error))

    def test_a_host_named_as_a_kind(self) -> None:
        """With a port alone behind it, it is a host."""
        self.assertEqual(Target("tcp", "tls", 8443), Target.parse("tls:8443"))
        self.assertEqual(Target("tcp", "unix", 7), Target.parse("unix:7"))

    def test_not_an_address(self) -> None:
        """What stands in brackets must be an IPv6 address."""
        self.assert_refused("[localhost]:8080", "is not an IPv6 address")

    def test_impossible_names(self) -> None:
        """A host that no name service can be asked about is refused before one is asked."""
        for host in ("a..b", "x" * 64, "http//a", "a b", "user@host", "a\nb"):
            self.assertRaises(InvalidTarget, Target.parse, f"{host}:7")

    def test_number_of_arguments(self) -> None:
        """None or three arguments are not a target."""
        self.assertRaises(InvalidTarget, Target.from_arguments, [])
        self.assertRaises(InvalidTarget, Target.from_arguments, ["a", "1", "2"])

    def test_contradiction(self) -> None:
        """A target cannot be tcp: and --udp."""
        error = self.assertRaises(InvalidTarget, Target.from_arguments, ["tcp:a:1"], udp=True)

        self.assertIn("contradict", str(error))

    @given(st.text())
    def test_nothing_else_happens(self, text: str) -> None:
        """Whatever is typed is a target or refused with one line."""
        try:
            target = Target.parse(text)
        except InvalidTarget as error:
            self.assertEqual(1, len(repr(error.target).splitlines()))
        else:
            self.assertTrue(1 <= target.port <= 65535)
