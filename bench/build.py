"""Compiles what is not Python, on the spot: the figures are of this machine's compiler and kernel headers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import attrs

from bench.errors import CannotBuild

__all__ = ["Programs", "build"]

_HERE = Path(__file__).parent
_LOAD = ("load.c", "measure.c", "tcp.c", "udp.c")


@attrs.frozen
class Programs:
    """The compiled programs.

    Attributes:
        leash: Starts a command on given cores, in its own session, ended with us.
        load: The load generator.
        echo: The C server.
        go: The Go server, or why there is none.
    """

    leash: Path
    load: Path
    echo: Path
    go: Path | CannotBuild


def build(folder: Path) -> Programs:
    """Compile everything.

    Args:
        folder: Where the programs go.

    Returns:
        The programs.

    Raises:
        CannotBuild: There is no C compiler, or it refused.
    """
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise CannotBuild("no C compiler found (cc, gcc or clang); the yardstick is written in C")
    programs = {"leash": ("leash.c",), "load": _LOAD, "echo": ("echo.c",)}
    for name, sources in programs.items():
        flags = ["-O2", "-Wall", "-Wextra", "-pthread"]
        _run([compiler, *flags, "-o", str(folder / name), *(str(_HERE / "c" / source) for source in sources)])
    return Programs(folder / "leash", folder / "load", folder / "echo", _build_go(folder))


def _build_go(folder: Path) -> Path | CannotBuild:
    go = shutil.which("go")
    if go is None:
        return CannotBuild("go is not installed")
    program = folder / "go-echo"
    try:
        _run(
            [go, "build", "-o", str(program), str(_HERE / "go" / "echo.go")],
            environment={"GOCACHE": str(folder / "go-cache"), "GO111MODULE": "off"},
        )
    except CannotBuild as problem:
        return problem
    return program


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(  # noqa: S603  # our own words, no shell
        command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}:\n{done.stderr.strip()}")
