"""A service under systemd, as an operator has it: files, drop-ins, `systemctl` and `journalctl`."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from tests.hold.feature_uses import Site
from tests.hold.features import Words
from tests.hold.promise import Broken, kept

__all__ = ["ETC", "Service", "call", "rights"]

ETC, RUN = Path("/etc/echosvc"), Path("/run/echosvc")

_DEPLOY = Path("deploy/systemd")

#: The group that may read keys.
_GROUP = "ssl-cert"

#: Seconds for a command, and for a service to become active.
_PATIENCE = 60.0


def call(*command: str) -> str:
    """Run a command; return what it prints.

    Raises:
        Broken: It ended with another exit code than 0.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    kept(
        done.returncode == 0,
        f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}",
    )
    return done.stdout


def rights(pid: int) -> str:
    """Tell with which rights a process runs."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    kept("0" not in status["Uid"], "it is root")
    kept(status["Seccomp"] == ["2"], "it has no system call filter")
    return f"uid {status['Uid'][0]}, capabilities {int(status['CapEff'][0], 16):#x}, filtered"


class Service:
    """One of our services.

    Args:
        name: The unit's, without ``.service``.
        workers: How many workers it has.
        files: What its features read.

    Attributes:
        unit: The unit.
        units: What has to be enabled and stopped together.
        site: Where its features are used.
    """

    def __init__(self, name: str, workers: int, files: Path) -> None:
        self.unit = f"{name}.service"
        self.units = (
            (f"{name.removesuffix('-socket')}.socket", self.unit)
            if name.endswith("-socket")
            else (self.unit,)
        )
        self.site = Site(ETC, RUN, self.pid, self.log)
        self._name = name
        self._workers = workers
        self._files = files

    def prepare(self, words: Words, drop_in: str = "") -> None:
        """Put every file in its place, keys readable for a group that the service is in.

        Args:
            words: What its features add to its file.
            drop_in: More lines of ``[Service]``; without any it is in the group.
        """
        shutil.rmtree(ETC)
        shutil.copytree(self._files, ETC)
        for key in (*ETC.glob("*.key"), *ETC.glob("hosts/*.pem")):
            shutil.chown(key, "root", _GROUP)
            key.chmod(0o640)
        folder = Path(f"/etc/systemd/system/{self.unit}.d")
        folder.mkdir(exist_ok=True)
        (folder / "keys.conf").write_text(f"[Service]\n{drop_in or f'SupplementaryGroups={_GROUP}{chr(10)}'}")
        self.write(words)
        call("systemctl", "daemon-reload")

    def write(self, words: Words) -> None:
        """Write its file, with more words in it."""
        file = f"{self._name}.toml"
        (ETC / file).write_text(words.into((_DEPLOY / file).read_text(), ETC, RUN, workers=self._workers))

    def restart(self) -> None:
        """Start it anew, however often that was done before.

        Raises:
            Broken: It does not start; the text has its exit code and its last line.
        """
        call("systemctl", "reset-failed", *self.units)
        try:
            call("systemctl", "restart", self.unit)
        except Broken:
            lines = [line for line in self.log().splitlines() if not line.startswith(self.unit)]
            raise Broken(
                f"exit code {self.show('ExecMainStatus')}: {lines[-1][-400:] if lines else ''}"
            ) from None

    def wait_until(self, state: str, seconds: float = _PATIENCE) -> None:
        """Wait until systemd calls it ``active`` or ``failed``.

        Raises:
            Broken: It does not in time.
        """
        until = time.monotonic() + seconds
        while (now := self.show("ActiveState")) != state:
            if time.monotonic() > until:
                raise Broken(f"it is {now}, not {state}: {self.log()[-500:]}")
            time.sleep(0.1)

    def show(self, name: str) -> str:
        """Return what systemd knows of it under a name."""
        return call("systemctl", "show", "--property", name, "--value", self.unit).strip()

    def pid(self) -> int:
        """Return its main process."""
        return int(self.show("MainPID"))

    def log(self) -> str:
        """Return what it has logged since it was started."""
        invocation = self.show("InvocationID")
        return call("journalctl", "--no-pager", "--output=cat", f"_SYSTEMD_INVOCATION_ID={invocation}")

    def judge(self) -> None:
        """Check that it is well, and was all the while.

        Raises:
            Broken: It was started again by systemd, or its log has what a healthy service does not write.
        """
        self.wait_until("active")  # a reload with workers ends later than `systemctl reload`
        kept(self.show("NRestarts") == "0", f"it was started again {self.show('NRestarts')} times")
        wrong = re.search(
            r"^.*(?:Traceback|#(?:error|critical)\](?!.*killed by SIGKILL)).*$", self.log(), re.MULTILINE
        )
        kept(wrong is None, f"it says: {wrong and wrong.group()}")
