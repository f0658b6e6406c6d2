"""What is promised to those in whose name somebody else sends: they are hardly hit, and never silenced.

All of it happens in a network namespace of our own, on addresses that are not this machine's to the screen: loopback is not
limited.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time

from tests.hold.clients import answers
from tests.hold.kernel import datagrams_sent
from tests.hold.namespace import Namespace, namespace, run_ip
from tests.hold.packets import ipv4_packet, ipv6_packet
from tests.hold.programs import program
from tests.hold.promise import Broken, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server

__all__ = ["high_port_loop", "low_ports", "odd_sources", "spoof_storm"]

SERVICE, REFLECTOR, VICTIM, HONEST = "10.99.0.1", "10.99.0.2", "10.99.0.3", "10.99.0.4"

#: Ports that the most trusted never answer (OpenBSD's inetd, BIND, HAProxy), and what reason they have here.
PORTS = {0: "zero", **dict.fromkeys((1, 7, 9, 13, 17, 19, 37, 53, 123, 161, 862, 1023), "low"), 2049: "nfs"}

#: Datagrams in a second that one source may cause, where a test sets it.
RATE = 1000

#: Datagrams in a second of a storm: one after the other, until nobody loses anything. What this machine cannot take at all the
#: kernel drops, whoever has sent it; and if the machine stands still for 50 ms, its receive buffer is full.
STORMS = (200_000, 200_000, 100_000, 50_000)

_MiB = 1024 * 1024


def _addresses(run: Run) -> Namespace:
    """Make a namespace with our four addresses, in which what goes to 10.128.0.0/9 goes nowhere."""
    space = run.using(namespace())
    for host in (SERVICE, REFLECTOR, VICTIM, HONEST):
        space.ip("address", "add", f"{host}/32", "dev", "lo")
    space.ip("route", "add", "10.128.0.0/9", "dev", "lo")
    return space


def _udp_ports(server: Server, count: int) -> list[int]:
    found = server.listening(count + 1)  # and TCP
    return sorted({each.port for each in found if each.transport == "UDP"})


def _counted(server: Server) -> dict[str, int]:
    """Stop the service, and read what it has dropped."""
    server.stop()
    found: dict[str, int] = {}
    for reason, number in re.findall(
        r"\b((?:source|destination|datagram|newcomer|send|access|receive)-[\w-]+) (\d+)", server.log()
    ):
        found[reason] = found.get(reason, 0) + int(number)
    return found


def _said(counted: dict[str, int]) -> str:
    return f"counted: {', '.join(f'{reason} {number}' for reason, number in sorted(counted.items())) or 'nothing'}"


def _ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    kept(process.stdout.readline() == "ready\n", "a helper of the test does not start")


def _forge(space: Namespace, port: int, packets: list[tuple[str, int]]) -> None:
    """Send a datagram to the service from each address and port."""
    with (
        space.inside(),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock,
    ):
        for source, source_port in packets:
            sock.sendto(ipv4_packet(source, source_port, SERVICE, port, b"loop?"), (SERVICE, 0))


@promise(
    "T16-ports",
    "a datagram from a port that no client has is dropped and counted, by every UDP service: no loop with another",
    deadline=30,
    stock=r"caused \d{4,} datagrams",
    # How many depends on what it throws away unseen while it answers (T16); it counts none.
    xinetd=r"^\d+ forged datagrams caused \d+ datagrams; counted: nothing",
    unguarded="caused [1-9]",
)
def low_ports(run: Run) -> str:
    """The ports of OpenBSD's and BIND's lists, and our own ones, each from elsewhere, to each of our services; of others, echo."""
    space = _addresses(run)
    names = () if run.control else ("discard", "chargen", "qotd", "daytime", "time")
    options = [word for name in names for word in ("--listen", f"{name}=udp:0")]
    server = run.serve(*options, "--low-ports", "863", prefix=space.command)
    ports = [server.udp] if run.control else _udp_ports(server, len(names) + 1)
    own = dict.fromkeys(ports, "own")
    with space.inside():
        before = datagrams_sent()
    for port in ports:
        _forge(space, port, [(VICTIM, number) for number in {**PORTS, **own}])
        _forge(space, port, [(VICTIM, number) for number in own])  # once more, as a loop would
    time.sleep(1)
    with space.inside():
        sent = datagrams_sent() - before
        answers(server.tcp, server.tcp)  # echo has one number for both
    expected = {f"source-port-{reason}": 0 for reason in ("low", "nfs", "own", "zero")}
    for reason in (*PORTS.values(), *own.values(), *own.values()):
        expected[f"source-port-{reason}"] += len(ports)
    counted = _counted(server)
    figures = f"{sum(expected.values())} forged datagrams caused {sent} datagrams; {_said(counted)}"
    kept(sent == 0 and counted == expected, f"{figures}; expected {expected}")
    return figures


@promise(
    "T17",
    "a loop with a reflector on a high port is cut to the rate of one source within a second, and counted",
    deadline=30,
    stock=r"^datagrams in each second: \[\d{5,}, \d{5,}",
    unguarded="^datagrams in each second",
)
def high_port_loop(run: Run) -> str:
    """Fifty datagrams forged in the reflector's name."""
    space = _addresses(run)
    server = run.serve("--datagram-rate", str(RATE), prefix=space.command)
    with program("packets", "reflect", REFLECTOR, 20_000, 4, prefix=space.command) as reflector:
        _ready(reflector)
        _forge(space, server.udp, [(REFLECTOR, 20_000)] * 50)
        tenths = list(map(int, reflector.communicate()[0].split()))
    seconds = [sum(tenths[start : start + 10]) for start in range(0, len(tenths), 10)]
    with space.inside():
        answers(server.tcp, server.udp)
    counted = _counted(server)
    figures = f"datagrams in each second: {seconds}, rate {RATE}; {_said(counted)}"
    kept(seconds[0] >= RATE, f"there was no loop to cut: {figures}")
    kept(seconds[0] <= 2 * RATE + 50 and max(seconds[1:]) <= RATE, figures)
    kept(counted.get("datagram-rate", 0) > 0, figures)
    return figures


