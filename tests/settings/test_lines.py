"""Tests of finding the line on which something stands."""

from __future__ import annotations

import random
import tomllib
from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.settings.lines import key_lines
from echosvc.settings.structure import Key

#: Each line's number is the value that is found there.
_EVERYTHING = """\
one = 1   # a comment

[table]  # [no.table]
  four = 4
"quoted key".'and.so' = 5
six.a.b = 6
six.a.c = 7
inline = { eight = 8, deep = { also = 8, list = [8, 8] } }
list = [ 9, 9,
  10,
  # a comment, and an empty line

  13, 13
  , 14,
  [15,
   15],
  {line = 17}, [17],
]
text = \"\"\"19
[[no.table]]
no = 21
\"\"\"
[[many]]
here = 24
[many.inner]
here = 26
[[many.inners]]
here = 28
[[many.inners]]
here = 30
[many.inners.most]
here = 32
[[many]]
here = 34
[[many.inners]]
here = 36
[super.table]
here = 38
[super]
here = 40
"""


def places(value: Any, key: Key = ()) -> list[tuple[Key, Any]]:
    """Everything in a table, with its place."""
    found: list[tuple[Key, Any]] = [(key, value)] if key else []
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        found += places(child, (*key, name))
    return found


class LineTests(SynchronousTestCase):
    """Everything in a file has a line."""

    def test_values(self) -> None:
        """A value is found where it stands, in whichever of TOML's forms it was written."""
        found = key_lines(_EVERYTHING)
        values = [(key, value) for key, value in places(tomllib.loads(_EVERYTHING)) if isinstance(value, int)]

        self.assertEqual(values, [(key, found[key]) for key, _ in values])
        self.assertEqual(19, found["table", "text"])

    def test_tables(self) -> None:
        """A table is where its header is, or the first key that makes it."""
        found = key_lines(_EVERYTHING)

        for line, key in (
            (3, ("table",)),
            (5, ("table", "quoted key")),
            (6, ("table", "six")),
            (8, ("table", "inline", "deep")),
            (9, ("table", "list")),
            (15, ("table", "list", 6)),
            (23, ("many",)),
            (23, ("many", 0)),
            (25, ("many", 0, "inner")),
            (27, ("many", 0, "inners")),
            (27, ("many", 0, "inners", 0)),
            (29, ("many", 0, "inners", 1)),
            (31, ("many", 0, "inners", 1, "most")),
            (33, ("many", 1)),
            (35, ("many", 1, "inners", 0)),
            (37, ("super",)),
        ):
            self.assertEqual(line, found[key], key)

    def test_everything_and_nothing_else(self) -> None:
        """There is a line for whatever is in the file."""
        self.assertEqual({key for key, _ in places(tomllib.loads(_EVERYTHING))}, set(key_lines(_EVERYTHING)))

    def test_line_ends(self) -> None:
        """Windows' line ends count once; what is a line end to others, but not in TOML, does not."""
        self.assertEqual(key_lines(_EVERYTHING), key_lines(_EVERYTHING.replace("\n", "\r\n")))
        self.assertEqual({("a",): 1, ("b",): 2}, key_lines("a = '\u2028\x85'  # \u2029\nb = 1"))

    def test_nothing(self) -> None:
        """An empty file has nothing."""
        for text in ("", "\n", "# a comment"):
            self.assertEqual({}, key_lines(text))

    def test_deepest_nesting(self) -> None:
        """What could just be read when there was a little more room has no line, and does no harm."""

        def no_room(text: str) -> dict[str, Any]:
            raise RecursionError("maximum recursion depth exceeded")

        self.patch(tomllib, "loads", no_room)

        self.assertEqual({}, key_lines("a = [[[[]]]]"))

    def test_each_line_is_read_a_few_times(self) -> None:
        """Work grows with the file and not with its square: a reader that begins at the top for each line never ends."""
        read: list[int] = []
        loads = tomllib.loads

        def counting(text: str) -> dict[str, Any]:
            read.append(len(text))
            return loads(text)

        self.patch(tomllib, "loads", counting)
        text = "".join(f"[[listener]]\nendpoint = [\n  'tcp:{each}',\n]\n" for each in range(500))
        self.assertEqual(3 * 500 + 1, len(key_lines(text)))

        self.assertLess(sum(read), 10 * len(text))


_KEY = st.text(st.sampled_from("ab-._ \"'[]#=\n\u2028"), max_size=4)
_VALUE = st.recursive(
    st.integers() | st.booleans() | st.text(st.sampled_from("ab[]#='\"\\\n\r\u2028 "), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEY, inner, max_size=4),
    max_leaves=20,
)


class FuzzTests(SynchronousTestCase):
    """Random files."""

    @given(st.dictionaries(_KEY, _VALUE, max_size=5), st.booleans())
    def test_whatever_is_in_a_file_has_a_line(self, table: dict[str, Any], multiline: bool) -> None:  # noqa: FBT001  # as hypothesis passes it
        """Also in files that a program has written; and it is not below what follows it."""
        text = tomli_w.dumps(table, multiline_strings=multiline)
        loaded = tomllib.loads(text)
        found = key_lines(text)

        self.assertEqual({key for key, _ in places(loaded)}, set(found))
        for key, line in found.items():
            self.assertTrue(1 <= line <= text.count("\n"))
            self.assertLessEqual(found.get(key[:-1], 1), line)

    @given(st.integers(0, 2**32))
    def test_a_key_is_on_the_line_where_it_was_put(self, seed: int) -> None:
        """Comments, empty lines, lists and strings of several lines move what follows them, and nothing else."""
        chance = random.Random(seed)
        written: list[str] = []
        expected: dict[Key, int] = {}
        for number in range(chance.randrange(1, 12)):
            written += chance.choice(
                (
                    [],
                    ["", "# comment"],
                    [f"list{number} = [", "", "  1, # x", "]"],
                    [f"text{number} = '''", "[x]", "'''"],
                )
            )
            written.append(f"key{number} = {number}")
            expected[f"key{number}",] = len(written)
        found = key_lines("\n".join(written))

        self.assertEqual(expected, {key: line for key, line in found.items() if key in expected})
