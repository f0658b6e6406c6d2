"""What is promised of every kind of listener: each protocol on each, used by clients that nobody here wrote."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Authority
from tests.hold.clients import HOSTS, IPV4, IPV6, NOT_TRIED
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import START, Server, environment, twistd
from tests.hold.workers import wait_until

__all__ = ["activated", "every_listener"]

#: The six protocols, and what a client of each sends.
PROTOCOLS = ("echo", "discard", "chargen", "qotd", "daytime", "time")

HELLO = b"hello, whoever you are"

#: Seconds from 1900 to 1970 (RFC 868).
EPOCH_1900 = 2_208_988_800

_RING = bytes(range(0x20, 0x7F))

#: ``chargen-tls: chargen (RFC 864) listens on TCP [::]:40123 (IPv6 and IPv4), TLS``
_LISTENS = re.compile(r"(\w+-\w+): \w+ \(RFC \d+\) listens on (TCP|UDP) \S+:(\d+)")


def _chargen_is_right(came: bytes) -> bool:
    return came[:74] == _RING[:72] + b"\r\n"


def _is_now(came: bytes) -> bool:
    return len(came) == 4 and abs(struct.unpack("!I", came)[0] - EPOCH_1900 - time.time()) < 5


#: What a client must get over a stream, and in one datagram.
_STREAM: Mapping[str, Callable[[bytes], bool]] = {
    "echo": lambda came: came == HELLO,
    "discard": lambda came: not came,
    "chargen": _chargen_is_right,
    "qotd": lambda came: 0 < len(came) < 512 and came.isascii(),
    "daytime": lambda came: bool(re.fullmatch(rb"\w+day, \w+ \d+, \d{4} \d\d:\d\d:\d\d-UTC\r\n", came)),
    "time": _is_now,
}
_DATAGRAM = {**_STREAM, "chargen": lambda came: len(came) <= len(HELLO) and came.isascii()}


@dataclass(frozen=True)
class Way:
    """A way to a listener.

    Attributes:
        client: How the result names it.
        command: What is run, with ``{port}``, ``{path}`` or ``{abstract}`` where the listener is.
        group: Which of a protocol's listeners it is, as the configuration names them.
        transport: Which of its places.
        datagrams: Whether it is one of datagrams.
        lingers: Its input stays open for a second: it takes the end of it for the end of everything.
    """

    client: str
    command: str
    group: str
    transport: str = "TCP"
    datagrams: bool = False
    lingers: bool = False


_VERIFIED = "cafile=ca.pem,commonname=localhost"

WAYS = (
    Way("nc -N", f"nc -N {IPV4} {{port}}", "plain"),
    Way("ncat -6", f"ncat -6 {IPV6} {{port}}", "plain"),
    Way("socat UDP4", f"socat -t1 - UDP4:{IPV4}:{{port}}", "plain", "UDP", datagrams=True),
    Way("socat UDP6", f"socat -t1 - UDP6:[{IPV6}]:{{port}}", "plain", "UDP", datagrams=True),
    Way("socat UNIX-CONNECT", "socat -t10 - UNIX-CONNECT:{path}", "plain", "unix"),
    Way("nc -NU", "nc -NU {path}", "plain", "unix"),
    Way("socat ABSTRACT-CONNECT", "socat -t10 - ABSTRACT-CONNECT:{abstract}", "plain", "unix"),
    Way(
        "socat UNIX-SENDTO",
        "socat -t1 - UNIX-SENDTO:{path}gram,bind=$PWD/{path}.client",
        "plain",
        "unixgram",
        datagrams=True,
    ),
    Way("socat OPENSSL", f"socat -t10 - OPENSSL:{IPV4}:{{port}},{_VERIFIED}", "tls"),
    Way(
        "openssl s_client -tls1_2",
        "openssl s_client -quiet -no_ign_eof -tls1_2 -CAfile ca.pem -verify_return_error -servername localhost"
        f" -connect {IPV4}:{{port}} 2>/dev/null",
        "tls",
        lingers=True,
    ),
    Way(
        "openssl s_client -tls1_3",
        "openssl s_client -quiet -no_ign_eof -tls1_3 -CAfile ca.pem -verify_return_error -servername localhost"
        f" -connect {IPV4}:{{port}} 2>/dev/null",
        "tls",
        lingers=True,
    ),
    Way("ncat --ssl -6", f"ncat -6 --ssl {IPV6} {{port}}", "tls", lingers=True),
    Way(
        "socat OPENSSL with cert",
        f"socat -t10 - OPENSSL:{IPV4}:{{port}},{_VERIFIED},cert=client.crt,key=client.key",
        "mtls",
    ),
    Way(
        "socat OPENSSL with cert, IPv6",
        f"socat -t10 - OPENSSL:[{IPV6}]:{{port}},{_VERIFIED},cert=client.crt,key=client.key",
        "mtls",
    ),
    Way("haproxy send-proxy-v2", f"nc -N {IPV4} {{port}}", "proxy", "v2"),
    Way("haproxy send-proxy", f"nc -N {IPV4} {{port}}", "proxy", "v1"),
    Way("haproxy send-proxy-v2, IPv6", f"nc -N {IPV6} {{port}}", "proxy", "v2 IPv6"),
    Way("haproxy send-proxy-v2, UNIX", f"nc -N {IPV4} {{port}}", "proxy", "v2 UNIX"),
    Way("nc -N, adopted", f"nc -N {IPV4} {{port}}", "adopted"),
    Way("socat UDP4, adopted", f"socat -t1 - UDP4:{IPV4}:{{port}}", "adopted", "UDP", datagrams=True),
)

_RDATE = Way("rdate", "", "plain")

_TABLES = """
[[listener]]
name = "{name}-plain"
protocol = "{name}"
endpoint = ["tcp:0", "udp:0", "unix:{name}.sock", "unix:@{abstract}", "unixgram:{name}.sockgram"]

