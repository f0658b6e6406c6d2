"""Tests of what is shipped for those who watch: every name in it is one that the service tells."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.admin.metrics import render
from echosvc.transports.linux import LINUX
from tests.admin.test_metrics import SNAPSHOT

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "metrics.md"
RULES = ROOT / "deploy" / "prometheus" / "echosvc.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "echosvc.json"

#: Parts of a histogram, and what Prometheus itself tells of a target.
_PARTS = ("_bucket", "_count", "_sum")


def told() -> set[str]:
    """Every metric that a service tells, by its full name."""
    text, _ = render([SNAPSHOT], ready=True)
    names = set()
    for family in parse_text(text.decode()):
        names |= {family.name if family.type == "histogram" else each.name for each in family.samples}
    return names


def named(text: str) -> set[str]:
    """Every metric that a text names."""
    found = re.findall(r"\b(?:echosvc|process)_(?!plugin)[a-z_]+\b", text)
    return {re.sub("|".join(f"{part}$" for part in _PARTS), "", each) for each in found}


class NamesTests(SynchronousTestCase):
    """Names."""

    def setUp(self) -> None:
        """See to it that the process is told of, too."""
        if not LINUX:
            raise SkipTest("only Linux tells of processes")

    def test_every_metric_that_is_named_is_told(self) -> None:
        """In docs, rules and the dashboard; and wherever else they are."""
        others = [*(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.y*ml"), ROOT / "README.md"]
        for path in (DOCS, RULES, DASHBOARD, *others):
            self.assertEqual(set(), named(path.read_text()) - told(), path)

    def test_every_metric_that_is_told_is_explained(self) -> None:
        """In the table of the docs, and ours are in the dashboard."""
        table = {
            name
            for line in DOCS.read_text().splitlines()
            if line.startswith("| `")
            for name in named(line.split("|")[1])
        }

        self.assertEqual(told(), table)
        ours = {each for each in told() if each.startswith("echosvc_")}
        self.assertEqual({"echosvc_start_time_seconds"}, ours - named(DASHBOARD.read_text()))

    def test_every_alert_is_explained(self) -> None:
        """And every one that is explained is there."""
        alerts = re.findall(r"alert: (\w+)", RULES.read_text())

        self.assertEqual(alerts, re.findall(r"^\| `(Echosvc\w+)`", DOCS.read_text(), re.MULTILINE))

    def test_every_reason_is_one_of_the_code(self) -> None:
        """Those that rules ask for, and those that the docs name."""
        code = "\n".join(path.read_text() for path in (ROOT / "echosvc").rglob("*.py"))
        asked = {
            each
            for found in re.findall(r'reason=~?"([^"]+)"', RULES.read_text())
            for each in found.split("|")
        }
        (said,) = re.findall(r"^Reasons for which.*?\n\n", DOCS.read_text(), re.MULTILINE | re.DOTALL)
        for reason in asked | set(re.findall(r"`([a-z-]+)`", said)):
            begin = re.escape(reason.removesuffix(".*").removesuffix("E"))
            self.assertTrue(re.search(f'"{begin}', code), reason)

    def test_the_dashboard_is_one(self) -> None:
        """Its panels have names of their own, stand beside each other, and ask for something."""
        panels = json.loads(DASHBOARD.read_text())["panels"]
        places = [
            (x, y)
            for each in panels
            for x in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
            for y in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
        ]

        self.assertEqual(len(places), len(set(places)))
        self.assertLess(max(x for x, _ in places), 24)
        for key in ("id", "title"):
            self.assertEqual(len(panels), len({each[key] for each in panels}))
        self.assertTrue(all(target["expr"] for each in panels for target in each["targets"]))
