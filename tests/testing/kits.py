"""Runs a conformance kit on a protocol, and tells which of its promises the protocol breaks."""

from __future__ import annotations

import unittest
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

__all__ = ["broken_promises", "make_case"]


def make_case(kit: type, **attributes: Any) -> type[SynchronousTestCase]:
    """Mix a kit into a test case, as its author would write it."""
    return type("Case", (kit, SynchronousTestCase), attributes)


def broken_promises(case: type[SynchronousTestCase]) -> dict[str, str]:
    """Run every test of a case, and return what each that did not pass has said."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun >= 8, "the kit has more tests than that"
    return {test.id().rpartition(".")[2]: said for test, said in result.failures + result.errors}