[[listener]]
name = "{name}-tls"
protocol = "{name}"
endpoint = "tls:0:cert=server.crt:key=server.key"

[[listener]]
name = "{name}-mtls"
protocol = "{name}"
endpoint = "tls:0:cert=server.crt:key=server.key:clientCA=ca.pem"

[[listener]]
name = "{name}-proxy"
protocol = "{name}"
endpoint = ["haproxy:tcp:0:interface=127.0.0.1", "haproxy:unix:{name}-proxy.sock"]

[[listener]]
name = "{name}-adopted"
protocol = "{name}"
endpoint = "systemd:name={name}"
"""


@promise(
    "EVERY",
    "one file serves six protocols over TCP, UDP, UNIX, unixgram, TLS, mTLS, PROXY and adopted sockets at once;"
    " clients that nobody here wrote use each",
    deadline=120,
)
def every_listener(run: Run) -> str:
    """Every client of `WAYS`, for each protocol."""
    directory = run.directory / "everything"
    directory.mkdir()
    _write_certificates(directory)
    config = directory / "everything.toml"
    config.write_text(
        "".join(_TABLES.format(name=each, abstract=f"{directory}/{each}") for each in PROTOCOLS)
    )
    passed = [f"{name}={kind}" for name in PROTOCOLS for kind in ("tcp", "udp")]
    launch = (sys.executable, "-P", str(Path(__file__).with_name("pass_sockets.py")), *passed, "--")
    server = run.serve("--config", str(config), prefix=("env", "-C", str(directory), *launch))
    ports = _wait_for_ports(server)
    missing_programs: set[str] = set()
    with _proxies(directory, ports) as proxied:
        ports.update(proxied)
        jobs = []
        for way in WAYS:
            if IPV6 in way.command and "IPv6" not in HOSTS:
                continue
            program = "haproxy" if way.group == "proxy" else way.command.split()[0]
            if shutil.which(program) is None:
                missing_programs.add(program)
                continue
            jobs += [(way, name) for name in PROTOCOLS]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            faults = list(pool.map(lambda job: _fault(job[0], job[1], directory, ports), jobs))
    if shutil.which("rdate") is None:
        missing_programs.add("rdate")
    else:
        jobs.append((_RDATE, "time"))
        faults.append(_rdate(ports["time-plain", "TCP"]))
    passed_ways = sorted({way.client for (way, _), fault in zip(jobs, faults, strict=True) if not fault})
    figures = (
        f"{faults.count('')} of {len(faults)} uses by {len(passed_ways)} clients ({', '.join(passed_ways)})"
    )
    if missing_programs:
        figures += f"; NOT INSTALLED: {', '.join(sorted(missing_programs))}"
    figures += NOT_TRIED
    kept(
        not any(faults) and bool(faults),
        f"{figures}; failed: {'; '.join(filter(None, faults))}" if any(faults) else figures,
    )
    return figures


def _wait_for_ports(server: Server) -> dict[tuple[str, str], int]:
    """Read from the log which port every listener has; the last of them is that of an adopted UDP socket."""
    until = time.monotonic() + START
    while True:
        ports = {(name, kind): int(port) for name, kind, port in _LISTENS.findall(server.log())}
        if (f"{PROTOCOLS[-1]}-adopted", "UDP") in ports:
            return ports
        if time.monotonic() > until or not server.alive():
            raise Broken(f"not all listen: {server.log()[-300:]}")
        time.sleep(0.02)


def _fault(way: Way, name: str, directory: Path, ports: Mapping[tuple[str, str], int]) -> str:
    """Let a client use a protocol; tell what was wrong, or nothing."""
    expected = (_DATAGRAM if way.datagrams else _STREAM)[name]
    command = way.command.format(
        port=ports.get((f"{name}-{way.group}", way.transport)),
        path=f"{name}.sock",
        abstract=f"{directory}/{name}",
    )
    if way.lingers:
        command = f"(cat; sleep 1) | {command}"
    if name == "chargen" and not way.datagrams:
        command = f"{command} | head -c 100000"
    try:
        done = subprocess.run(
            ["sh", "-c", command], input=HELLO, capture_output=True, timeout=20, check=False, cwd=directory
        )
    except subprocess.TimeoutExpired:
        return f"{way.client} {name}: does not end"
    if expected(done.stdout):
        return ""
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"{way.client} {name}: got {len(done.stdout)} bytes {done.stdout[:40]!r} {said}"


def _rdate(port: int) -> str:
    """Let the usual client of RFC 868 ask for the time; tell what was wrong, or nothing."""
    asked = ["rdate", "-p", "-o", str(port), IPV4]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    with contextlib.suppress(ValueError):
        told = time.mktime(time.strptime(done.stdout.strip(), "%a %b %d %H:%M:%S %Z %Y"))
        if abs(told - time.time()) < 5:
            return ""
    return f"rdate: {done.stdout!r} {done.stderr!r}"


def _write_certificates(directory: Path) -> None:
    authority = Authority()
    (directory / "ca.pem").write_bytes(authority.pem)
    authority.issue("localhost").write(directory, "server")
    authority.issue().write(directory, "client")


_HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
"""


