"""`echosvc talk`: the interactive client of every sockets textbook, and a pipe."""

from __future__ import annotations

import os

import click

from echosvc.cli._options import Seconds, exit_codes, target_argument, udp_option
from echosvc.cli._output import Output
from echosvc.errors import ExitCode

__all__ = ["talk"]


@click.command(
    short_help="Send lines, or a whole stream, and check what comes back.",
    epilog=exit_codes("130 Ctrl-C"),
)
@target_argument
@udp_option
@click.option(
    "-W",
    "wait",
    type=Seconds(),
    metavar="SECONDS",
    help="How long to wait while nothing comes back. Default: 60 in a pipe, where it is the end; 5 at a "
    "terminal, where you are told and may go on.",
)
def talk(target: tuple[str, ...], *, udp: bool, wait: float | None) -> None:
    """Send what you type, or what a pipe brings, to an echo service, and check what comes back.

    A target is HOST PORT, HOST:PORT, [::1]:PORT or udp:HOST:PORT.

    At a terminal every line is sent when you press Enter, and its echo is printed. "q" alone, or Ctrl-D,
    ends it. Over TCP a line is sent with its line end; over UDP exactly as typed, one datagram a line, so
    that you can watch it arrive in a server of your own.

    With standard input from a pipe or a file everything is sent, then our direction is closed, and
    everything that comes back is written to standard output. The exit code is 0 only if every byte came
    back the same. Over UDP nothing is sent twice: the first loss is the end.

    \b
    Examples:
      echosvc talk localhost 8080
      echosvc talk udp:localhost:8080
      head -c 100M /dev/urandom | echosvc talk localhost 8080 | sha256sum
    """  # noqa: D301  # \b is for click, which leaves such a paragraph as it is
    # Imported late: a help page need not wait for Twisted.
    from echosvc.cli._run import run  # noqa: PLC0415
    from echosvc.cli._talking import converse, pipe  # noqa: PLC0415
    from echosvc.client.target import Target  # noqa: PLC0415

    whom = Target.from_arguments(target, udp=udp)
    output = Output()
    if os.isatty(0):
        code = run(lambda reactor: converse(reactor, whom, output, wait or 5.0), output)
    else:
        run(lambda reactor: pipe(reactor, whom, output, wait or 60.0), output)
        code = ExitCode.OK
    click.get_current_context().exit(code)
