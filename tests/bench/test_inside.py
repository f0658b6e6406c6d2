"""Tests of what is measured inside the process."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from bench import inside
from bench.errors import NoFigure


class InsideTests(SynchronousTestCase):
    """Each step can be taken, and does what it says."""

    def test_steps(self) -> None:
        """They run, and all datagrams are counted each time."""
        try:
            for host, peers in (("127.0.0.1", 1), ("127.0.0.1", 50)):
                names = []
                for name, step in inside.steps(host, peers):
                    step()
                    step()
                    names.append(name)

                self.assertEqual(names[:2], ["envelopes", "envelopes, screen"])
                self.assertEqual(len(set(names)), 11)
        except NoFigure as problem:
            raise SkipTest(str(problem)) from None