@contextlib.contextmanager
def _proxies(directory: Path, ports: Mapping[tuple[str, str], int]) -> Iterator[dict[tuple[str, str], int]]:
    """Run haproxy before each protocol, with both versions of the PROXY header, if it is installed.

    Returns:
        A context with its ports. It is handed sockets that listen already: no port has to be guessed.
    """
    if shutil.which("haproxy") is None:
        yield {}
        return
    config = _HAPROXY
    found: dict[tuple[str, str], int] = {}
    with contextlib.ExitStack() as things:
        descriptors = []
        for name in PROTOCOLS:
            tcp = f"{IPV4}:{ports[f'{name}-proxy', 'TCP']}"
            for version, host, behind in (
                ("v1", IPV4, f"{tcp} send-proxy"),
                ("v2", IPV4, f"{tcp} send-proxy-v2"),
                ("v2 IPv6", IPV6, f"{tcp} send-proxy-v2"),
                ("v2 UNIX", IPV4, f"unix@{directory}/{name}-proxy.sock send-proxy-v2"),
            ):
                if host not in HOSTS.values():
                    continue
                family = socket.AF_INET6 if host == IPV6 else socket.AF_INET
                sock = things.enter_context(socket.create_server((host, 0), family=family))
                descriptors.append(sock.fileno())
                found[f"{name}-proxy", version] = sock.getsockname()[1]
                config += (
                    f"listen {name}-{version.replace(' ', '-')}\n    bind fd@{sock.fileno()}\n"
                    f"    server echosvc {behind}\n"
                )
        (directory / "haproxy.cfg").write_text(config)
        process = things.enter_context(
            subprocess.Popen(
                ["haproxy", "-db", "-f", "haproxy.cfg"],
                cwd=directory,
                pass_fds=descriptors,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        things.callback(process.kill)
        yield found


@promise(
    "ACTIVATE",
    "sockets from systemd-socket-activate are served: streams (-l) and datagrams (-d), with and without names",
    deadline=60,
)
def activated(run: Run) -> str:
    """It starts the service with the first client."""
    if shutil.which("systemd-socket-activate") is None:
        raise Skipped("needs systemd-socket-activate")
    passed = []
    for kind, flags, client in (
        ("stream", ("-l",), "socat -t10 - UNIX-CONNECT:{path}"),
        ("datagram", ("-d", "-l"), "socat -t2 - UNIX-SENDTO:{path},bind={path}.client"),
    ):
        for naming, options, endpoint in (
            ("named", ("--fdname=echo",), "systemd:name=echo"),
            ("without names", (), "systemd:index=0"),
        ):
            run.step = f"{kind}, {naming}"
            path = run.directory / f"{kind}-{naming[:5]}"
            server = _activate(run, path, [*flags, str(path), *options], endpoint)
            if kind == "datagram":
                _wake(path, server)
            _answers(client.format(path=path), server)
            passed.append(run.step)
    return "; ".join(passed)


def _activate(run: Run, path: Path, options: list[str], endpoint: str) -> Server:
    """Start the service as systemd-socket-activate does, and wait for its socket."""
    found = environment()
    options += [f"--setenv={name}={found[name]}" for name in ("PYTHONPATH",) if name in found]
    serve = [*twistd(), "-n", "--pidfile=", "echosvc", "--listen", f"echo={endpoint}"]
    server = Server(["systemd-socket-activate", *options, *serve], run.server_directory())
    run.watch(server)
    until = time.monotonic() + START
    while not path.exists():
        if time.monotonic() > until or not server.alive():
            raise Broken(f"there is no socket: {server.log().strip()}")
        time.sleep(0.02)
    return server


def _wake(path: Path, server: Server) -> None:
    """Send the first datagram: the kernel does not say whose it is, since it comes before the service, and no path is answered."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first:
        first.sendto(HELLO, str(path))
    wait_until(lambda: " listens on " in server.log(), "it does not listen", server)


def _answers(client: str, server: Server) -> None:
    done = subprocess.run(["sh", "-c", client], input=HELLO, capture_output=True, timeout=20, check=False)
    kept(done.stdout == HELLO, f"{client}: got {done.stdout!r} {done.stderr!r}; {server.log()[-300:]}")
