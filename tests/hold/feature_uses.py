"""What clients see of each optional feature: every function here uses one, and raises `Broken` if it is not as it should be."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hold.clients import IPV4, answers, connect, one_datagram, receive_all, receive_exactly
from tests.hold.promise import Broken, kept

__all__ = [
    "ADMIN",
    "PORT",
    "Site",
    "admin",
    "admin_unix",
    "admitted",
    "agrees",
    "behind_proxy",
    "datagrams",
    "dead_worker",
    "eventually",
    "logged",
    "mutual",
    "mutual_after",
    "not_admitted",
    "not_logged",
    "quotes",
    "served_certificate",
    "shows",
    "stream",
]

#: The port of every listener of a feature, over TCP and UDP.
PORT = 7007

#: The port of the admin listener, as both units' files have it.
ADMIN = 9007

#: Seconds for a reload to show.
RELOAD = 15.0

_HELLO = b"hello as confined"


@dataclass(frozen=True)
class Site:
    """Where a service runs.

    Attributes:
        etc: The folder of its files.
        run: The folder of its sockets.
        pid: Returns its main process.
        log: Returns what it has logged.
    """

    etc: Path
    run: Path
    pid: Callable[[], int]
    log: Callable[[], str]


def eventually(check: Callable[[Site], None], site: Site, seconds: float = RELOAD) -> None:
    """Repeat a check until it holds.

    Raises:
        Broken: It did not hold in time.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            check(site)
        except (Broken, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def served_certificate(
    site: Site, host: str = "localhost", *, client: str = "", alpn: Sequence[str] = ()
) -> tuple[bytes, str | None]:
    """Have some words echoed over TLS.

    Args:
        site: Where.
        host: The server name.
        client: The name of the client's own certificate; empty: none.
        alpn: Names of protocols to offer.

    Returns:
        The server's certificate (DER), and the protocol that was agreed on.

    Raises:
        OSError: The connection was refused or ended.
        Broken: Other bytes came back.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(site.etc / "ca.pem")
    if client:
        context.load_cert_chain(site.etc / f"{client}.crt", site.etc / f"{client}.key")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with connect(IPV4, PORT) as plain, context.wrap_socket(plain, server_hostname=host) as sock:
        data = os.urandom(100_000)
        for start in range(0, len(data), 10_000):
            sock.sendall(data[start : start + 10_000])
            kept(
                receive_exactly(sock, 10_000) == data[start : start + 10_000],
                "TLS does not echo the same bytes",
            )
        return sock.getpeercert(binary_form=True) or b"", sock.selected_alpn_protocol()


def _certificate(path: Path) -> bytes:
    """The first certificate of a file, as DER."""
    first, end, _ = path.read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN CERTIFICATE") :] + end)


def shows(file: str, host: str = "localhost") -> Callable[[Site], None]:
    """Check that a host's certificate is that of a file."""

    def check(site: Site) -> None:
        kept(served_certificate(site, host)[0] == _certificate(site.etc / file), f"{host}: not {file}")

    return check


def _refused(site: Site, *, client: str = "", alpn: Sequence[str] = ()) -> None:
    """Check that a client is refused in the handshake, or at its first byte (TLS 1.3).

    Raises:
        Broken: It is served.
    """
    try:
        served_certificate(site, client=client, alpn=alpn)
    except (ssl.SSLError, ConnectionError, Broken):
        return
    raise Broken(f"served: a client with certificate {client or 'none'} that offers {list(alpn)}")


def mutual(site: Site) -> None:
    """Check that the known issuer's client is served, and others are refused."""
    served_certificate(site, client="client")
    _refused(site)
    _refused(site, client="stranger")


def mutual_after(site: Site) -> None:
    """Check that the other issuer's client is served, and that of the first is refused."""
    served_certificate(site, client="stranger")
    _refused(site, client="client")


def agrees(name: str) -> Callable[[Site], None]:
    """Check that one protocol is agreed on, and a client that offers another is refused."""

    def check(site: Site) -> None:
        agreed = served_certificate(site, alpn=("http/1.1", name))[1]
        kept(agreed == name, f"ALPN agrees on {agreed}, not {name}")
        _refused(site, alpn=("http/1.1",))

    return check


def stream(name: str) -> Callable[[Site], None]:
    """Check that a UNIX socket echoes."""

    def check(site: Site) -> None:
        data = os.urandom(100_000)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(RELOAD)
            sock.connect(str(site.run / name))
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            kept(bytes(receive_all(sock, len(data))) == data, f"{name} does not echo the same bytes")

    return check


def datagrams(name: str) -> Callable[[Site], None]:
    """Check that a UNIX socket answers datagrams, to a path and to an abstract name."""

    def check(site: Site) -> None:
        for own in (str(site.run / "client"), ""):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(2)
                sock.bind(own)
                try:
                    if own:
                        Path(own).chmod(0o666)
                    sock.sendto(_HELLO, str(site.run / name))
                    kept(
                        sock.recv(100) == _HELLO,
                        f"{name} answers {own or 'an abstract name'} with other bytes",
                    )
                except TimeoutError:
                    raise Broken(f"{name} does not answer {own or 'an abstract name'}") from None
                finally:
                    if own:
                        Path(own).unlink()

    return check


def admitted(site: Site) -> None:
    """Check that this machine is served."""
    answers(PORT, PORT)


def not_admitted(site: Site) -> None:
    """Check that this machine is refused, and its datagrams dropped."""
    kept(one_datagram(IPV4, PORT, _HELLO, wait=0.5) is None, "a datagram of a denied source is answered")
    with contextlib.suppress(ConnectionError), connect(IPV4, PORT) as sock:
        sock.sendall(_HELLO)
        kept(sock.recv(100) == b"", "a denied source is served")


def quotes(quote: bytes) -> Callable[[Site], None]:
    """Check that a quote comes over TCP and UDP."""

    def check(site: Site) -> None:
        with connect(IPV4, PORT) as sock:
            came = bytes(receive_all(sock, 512)), one_datagram(IPV4, PORT, b"")
        kept(came == (quote + b"\r\n",) * 2, f"the quotes are {came}")

    return check


def behind_proxy(site: Site) -> None:
    """Check that a PROXY header is understood."""
    with connect(IPV4, PORT) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n" + _HELLO)
        kept(receive_exactly(sock, len(_HELLO)) == _HELLO, "behind a PROXY header other bytes came back")


def dead_worker(site: Site) -> None:
    """Kill a worker: the others and the one that stands by serve, and the parent starts another."""
    pid = site.pid()
    children = Path(f"/proc/{pid}/task/{pid}/children")
    before = set(map(int, children.read_text().split()))
    kept(len(before) == 3, f"there are {len(before)} workers, not two and a spare one")
    os.kill(min(before), signal.SIGKILL)

    def replaced(site: Site) -> None:
        after = set(map(int, children.read_text().split()))
        kept(len(after) == 3 and min(before) not in after, f"{before} became {after}")

    eventually(replaced, site)
    for _ in range(10):
        answers(PORT, PORT)


def _fetch(path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{IPV4}:{ADMIN}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        return problem.code, ""


def admin(site: Site) -> None:
    """Ask for everything; some of it the service reads from /proc."""
    for path in ("/healthz", "/readyz"):
        kept(_fetch(path)[0] == 200, f"{path} is {_fetch(path)}")
    json.loads(_fetch("/status")[1])
    figures = _fetch("/metrics")[1]
    for name in ("connections_total", "open_descriptors", "resident_memory_bytes", "cpu_seconds_total"):
        kept(f"\nechosvc_{name}{{" in figures, f"/metrics has no echosvc_{name}")


def admin_unix(site: Site) -> None:
    """Ask for readiness over a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(RELOAD)
        sock.connect(str(site.run / "admin.sock"))
        sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        kept(bytes(receive_all(sock, 10_000)).startswith(b"HTTP/1.1 200 "), "/readyz is not 200")


def logged(site: Site) -> None:
    """Check that a connection's end is one JSON object in the log."""
    with connect(IPV4, PORT) as sock:
        sock.sendall(_HELLO)
        receive_exactly(sock, len(_HELLO))

    def check(site: Site) -> None:
        lines = [json.loads(line) for line in site.log().splitlines() if line.startswith("{")]
        kept(
            any(each.get("bytes_in") == len(_HELLO) for each in lines), "the log has no line of a connection"
        )

    eventually(check, site)


def not_logged(site: Site) -> None:
    """Check that the log says it was reloaded, in text."""
    kept(
        any("reloaded" in line and not line.startswith("{") for line in site.log().splitlines()),
        "the log is not text",
    )
