"""What is promised by docs/extending.md: whoever follows it, from the first line to the last, sees what it says."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shlex
import shutil
import site
import subprocess
import sys
import time
from pathlib import Path

from tests.examples.page import PAGE, PORT, Command, Unlike, blocks, check, tools, write
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import START, Server, environment, listening, trouble

__all__ = ["extending"]


@promise(
    "EXTEND",
    "docs/extending.md can be followed from an empty folder to an installed package",
    deadline=180,
)
def extending(run: Run) -> str:
    """Every file is written and every command typed, services and the installation included."""
    if not _has_netcat():
        raise Skipped("no nc that knows -N (Debian: netcat-openbsd)")
    if shutil.which("openssl") is None:
        raise Skipped("no openssl")
    reader = _Reader(run)
    files = 0
    for block in blocks(PAGE.read_text(encoding="utf-8")):
        run.step = f"line {block.line}"
        if block.file is not None:
            write(block, reader.folder)
            files += 1
        for command in block.commands() if block.file is None else ():
            reader.type(command, block.line)
    reader.end_service()
    return f"{files} files written, {reader.typed} commands typed, {reader.served} of them services"


class _Reader:
    """Somebody who follows the page, with an installation of their own.

    Args:
        run: Where, and who stops what is left.

    Attributes:
        folder: Where they write and type.
        typed: Commands so far.
        served: Services among them.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bin = run.directory / "bin"
        self._bin.mkdir()
        self.folder = run.directory / "page"
        self.folder.mkdir()
        self._environment = tools(self._bin, _own_python(run.directory / "venv"), environment())
        self._service: Server | None = None
        self._port = 0
        self.typed = 0
        self.served = 0

    def type(self, command: Command, line: int) -> None:
        """Type a command, and see that it says what the page says.

        Raises:
            Broken: It does not.
            Skipped: It cannot be tried here.
        """
        self.typed += 1
        if command.line.startswith("twistd "):
            self._serve(command.line, line)
            return
        try:
            check(command, self.folder, self._environment, self._port)
        except Unlike as problem:
            if command.line.startswith("pip ") and "satisfies the requirement setuptools" in str(problem):
                raise Skipped("pip finds no setuptools here: no index") from None
            raise Broken(f"line {line}: {problem}") from None

    def _serve(self, command: str, line: int) -> None:
        """Start a service in place of the one before, on a free port."""
        self.end_service()
        self.served += 1
        words = shlex.split(command.replace(PORT, "0"))[2:]
        self._service = Server([str(self._bin / "twistd"), "-n", "--pidfile=", *words], self.folder)
        self._run.using(contextlib.closing(self._service))
        until = time.monotonic() + START
        while not (found := listening(self._service.log())):
            if time.monotonic() > until or not self._service.alive():
                raise Broken(f"line {line}: it does not listen: {self._service.log().strip()[-300:]}")
            time.sleep(0.02)
        self._port = found[0].port

    def end_service(self) -> None:
        """Stop the service, which must have done well."""
        if self._service is None:
            return
        kept(self._service.alive(), "the service is dead")
        code = self._service.stop()
        kept(code == 0, f"SIGTERM ended the service with {code} in place of 0")
        if found := trouble(self._service.log()):
            raise Broken(f"the log has: {found}")


def _has_netcat() -> bool:
    """Whether there is the netcat of OpenBSD, which can half-close; the others have another -N, or none."""
    if shutil.which("nc") is None:
        return False
    told = subprocess.run(["nc", "-h"], capture_output=True, text=True, check=False, timeout=10)
    return "OpenBSD" in told.stdout + told.stderr


def _own_python(directory: Path) -> str:
    """Make an interpreter that has what this one has, and into which packages can be installed without touching it."""
    try:
        importlib.metadata.distribution("pip")
        importlib.metadata.distribution("echosvc")
    except importlib.metadata.PackageNotFoundError as missing:
        raise Skipped(f"{missing.name} is not installed where this runs") from None
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60)
    python = directory / "bin" / "python"
    asked = [str(python), "-c", "import site; print(site.getsitepackages()[0])"]
    own = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    # addsitedir, and not the folders themselves, so that what is installed there as editable is found, too.
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages()]
    (Path(own) / "host.pth").write_text("".join(lines))
    return str(python)
