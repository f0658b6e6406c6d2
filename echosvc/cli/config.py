"""``echosvc config``: what a configuration file says, and what is wrong with it."""

from __future__ import annotations

import click

from echosvc.cli._output import Output, complain
from echosvc.errors import ExitCode, InvalidConfig, UserError

__all__ = ["ForTwistd", "config"]


@click.group()
def config() -> None:
    """Check a configuration file, or write one."""


@config.command()
@click.argument("file", type=click.Path())
@click.pass_context
def check(context: click.Context, file: str) -> None:
    """Tell every mistake in FILE, each with its line.

    Reads certificates, keys and whatever else FILE names, and opens no socket.

    \b
    Exit codes:
      0   there is none
      78  there are some
    """  # noqa: D301  # \b is for click, which leaves such a paragraph as it is
    from echosvc.settings import read_config  # noqa: PLC0415  # a help page need not wait for Twisted

    try:
        listeners = read_config(file).listeners
    except InvalidConfig as problem:
        for mistake in problem.mistakes:
            complain(mistake)
        context.exit(ExitCode.CONFIG)
    Output().line(f"{file}: good; {len(listeners)} listener{'s' * (len(listeners) != 1)}")


class ForTwistd(click.Command):
    """A command whose arguments are options of twistd's: which of them belong together only its own parser knows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave all of them alone but a wish for help."""
        return super().parse_args(ctx, args if args in (["-h"], ["--help"]) else ["--", *args])


@config.command("show", cls=ForTwistd)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def show_settings(options: tuple[str, ...]) -> None:
    """Write the settings that OPTIONS of `twistd echosvc` mean, defaults included, as a configuration file.

    \b
    Examples:
      echosvc config show --port 8080 > echosvc.toml
      echosvc config show --config echosvc.toml

    \b
    Exit codes:
      0   written
      64  an option makes no sense
      78  the configuration file cannot be used
    """  # noqa: D301  # as above
    from echosvc.listeners import check_listeners  # noqa: PLC0415  # as above
    from echosvc.settings import show  # noqa: PLC0415
    from echosvc.tap import Options  # noqa: PLC0415

    asked = Options()
    asked.parseOptions(list(options))  # ends with one line on standard error if they are wrong
    for mistake in check_listeners(asked.settings.listeners):
        raise mistake
    try:
        written = show(asked.settings).encode()
    except UnicodeEncodeError as problem:
        raise UserError(
            f"{problem.object[problem.start : problem.end]!r} is not UTF-8, which TOML is"
        ) from None
    Output().write(written)
