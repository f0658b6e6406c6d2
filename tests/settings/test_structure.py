"""Tests of how tables become records, and of what is said of those that cannot."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.settings.model import Defaults, FileTable, ListenerTable, TLSTable
from echosvc.settings.structure import Mistakes, structure, unstructure
from tests.settings.authors import (
    Bare,
    Checked,
    Colour,
    Empty,
    Inner,
    NotYetImported,
    Plain,
    Related,
    Rich,
    Tree,
    Unsupported,
)
from tests.settings.cases import StructureCase

KINDS = [
    Bare,
    Checked,
    Defaults,
    Empty,
    FileTable,
    Inner,
    ListenerTable,
    Plain,
    Related,
    Rich,
    TLSTable,
    Tree,
]


class PlainTests(StructureCase):
    """Values of one type each."""

    def test_all_given(self) -> None:
        """Each attribute is the key of its name, with hyphens."""
        table = {
            "text": "b",
            "whole": 2,
            "real": 2.5,
            "is-on": True,
            "maybe": 3,
            "anything": [1, "a"],
            "must-be-given": 4,
        }
        record: Any = Plain(
            text="b", whole=2, real=2.5, is_on=True, maybe=3, anything=[1, "a"], must_be_given=4
        )

        self.assertEqual(
            (record.text, record.whole, record.real, record.is_on, record.maybe, record.anything),
            ("b", 2, 2.5, True, 3, [1, "a"]),
        )
        self.assertEqual(record, structure(table, Plain))

    def test_defaults(self) -> None:
        """What is not said is as the class has it."""
        self.assertEqual(Plain(must_be_given=1), structure({"must-be-given": 1}, Plain))
        self.assertEqual(Empty(), structure({}, Empty))

    def test_no_annotation(self) -> None:
        """An attribute of which nothing is said takes anything."""
        self.assertEqual([1, "a"], structure({"thing": [1, "a"]}, Bare).thing)

    def test_wrong_types(self) -> None:
        """Nothing is converted: what a user did not write was not meant."""
        for key, value, problem in (
            ("text", 3, "text must be a string, not 3"),
            ("text", True, "text must be a string, not True"),
            ("text", ["a"], "text must be a string, not ['a']"),
            ("whole", "1", "whole must be a whole number, not '1'"),
            ("whole", 1.0, "whole must be a whole number, not 1.0"),
            ("whole", True, "whole must be a whole number, not True"),
            ("real", "1", "real must be a number, not '1'"),
            ("real", True, "real must be a number, not True"),
            ("is-on", 1, "is-on must be true or false, not 1"),
            ("is-on", "no", "is-on must be true or false, not 'no'"),
            ("maybe", "is-on", "maybe must be a whole number, not 'is-on'"),
            ("maybe", "maybe", "maybe must be a whole number, not 'maybe'"),
        ):
            self.assertEqual({key: problem}, self.mistakes({key: value, "must-be-given": 1}, Plain))

    def test_numbers(self) -> None:
        """A whole number is a number, too; TOML's nan and inf are for the class to refuse."""
        values: tuple[float, ...] = (5, 0.5, math.inf, math.nan)
        for value in values:
            real = structure({"real": value, "must-be-given": 1}, Plain).real
            self.assertIs(float, type(real))
            self.assertEqual(str(float(value)), str(real))

    def test_number_too_large(self) -> None:
        """A whole number that no float can hold is a mistake like another."""
        problem = self.mistakes({"real": 10**400, "must-be-given": 1}, Plain)["real"]

        self.assertTrue(problem.startswith("real: OverflowError: "), problem)

    def test_long_values_are_cut(self) -> None:
        """A message stays one line that can be read."""
        problem = self.mistakes({"whole": "x\n" * 1000, "must-be-given": 1}, Plain)["whole"]

        self.assertLess(len(problem), 100)
        self.assertNotIn("\n", problem)

    def test_missing(self) -> None:
        """What is missing is said of the table that should have it."""
        self.assertEqual({"": "must-be-given is missing"}, self.mistakes({}, Plain))

    def test_unknown(self) -> None:
        """An unknown key is told which is near, or else which there are; Python's own spelling is not one."""
        for key, hint in (
            ("txt", "did you mean text?"),
            ("is_on", "did you mean is-on?"),
            ("zzz", "there are text, whole, real, is-on, maybe, anything, must-be-given"),
        ):
            self.assertEqual(
                {key: f"unknown key {key}; {hint}"}, self.mistakes({key: 1, "must-be-given": 1}, Plain)
            )
        self.assertEqual({"a": "unknown key a; there are none here"}, self.mistakes({"a": 1}, Empty))

    def test_no_table(self) -> None:
        """Something else in a table's place is refused."""
        values: tuple[Any, ...] = (3, "a", [{}], None)
        for value in values:
            self.assertEqual({"": f"must be a table, not {value!r}"}, self.mistakes(value, Plain))

    def test_all_at_once(self) -> None:
        """Mistakes do not hide each other, of whatever kind they are."""
        self.assertEqual(
            {
                "": "must-be-given is missing",
                "text": "text must be a string, not 1",
                "whole": "whole must be a whole number, not 'a'",
                "relly": "unknown key relly; did you mean real?",
            },
            self.mistakes({"text": 1, "whole": "a", "relly": 2}, Plain),
        )

    def test_place(self) -> None:
        """A mistake is named by its place in the file, not in the table alone."""
        found = self.assertRaises(Mistakes, structure, {"whole": "a"}, Plain, ("listener", 3)).found

        self.assertEqual({("listener", 3), ("listener", 3, "whole")}, {each.key for each in found})


