"""Tests of configuration files that are not good: every mistake is told, with its line."""

from __future__ import annotations

from pathlib import Path

from echosvc.errors import ExitCode, InvalidConfig
from echosvc.protocols import WireProtocol, registry
from echosvc.protocols.echo import DatagramEcho, EchoFactory
from echosvc.settings import read_config
from tests.certificates import Authority
from tests.settings.cases import ConfigCase

_ECHO = 'protocol = "echo"\nendpoint = "tcp:7"\n'
_UDP = 'protocol = "echo"\nendpoint = "udp:7"\n'
_GOOD = f"[[listener]]\n{_ECHO}"


class FileTests(ConfigCase):
    """Files that cannot be read at all."""

    def test_cannot_be_opened(self) -> None:
        """No file, a folder, or a name that no file can have: one line with the system's words."""
        for path, words in (
            (self.folder / "none.toml", "No such file or directory"),
            (self.folder, "Is a directory"),
            (f"{self.folder}/none.toml/none.toml", "No such file or directory"),
            ("\0", "embedded null byte"),
        ):
            problem = self.assertRaises(InvalidConfig, read_config, str(path))
            self.assertEqual((f"{path}: {words}".replace("\0", "\\x00"),), problem.mistakes)
            self.assertEqual(ExitCode.CONFIG, problem.exit_code)

    def test_no_name(self) -> None:
        """An empty name is a variable that was not set, and not the folder that the process is in."""
        self.assertEqual(
            ("the name of the configuration file is empty: give the path of a TOML file",),
            self.assertRaises(InvalidConfig, read_config, "").mistakes,
        )

    def test_not_permitted(self) -> None:
        """A file that this user may not read is named."""
        path = self.file(_GOOD)
        self.patch(Path, "read_bytes", _not_permitted)  # a mode would not keep root out

        self.assertEqual(
            (f"{path}: Permission denied",), self.assertRaises(InvalidConfig, read_config, path).mistakes
        )

    def test_not_utf_8(self) -> None:
        """TOML is UTF-8; the line is told, and no byte of it."""
        for content, line in ((b"# one\n# two\n# gr\xfc\xdf\n", 3), (b"\n\xff", 2), (b"\xff\n", 1)):
            self.assertEqual(
                [f"{line}: not UTF-8, which TOML is: invalid start byte"], self.mistakes(content)
            )

    def test_not_toml(self) -> None:
        """What TOML's own reader says comes with its line, where it is known."""
        for text, expected in (
            (f"{_GOOD}backlog\n", "4: not TOML: Expected '=' after a key in a key/value pair"),
            (f"{_GOOD}{_ECHO}", "4: not TOML: Cannot overwrite a value"),
            ("listener = [", "not TOML: Invalid value (at end of document)"),
            ("a = 1\r\nb = \x07\r\n", "2: not TOML: Invalid value"),
            ('a = "\ufeff"\n\ufeffb = 1', "2: not TOML: Invalid statement"),
            (f"a = {'1' * 5000}", "not TOML: Exceeds the limit (4300 digits)"),
            (f"a = {'[' * 5000}", "not TOML: maximum recursion depth exceeded"),
        ):
            self.assert_beginnings([expected], self.mistakes(text))

    def test_nothing_to_serve(self) -> None:
        """An empty file, or one with defaults alone, serves nothing."""
        for text in ("", "# nothing yet\n", "[defaults]\nbacklog = 5\n", "listener = []"):
            self.assertEqual(["nothing to serve; a table [[listener]] says what"], self.mistakes(text))


def _not_permitted(path: Path) -> bytes:
    raise PermissionError(13, "Permission denied", str(path))


