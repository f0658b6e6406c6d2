"""A page of documentation that can be followed: its files written, its commands run, in order.

What a block is stands behind its fence:

    ```python NAME      a file, written whole
    ```toml NAME        likewise
    ```console          commands behind "$ ", each followed by what it says; "…" stands for anything
    ```console fails    the same; the last command ends with an error
    ```console real     the same, with a service that runs, or an installation: for tests/hold alone

A command without output may say what it likes. Spaces in a row are one. The page's port, 9000, is another one here.
"""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["PAGE", "Block", "Command", "Unlike", "blocks", "check", "tools", "write"]

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"

#: The port that the page names.
PORT = "9000"

#: Seconds that a command may take.
PATIENCE = 60

_FENCED = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
_KINDS = re.compile(r"(?:python|toml) [a-z_]+\.[a-z]+|console(?: fails| real)?")


class Unlike(AssertionError):
    """A command does not say what the page says that it does; `str()` tells both."""


@attrs.frozen
class Command:
    """A line that a reader types.

    Attributes:
        line: The line.
        said: What the page says that it prints.
        fails: Whether it ends with an error.
    """

    line: str
    said: str
    fails: bool


@attrs.frozen
class Block:
    """What stands between two fences.

    Attributes:
        kind: What stands behind the first fence.
        text: The lines between.
        line: The number of its first fence in the page.
    """

    kind: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that it is; None for commands."""
        return None if self.kind.startswith("console") else self.kind.split()[1]

    @property
    def is_real(self) -> bool:
        """Whether it needs a service that runs, or an installation."""
        return self.kind == "console real"

    def commands(self) -> Iterator[Command]:
        """Take it apart into commands."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts, 1):
            line, _, said = part.partition("\n")
            yield Command(line, said, fails=self.kind == "console fails" and number == len(parts))


def blocks(page: str) -> list[Block]:
    """Find the blocks of a page, in order.

    Raises:
        ValueError: One is not marked, or a fence is not closed.
    """
    found = []
    for match in _FENCED.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        kind, text = match.groups()
        if not _KINDS.fullmatch(kind):
            raise ValueError(f"line {line}: a block marked {kind!r} is none that a test could run")
        if kind.startswith("console") and not text.startswith("$ "):
            raise ValueError(f"line {line}: a console block begins with a command")
        found.append(Block(kind, text, line))
    if page.count("```") != 2 * len(found):
        raise ValueError("there is a fence that is not closed, or not at the beginning of a line")
    return found


def tools(directory: Path, python: str, environment: dict[str, str]) -> dict[str, str]:
    """Make the commands that a reader has after installation.

    Args:
        directory: An empty folder for them.
        python: The interpreter on which they run.
        environment: Where they are to be found.

    Returns:
        The same environment with them on its path.
    """
    for name, arguments in {
        "python": "",
        "pip": "-m pip --disable-pip-version-check",
        "echosvc": "-P -m echosvc",  # -P: a script does not look for modules in the folder it is called from
        "twistd": "-P -c 'from twisted.scripts.twistd import run; run()'",
    }.items():
        tool = directory / name
        tool.write_text(f'#!/bin/sh\nexec "{python}" {arguments} "$@"\n')
        tool.chmod(0o755)
    # The page writes a file again within a second, which Python would not notice by its compiled form.
    path = f"{directory}{os.pathsep}{environment['PATH']}"
    return {**environment, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def write(block: Block, directory: Path) -> None:
    """Write a block that is a file. Where it names the page's port, it is any free one."""
    assert block.file is not None
    (directory / block.file).write_text(block.text.replace(PORT, "0"))


def check(command: Command, directory: Path, environment: dict[str, str], port: int = 0) -> str:
    """Run a command, and compare what it says with what the page says.

    Args:
        command: The command.
        directory: Where.
        environment: With the tools on its path.
        port: What the page's port is here.

    Returns:
        What it said.

    Raises:
        Unlike: It says something else, or fails where it should not, or does not where it should.
    """
    done = subprocess.run(
        ["sh", "-c", command.line.replace(PORT, str(port))],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    if (done.returncode != 0) != command.fails or not _alike(command.said, done.stdout):
        wanted = f"{'an error' if command.fails else 'success'} and\n{textwrap.indent(command.said, '    ')}"
        got = f"it ended with {done.returncode} and\n{textwrap.indent(done.stdout, '    ')}"
        raise Unlike(f"$ {command.line}\n{got}in place of {wanted}")
    return done.stdout


def _alike(said: str, output: str) -> bool:
    """Compare, where "…" stands for anything: on a line of its own for any number of lines."""
    if not said:
        return True
    pattern = ""
    for line in _plain(said):
        pattern += r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _plain(output))) is not None


def _plain(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]