class NestedTests(StructureCase):
    """Lists, tables, choices."""

    def test_good(self) -> None:
        """Lists become what the class has; tables become records; a private attribute's key has no hyphen before it."""
        table = {
            "sizes": [1, 2],
            "words": ["a"],
            "both": [2, "b"],
            "names": ["x", "y"],
            "loose": [1, "a"],
            "loose-tuple": [1, "a"],
            "limits": {"most": 3},
            "loose-table": {"any": [1]},
            "inner": {"full-size": 1},
            "inners": [{"full-size": 2, "note": "n"}],
            "side": "right",
            "colour": "blue",
            "file": "/tmp/x",
            "secret": 5,
        }
        made = structure(table, Rich)

        self.assertEqual(
            ([1, 2], ("a",), (2, "b"), ("x", "y")), (made.sizes, made.words, made.both, made.names)
        )
        self.assertEqual(([1, "a"], (1, "a")), (made.loose, made.loose_tuple))
        self.assertEqual(({"most": 3}, {"any": [1]}), (made.limits, made.loose_table))
        self.assertEqual((Inner(1), (Inner(2, "n"),)), (made.inner, made.inners))
        self.assertEqual(("right", Colour.BLUE, "/tmp/x"), (made.side, made.colour, str(made.file)))
        self.assertEqual((5, 7), (made._secret, made.computed))

    def test_wrong(self) -> None:
        """Each item and each inner key has a name of its own."""
        for table, expected in (
            ({"sizes": "abc"}, {"sizes": "sizes must be a list, not 'abc'"}),
            ({"sizes": {"a": 1}}, {"sizes": "sizes must be a list, not {'a': 1}"}),
            ({"words": "abc"}, {"words": "words must be a list, not 'abc'"}),
            ({"names": "abc"}, {"names": "names must be a list, not 'abc'"}),
            ({"loose": "abc"}, {"loose": "loose must be a list, not 'abc'"}),
            ({"loose-tuple": "abc"}, {"loose-tuple": "loose-tuple must be a list, not 'abc'"}),
            (
                {"sizes": [1, "a", 2, True]},
                {
                    "sizes[1]": "sizes[1] must be a whole number, not 'a'",
                    "sizes[3]": "sizes[3] must be a whole number, not True",
                },
            ),
            (
                {"grid": [[1], [2, "a"], 3]},
                {
                    "grid[1][1]": "grid[1][1] must be a whole number, not 'a'",
                    "grid[2]": "grid[2] must be a list, not 3",
                },
            ),
            ({"names": ["a", 3]}, {"names[1]": "names[1] must be a string, not 3"}),
            ({"both": ["a", "b"]}, {"both[0]": "both[0] must be a whole number, not 'a'"}),
            ({"limits": 3}, {"limits": "limits must be a table, not 3"}),
            ({"loose-table": [1]}, {"loose-table": "loose-table must be a table, not [1]"}),
            ({"limits": {"most": "x"}}, {"limits.most": "most must be a whole number, not 'x'"}),
            ({"inner": 3}, {"inner": "inner must be a table, not 3"}),
            ({"inner": {}}, {"inner": "full-size is missing"}),
            ({"inner": {"full-size": "x"}}, {"inner.full-size": "full-size must be a whole number, not 'x'"}),
            (
                {"inner": {"full_size": 1}},
                {
                    "inner": "full-size is missing",
                    "inner.full_size": "unknown key full_size; did you mean full-size?",
                },
            ),
            ({"inners": {"full-size": 1}}, {"inners": "inners must be a list, not {'full-size': 1}"}),
            (
                {"inners": [{"full-size": 1}, {"full-size": 2, "note": 3}, {}, 4]},
                {
                    "inners[1].note": "note must be a string, not 3",
                    "inners[2]": "full-size is missing",
                    "inners[3]": "inners[3] must be a table, not 4",
                },
            ),
            ({"side": "up"}, {"side": "side must be 'left' or 'right', not 'up'"}),
            ({"side": True}, {"side": "side must be 'left' or 'right', not True"}),
            ({"colour": "green"}, {"colour": "colour: 'green' is not a valid Colour"}),
            ({"_secret": 1}, {"_secret": "unknown key _secret; did you mean secret?"}),
        ):
            self.assertEqual(expected, self.mistakes(table, Rich))

    def test_wrong_length(self) -> None:
        """A list of a fixed length has all its items."""
        self.assertIn("both: Not enough values", self.mistakes({"both": [1]}, Rich)["both"])

    def test_what_the_class_makes_itself_is_no_key(self) -> None:
        """A table cannot set what the constructor does not take."""
        problem = self.mistakes({"computed": 1}, Rich)["computed"]

        self.assertTrue(problem.startswith("unknown key computed; there are sizes, "), problem)
        self.assertTrue(problem.endswith(", file, secret"), problem)

    def test_recursive(self) -> None:
        """A record may have records of its own kind."""
        self.assertEqual(Tree([Tree([Tree()])]), structure({"branches": [{"branches": [{}]}]}, Tree))
        self.assertEqual(
            {"branches[0].branches": "branches must be a list, not 3"},
            self.mistakes({"branches": [{"branches": 3}]}, Tree),
        )


