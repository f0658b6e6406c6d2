"""The optional features of the service: what the unit's file says for each, what a client sees, and what a reload changes.

`python -m tests.hold UNITS` tries each of them as the units confine the service, `python -m tests.systemd` under a real
systemd. All but `write_files` uses the standard library alone: it also runs where the service is installed and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hold import feature_uses as uses
from tests.hold.feature_uses import ADMIN, PORT, Site

__all__ = ["FEATURES", "Feature", "Words", "write_files"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a feature adds to a unit's file. ``{etc}`` and ``{run}`` stand for the folders.

    Attributes:
        listeners: Tables that come first.
        service: Lines of ``[service]``.
        admin: The admin endpoint; empty: the file's own.
    """

    listeners: str = ""
    service: str = ""
    admin: str = ""

    def into(self, file: str, etc: Path, run: Path, *, workers: int) -> str:
        """Return the unit's file with these words in it.

        Args:
            file: The unit's own.
            etc: The folder of the service's files.
            run: The folder of its sockets.
            workers: What ``workers`` is; 0 leaves it out.
        """
        service = self.service + (f"workers = {workers}\n" if workers else "")
        file = file.replace("[service]\n", f"[service]\n{service}")
        if self.admin:
            file = file.replace(f'"tcp:{ADMIN}"', f'"{self.admin}"')
        file = f"{self.listeners}\n{file}"
        return file.replace("{etc}", str(etc)).replace("{run}", str(run))


@dataclass(frozen=True, kw_only=True)
class Feature:
    """An optional feature.

    Attributes:
        name: What it is called.
        words: What the file says.
        use: Uses it; raises `Broken`.
        changed: What the file says before the reload; None: the same.
        change: Changes other files before the reload.
        then: Checks that the reload took effect; raises `Broken`.
        workers: The numbers of workers with which it means something.
    """

    name: str
    words: Words
    use: Callable[[Site], None]
    changed: Words | None = None
    change: Callable[[Path], None] = lambda etc: None
    then: Callable[[Site], None]
    workers: Sequence[int] = (0, 2)


def _renew(etc: Path) -> None:
    """Put the next certificate, key and folder of certificates in the place of the first."""
    for path in (etc / "next").iterdir():
        shutil.copyfile(path, etc / ("hosts" if path.suffix == ".pem" else ".") / path.name)


def _rewrite(name: str, text: str) -> Callable[[Path], None]:
    """Write a file anew, as the owner and with the mode that it has."""

    def change(etc: Path) -> None:
        (etc / name).write_text(text)

    return change


def _other_issuer(etc: Path) -> None:
    shutil.copyfile(etc / "stranger-ca.pem", etc / "client-ca.pem")


def write_files(etc: Path) -> None:
    """Write every file that a feature reads, and under ``next`` what takes its place.

    Args:
        etc: An empty folder.
    """
    from tests.certificates import Authority  # noqa: PLC0415  # needs packages

    authority, stranger = Authority(), Authority("Stranger CA")
    (etc / "ca.pem").write_bytes(authority.pem)
    (etc / "client-ca.pem").write_bytes(authority.pem)
    (etc / "stranger-ca.pem").write_bytes(stranger.pem)
    authority.issue().write(etc, "client")
    stranger.issue().write(etc, "stranger")
    for folder in (etc / "next", etc / "hosts"):
        folder.mkdir()
    for folder, host in ((etc, "one.test"), (etc / "next", "two.test")):
        authority.issue("localhost").write(folder, "server")
        issued = authority.issue(host)
        (etc / "hosts" / f"{host}.pem" if folder == etc else folder / f"{host}.pem").write_bytes(
            issued.chain + issued.key
        )
    (etc / "networks").write_text("127.0.0.0/8\n::1\n")
    (etc / "quotes").write_text("the first quote\n")


def _table(endpoint: str, *lines: str, protocol: str = "echo") -> str:
    return "\n".join(["[[listener]]", f'protocol = "{protocol}"', f"endpoint = {endpoint}", *lines, ""])


