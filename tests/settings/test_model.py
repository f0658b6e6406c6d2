"""Tests of what a configuration file may say."""

from __future__ import annotations

import math
from typing import Any

from echosvc.settings.model import Defaults, ListenerTable, TLSTable
from echosvc.settings.structure import structure
from tests.settings.cases import StructureCase


class TableTests(StructureCase):
    """The records of which a file is made."""

    def test_ranges(self) -> None:
        """Numbers out of range, infinite ones and those that are none are refused, in defaults and in listeners."""
        listener = {"protocol": "echo", "endpoint": "tcp:1"}
        ranges: tuple[tuple[str, tuple[float, ...], str], ...] = (
            ("backlog", (0, 65536, -1), "a number from 1 to 65535"),
            ("rcvbuf", (2047, 2**30 + 1), "a number of bytes from 2048 to 1073741824"),
            ("stall-timeout", (0, -1.5, math.nan, math.inf, 1e9), "a number of seconds above 0"),
            ("answer-rate", (0.9, 1e6 + 1, math.nan, math.inf), "a number from 1 to 1000000"),
        )
        tables: tuple[tuple[dict[str, Any], type[Any]], ...] = (({}, Defaults), (listener, ListenerTable))
        for key, values, unit in ranges:
            for value in values:
                for table, kind in tables:
                    found = self.mistakes({**table, key: value}, kind)
                    self.assertEqual([key], list(found))
                    self.assertTrue(found[key].startswith(f"{key} "), found)
                    self.assertTrue(found[key].endswith(f": must be {unit}"), found)

    def test_edges_of_ranges(self) -> None:
        """The ends of a range belong to it."""
        for table in (
            {"backlog": 1, "rcvbuf": 2048, "stall-timeout": 0.001, "answer-rate": 1},
            {"backlog": 65535, "rcvbuf": 2**30, "stall-timeout": 999_999_999, "answer-rate": 1_000_000},
        ):
            made = structure(table, Defaults)
            self.assertEqual(
                table,
                {
                    "backlog": made.backlog,
                    "rcvbuf": made.rcvbuf,
                    "stall-timeout": made.stall_timeout,
                    "answer-rate": made.answer_rate,
                },
            )

    def test_empty_list_of_endpoints(self) -> None:
        """A listener that listens nowhere is a mistake."""
        self.assertEqual(
            {"endpoint": "endpoint is empty: there must be one at least"},
            self.mistakes({"protocol": "echo", "endpoint": []}, ListenerTable),
        )

    def test_what_is_said_and_empty(self) -> None:
        """Is no wish for the default. Where a list of none means something, it is let in."""
        for key, empty in (
            *((key, "") for key in ("cert", "key", "certdir", "client-ca", "ciphers")),
            ("alpn", []),
        ):
            self.assertEqual(
                {key: f"{key} is empty: give it a value, or leave it out"},
                self.mistakes({key: empty}, TLSTable),
            )
        for key in ("allow", "deny", "low-ports", "proxy"):
            structure({"protocol": "echo", "endpoint": "tcp:1", key: []}, ListenerTable)

    def test_one_string_or_several(self) -> None:
        """Where there is often one, it need not be a list."""
        for value, expected in (("tcp:1", ("tcp:1",)), (["tcp:1", "udp:1"], ("tcp:1", "udp:1"))):
            made = structure({"protocol": "echo", "endpoint": value}, ListenerTable)
            self.assertEqual(expected, made.endpoint)
        for wrong in (3, ["a", 3], {"a": 1}):
            self.assertEqual(
                {"endpoint": f"endpoint must be a string or a list of strings, not {wrong!r}"},
                self.mistakes({"protocol": "echo", "endpoint": wrong}, ListenerTable),
            )