class CheckTests(StructureCase):
    """Checks of a protocol author's own class."""

    def test_good(self) -> None:
        """What passes is taken, and a converter of the class converts it before its check sees it."""
        self.assertEqual(
            Checked(mood="bad", max_size=4, rate=2.0, port=-9),
            structure({"mood": "bad", "max-size": 4, "rate": 2, "port": -9}, Checked),
        )

    def test_attrs_own(self) -> None:
        """What attrs' own checks say stands at the right key, named as the file names it, without Python's innards."""
        for key, value, problem in (
            ("mood", "sad", "'mood' must be in ['good', 'bad'] (got 'sad')"),
            ("max-size", 2, "'max-size' must be >= 3: 2"),
            ("host-name", "A", "'host-name' must match regex '[a-z]+' ('A' doesn't)"),
            ("day", "x", "'day' must be <class 'int'> (got 'x' that is a <class 'str'>)."),
            ("port", -10, "'port' must be < 10: 10"),
        ):
            self.assertEqual({key: problem}, self.mistakes({key: value}, Checked))

    def test_own_methods(self) -> None:
        """The author's own checks may name the attribute or not, and may fail in any way."""
        for value, problem in (
            (-1, "rate is a number above zero"),
            (101, "rate: too fast"),
            (1001, "rate: KeyError: 'far too fast'"),
        ):
            self.assertEqual({"rate": problem}, self.mistakes({"rate": value}, Checked))

    def test_names_in_own_methods(self) -> None:
        """An attribute is named as the file names it, whichever way its check does."""
        for value, problem in (
            (0, "an idle-time is more than nothing"),
            (-1, "idle-time or idle_time: both are my name"),
        ):
            self.assertEqual({"idle-time": problem}, self.mistakes({"idle-time": value}, Checked))

    def test_whole_class(self) -> None:
        """A check of the whole is said of the key that it speaks of first, or of the table."""
        for size, expected in (
            (101, {"mood": "mood is spoilt by a max_size above 100; use max_size 100"}),
            (76, {"max-size": "the max-size's greatest value is 75, as max-size-limit says"}),
            (51, {"": "that will not do"}),
        ):
            self.assertEqual(expected, self.mistakes({"max-size": size}, Checked))

    def test_all_at_once(self) -> None:
        """Where a constructor stops at the first value that it refuses, we do not."""
        self.assertEqual(
            {"mood", "max-size", "rate", "a", "b"},
            set(self.mistakes({"mood": "sad", "max-size": 1, "rate": -1, "a": 1, "b": 2}, Checked)),
        )

    def test_check_that_looks_at_another_attribute(self) -> None:
        """It is asked when all are known."""
        self.assertEqual({"low": "low is above high"}, self.mistakes({"low": 11}, Related))
        self.assertEqual({"low": "low is above high"}, self.mistakes({"low": 3, "high": 2}, Related))
        self.assertEqual(Related(3, 4), structure({"low": 3, "high": 4}, Related))

    def test_class_that_cannot_be_made(self) -> None:
        """A class whose types cannot be read, or are in no file, is told to its author in a line."""
        self.assertEqual(
            {"": "NotYetImported cannot be made from a table: name 'Decimal' is not defined"},
            self.mistakes({}, NotYetImported),
        )
        self.assertIn("timedelta", self.mistakes({"when": 3}, Unsupported)["when"])


