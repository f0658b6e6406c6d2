"""Tests of what is made of the load generator's account, and of who gets which core."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.errors import NoFigure
from bench.measure import figures_of
from bench.processes import split_cores

ACCOUNT = {
    "echoes": 200_000,
    "errors": 0,
    "lost": 50_000,
    "seconds": 2.0,
    "server_cpu": 1.0,
    "load_cpu": 4.0,
    "p50": 0.000_25,
    "p99": 0.001,
}


class FiguresTests(SynchronousTestCase):
    """Seconds and counts become the figures that tables show."""

    def test_are_per_echo_and_in_microseconds(self) -> None:
        """One second of CPU for 200 000 echoes is 5 us for each."""
        figures = figures_of(ACCOUNT)

        self.assertEqual((figures["cpu"], figures["rate"], figures["busy"]), (5.0, 100_000.0, 0.5))
        self.assertEqual((figures["p50"], figures["p99"], figures["lost"]), (250.0, 1000.0, 0.2))

    def test_are_none_if_nothing_came_back(self) -> None:
        """A server that does not echo has no cost per echo; one that echoes wrongly is told apart."""
        silent = self.assertRaises(NoFigure, figures_of, {**ACCOUNT, "echoes": 0})
        wrong = self.assertRaises(NoFigure, figures_of, {**ACCOUNT, "echoes": 0, "errors": 3})

        self.assertEqual(str(silent), "no echo")
        self.assertIn("wrong bytes", str(wrong))

    def test_are_none_if_the_server_ended(self) -> None:
        """Its CPU clock ended with it."""
        self.assertRaises(NoFigure, figures_of, {**ACCOUNT, "server_cpu": -0.5})


class CoresTests(SynchronousTestCase):
    """The server has a core of its own."""

    def test_server_and_load_share_no_core(self) -> None:
        """Of four cores the server has the last; the load's two threads have one each of the others."""
        cores = split_cores([3, 0, 2, 1])

        self.assertEqual((cores.server, cores.load, cores.threads), (3, (0, 1, 2), 2))

    def test_two_cores_are_enough(self) -> None:
        """One each."""
        cores = split_cores([0, 1])

        self.assertEqual((cores.server, cores.load, cores.threads), (1, (0,), 1))

    def test_a_single_core_is_shared(self) -> None:
        """The figures say little then, but the run does not fail."""
        cores = split_cores([5])

        self.assertEqual((cores.server, cores.load), (5, (5,)))