class LineTests(ConfigCase):
    """Each mistake has the line of what is wrong, or of the table that something is missing from."""

    def test_one_mistake(self) -> None:
        """Wherever it is in the file, and however it is written."""
        for text, expected in (
            ("listner = 3", "1: unknown key listner; did you mean listener?"),
            (f"[default]\n{_GOOD}", "1: unknown key default; did you mean defaults?"),
            (f"{_GOOD}\n[[server]]", "5: unknown key server; did you mean service?"),
            (
                "limits.max_connections = 3\n" + _GOOD,
                "1: unknown key max_connections; did you mean max-connections?",
            ),
            (
                f"{_GOOD}[limits]\nmax-connections = 0",
                "5: max-connections 0: must be a number from 1 to 10000000",
            ),
            (
                f"{_GOOD}[limits]\naccept-rate = 0",
                "5: accept-rate 0.0: must be a number from 0.001 to 1000000",
            ),
            (
                f"{_GOOD}[limits]\nipv6-prefix = 32",
                "5: ipv6-prefix 32: must be a number of bits from 40 to 128",
            ),
            (f"{_GOOD}max-per-source = 'two'", "4: max-per-source must be a whole number, not 'two'"),
            (
                f"{_GOOD}idle-timeout = 0.5",
                "4: idle-timeout 0.5: must be a number of seconds from 1, to which it is exact; 0 for never",
            ),
            (
                f"{_GOOD}byte-rate = 0.5",
                "4: byte-rate 0.5: must be a number of bytes from 1; 0 for any number",
            ),
            (f"{_GOOD}lifetime = nan", "4: lifetime nan: must be a number of seconds from 1, "),
            (f'{_GOOD}allow = ["10.0.0.0/8",\n  "ten"]', "5: 'ten' is no network; give one such as "),
            (f'{_GOOD}deny = "10.0.0.1/8"', "4: '10.0.0.1/8' is an address inside a network; "),
            (f'{_GOOD}deny = "@/none"', "4: /none: cannot be read: No such file or directory"),
            (f'[defaults]\nallow = ["::1", "x"]\n{_GOOD}', "2: 'x' is no network; give one such as "),
            ("listener = 3", "1: listener is a list of tables: write [[listener]]"),
            ("\n[listener]\n", "2: listener is a list of tables: write [[listener]]"),
            ("listener = [3]", "1: listener[0] must be a table, not 3"),
            (f"defaults = 3\n{_GOOD}", "1: defaults must be a table, not 3"),
            (f"{_GOOD}[defaults]\n\nbacklog = 0", "6: backlog 0: must be a number from 1 to 65535"),
            (f"defaults.backlog = true\n{_GOOD}", "1: backlog must be a whole number, not True"),
            (
                f"# a comment\n\n[[listener]]\n# another\nprot = 3\n{_ECHO}",
                "5: unknown key prot; did you mean proxy?",
            ),
            (
                f"{_GOOD}[[listener]]\n\n{_UDP}stall_timeout = 3",
                "8: unknown key stall_timeout; did you mean stall-timeout?",
            ),
            (f'{_GOOD}[[listener]]\nname = "x"\nendpoint = "tcp:8"', "4: protocol is missing"),
            (f'{_GOOD}[[listener]]\nprotocol = "echo"', "4: endpoint is missing"),
            (
                '[[listener]]\nprotocol = "echo"\nendpoint = [\n]',
                "3: endpoint is empty: there must be one at least",
            ),
            (
                '[[listener]]\nprotocol = "echo"\nendpoint = [\n  "tcp:7",\n  3,\n]',
                "3: endpoint must be a string or a list of strings, not ['tcp:7', 3]",
            ),
            (f"{_GOOD}tls.cert = 'a'\ntls.crt = 'b'", "5: unknown key crt; did you mean cert?"),
            (f"{_GOOD}[listener.tls]\ncert = 'a'", "4: cert and key go together, or certdir names a folder"),
            (f"{_GOOD}tls = {{ key = 'a' }}", "4: cert and key go together, or certdir names a folder"),
            (f"{_GOOD}tls = {{}}", "4: cert and key go together, or certdir names a folder"),
            (
                f"{_GOOD}tls = {{ min-version = 1.3 }}",
                "4: min-version must be '1.2' or '1.3', not 1.3",
            ),
            (f"{_GOOD}options.shout = 3", "4: echo has no options"),
            (f"{_GOOD}options = 3", "4: options must be a table, not 3"),
            (
                '[[listener]]\nprotocol = "chargen"\nendpoint = "tcp:19"\n[listener.options]\n\nallow-amplification = 1',
                "6: allow-amplification must be true or false, not 1",
            ),
            (
                '[[listener]]\nprotocol = "qotd"\nendpoint = "tcp:17"\noptions = {file = "/none"}',
                "4: file /none: No such file or directory",
            ),
            (
                f'{_GOOD}proxy = ["10.0.0.0/8",\n  "ten"]',
                "5: proxy 'ten': does not appear to be an IPv4 or IPv6 network",
            ),
            (f'{_GOOD}proxy = "10.0.0.1/8"', "4: proxy '10.0.0.1/8': "),
            (
                '[[listener]]\nprotocol = "ecko"\nendpoint = "tcp:7"',
                "2: there is no protocol 'ecko'; did you mean echo?",
            ),
            (
                '[[listener]]\nprotocol = "echo"\nendpoint = [\n  "tcp:7",\n\n  "tpc:8",\n]',
                "6: endpoint 'tpc:8': did you mean tcp:?",
            ),
            (
                '[[listener]]\nprotocol = "echo"\nendpoint = "tcp:77777"',
                "3: port 77777: must be a number from 0 to 65535",
            ),
        ):
            for written in (text, text.replace("\n", "\r\n"), f"\ufeff{text}"):
                found = [each for each in self.mistakes(written) if not each.startswith("nothing to serve")]
                self.assert_beginnings([expected], found)

    def test_what_no_line_can_show(self) -> None:
        """A key may have line ends and worse in it: the mistake stays one line."""
        (mistake,) = self.mistakes(f'"a\\nb\\u001b[2J" = 1\n{_GOOD}')

        self.assertTrue(mistake.startswith("1: unknown key a\\nb\\x1b[2J; there are "), mistake)


