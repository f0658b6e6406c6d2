"""`echosvc health`: does every listener of a running service answer? For container health checks, and for scripts."""

from __future__ import annotations

import click

from echosvc.cli._output import Output, complain
from echosvc.cli.config import ForTwistd
from echosvc.errors import ExitCode

__all__ = ["health"]


@click.command(cls=ForTwistd, short_help="Ask every listener of a running service for an answer.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ENDPOINT]...")
@click.pass_context
def health(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Ask every listener of a service that runs on this machine, all at once, and say which do not answer.

    OPTIONS are those of `twistd echosvc`, with which the service was started: --config, --port, --listen and so on. Or name
    ENDPOINTs, such as tcp:8080 or daytime=udp:13; without any of it, echo is asked on port 8007.

    Each protocol is asked for what it says: echo for the same bytes, time for the time, chargen for a line; discard must say
    nothing. Of UDP protocols that never answer it can only be seen that nobody refuses. A listener on every address is asked
    at 127.0.0.1 and ::1; one that serves others only must close at once. Of a protocol from another package a connection is
    enough. No certificate and no key is read.

    \b
    More options:
      --timeout SECONDS  in which all must have answered; default: 2
      --verify HOST      TLS listeners must show a certificate for HOST that this
                         system trusts; default: any certificate will do
      -v, --verbose      one line for each listener that answers, too

    \b
    Examples:
      echosvc health --config /etc/echosvc.toml
      echosvc health --port 8080 --timeout 1
      echosvc health tcp:8080 udp:8080 time=unix:/run/time.sock echo=tls:8443

    \b
    Exit codes:
      0   all answer as they should
      64  an option or an endpoint makes no sense
      69  at least one does not; one line on standard error for each
      78  the configuration file cannot be used
    """  # noqa: D301  # \b is for click, which leaves such a paragraph as it is
    # Imported late: a help page need not wait for Twisted.
    from echosvc.cli._asking import ask_all  # noqa: PLC0415
    from echosvc.cli._health import HealthOptions, places_of  # noqa: PLC0415

    asked = HealthOptions()
    asked.understand(list(arguments))
    places = places_of(asked.settings.listeners, asked.verify)
    output = Output()
    answers = ask_all(places, asked.timeout)
    for each in answers:
        if each.problem:
            complain(f"{each.place.label}: {each.problem}")
        elif asked.verbose:
            how = "no such address here" if each.seconds is None else f"answers, {each.seconds * 1e3:.1f} ms"
            output.line(f"{each.place.label}: {how}")
    if any(each.problem for each in answers):
        context.exit(ExitCode.UNAVAILABLE)
