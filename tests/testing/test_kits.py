"""Tests of what the kits have in common: they go with any test case of trial's."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase, TestCase

from echosvc.testing import DatagramConformance, ListenerConformance, StreamConformance
from echosvc.testing._conformance import Conformance

KITS = (StreamConformance, DatagramConformance, ListenerConformance)


class MixinTests(SynchronousTestCase):
    """A kit is mixed into an author's test case, which it must not disturb."""

    def test_no_name_of_a_kit_is_one_of_trials(self) -> None:
        """It would take the place of something that trial needs, in a test case that none of ours is."""
        case = TestCase("run")
        trials = {*dir(case), *vars(case)}
        for kit in KITS:
            names = {name for each in kit.__mro__[:-1] for name in vars(each) if not name.startswith("__")}
            self.assertEqual(names & trials, set())

    def test_a_kit_is_no_test_case_by_itself(self) -> None:
        """A runner that finds it in an import does not run it."""
        for kit in KITS:
            self.assertFalse(issubclass(kit, SynchronousTestCase))

    def test_kits_go_together(self) -> None:
        """A protocol with both forms is tested by one class: what the two share means the same in both."""

        def names(kit: type) -> set[str]:
            own = {name for each in kit.__mro__[:-2] for name in vars(each)}
            return {name for name in own if not name.startswith("__") and not hasattr(Conformance, name)}

        self.assertEqual(names(StreamConformance) & names(DatagramConformance), {"_clock"})
