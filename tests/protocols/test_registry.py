"""Tests of the registry of wire protocols: ours, those that packages bring, and those that are imported by name."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from importlib.metadata import PathDistribution, metadata
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramEcho, EchoFactory, WireProtocol, find, known, register, registry

BUILT_IN = ["chargen", "daytime", "discard", "echo", "qotd", "time"]

MODULE = '''
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from echosvc.protocols import EchoFactory, WireProtocol
from zope.interface import implementer

WIRE = WireProtocol(name="wire", rfc="RFC 0", summary="everything", stream=EchoFactory)
NOTHING = WireProtocol(name="nothing", rfc="none", summary="nothing")

class Shout(Protocol):
    """Send it back louder.

    By a lot.
    """

class Silent(Protocol):
    pass

Silent.__doc__ = None

class Whisper(DatagramProtocol):
    """Send it back softer."""

class ShoutFactory(Factory):
    """Build shouting protocols."""
    protocol = Shout

@implementer(IProtocolFactory)
class Own:
    """Build something else."""

class Outer:
    Inner = Shout

instance = ShoutFactory()
'''


class RegistryCase(SynchronousTestCase):
    """Makes modules and packages for a while."""

    def setUp(self) -> None:
        """Leave the registry, the path and the modules as they were; work in an empty folder."""
        self.patch(registry, "_registered", dict(registry._registered))
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "dont_write_bytecode", True)
        modules = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - modules])
        self.here = self.folder()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.here)

    def folder(self) -> Path:
        """Make a folder that is removed at the end."""
        path = tempfile.mkdtemp(prefix="echosvc-")
        self.addCleanup(shutil.rmtree, path)
        return Path(path)

    def write(self, name: str, text: str = MODULE, folder: Path | None = None) -> None:
        """Write a module, in the current folder or another."""
        ((folder or self.here) / f"{name}.py").write_text(text)

    def install(self, package: str, version: str = "1.0", **points: str) -> Path:
        """Install a package with entry points, as pip does it; return where its modules belong."""
        folder = self.folder()
        info = folder / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[echosvc.protocols]", *lines, ""]))
        sys.path.append(str(folder))
        return folder

    def refused(self, name: str) -> str:
        """Expect that a protocol cannot be had; return why, in one line."""
        message = str(self.assertRaises(ValueError, find, name))
        self.assertEqual(1, len(message.splitlines()))
        return message


class RegisterTests(RegistryCase):
    """Wire protocols are found by name."""

    def test_knows_echo(self) -> None:
        """Echo is RFC 862, over streams and datagrams."""
        echo = find("echo")

        self.assertEqual("RFC 862", echo.rfc)
        self.assertIs(EchoFactory, echo.stream)
        self.assertIs(DatagramEcho, echo.datagram)

    def test_knows_the_small_services(self) -> None:
        """All of them, by their names in the RFCs; those that could be turned against others say so."""
        self.assertEqual(BUILT_IN, [each.name for each in known()])
        self.assertEqual({"echosvc"}, {each.provider for each in known()})
        self.assertEqual({None}, {each.problem for each in known()})
        self.assertEqual(BUILT_IN, [each.wire.name for each in known() if each.wire is not None])
        self.assertEqual(
            ["chargen", "daytime", "qotd", "time"], [name for name in BUILT_IN if find(name).amplifies]
        )

    def test_finds_what_was_registered(self) -> None:
        """A protocol of one's own is one call away."""
        mine = register(WireProtocol(name="a-mine", rfc="none", summary="x", stream=EchoFactory))

        self.assertIs(mine, find("a-mine"))
        self.assertEqual(["a-mine", *BUILT_IN], [each.name for each in known()])
        self.assertEqual(["this program"], [each.provider for each in known() if each.wire is mine])

    def test_refuses_a_name_twice(self) -> None:
        """Two protocols cannot share a name; registering the same one again does nothing."""
        register(find("echo"))

        with self.assertRaisesRegex(ValueError, "^echo: there is already a protocol of this name$"):
            register(WireProtocol(name="echo", rfc="none", summary="x", stream=EchoFactory))

    def test_refuses_a_protocol_without_any_form(self) -> None:
        """A protocol that is spoken over nothing is a mistake."""
        with self.assertRaisesRegex(ValueError, "^none: a wire protocol needs a stream or a datagram form$"):
            register(WireProtocol(name="none", rfc="none", summary="x"))

        self.assertEqual(BUILT_IN, [each.name for each in known()])

    def test_names_what_may_have_been_meant(self) -> None:
        """Of ours and of those that packages bring; otherwise who lists them."""
        self.install("shouting", shout="shouting:WIRE")

        self.assertEqual("there is no protocol 'ecko'; did you mean echo?", self.refused("ecko"))
        self.assertEqual("there is no protocol 'ECHO'; did you mean echo?", self.refused("ECHO"))
        self.assertEqual("there is no protocol 'shuot'; did you mean shout?", self.refused("shuot"))
        self.assertEqual("there is no protocol 'xyz'; `echosvc protocols` lists them", self.refused("xyz"))
        self.assertEqual("there is no protocol ''; `echosvc protocols` lists them", self.refused(""))


