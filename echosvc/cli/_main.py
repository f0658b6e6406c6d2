"""The entry point: which commands there are, and how each way to end becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from echosvc import __version__
from echosvc.cli._output import complain, occupy_closed_descriptors
from echosvc.cli.config import config
from echosvc.cli.health import health
from echosvc.cli.ping import ping
from echosvc.cli.protocols import protocols
from echosvc.cli.talk import talk
from echosvc.errors import EchosvcError, ExitCode, Interrupted, OutputError

__all__ = ["main"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The server is a twistd plugin: twistd -n echosvc --port 8080",
)
@click.version_option(__version__, prog_name="echosvc", message="%(prog)s %(version)s")
def _commands() -> None:
    """Talk to an echo service (RFC 862), and see what the network did to the bytes. Prepare one of your own."""


_commands.add_command(talk)
_commands.add_command(ping)
_commands.add_command(health)
_commands.add_command(config)
_commands.add_command(protocols)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with one of `ExitCode`.

    Args:
        arguments: What follows the command's name; default: this process's own.
    """
    occupy_closed_descriptors()
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
    except EchosvcError as problem:
        complain(str(problem))
        code = problem.exit_code
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        with _commands.make_context("echosvc", arguments) as context:
            _commands.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as no_arguments:
        click.echo(no_arguments.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as usage:
        command = usage.ctx.command_path if usage.ctx else "echosvc"
        complain(f"{usage.format_message()} (see {command} --help)")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        raise Interrupted from None
    except OSError as problem:
        # A help page could not be written. What is left in Python's buffer must not fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise OutputError(f"standard output: {problem.strerror}") from None
    return ExitCode.OK