@promise(
    "T19",
    "200 000 datagrams of 100 000 forged sources: 16 MiB at most, and an honest source loses nothing; a victim is not shot at",
    deadline=90,
    unguarded="datagrams reached it in|honest datagrams lost",
)
def spoof_storm(run: Run) -> str:
    """First the storm, with an honest client in the middle; then a flood in one victim's name, who asks, too."""
    space = _addresses(run)
    server = run.serve("--datagram-rate", str(RATE), prefix=space.command)
    with space.inside():
        answers(server.tcp, server.udp)
    _lost(space, server.udp, 10)
    before = server.anonymous()
    for attempt, rate in enumerate(STORMS):
        run.step = f"storm {attempt + 1}"
        with program(
            "packets",
            "storm",
            "10.128.0.0",
            100_000,
            SERVICE,
            server.udp,
            200_000,
            rate,
            prefix=space.command,
        ) as forger:
            asked, lost = _lost(space, server.udp, 1000, during=forger)
            took = float(forger.communicate()[0])
        if not lost:
            break
    grown = server.anonymous() - before
    figures = (
        f"storm of {200_000 / took / 1e3:.0f} k/s: {lost} of {asked} honest datagrams lost, "
        f"{grown / _MiB:+.1f} MiB"
    )
    figures += f" (attempt {attempt + 1})" if attempt else ""
    if lost or grown > 16 * _MiB:
        raise Broken(f"{figures}; {_said(_counted(server))}")
    run.step = "one victim"
    seconds = 3
    with program("packets", "count", VICTIM, 40_000, seconds + 1, prefix=space.command) as victim:
        _ready(victim)
        started = time.monotonic()
        with program(
            "packets", "storm", VICTIM, 1, SERVICE, server.udp, 50_000 * seconds, 50_000, prefix=space.command
        ) as forger:
            asked, heard = _victim(space, server.udp, seconds - 0.5)
            took = float(forger.communicate()[0])
            window = time.monotonic() - started
        tenths = list(map(int, victim.communicate()[0].split()))
    hit = sum(tenths) + heard
    flood = 50_000 * seconds / took
    figures += (
        f"; flood of {flood / 1e3:.0f} k/s in one name: {hit} datagrams reached it in {took:.1f} s, rate {RATE}; "
        f"of {asked} that it sent itself {heard} were answered"
    )
    kept(hit <= RATE * (window + 1) + 1, figures)  # a second's worth may come at once
    # Each datagram's chance is what is let in of all, at least: one in a hundred here; none of them is singled out.
    kept(heard >= asked * RATE / flood / 4, figures)
    counted = _counted(server)
    kept(counted.get("datagram-rate", 0) > 0, figures)
    return f"{figures}; {_said(counted)}"


def _lost(
    space: Namespace, port: int, count: int, *, during: subprocess.Popen[str] | None = None
) -> tuple[int, int]:
    """Ask, one after the other, a thousand times in a second; return how often, and how many were not answered.

    Args:
        space: Where.
        port: The service's.
        count: How often at least.
        during: Go on for as long as this runs.
    """
    asked = lost = 0
    with space.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HONEST, 0))
        sock.connect((SERVICE, port))
        sock.settimeout(2)
        while asked < count or (during is not None and during.poll() is None):
            payload = b"%d" % asked
            asked += 1
            sock.send(payload)
            try:
                while sock.recv(100) != payload:
                    pass
            except TimeoutError:
                lost += 1
            time.sleep(0.0005)
    return asked, lost


def _victim(space: Namespace, port: int, seconds: float) -> tuple[int, int]:
    """Ask in the middle of the flood, from another port of the victim; return how often, and how often it was answered."""
    asked = heard = 0
    until = time.monotonic() + seconds
    with space.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((VICTIM, 0))
        sock.connect((SERVICE, port))
        sock.setblocking(False)
        while time.monotonic() < until:
            sock.send(b"hello?")
            asked += 1
            time.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                while sock.recv(100):
                    heard += 1
    return asked, heard


