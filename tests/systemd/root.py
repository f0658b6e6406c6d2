"""A Debian root: made by debootstrap, filled with the checkout and the packages that it needs, run by systemd-nspawn.

The packages are downloaded outside, by this machine's pip as it is configured. In the root there is no network but its loopback.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.hold.features import write_files

__all__ = ["CHECKOUT", "PYTHON_INSIDE", "Root"]

#: Debian 13: systemd 257 and Python 3.13.
RELEASE, PYTHON = "trixie", "3.13"

#: What the root has besides Debian's smallest.
_PACKAGES = "systemd-sysv,dbus,python3-venv,iproute2,procps,openssl,ca-certificates"

#: Where the checkout and the packages are in the root.
CHECKOUT, _WHEELS = "/srv/echosvc", "/srv/wheels"

#: Where the tests' own packages are, and their Python.
_PREFIX = "/opt/tests"
PYTHON_INSIDE = f"{_PREFIX}/bin/python3"

_TOP = Path(__file__).parents[2]

#: Seconds for debootstrap, and for pip.
_DOWNLOAD = 900.0

#: Seconds from one look at what a root has printed to the next.
_LOOK = 0.3

#: Seconds for a root to end that was told to.
_STOP = 30.0

_UNIT = """\
[Unit]
After=multi-user.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
WorkingDirectory={checkout}
Environment=PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} PIP_DISABLE_PIP_VERSION_CHECK=1
ExecStart=/usr/bin/env {command}
StandardOutput=append:{checkout}/build/said
StandardError=inherit
"""


class Root:
    """A Debian root.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> None:
        """Make it, unless it is there.

        Raises:
            subprocess.CalledProcessError: debootstrap failed, and has said why.
        """
        done = self._path / "srv" / "made"
        if done.exists():
            return
        _say(f"debootstrap {RELEASE}, takes some minutes")
        self._path.mkdir(parents=True, exist_ok=True)
        self._path.chmod(0o755)  # it becomes "/", which every user must be able to enter
        # In a mount namespace of its own: what debootstrap mounts there goes with it.
        made = subprocess.run(
            [
                *("unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={_PACKAGES}"),
                *(RELEASE, str(self._path), _mirror()),
            ],
            timeout=_DOWNLOAD,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if made.returncode:
            sys.stderr.write(made.stdout[-2000:])
            made.check_returncode()
        done.touch()

    def copy_checkout(self) -> None:
        """Copy what git knows of the checkout, the packages that it needs, and the files of the features.

        Raises:
            subprocess.CalledProcessError: pip failed, and has said why.
        """
        checkout, wheels = self._inside(CHECKOUT), self._inside(_WHEELS)
        subprocess.run(["rm", "-rf", checkout, *self._inside("/opt").glob("echosvc*")], check=True)
        (checkout / "build" / "files").mkdir(parents=True)
        write_files(checkout / "build" / "files")
        subprocess.run(
            f"git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C '{checkout}'",
            shell=True,
            cwd=_TOP,
            check=True,
        )
        _say("pip download")
        pip = [sys.executable, "-m", "pip", "-qq"]
        for each in wheels.glob("echosvc-*"):
            each.unlink()
        subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, checkout], check=True, timeout=_DOWNLOAD)
        (wheel,) = wheels.glob("echosvc-*.whl")
        subprocess.run(
            [
                *(*pip, "download", "--only-binary=:all:", "--python-version", PYTHON, "--dest", str(wheels)),
                *("--find-links", str(wheels), f"{wheel}[dev]", "setuptools>=77"),
            ],
            check=True,
            timeout=_DOWNLOAD,
        )
        # What `import tests` needs, apart from the service.
        self.run(
            ["sh", "-ec", f"python3 -m venv {_PREFIX}; {PYTHON_INSIDE} -m pip install -q hypothesis"],
            _DOWNLOAD,
        )

    def run(self, command: Sequence[str], seconds: float) -> int:
        """Run a command in the checkout, without a service manager.

        Args:
            command: The command.
            seconds: After these it is killed.

        Returns:
            Its exit code.
        """
        settings = [f"PIP_FIND_LINKS={_WHEELS}", "PIP_NO_INDEX=1", "PIP_DISABLE_PIP_VERSION_CHECK=1"]
        options = ["--pipe", "--as-pid2", f"--chdir={CHECKOUT}", *(f"--setenv={each}" for each in settings)]
        return self._nspawn([*options, *command], seconds)

    def boot(self, command: Sequence[str], seconds: float) -> int:
        """Boot it, run a command in the checkout as a unit of its own, and end it with the command.

        Args:
            command: The command. What it says is printed when it says it.
            seconds: After these everything is killed.

        Returns:
            The command's exit code.
        """
        units = self._inside("/etc/systemd/system")
        (units / "tests.service").write_text(
            _UNIT.format(checkout=CHECKOUT, wheels=_WHEELS, command=" ".join(command))
        )
        wanted = units / "multi-user.target.wants"
        wanted.mkdir(exist_ok=True)
        (wanted / "tests.service").unlink(missing_ok=True)
        (wanted / "tests.service").symlink_to("../tests.service")
        return self._nspawn(["--console=pipe", "--boot"], seconds, self._inside(f"{CHECKOUT}/build/said"))

    def _inside(self, path: str) -> Path:
        return self._path / path.lstrip("/")

    def _nspawn(self, arguments: Sequence[str], seconds: float, said: Path | None = None) -> int:
        """Run systemd-nspawn; print what is written to a file, or else what it prints itself."""
        command = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self._path}",
            f"--machine=echosvc-{os.getpid()}",
            "--register=no",
            "--private-network",
        ]
        if not Path("/run/systemd/system").exists():  # no service manager here that could make a scope
            command.append("--keep-unit")
        process = subprocess.Popen(
            [*command, *arguments],
            # The root's systemd knows nothing but the unified hierarchy, whatever this machine has.
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=None if said is None else subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _follow(process, said, seconds)
            return process.wait(0)
        except subprocess.TimeoutExpired:
            _say(f"not through after {seconds:g} s")
            return 1
        finally:
            _end(process)


def _follow(process: subprocess.Popen[bytes], said: Path | None, seconds: float) -> None:
    """Print what a file gets until the process ends, or the time is over."""
    shown = 0
    for _ in range(int(seconds / _LOOK)):
        ended = process.poll() is not None
        if said is not None and said.exists():
            text = said.read_text(errors="replace")
            sys.stdout.write(text[shown:])
            sys.stdout.flush()
            shown = len(text)
        if ended:
            return
        time.sleep(_LOOK)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End systemd-nspawn with everything in it: SIGTERM has it shut down, SIGKILL kills the root with it."""
    for kill in (process.terminate, process.kill):
        if process.poll() is None:
            kill()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                continue


def _mirror() -> str:
    """The mirror of Debian's that apt uses here."""
    asked = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
        "Component: main",
    ]
    found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    return next(each for each in found if "security" not in each)


def _say(line: str) -> None:
    sys.stderr.write(f"tests.systemd: {line}\n")
