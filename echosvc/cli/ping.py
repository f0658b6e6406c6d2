"""`echosvc ping`: as ping(8), but against an echo service."""

from __future__ import annotations

import click

from echosvc.cli._options import Seconds, exit_codes, target_argument, udp_option
from echosvc.cli._output import Output

__all__ = ["ping"]

#: A UDP probe is at least its tag, which says whose and which it is (`echosvc.client.TAG_SIZE`).
_SMALLEST_DATAGRAM = 16

#: The most that fits into a datagram over IPv4.
_LARGEST_DATAGRAM = 65507

#: The largest TCP probe: more is a transfer, and `echosvc talk` the tool for it.
_LARGEST = 16 * 1024 * 1024


@click.command(
    short_help="Measure round trips, as ping(8) does.",
    epilog=exit_codes("Ctrl-C prints the summary and ends with one of these."),
)
@target_argument
@udp_option
@click.option(
    "-c",
    "count",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Stop after COUNT probes. Default: Ctrl-C.",
)
@click.option(
    "-i",
    "interval",
    type=Seconds(),
    default=1.0,
    metavar="SECONDS",
    show_default=True,
    help="Time between probes.",
)
@click.option(
    "-s",
    "size",
    type=click.IntRange(1, _LARGEST),
    default=64,
    metavar="BYTES",
    show_default=True,
    help=f"Size of a probe; over UDP the whole datagram, {_SMALLEST_DATAGRAM} to {_LARGEST_DATAGRAM}.",
)
@click.option(
    "-W",
    "wait",
    type=Seconds(),
    default=2.0,
    metavar="SECONDS",
    show_default=True,
    help="How long to wait for each echo.",
)
def ping(
    target: tuple[str, ...], *, udp: bool, count: int | None, interval: float, size: int, wait: float
) -> None:
    """Measure, as ping(8) does, how long small probes take to an echo service and back.

    A target is HOST PORT, HOST:PORT, [::1]:PORT or udp:HOST:PORT. Every probe is random, and what comes
    back is compared with it. Over TCP all probes use one connection, so a lost packet shows as a late echo;
    over UDP it shows as a lost one.

    \b
    Examples:
      echosvc ping localhost 8080
      echosvc ping -c 10 -i 0.1 udp:localhost:8080
      echosvc ping -c 5 -s 1400 --udp 192.0.2.1 7
    """  # noqa: D301, D402  # \b is for click, which leaves such a paragraph as it is
    # Imported late: a help page need not wait for Twisted.
    from echosvc.cli._pinging import Plan, ping_target  # noqa: PLC0415
    from echosvc.cli._run import run  # noqa: PLC0415
    from echosvc.client.target import Target  # noqa: PLC0415

    whom = Target.from_arguments(target, udp=udp)
    if whom.kind == "udp" and not _SMALLEST_DATAGRAM <= size <= _LARGEST_DATAGRAM:
        raise click.BadParameter(
            f"over UDP a probe has {_SMALLEST_DATAGRAM} bytes (they say which probe it is) "
            f"to {_LARGEST_DATAGRAM} (the most that fits into a datagram)",
            param_hint=f"-s {size}",
        )
    output = Output()
    plan = Plan(count=count, interval=interval, size=size, wait=wait)
    code = run(lambda reactor: ping_target(reactor, whom, plan, output), output)
    click.get_current_context().exit(code)