class PackageTests(RegistryCase):
    """A package brings protocols by entry points; a broken one stops nothing."""

    def rows(self) -> list[tuple[str, bool, str, str | None]]:
        """What is known beside ours."""
        return [
            (each.name, each.wire is not None, each.provider, each.problem)
            for each in known()
            if each.provider != "echosvc"
        ]

    def test_a_good_one(self) -> None:
        """It is found by the entry point's name, and listed with its package and version."""
        self.write("shouting", folder=self.install("loud-noises", "2.5", shout="shouting:WIRE"))

        self.assertEqual("everything", find("shout").summary)
        self.assertEqual([("shout", True, "loud-noises 2.5", None)], self.rows())
        self.assertEqual(sorted([*BUILT_IN, "shout"]), [each.name for each in known()])

    def test_a_class_is_good_enough(self) -> None:
        """As with a name that is imported."""
        self.write("shouting", folder=self.install("loud", whisper="shouting:Whisper"))

        self.assertEqual(("whisper", "none"), (find("whisper").name, find("whisper").rfc))

    def test_nothing_is_imported_that_is_not_asked_for(self) -> None:
        """A package that is broken, or slow, is no business of a service that does not use it."""
        self.write("shouting", "raise SystemError", self.install("loud", shout="shouting:WIRE"))

        find("echo")
        self.assertIn("did you mean echo?", self.refused("echa"))

    def test_broken_ones(self) -> None:
        """Each is listed with the reason, beside those that are well; whoever asks for one is told, too."""
        for number, (text, value, problem) in enumerate(
            (
                ("raise RuntimeError('one\\n two')", "WIRE", " cannot be loaded: RuntimeError: one two"),
                (
                    "import not_there",
                    "WIRE",
                    " cannot be loaded: ModuleNotFoundError: No module named 'not_there'",
                ),
                ("(", "WIRE", " cannot be loaded: SyntaxError: '(' was never closed"),
                ("raise SystemExit('bye')", "WIRE", " cannot be loaded: SystemExit: bye"),
                (MODULE, "MISSING", " cannot be loaded: AttributeError: module "),
                (MODULE, "NOTHING", ": a wire protocol needs a stream or a datagram form"),
                (
                    MODULE,
                    "__name__",
                    " is 'broken6', not a WireProtocol, nor a class of Protocol, Factory or",
                ),
            )
        ):
            module, name = f"broken{number}", f"b{number}"
            self.write(module, text, self.install(module, **{name: f"{module}:{value}"}))
            (row,) = [row for row in self.rows() if row[0] == name]

            self.assertEqual((name, False, f"{module} 1.0"), row[:3])
            self.assertIn(f"{name}{problem}", row[3] or "")
            self.assertEqual(row[3], self.refused(name))
        self.assertEqual(BUILT_IN, [each.name for each in known() if each.wire is not None])

    def test_a_name_that_is_taken(self) -> None:
        """By one of ours, or by another package: the first is served, the other listed as what it is."""
        for package in ("first", "second"):
            self.write(package, folder=self.install(package, echo=f"{package}:WIRE", shout=f"{package}:WIRE"))

        self.assertEqual("RFC 862", find("echo").rfc)
        self.assertIs(find("shout"), sys.modules["first"].WIRE)
        self.assertNotIn("second", sys.modules)
        taken = "the name is taken by the one above"
        self.assertEqual(
            [
                ("echo", False, "first 1.0", taken),
                ("echo", False, "second 1.0", taken),
                ("shout", True, "first 1.0", None),
                ("shout", False, "second 1.0", taken),
            ],
            self.rows(),
        )

    def test_a_package_that_does_not_say_who_it_is(self) -> None:
        """Its protocols are no worse for it."""
        folder = self.install("loud", shout="shouting:WIRE")
        self.write("shouting", folder=folder)
        (folder / "loud-1.0.dist-info" / "METADATA").unlink()

        self.assertEqual([("shout", True, "unknown ?", None)], self.rows())

    def test_no_metadata_is_an_error_in_later_pythons(self) -> None:
        """They raise where a package does not say its name, or has no METADATA at all: its protocols are still served."""

        def refuse(*_: object) -> str:
            raise KeyError

        folder = self.install("loud", shout="shouting:WIRE")
        self.write("shouting", folder=folder)
        written = folder / "loud-1.0.dist-info" / "METADATA"
        message: Any = type(metadata("twisted"))
        self.patch(message, "__getitem__", lambda said, key: said.get(key) or refuse())
        for text, provider in (
            (b"Metadata-Version: 2.1\nVersion: 1.0\n", "unknown 1.0"),
            (b"Metadata-Version: 2.1\nName: loud\n", "loud ?"),
            (b"Name: loud\xff\n", "unknown ?"),
            (b"", "unknown ?"),
        ):
            written.write_bytes(text)

            self.assertEqual([("shout", True, provider, None)], self.rows())
        self.patch(PathDistribution, "metadata", property(refuse))

        self.assertEqual([("shout", True, "unknown ?", None)], self.rows())

    def test_several_packages_that_do_not_say_who_they_are(self) -> None:
        """They are not taken for versions of one package."""
        for module, point in (("one", "shout"), ("two", "whisper")):
            folder = self.install(module, **{point: f"{module}:WIRE"})
            self.write(module, folder=folder)
            (folder / f"{module}-1.0.dist-info" / "METADATA").unlink()

        self.assertEqual(
            [("shout", True, "unknown ?", None), ("whisper", True, "unknown ?", None)], self.rows()
        )

    def test_a_damaged_package(self) -> None:
        """It stops no other; it is listed with the reason, under the package's own name."""
        folder = self.install("shout")
        (folder / "shout-1.0.dist-info" / "entry_points.txt").write_text("[echosvc.protocols]\nX\n")
        self.write("shouting", folder=self.install("loud", shout="shouting:WIRE"))
        damaged, good = sorted(self.rows(), key=lambda row: row[1])

        self.assertEqual(("shout", False, "shout 1.0"), damaged[:3])
        self.assertIn("its entry_points.txt is damaged: TypeError: ", damaged[3] or "")
        self.assertEqual(("shout", True, "loud 1.0", None), good)
        self.assertIs(find("shout"), sys.modules["shouting"].WIRE)

    def test_entry_points_that_are_no_text(self) -> None:
        """A package that brings protocols is listed with the reason; one that does not is left out."""
        for package, group in (("broken", b"echosvc.protocols"), ("foreign", b"console_scripts")):
            folder = self.install(package)
            points = folder / f"{package}-1.0.dist-info" / "entry_points.txt"
            points.write_bytes(b"[" + group + b"]\n\xff = x:y")
        self.write("shouting", folder=self.install("loud", shout="shouting:WIRE"))
        damaged, good = sorted(self.rows(), key=lambda row: row[1])

        self.assertEqual(("broken", False, "broken 1.0"), damaged[:3])
        self.assertIn("its entry_points.txt is damaged: UnicodeDecodeError: ", damaged[3] or "")
        self.assertEqual(("shout", True, "loud 1.0", None), good)

    def test_a_package_of_which_nothing_can_be_read(self) -> None:
        """It stops no other."""

        def fail(package: PathDistribution, name: str) -> str | None:
            if "broken-1.0" in str(package._path):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(package, name)

        read = PathDistribution.read_text
        self.install("broken", x="x:y")
        self.write("shouting", folder=self.install("loud", shout="shouting:WIRE"))
        self.patch(PathDistribution, "read_text", fail)

        self.assertEqual([("shout", True, "loud 1.0", None)], self.rows())

    def test_an_older_version_further_back(self) -> None:
        """It is not the one that is imported, so that it brings nothing."""
        self.write("shouting", folder=self.install("loud", "2.0", shout="shouting:WIRE"))
        self.install("loud", "1.0", shout="shouting:WIRE", whisper="shouting:Whisper")

        self.assertEqual([("shout", True, "loud 2.0", None)], self.rows())