class ServiceTests(ConfigCase):
    """Mistakes that only show when everything is put together."""

    def setUp(self) -> None:
        """Know protocols that have one form each."""
        super().setUp()
        self.patch(registry, "_registered", dict(registry._registered))
        registry.register(WireProtocol(name="streams", rfc="none", summary="x", stream=EchoFactory))
        registry.register(WireProtocol(name="packets", rfc="none", summary="x", datagram=DatagramEcho))

    def test_form(self) -> None:
        """A protocol is spoken over what it has a form for."""
        for protocol, endpoint, problem in (
            ("streams", "udp:7", "streams has no datagram form; it is spoken over tcp, unix and tls"),
            (
                "streams",
                "unixgram:/run/x",
                "streams has no datagram form; it is spoken over tcp, unix and tls",
            ),
            ("packets", "tcp:7", "packets has no stream form; it is spoken over udp and unixgram"),
            ("packets", "tcp6:7", "packets has no stream form; it is spoken over udp and unixgram"),
        ):
            text = f'[[listener]]\nprotocol = "{protocol}"\n\nendpoint = "{endpoint}"'
            self.assertEqual([f"4: {problem}"], self.mistakes(text))

    def test_taken(self) -> None:
        """A port can be had once, whichever of the tables asks; the other one's line is told."""
        path = self.file(
            f'{_GOOD}[[listener]]\nprotocol = "time"\nendpoint = [\n  "udp:7",\n  "tcp:7:interface=[::1]",\n]'
        )

        self.assertEqual(
            (f"{path}:8: tcp:7 on ::1 is already taken by {path}:3",),
            self.assertRaises(InvalidConfig, read_config, path).mistakes,
        )

    def test_layers_on_datagrams(self) -> None:
        """TLS and PROXY headers are for streams; once is enough to say so for a line."""
        cert, key = Authority().issue("example.org").write(self.folder)
        for line in (f'tls = {{cert = "{cert}", key = "{key}"}}', 'proxy = "10.0.0.0/8"'):
            self.assertEqual(
                ["3: TLS and PROXY headers are for streams; this is for datagrams"],
                self.mistakes(
                    f'[[listener]]\nprotocol = "echo"\nendpoint = ["udp:1", "udp:2", "tcp:1"]\n{line}'
                ),
            )

    def test_tls_said_twice(self) -> None:
        """Endpoint and table cannot both say it; once is enough to say so for several endpoints."""
        cert, key = Authority().issue("example.org").write(self.folder)
        endpoint = f"tls:1:cert={cert}:key={key}"

        self.assertEqual(
            ["4: the endpoint says tls: already; say it in one of the two places"],
            self.mistakes(
                f'[[listener]]\nprotocol = "echo"\nendpoint = ["{endpoint}", "{endpoint.replace("1", "2", 1)}"]\n'
                f'tls = {{cert = "{cert}", key = "{key}"}}'
            ),
        )

    def test_files_that_are_missing(self) -> None:
        """A certificate or key that cannot be read is said of the listener, with the file's name."""
        cert, key = Authority().issue("example.org").write(self.folder)
        Path(key).unlink()
        for endpoint, table, line in (
            (f"tls:8443:cert={cert}:key={key}", "", 6),
            ("tcp:8443", f'[listener.tls]\ncert = "{cert}"\nkey = "{key}"', 9),
            ("tcp:8443", f'tls = {{ cert = "{cert}", key = "{key}" }}', 7),
        ):
            (mistake,) = self.mistakes(
                f'{_GOOD}[[listener]]\nprotocol = "echo"\nendpoint = "{endpoint}"\n{table}'
            )
            self.assertTrue(mistake.startswith(f"{line}: "), mistake)
            self.assertIn(key, mistake)
            self.assertIn("No such file", mistake)

    def test_files_that_are_missing_are_told_with_their_keys(self) -> None:
        """All of them, each on its own line, and once for several endpoints."""
        self.assert_beginnings(
            [
                "5: certificate file /c.pem: ",
                "6: key file /k.pem: ",
                "7: certificate folder /d: ",
                "8: client CA file /a.pem: ",
                "9: TLS ciphers: OpenSSL knows no x of TLS 1.2",
            ],
            self.mistakes(
                '[[listener]]\nprotocol = "echo"\nendpoint = ["tcp:1", "tcp:2"]\n[listener.tls]\n'
                'cert = "/c.pem"\nkey = "/k.pem"\ncertdir = "/d"\nclient-ca = "/a.pem"\nciphers = "x"\n'
            ),
        )

    def test_files_that_are_missing_are_told_with_all_else(self) -> None:
        """A mistake in another table, in another key of the same one or in its endpoint hides none of them."""
        tls = '[listener.tls]\ncert = "/c.pem"\nkey = "/k.pem"'
        for text, first in (
            (
                f"{_GOOD}backlogg = 3\n[[listener]]\n{_UDP.replace('udp:7', 'tcp:8')[:-1]}\n{tls}",
                "4: unknown key backlogg",
            ),
            (f"{_GOOD}backlogg = 3\n\n\n\n{tls}", "4: unknown key backlogg"),
            (f"{_GOOD}\n\n\n\n{tls}\nmin-version = '1.1'", "11: min-version must be '1.2' or '1.3'"),
            (f"{_GOOD}\n\n\n\n{tls}\ncypher = 'x'", "11: unknown key cypher"),
            (f"{_GOOD}\n\n\n\n{tls}".replace("tcp:7", "tcp:70000"), "3: port 70000"),
        ):
            files = ["9: certificate file /c.pem: ", "10: key file /k.pem: "]
            found = self.mistakes(text)
            self.assert_beginnings(sorted([first, *files], key=lambda each: int(each.split(":")[0])), found)

    def test_a_comma_with_nothing_beside_it(self) -> None:
        """No protocol has an empty name."""
        cert, key = Authority().issue("example.org").write(self.folder)
        for names in ("echo,", ",echo", "echo,,http/1.1"):
            self.assertEqual(
                ["3: alpn '': must be 1 to 255 ASCII characters"],
                self.mistakes(_GOOD.replace("tcp:7", f"tls:7:cert={cert}:key={key}:alpn={names}")),
            )

    def test_an_endpoint_that_is_wrong_is_one_mistake(self) -> None:
        """What its form would be is not known, and no mistake is made up about it; twice the same is no place taken twice."""
        cert, key = Authority().issue("example.org").write(self.folder)
        table = f'\nproxy = "10.0.0.0/8"\ntls = {{ cert = "{cert}", key = "{key}" }}\n'
        for text in ("udp:x", "tcp:x", "tls:x", "unix:"):
            listener = f'[[listener]]\nprotocol = "echo"\nendpoint = "{text}"{table}'
            self.assertEqual([3, 8], [int(each.split(":")[0]) for each in self.mistakes(listener * 2)], text)

    def test_proxies_that_are_nobody(self) -> None:
        """A list of no networks is a mistake for a port; one with a mistake in it is said once."""
        self.assert_beginnings(
            ["4: proxy names nobody"], self.mistakes(f"{_GOOD}proxy = []\n".replace("tcp:7", "haproxy:tcp:7"))
        )
        self.assert_beginnings(["4: proxy 'x'"], self.mistakes(f"{_GOOD}proxy = ['x']\n"))