#: Who claims to send over a link, which address is asked, and under which reason it is counted, if the kernel lets it pass.
_ODD = (
    ("10.98.0.2", 0, "10.98.0.1", "source-port-zero"),
    ("10.98.0.2", 161, "10.98.0.1", "source-port-low"),
    ("10.98.0.255", 40_000, "10.98.0.1", "send-EACCES"),
    ("240.0.0.1", 40_000, "10.98.0.1", "source-reserved"),
    ("255.255.255.255", 40_000, "10.98.0.1", "source-broadcast"),
    ("224.0.0.1", 40_000, "10.98.0.1", "source-multicast"),
    ("0.0.0.1", 40_000, "10.98.0.1", "source-unspecified"),
    ("127.0.0.1", 40_000, "10.98.0.1", "source-loopback"),
    ("10.98.0.2", 40_000, "10.98.0.255", "destination-broadcast"),
    ("10.98.0.2", 40_000, "255.255.255.255", "destination-broadcast"),
    ("10.98.0.2", 40_000, "224.0.0.1", "destination-multicast"),
    ("fd98::2", 0, "fd98::1", "source-port-zero"),
    ("fd98::2", 53, "fd98::1", "source-port-low"),
    ("ff02::1", 40_000, "fd98::1", "source-multicast"),
    ("::", 40_000, "fd98::1", "source-unspecified"),
    ("::1", 40_000, "fd98::1", "source-loopback"),
    ("fd98::2", 40_000, "ff02::1", "destination-multicast"),
)

#: What no kernel is known to stop.
_PASS = {"source-port-zero", "source-port-low", "send-EACCES", "source-reserved", "destination-multicast"}


@promise(
    "T21",
    "odd sources and destinations over a link: none is answered, each is counted under its own name, no traceback",
    deadline=30,
    stock="caused [1-9]",
    xinetd=r"^\d+ odd datagrams caused \d+ datagrams; counted: nothing",
    unguarded="caused [1-9]",
)
def odd_sources(run: Run) -> str:
    """Frames on a veth pair; what the kernel stops by itself does not reach us."""
    space = run.using(namespace())
    run_ip("-n", space.name, "link", "add", "ours", "type", "veth", "peer", "name", "theirs")
    for arguments in (
        ("address", "add", "10.98.0.1/24", "broadcast", "10.98.0.255", "dev", "ours"),
        ("address", "add", "fd98::1/64", "dev", "ours", "nodad"),
        ("link", "set", "ours", "up"),
        ("link", "set", "theirs", "up"),
    ):
        space.ip(*arguments)
    with contextlib.suppress(
        subprocess.CalledProcessError
    ):  # a neighbour who never answers would keep datagrams waiting
        space.ip("neighbour", "add", "10.98.0.2", "lladdr", "02:00:00:00:00:02", "dev", "ours")
    # Two sockets: the kernel hands IPv4 groups only to an IPv4 one.
    server = run.serve("--interface", "0.0.0.0", "--interface", "::", prefix=space.command)
    with space.inside():
        hardware = bytes.fromhex(_hardware_address("ours").replace(":", ""))
        before = datagrams_sent()
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
            for source, source_port, asked, _ in _ODD:
                packet = (ipv6_packet if ":" in asked else ipv4_packet)(
                    source, source_port, asked, server.udp, b"odd?"
                )
                kind = 0x86DD if ":" in asked else 0x0800
                for _ in range(10):
                    sock.sendto(packet, ("theirs", kind, 0, 0, _frame_to(asked, hardware)))
        time.sleep(0.5)
        sent = datagrams_sent() - before
        answers(server.tcp, server.udp)
    counted = _counted(server)
    figures = f"{10 * len(_ODD)} odd datagrams caused {sent} datagrams; {_said(counted)}"
    possible: dict[str, int] = {}
    for _, _, _, reason in _ODD:
        possible[reason] = possible.get(reason, 0) + 10
    wrong = [reason for reason, number in counted.items() if number > possible.get(reason, 0)]
    missing = sorted(reason for reason in _PASS if counted.get(reason) != possible[reason])
    if sent or wrong or missing:
        raise Broken(f"{figures}; too often: {wrong}; missing: {missing}")
    stopped = sum(possible.values()) - sum(counted.values())
    return f"{figures}; {stopped} stopped by the kernel"


def _hardware_address(name: str) -> str:
    found = subprocess.run(["ip", "-o", "link", "show", name], check=True, capture_output=True, text=True)
    match = re.search(r"link/ether (\S+)", found.stdout)
    assert match is not None
    return match[1]


def _frame_to(asked: str, unicast: bytes) -> bytes:
    """Whom a frame goes to: everybody's cards, those of a group, or one."""
    if asked.endswith(".255"):
        return b"\xff" * 6
    if asked == "224.0.0.1":
        return bytes.fromhex("01005e000001")
    return bytes.fromhex("333300000001") if asked == "ff02::1" else unicast