class ImportTests(RegistryCase):
    """``package.module:object`` needs no package to be installed."""

    def setUp(self) -> None:
        """Write a module in the current folder, where nothing else would find it."""
        super().setUp()
        sys.path[:] = [each for each in sys.path if each not in ("", ".", str(self.here))]
        self.write("mine")

    def test_wire_protocol(self) -> None:
        """Is taken as it is."""
        self.assertEqual(("wire", "RFC 0", "everything"), self.described("mine:WIRE"))

    def described(self, name: str) -> tuple[str, str, str]:
        """What a protocol says of itself."""
        wire = find(name)
        return wire.name, wire.rfc, wire.summary

    def test_protocol_class(self) -> None:
        """A factory is made for it, which writes no log lines of its own."""
        self.assertEqual(("Shout", "none", "Send it back louder."), self.described("mine:Shout"))
        self.assertEqual(("Silent", "none", ""), self.described("mine:Silent"))
        wire = find("mine:Shout")
        factory = wire.make_stream()
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))

        self.assertIsNone(wire.datagram)
        self.assertIsInstance(factory, Factory)
        self.assertIs(sys.modules["mine"].Shout, type(protocol))
        self.assertIs(False, factory.noisy)  # type: ignore[attr-defined]  # as Twisted's factories have it
        self.assertIsNot(factory, wire.make_stream())

    def test_protocol_class_that_needs_arguments(self) -> None:
        """It is found when its factory is made, and not by the first client."""
        self.write("needy", f"{MODULE}\nclass Needy(Protocol):\n    def __init__(self, x): pass\n")

        with self.assertRaisesRegex(TypeError, "missing 1 required positional argument: 'x'"):
            find("needy:Needy").make_stream()

    def test_factory_class(self) -> None:
        """Twisted's, or any that says it is one."""
        self.assertEqual(
            ("ShoutFactory", "none", "Build shouting protocols."), self.described("mine:ShoutFactory")
        )
        self.assertIs(sys.modules["mine"].ShoutFactory, find("mine:ShoutFactory").stream)
        self.assertIs(sys.modules["mine"].Own, find("mine:Own").stream)

    def test_datagram_protocol_class(self) -> None:
        """Is spoken over datagrams alone."""
        self.assertEqual(("Whisper", "none", "Send it back softer."), self.described("mine:Whisper"))
        wire = find("mine:Whisper")

        self.assertIsNone(wire.stream)
        self.assertIs(sys.modules["mine"].Whisper, type(wire.make_datagram()))

    def test_something_within_something(self) -> None:
        """Dots lead to it, before the colon and behind it."""
        (self.here / "package").mkdir()
        self.write("inner", folder=self.here / "package")

        self.assertEqual("Outer.Inner", find("package.inner:Outer.Inner").name)

    def test_what_is_not_there(self) -> None:
        """Said in one line, with what Python says."""
        for name, problem in (
            ("nothere:X", "ModuleNotFoundError: No module named 'nothere'"),
            ("mine:X", "AttributeError: module 'mine' has no attribute 'X'"),
            ("mine:Outer.X", "AttributeError: type object 'Outer' has no attribute 'X'"),
            ("mine:", "AttributeError: module 'mine' has no attribute ''"),
            (":X", "ValueError: Empty module name"),
            ("..mine:X", "TypeError: the 'package' argument is required"),
        ):
            self.assertTrue(
                self.refused(name).startswith(f"protocol {name} cannot be loaded: {problem}"),
                self.refused(name),
            )

    def test_what_cannot_be_imported(self) -> None:
        """Whatever a module does when it is imported: a script that ends itself does not end us."""
        for number, (text, problem) in enumerate(
            (
                ("1 / 0", "ZeroDivisionError: division by zero"),
                ("import sys; sys.exit('usage: bad ...')", "SystemExit: usage: bad ..."),
                ("raise KeyError", "KeyError"),
            )
        ):
            self.write(f"bad{number}", text)

            self.assertEqual(
                f"protocol bad{number}:X cannot be loaded: {problem}", self.refused(f"bad{number}:X")
            )

    def test_what_is_no_protocol(self) -> None:
        """An object of a class in place of the class is the likely mistake; what is there is shown, not all of it."""
        for name in ("instance", "Outer", "__doc__", "WireProtocol"):
            said = self.refused(f"mine:{name}")
            self.assertTrue(
                said.endswith(", not a WireProtocol, nor a class of Protocol, Factory or DatagramProtocol"),
                said,
            )
        self.write("long", "text = 'x' * 1000")
        self.assertIn(f"text is '{'x' * 59}, not a", self.refused("long:text"))
        self.assertEqual(
            "NOTHING: a wire protocol needs a stream or a datagram form", self.refused("mine:NOTHING")
        )

    def test_options_that_are_no_attrs_class(self) -> None:
        """There is no telling how they would be read from a file."""
        self.write(
            "odd", f"{MODULE}\nODD = WireProtocol(name='odd', rfc='', summary='', stream=Own, options=dict)"
        )

        said = "its options are <class 'dict'>, which is no attrs class"
        self.assertEqual(f"ODD: {said}", self.refused("odd:ODD"))
        with self.assertRaisesRegex(ValueError, f"^odd: {said}$"):
            register(sys.modules["odd"].ODD)

    def test_the_current_folder_is_there_later(self) -> None:
        """At the end of the path, once: what stands beside a module may be imported by its functions alone."""
        self.write("beside", "THERE = 1")
        self.write("lazy", f"{MODULE}\nclass Lazy(Protocol):\n    def __init__(self): import beside\n")
        before = list(sys.path)
        wire = find("lazy:Lazy")
        find("lazy:WIRE")
        os.chdir("/")

        self.assertEqual(
            [*before, os.path.realpath(self.here)], [*before, *map(os.path.realpath, sys.path[len(before) :])]
        )
        wire.make_stream()
        self.assertIn("beside", sys.modules)

    def test_the_path_is_left_as_it_was(self) -> None:
        """Where the import did not go well, whatever the module did to it."""
        self.write("greedy", "import sys; sys.path.insert(0, '/greedy'); sys.path.append('/more'); X = 1")
        before = list(sys.path)
        self.refused("mine:X")
        self.refused("nothere:X")
        self.assertEqual(before, sys.path)

        self.refused("greedy:X")
        self.assertEqual(["/greedy", *before, "/more", str(Path.cwd())], sys.path)

    def test_a_module_that_empties_the_path(self) -> None:
        """Whatever it does, it is no traceback."""
        self.write("severe", f"{MODULE}\nimport sys\nsys.path.pop(0)\n")

        self.assertEqual("wire", find("severe:WIRE").name)

    def test_the_current_folder_comes_first(self) -> None:
        """What stands there is meant, even if something else on the path has the same name."""
        other = self.folder()
        self.write("twice", "raise RuntimeError", other)
        self.write("twice")
        sys.path.insert(0, str(other))

        self.assertEqual("wire", find("twice:WIRE").name)

    def test_a_folder_that_is_gone(self) -> None:
        """What is installed can still be imported, and what is not is said as ever."""
        gone = self.folder()
        (gone / "sub").mkdir()
        os.chdir(gone / "sub")
        (gone / "sub").rmdir()

        self.assertEqual("echo", find("echosvc.protocols.echo:ECHO").name)
        self.assertIn("No module named 'mine'", self.refused("mine:WIRE"))