_PAIR = "cert={etc}/server.crt:key={etc}/server.key"
_PLAIN = f'["tcp:{PORT}", "udp:{PORT}"]'


def _alpn(name: str) -> Words:
    return Words(listeners=_table(f'"tls:{PORT}:{_PAIR}:alpn={name}"'))


FEATURES = (
    Feature(
        name="tls",
        words=Words(listeners=_table(f'"tls:{PORT}:{_PAIR}"')),
        use=uses.shows("server.crt"),
        change=_renew,
        then=uses.shows("next/server.crt"),
    ),
    Feature(
        name="mtls",
        words=Words(listeners=_table(f'"tls:{PORT}:{_PAIR}:clientCA={{etc}}/client-ca.pem"')),
        use=uses.mutual,
        change=_other_issuer,
        then=uses.mutual_after,
    ),
    Feature(
        name="certdir",
        words=Words(listeners=_table(f'"tls:{PORT}:certdir={{etc}}/hosts"')),
        use=uses.shows("hosts/one.test.pem", "one.test"),
        change=_renew,
        then=uses.shows("next/two.test.pem", "two.test"),
    ),
    Feature(
        name="alpn",
        words=_alpn("echo/1"),
        use=uses.agrees("echo/1"),
        changed=_alpn("echo/2"),
        then=uses.agrees("echo/2"),
    ),
    Feature(
        name="unix",
        words=Words(listeners=_table('"unix:{run}/echo.sock:mode=666"')),
        use=uses.stream("echo.sock"),
        changed=Words(listeners=_table('"unix:{run}/other.sock:mode=666"')),
        then=uses.stream("other.sock"),
    ),
    Feature(
        name="unixgram",
        words=Words(listeners=_table('"unixgram:{run}/echo.gram:mode=666"')),
        use=uses.datagrams("echo.gram"),
        changed=Words(listeners=_table('"unixgram:{run}/other.gram:mode=666"')),
        then=uses.datagrams("other.gram"),
    ),
    Feature(
        name="proxy",
        words=Words(listeners=_table(f'"tcp:{PORT}:proxy=127.0.0.0/8"')),
        use=uses.behind_proxy,
        changed=Words(listeners=_table(_PLAIN)),
        then=uses.admitted,
    ),
    Feature(
        name="allow",
        words=Words(listeners=_table(_PLAIN, 'allow = "@{etc}/networks"')),
        use=uses.admitted,
        change=_rewrite("networks", "192.0.2.0/24\n"),
        then=uses.not_admitted,
    ),
    Feature(
        name="deny",
        words=Words(listeners=_table(_PLAIN, 'deny = "@{etc}/networks"')),
        use=uses.not_admitted,
        change=_rewrite("networks", "192.0.2.0/24\n"),
        then=uses.admitted,
    ),
    Feature(
        name="quotes",
        words=Words(listeners=_table(_PLAIN, "[listener.options]", 'file = "{etc}/quotes"', protocol="qotd")),
        use=uses.quotes(b"the first quote"),
        change=_rewrite("quotes", "the next quote\n"),
        then=uses.quotes(b"the next quote"),
    ),
    Feature(
        name="workers",
        words=Words(listeners=_table(_PLAIN)),
        use=uses.dead_worker,
        then=uses.dead_worker,
        workers=(2,),
    ),
    Feature(name="admin", words=Words(), use=uses.admin, then=uses.admin),
    Feature(
        name="admin over unix",
        words=Words(admin="unix:{run}/admin.sock:mode=600"),
        use=uses.admin_unix,
        then=uses.admin_unix,
    ),
    Feature(
        name="json log",
        words=Words(listeners=_table(_PLAIN), service='log-format = "json"\nlog-connections = "on"\n'),
        use=uses.logged,
        changed=Words(listeners=_table(_PLAIN)),
        then=uses.not_logged,
    ),
)
