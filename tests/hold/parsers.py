"""The parsers of ours, what each understands, and what each must do with anything else.

Nothing of echosvc is imported before it is asked for: atheris wants to watch the import.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        seeds: What it understands, or nearly.
        judge: Feeds it and checks what comes out; tells whether it was understood. Whatever it raises is a fault.
    """

    seeds: tuple[bytes, ...]
    judge: Callable[[bytes], bool]


# -- the PROXY header: a segment of a stream, from whoever can connect


def _proxy_judge() -> Callable[[bytes], bool]:
    header = import_module("echosvc.transports.proxy_header")

    def outcome(pieces: list[bytes]) -> Any:
        parser = header.HeaderParser()
        for index, piece in enumerate(pieces):
            try:
                found = parser.feed(piece)
            except header.ProxyHeaderError as problem:
                return problem.reason
            if found is not None:
                return found, parser.rest + b"".join(pieces[index + 1 :])
        return None

    def judge(data: bytes) -> bool:
        whole = outcome([data])
        cuts = (1, len(data) // 2, len(data) - 1)
        for cut in cuts:
            assert outcome([data[:cut], data[cut:]]) == whole, (
                f"cut at {cut} it is {outcome([data[:cut], data[cut:]])}, not {whole}"
            )
        if not isinstance(whole, tuple):
            return False
        assert data.endswith(whole[1]), "what follows the header is not what came"
        return True

    return judge


def _proxy_seeds() -> tuple[bytes, ...]:
    crc32c = import_module("echosvc.transports.proxy_header").crc32c
    signature = b"\r\n\r\n\0\r\nQUIT\n"

    def binary(command: int, family: int, rest: bytes) -> bytes:
        return signature + struct.pack("!BBH", 0x20 | command, family, len(rest)) + rest

    four = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 1234, 80)
    six = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + struct.pack("!HH", 1234, 80)
    tlvs = b"\x01\0\x02h2\x02\0\x04name\x04\0\x03\0\0\0\x05\0\x04abcd\x20\0\x0d\x01\0\0\0\0\x21\0\x05TLSv1"
    summed = binary(1, 0x11, four + tlvs + b"\x03\0\x04\0\0\0\0")
    return (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\nhello",
        b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 65535 0\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\nhello",
        binary(0, 0, b"") + b"hello",
        binary(1, 0x11, four) + b"hello",
        binary(1, 0x11, four + tlvs),
        summed[:-4] + struct.pack("!I", crc32c(summed)) + b"hello",
        binary(1, 0x21, six),
        binary(1, 0x31, b"/run/a.sock".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")),
        binary(1, 0x12, four),
    )


# -- control messages, beside each datagram


def _control_judge() -> Callable[[bytes], bool]:
    linux = import_module("echosvc.transports.linux")
    padded = socket.CMSG_SPACE

    def judge(data: bytes) -> bool:
        found = linux.control_messages(data)
        for message in found:
            assert linux.pack_control(message) in data, f"{message} did not come"
        assert sum(padded(len(body)) for _, _, body in found) <= padded(len(data))
        # Of these the kernel alone decides how long they are, and these readers rely on that.
        known = [each for each in found if len(each[2]) >= 20]
        assert len(linux.destination(known)) in (0, 4, 16)
        for each in linux.reply_control(known):
            linux.pack_control(each)
        assert 0 <= linux.coalesced_size(found) < 2**32
        linux.queued_errno(known)
        return bool(found)

    return judge


def _control_seeds() -> tuple[bytes, ...]:
    pack = import_module("echosvc.transports.linux").pack_control
    messages = (
        (socket.IPPROTO_IP, 8, struct.pack("@i4s4s", 1, b"\x7f\0\0\1", b"\x7f\0\0\1") + bytes(8)),
        (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, bytes(15) + b"\1" + struct.pack("@i", 1)),
        (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, b"\xfe\x80" + bytes(13) + b"\1" + struct.pack("@i", 2)),
        (17, 104, struct.pack("@i", 1400)),
        (socket.IPPROTO_IP, 11, struct.pack("@IBBBBII", 111, 2, 3, 3, 0, 0, 0) + bytes(16)),
    )
    single = tuple(pack(each).ljust(socket.CMSG_SPACE(len(each[2])), b"\0") for each in messages)
    return (*single, b"".join(single), single[0] + single[3])


# -- text: endpoints, networks, targets


def _text_judge(understand: Callable[[str], object], refusal: type[Exception]) -> Callable[[bytes], bool]:
    def judge(data: bytes) -> bool:
        text = data.decode("utf-8", "surrogateescape")
        try:
            understand(text)
        except refusal as problem:
            assert str(problem), "a refusal without a word"
            return False
        return True

    return judge


def _endpoint_judge() -> Callable[[bytes], bool]:
    grammar = import_module("echosvc.listeners.grammar")

    def understand(text: str) -> None:
        place = grammar.parse_endpoint(text).place
        said = grammar.format_endpoint(place)
        assert grammar.parse_endpoint(said).place == place, f"{place} is written {said}"

    return _text_judge(understand, ValueError)


def _target_judge() -> Callable[[bytes], bool]:
    parse = import_module("echosvc.client.target").Target.parse

    def understand(text: str) -> None:
        target = parse(text)
        assert parse(str(target)) == target, f"{target!r} is written {target}"

    return _text_judge(understand, import_module("echosvc.errors").InvalidTarget)


# -- files: configuration, networks, quotes


def _file_judge(
    name: str, understand: Callable[[Path], object], refusal: type[Exception]
) -> Callable[[bytes], bool]:
    path = Path(name)

    def judge(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            understand(path)
        except refusal as problem:
            assert str(problem), "a refusal without a word"
            return False
        return True

    return judge


def _config_judge() -> Callable[[bytes], bool]:
    Path("quotes").write_bytes(b"Haste makes waste.\n")  # the configuration names it
    read = import_module("echosvc.settings").read_config
    return _file_judge(
        "echosvc.toml", lambda path: read(str(path)), import_module("echosvc.errors").InvalidConfig
    )


def _networks_judge() -> Callable[[bytes], bool]:
    access = import_module("echosvc.admission.access")

    def understand(path: Path) -> None:
        who = access.AccessList.read([f"@{path}"], [])
        for host in ("192.0.2.1", "2001:db8::1"):
            who.admits(host)

    return _file_judge("networks", understand, ValueError)


def _quotes_judge() -> Callable[[bytes], bool]:
    options = import_module("echosvc.protocols.qotd").QotdOptions

    def understand(path: Path) -> None:
        for quote in options(file=str(path)).quotes:
            assert len(quote) < 512, "longer than RFC 865 has it"
            assert quote.isascii(), "not ASCII"
            assert quote.endswith(b"\r\n"), "without an end"

    return _file_judge("quotes", understand, ValueError)


# -- the message of the example in examples/echosvc-sockperf: datagrams and segments


def _sockperf_judge() -> Callable[[bytes], bool]:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "echosvc-sockperf" / "src"))
    message = import_module("echosvc_sockperf.message")
    responder = import_module("echosvc_sockperf.stream").Responder

    class Wire:
        """Collects what is written."""

        def __init__(self) -> None:
            self.written = b""

        def write(self, data: bytes) -> None:
            self.written += data

        def unregisterProducer(self) -> None:
            """Nothing: whoever begins no message is heard no more."""

        def loseConnection(self) -> None:
            """Likewise."""

    def stream(pieces: list[bytes]) -> bytes:
        protocol = responder()
        protocol.transport = wire = Wire()
        for piece in pieces:
            protocol.dataReceived(piece)
        return wire.written

    def judge(data: bytes) -> bool:
        middle = len(data) // 2
        written = stream([data])
        assert len(written) <= len(data), "more came back than was sent"
        assert stream([data[:middle], data[middle:]]) == written, f"cut at {middle} it is another answer"
        if not message.is_question(data):
            return bool(written)
        answer = bytearray(data)
        message.turn(answer)
        assert not message.is_question(answer), "the answer would be answered"
        return True

    return judge