class UnstructureTests(SynchronousTestCase):
    """From a record back to its table."""

    def test_there_and_back(self) -> None:
        """What was made of a table makes a table of which the same is made."""
        made = Rich(
            sizes=[1],
            words=("a",),
            limits={"a_b": 1},
            inner=Inner(1),
            inners=(Inner(2, "n"),),
            colour=Colour.BLUE,
            secret=5,
        )
        table = unstructure(made)

        self.assertEqual(made, structure(table, Rich))
        self.assertEqual({"full-size": 1}, table["inner"])
        self.assertEqual({"a_b": 1}, table["limits"])
        self.assertEqual(
            ("blue", "/dev/null", 5, ["a"]),
            tuple(table[key] for key in ("colour", "file", "secret", "words")),
        )

    def test_none_is_left_out(self) -> None:
        """TOML has no None, at whatever depth."""
        self.assertEqual({"a": [{"b": 1}]}, unstructure({"a": [{"b": 1, "c": None}], "d": None}))


_VALUES = st.recursive(
    st.one_of(
        st.text(max_size=5), st.integers(), st.floats(), st.booleans(), st.datetimes(), st.dates(), st.times()
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    sorted(
        {
            *("text", "whole", "real", "is-on", "must-be-given", "sizes", "words", "both", "limits", "inner"),
            *("inners", "side", "colour", "file", "branches", "mood", "max-size", "rate", "low", "high"),
            *("protocol", "endpoint", "backlog", "stall-timeout", "defaults", "tls", "options", "full-size"),
        }
    )
)


class FuzzTests(SynchronousTestCase):
    """Random tables."""

    @given(
        st.dictionaries(st.one_of(_KEYS, st.text(max_size=5)), _VALUES, max_size=6), st.sampled_from(KINDS)
    )
    def test_any_table_makes_a_record_or_mistakes(self, table: dict[str, Any], kind: type[Any]) -> None:
        """Whatever stands in a table, nothing but mistakes is raised, each in one line and at a place."""
        try:
            self.assertIsInstance(structure(table, kind), kind)
        except Mistakes as problem:
            self.assertTrue(problem.found)
            for each in problem.found:
                self.assertTrue(each.problem)
                self.assertTrue(len(each.key) <= 1 or each.key[0] in table)
