"""Tests of the tables and the picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase

from bench.goals import Goal, Verdict
from bench.picture import picture
from bench.summary import Row, rows
from bench.tables import goals_table, work_table
from bench.works import IDLE, WORKS

TCP_50 = next(work for work in WORKS if work.name == "tcp-50")
C = {"cpu": 4.0, "rate": 250_000.0, "p50": 200.0, "p99": 12_000.0, "busy": 1.0, "errors": 0.0, "lost": 0.0}
OURS = {**C, "cpu": 4.6, "rate": 200_000.0, "errors": 2.0, "lost": 0.25}


def summary() -> list[Row]:
    """C, echosvc at 1.15 times its CPU, socat at 50 times, and one that does not run."""
    return rows({"c": [C], "echosvc": [OURS], "socat": [{**C, "cpu": 200.0}], "xinetd": ["no echo"]})


class WorkTableTests(SynchronousTestCase):
    """One table for each work, one line for each rival."""

    def test_has_a_line_for_each_rival_with_its_ratio_to_c(self) -> None:
        """CPU per echo comes first, then the rate, then the times."""
        _heading, c, ours, *_ = work_table(TCP_50, summary()).splitlines()

        self.assertEqual(c.split()[:6], ["C,", "epoll", "4.00", "us", "-", "1"])
        self.assertEqual(ours.split()[:8], ["echosvc", "4.60", "us", "-", "1.15", "200", "000", "0.80"])

    def test_its_columns_stand_under_their_headings(self) -> None:
        """Every line ends where the heading ends, but for notes."""
        heading, c, *_ = work_table(TCP_50, summary()).splitlines()

        self.assertEqual(len(heading), len(c))

    def test_notes_loss_and_errors(self) -> None:
        """Figures of a server that loses or corrupts are not to be read without that."""
        line = work_table(TCP_50, summary()).splitlines()[2]

        self.assertTrue(line.endswith("lost 25.0%  2 errors"), line)

    def test_says_why_a_rival_has_no_figures(self) -> None:
        """Its line stays, so that nobody wonders."""
        last = work_table(TCP_50, summary()).splitlines()[-1]

        self.assertEqual(last.split(maxsplit=1), ["xinetd", "- no echo"])

    def test_idle_connections_have_a_table_of_their_own(self) -> None:
        """Bytes, and how many connections were held."""
        row = rows({"c": [{"memory": 48.0, "connections": 10_000.0}]})

        self.assertEqual(work_table(IDLE, row).splitlines()[1].split()[2:], ["48", "-", "1", "10000"])


class GoalsTableTests(SynchronousTestCase):
    """The goals, what was measured, and the verdict."""

    def test_says_reached_or_not(self) -> None:
        """Each in words, with the noise beside it."""
        reached = Verdict(Goal("tcp-50", "cpu", "<=", 1.2), 1.17, 0.99)
        missed = Verdict(Goal("idle", "memory", "<=", 2048, None), 4096, None)

        _heading, first, second = goals_table([reached, missed]).splitlines()

        self.assertIn("CPU per echo at most 1.20 x C", first)
        self.assertEqual(first.split()[-3:], ["1.17", "0.99", "reached"])
        self.assertEqual(second.split()[-3:], ["4096", "NOT", "REACHED"])


class PictureTests(SynchronousTestCase):
    """The picture is well-formed and shows what the table says."""

    def test_shows_every_rival_but_c_which_is_the_line(self) -> None:
        """A bar with a name and a figure for each that has figures."""
        root = ET.fromstring(picture({"tcp-50": summary()}, "here & now"))
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]

        self.assertEqual(texts[1:], ["here & now", TCP_50.title, "echosvc", "1.15", "socat", "50"])

    def test_cuts_a_bar_that_is_too_long(self) -> None:
        """Fifty times C would leave no room for the differences that matter."""
        root = ET.fromstring(picture({"tcp-50": summary()}, ""))
        ours, socat = [
            float(element.get("width", ""))
            for element in root.iter("{http://www.w3.org/2000/svg}rect")
            if element.get("class")
        ]

        self.assertLess(socat, 4 * ours)

    def test_leaves_out_works_without_cpu_figures(self) -> None:
        """Idle connections have no echoes to divide by."""
        drawn = picture({"idle": rows({"c": [{"memory": 1.0}], "echosvc": [{"memory": 2.0}]})}, "")

        self.assertNotIn(IDLE.title, drawn)
