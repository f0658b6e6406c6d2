"""No text tells a reader, or pip, to fetch a package of ours from an index: our names are registered on none.

The first to register such a name would run code on the machine of each reader who does as the text says.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

#: Folders with texts that are not ours, or are made.
_NOT_OURS = {"__pycache__", "build", "dist", "node_modules"}

#: A command that fetches from an index what it is not told to take from a path, and its arguments. They end with the line, or with
#: what ends code in a text or a command of a shell.
_INSTALLS = re.compile(
    r"\b(?:pip3?\b[^\n`|;&#]*?\b(?:install|download|wheel)|pipx (?:install|run)|uvx|uv (?:add|pip install|tool (?:install|run)))\b"
    r"([^\n`|;&#]*)"
)

#: A requirement of ours with extras, by name and not by path, in whatever sentence.
_EXTRAS = re.compile(r"(?<![\w./-])echosvc(?:[-_]\w+)*\[[A-Za-z][\w, -]*\]")

#: A pyproject.toml in a page.
_BLOCK = re.compile(r"^```toml pyproject\.toml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def texts() -> Iterator[tuple[str, str]]:
    """Every file of the project that is text: its path, and what it says."""
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder)
        folders[:] = [
            each
            for each in folders
            if (each == ".ci" or not each.startswith("."))
            and each not in _NOT_OURS
            and not each.endswith(".egg-info")
            and not each.startswith("_trial_temp")
        ]
        for name in files:
            try:
                yield (here / name).relative_to(ROOT).as_posix(), (here / name).read_text("utf-8")
            except (UnicodeDecodeError, OSError):  # no text, or gone: other tests make files, too
                continue


def fetched(text: str) -> list[str]:
    """Find what a text has fetched from an index under one of our names, or under a name that looks like one."""
    found = _EXTRAS.findall(text)
    for arguments in _INSTALLS.findall(text):
        for word in re.split(r"[\s'\"(),]+", arguments):
            is_path = "/" in word or word.startswith((".", "-", "$")) or ".whl" in word
            if not is_path and is_ours(word):
                found.append(word)
    return found


def is_ours(requirement: str) -> bool:
    """Whether an index would be asked for a name of ours, or one that looks like it."""
    return re.match(r"(?i)echosvc\b", requirement.replace("_", "-")) is not None


def requirements(project: dict[str, Any]) -> list[str]:
    """All that a pyproject.toml asks for."""
    about = project.get("project", {})
    lists = [
        project["build-system"]["requires"],
        about.get("dependencies", []),
        *about.get("optional-dependencies", {}).values(),
    ]
    return [each for some in lists for each in some]


class InstallingTests(SynchronousTestCase):
    """What is installed comes from a checkout or a file."""

    def test_no_text_fetches_us(self) -> None:
        """Neither a page, a help text, an error message, a build file nor a test names us to an index."""
        wrong = {
            path: found
            for path, text in texts()
            if path != "tests/test_installing.py" and (found := fetched(text))
        }

        self.assertEqual({}, wrong)

    def test_no_package_depends_on_us_by_name(self) -> None:
        """Pip would ask an index, if we are not installed yet. Files in pages are looked at, too."""
        projects = [
            (path, tomllib.loads(block))
            for path, text in texts()
            for block in ([text] if path.endswith("pyproject.toml") else _BLOCK.findall(text))
        ]

        self.assertGreaterEqual(len(projects), 4)
        for path, project in projects:
            self.assertEqual([], [each for each in requirements(project) if is_ours(each)], path)

    def test_what_is_found(self) -> None:
        """Names by which an index is asked, however the command is written."""
        for text in (
            "pip install echosvc",
            "python -m pip install -q --upgrade 'echosvc[tls]'",
            "pip --python /x/bin/python install --no-cache-dir echosvc==1.0 && y",
            'needs x: pip3 install "echosvc[metrics]"',
            "`pip install twisted echosvc-shout` and then",
            "pip install Echosvc_Shout",
            "pipx run echosvc ping",
            "uvx echosvc",
            "uv add echosvc>=1",
            "it needs echosvc[tls]",
        ):
            self.assertNotEqual([], fetched(text), text)

    def test_what_is_not_found(self) -> None:
        """Paths, files, packages of others, and other sentences."""
        for text in (
            "pip install '.[metrics]' # in a checkout of echosvc",
            ".venv/bin/pip install . && .venv/bin/twistd -n echosvc --port 8080",
            "pip install ./echosvc-0.1.0-py3-none-any.whl 'x/echosvc.whl[metrics]' echosvc-1-py3-none-any.whl",
            "pip install -e examples/echosvc-shout ../../echosvc",
            'pip install "$packages/echosvc-shout"',
            "to a package that `pip install` adds to any echosvc",
            "pip install prometheus-client",
            "podman build -t echosvc .",
            "echosvc.protocols[0]",
        ):
            self.assertEqual([], fetched(text), text)