class AllAtOnceTests(ConfigCase):
    """A file with many mistakes is mended in one go."""

    def test_every_kind(self) -> None:
        """All of them are told, in the order in which they stand in the file."""
        text = f"""\
colour = "red"
[defaults]
backlog = 0
rcvbuf = "4M"
[[listener]]
protocol = "ecko"
endpoint = ["tcp:70000", "tcp:7"]
proxy = ["ten", "10.0.0.0/8", "eleven"]
[[listener]]
protocol = "echo"
endpoint = "tcp:7"
[[listener]]
endpoint = "tcp:9"
backlog = 0
answer-rate = 0
[listener.tls]
crt = 3
[[listener]]
protocol = "discard"
endpoint = [
  "udp:9",
  "tcp:7",
  "udp:9:interface=127.0.0.1",
  "tls:99:cert={self.folder}/none:key={self.folder}/none",
]
backlogg = 3
[[listener]]
protocol = "chargen"
endpoint = "udp:19"
tls.cert = "x"
options.allow_amplification = true
"""

        self.assert_beginnings(
            [
                "1: unknown key colour",
                "3: backlog 0",
                "4: rcvbuf must be a whole number",
                "6: there is no protocol 'ecko'",
                "7: port 70000",
                "8: proxy 'ten'",
                "8: proxy 'eleven'",
                "11: tcp:7 is already taken",
                "12: protocol is missing",
                "14: backlog 0",
                "15: answer-rate 0",
                "17: unknown key crt",
                "22: tcp:7 is already taken",
                "23: udp:9 on 127.0.0.1 is already taken",
                "24: certificate file",
                "24: key file",
                "26: unknown key backlogg",
                "30: cert and key go together",
                "31: unknown key allow_amplification",
            ],
            self.mistakes(text),
        )

    def test_many_listeners(self) -> None:
        """A mistake at the end of a file of 300 listeners has its line, and so has each of 300 mistakes."""
        tables = [f'[[listener]]\nprotocol = "echo"\nendpoint = "tcp:{port}"\n' for port in range(1, 301)]

        self.assertEqual(300, len(self.read("".join(tables))))
        self.assertEqual(
            ["901: unknown key colour"],
            [each.partition(";")[0] for each in self.mistakes("".join(tables) + "colour = 1")],
        )
        self.assertEqual(
            [f"{line}: endpoint is missing" for line in range(1, 600, 2)],
            self.mistakes('[[listener]]\nprotocol = "echo"\n' * 300),
        )

    def test_first_line_says_how_many_more(self) -> None:
        """Where there is room for one line, it is the first mistake and the way to the others."""
        path = self.file("a = 1\nb = 2\n")
        problem = self.assertRaises(InvalidConfig, read_config, path)

        self.assertEqual(3, len(problem.mistakes))
        self.assertEqual(
            f"{problem.mistakes[0]} (and 2 more; `echosvc config check` tells all)", str(problem)
        )
