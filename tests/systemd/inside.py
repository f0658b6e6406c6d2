"""What is done in the root, under its systemd: the service is installed as docs/operations.md says, and used through systemctl.

A program of its own: ``python -m tests.systemd.inside FILES``, in the checkout. FILES: what `write_files` has written.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.hold.clients import answers
from tests.hold.feature_uses import Site, eventually, served_certificate
from tests.hold.features import FEATURES, Feature, Words
from tests.hold.promise import Broken, kept
from tests.systemd.manager import ETC, Service, call, rights
from tests.systemd.steps import crash, executable_memory, restart, stop, wrong_file

__all__ = ["main"]

_DOCS = Path("docs/operations.md")

#: What `python -m tests.hold UNITS` has, too: one serves by itself, the other has workers.
_UNITS = {"echosvc": 0, "echosvc-socket": 2}


class _Steps:
    """Does one thing after the other, and prints a line for each.

    Attributes:
        failed: How many went wrong.
    """

    def __init__(self) -> None:
        self.failed = self.done = 0

    def do(self, name: str, step: Callable[[], str | None]) -> None:
        """Do one thing, whatever became of those before."""
        began = time.monotonic()
        try:
            outcome = f"pass {step() or ''}".rstrip()
        except (Broken, OSError, subprocess.SubprocessError) as problem:
            self.failed += 1
            outcome = f"FAIL {problem!r}" if isinstance(problem, OSError) else f"FAIL {problem}"
        self.done += 1
        _say(f"{name}: {outcome}, {time.monotonic() - began:.1f} s")


def main(files: Path) -> int:
    """Do everything.

    Args:
        files: The files that the features read.

    Returns:
        0 if all came out as it should, else 1.
    """
    steps = _Steps()
    _say(
        f"{call('systemctl', '--version').splitlines()[0]}, Python {sys.version.split()[0]}, Linux"
        f" {call('uname', '-r').strip()}, controllers: {Path('/sys/fs/cgroup/cgroup.controllers').read_text().strip() or 'none'}"
    )
    for line in _installation():
        steps.do(f"install: {line}", partial(_install, line))
    call("groupadd", "--system", "--force", "ssl-cert")
    for name, workers in _UNITS.items():
        service = Service(name, workers, files)
        service.prepare(Words())
        steps.do(f"{name}: enable --now", partial(_starts, service))
        for feature in FEATURES:
            if workers in feature.workers:
                steps.do(f"{name}: {feature.name}", partial(_try, service, feature))
        if not workers:  # with them a protocol begins in a worker: exit code 70
            steps.do(f"{name}: memory that is executed", partial(executable_memory, service))
        for title, step in (
            ("tls, key by LoadCredential=", _credentials),
            ("a wrong file", wrong_file),
            ("kill -9", crash),
            ("restart under connections", restart),
            ("stop", stop),
        ):
            steps.do(f"{name}: {title}", partial(step, service))
    _say(f"{steps.done - steps.failed} passed, {steps.failed} failed, 0 skipped")
    return 1 if steps.failed else 0


def _installation() -> list[str]:
    """The commands of the page's first section."""
    section = _DOCS.read_text().partition("\n## Install\n")[2].partition("\n## ")[0]
    block = re.search(r"(?:^    [^\n]+\n)+", section, re.MULTILINE)
    assert block is not None
    return [line.split("  #")[0].strip() for line in block.group().splitlines()]


def _install(line: str) -> str | None:
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=600, check=False)
    if "sysctl --system" in line and done.returncode:
        return "sysctl cannot set net.core.rmem_max in this root"
    kept(done.returncode == 0, f"{done.returncode}: {done.stderr[-500:]}")
    return None


def _starts(service: Service) -> str:
    call("systemctl", "daemon-reload")
    call("systemctl", "enable", "--now", *service.units)
    service.wait_until("active")
    answers(7, 7)
    exposure = call("systemd-analyze", "security", "--no-pager", service.unit).splitlines()[-1].strip("→ ")
    return f"serves TCP and UDP 7; {rights(service.pid())}; {exposure}"


def _try(service: Service, feature: Feature) -> str:
    """Start it with a feature, use it, reload it."""
    service.prepare(feature.words)
    service.restart()
    feature.use(service.site)
    pid = service.pid()
    service.write(feature.changed or feature.words)
    feature.change(ETC)
    call("systemctl", "reload", service.unit)
    eventually(feature.then, service.site)
    kept(service.pid() == pid, "the reload has started another process")
    service.judge()
    return "serves; the reload took effect"


def _credentials(service: Service) -> str:
    """A key that root alone can read, handed over by systemd: what a reload and a restart make of a new one."""
    (feature,) = (each for each in FEATURES if each.name == "tls")
    there = f"/run/credentials/{service.unit}"
    names = ("server.crt", "server.key")
    words = Words(listeners=feature.words.listeners.replace("{etc}", there))
    service.prepare(words, "".join(f"LoadCredential={each}:{ETC}/{each}\n" for each in names))
    for name in names:
        (ETC / name).chmod(0o600)
        shutil.chown(ETC / name, "root", "root")
    service.restart()
    feature.use(service.site)
    first = served_certificate(service.site)[0]
    feature.change(ETC)
    try:
        call("systemctl", "reload", service.unit)
        figures = "the reload is done"
    except Broken:  # the check before it has no credentials: github.com/systemd/systemd/issues/35227
        figures = "systemctl reload fails"
    call("systemctl", "kill", "--kill-whom=main", "--signal=HUP", service.unit)
    eventually(_reloaded, service.site)
    served = "the new" if served_certificate(service.site)[0] != first else "the old"
    service.restart()
    feature.then(service.site)
    service.judge()
    return f"serves; {figures}; after SIGHUP {served} certificate, after a restart the new one"


def _reloaded(site: Site) -> None:
    kept("reloaded" in site.log(), "it does not say that it has reloaded")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