def _sockperf_seeds() -> tuple[bytes, ...]:
    sizes = ((3, 14), (3, 40), (7, 20), (1, 14), (2, 30), (3, 2**20))
    messages = tuple(struct.pack(">QHI", 1, flags, size) + bytes(min(size, 64) - 14) for flags, size in sizes)
    return (*messages, messages[0] * 3, messages[1] + messages[2])


_CONFIG = b"""
[limits]
max-connections = 100
[defaults]
stall-timeout = 30
allow = ["192.0.2.0/24"]
[[listener]]
protocol = "echo"
endpoint = ["tcp:8080", "udp:8080:interface=[::1]"]
[[listener]]
protocol = "discard"
endpoint = ["tcp:9000:interface=127.0.0.1"]
proxy = ["127.0.0.0/8"]
[[listener]]
protocol = "qotd"
endpoint = ["unix:quotes.sock:mode=660"]
options = { file = "quotes" }
"""

_ENDPOINTS = (
    "tcp:8080",
    "udp:0:interface=127.0.0.1",
    "tcp:7:interface=[fe80::1%lo]:backlog=50:proxy=127.0.0.0/8,[::1]",
    "tls:8443:cert=full.pem:key=key.pem:client-ca=ca.pem",
    "unix:/run/echo.sock:mode=660:lockfile=1",
    "unix:@name",
    "unixgram:a\\:b.sock",
    "systemd:index=0",
    "systemd:name=echo",
    "haproxy:tcp:8080",
    "tcp6:80",
    "ssl:443:privateKey=a",
)

_TARGETS = (
    "localhost:7",
    "[::1]:8080",
    "tcp:192.0.2.1:80",
    "udp:[fe80::1%eth0]:65535",
    "b\u00fccher.example:7",
    "::1:7",
    "udp:a:0",
)


def _encoded(*texts: str) -> tuple[bytes, ...]:
    return tuple(each.encode() for each in texts)


#: By name: how to make each target. Those that are files are written to the current directory.
TARGETS: dict[str, Callable[[], Target]] = {
    "proxy": lambda: Target(_proxy_seeds(), _proxy_judge()),
    "control": lambda: Target(_control_seeds(), _control_judge()),
    "sockperf": lambda: Target(_sockperf_seeds(), _sockperf_judge()),
    "endpoint": lambda: Target(_encoded(*_ENDPOINTS), _endpoint_judge()),
    "target": lambda: Target(_encoded(*_TARGETS), _target_judge()),
    "config": lambda: Target((_CONFIG, _CONFIG[:60], *_encoded("x = 1", "[[listener]]")), _config_judge()),
    "networks": lambda: Target(
        _encoded("192.0.2.0/24\n# all\n2001:db8::/32 # ours\n", "::ffff:192.0.2.1\n"), _networks_judge()
    ),
    "quotes": lambda: Target(
        _encoded("Haste makes waste.\n%\nTwo\tlines\nof it.\n%\n", "%\n%\n", "x" * 505), _quotes_judge()
    ),
}
