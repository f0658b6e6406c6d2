"""Tests of the house itself: imports point down, and what is shipped is what is there."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

#: From the top of the house to its foundation. A room knows those below it and nothing above.
ROOMS = [
    "testing",
    "cli",
    "tap",
    "workers",
    "service",
    "admin",
    "settings",
    "listeners",
    "admission",
    "observe",
    "protocols",
    "client",
    "transports",
    "measure",
    "rights",
    "errors",
]


def modules() -> list[Path]:
    """All modules of the package."""
    return sorted((ROOT / "echosvc").rglob("*.py"))


def room_of(dotted: list[str]) -> str | None:
    """Which room a dotted name is in; None for the package itself."""
    return dotted[1] if len(dotted) > 1 and dotted[1] in ROOMS else None


def imported(tree: ast.AST) -> list[list[str]]:
    """Every name of echosvc that a module imports, wherever in it."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module.split("."))
        elif isinstance(node, ast.Import):
            names.extend(alias.name.split(".") for alias in node.names)
    return [name for name in names if name[0] == "echosvc"]


def takes(condition: ast.expr) -> bool:
    """Whether the condition of a loop takes something each time: by ``:=``, or by ``recv``."""
    return any(
        isinstance(node, ast.NamedExpr) or (isinstance(node, ast.Attribute) and node.attr == "recv")
        for node in ast.walk(condition)
    )


class StructureTests(SynchronousTestCase):
    """The drawing of the house is true."""

    def test_imports_only_point_down(self) -> None:
        """No room imports one above it."""
        wrong = []
        for path in modules():
            here = room_of(list(path.relative_to(ROOT).with_suffix("").parts))
            if here is None:
                continue
            for name in imported(ast.parse(path.read_text())):
                there = room_of(name)
                if there is not None and ROOMS.index(there) < ROOMS.index(here):
                    wrong.append(f"{path.name} in {here} imports {there}")

        self.assertEqual(wrong, [])

    def test_no_loop_of_a_test_waits_for_ever(self) -> None:
        """A ``while`` takes what something returns until it ends; all else waits by `tests.waiting.until`, which gives up."""
        promises = {
            path for path in (ROOT / "tests" / "hold").rglob("*.py") if not path.name.startswith("test_")
        }
        wrong = []
        for path in sorted({*(ROOT / "tests").rglob("*.py")} - promises - {ROOT / "tests" / "waiting.py"}):
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno}: while {ast.unparse(node.test)}"
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.While) and not takes(node.test)
            ]

        self.assertEqual(wrong, [])

    def test_every_package_is_listed(self) -> None:
        """A package that setup.cfg forgets is missing from the wheel."""
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        listed = config["options"]["packages"].split()
        present = sorted({".".join(path.parent.relative_to(ROOT).parts) for path in modules()})

        self.assertEqual(sorted(listed), [*present, "twisted.plugins"])

    def test_files_are_short_enough_to_believe(self) -> None:
        """At most 400 lines a file, unless it is one idea that would be harder to see in two."""
        long = [path.name for path in modules() if len(path.read_text().splitlines()) > 400]

        self.assertEqual(long, ["tls.py"])  # both directions of one connection, which end each other

    def test_nothing_needs_twisteds_tls(self) -> None:
        """Neither pyOpenSSL nor service-identity is installed with echosvc: every module is imported without them."""
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules()]
        program = (
            "import sys; sys.modules.update(dict.fromkeys(('OpenSSL', 'service_identity')))\n"
            "from importlib import import_module\n"
            f"for name in {[name for name in names if not name.endswith('__main__')]}: import_module(name)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=60, check=False, cwd=ROOT
        )

        self.assertEqual((0, b""), (done.returncode, done.stderr))

    def test_no_package_stands_in_the_way_of_other_plugins(self) -> None:
        """An __init__.py under twisted/ would hide everybody else's plugins."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_the_plugin_names_the_service_and_imports_nothing_of_it(self) -> None:
        """Twistd reads it at every start of any service."""
        source = (ROOT / "twisted" / "plugins" / "echosvc_plugin.py").read_text()
        scope: dict[str, object] = {}
        exec(compile(source, "echosvc_plugin.py", "exec"), scope)
        maker = scope["echosvc"]

        self.assertEqual(imported(ast.parse(source)), [])
        self.assertEqual((maker.tapname, maker.module), ("echosvc", "echosvc.tap"))  # type: ignore[attr-defined]
