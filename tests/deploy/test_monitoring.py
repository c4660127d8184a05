"""The board and the alerts: metrics that exist, expressions that Prometheus reads, alerts that fire when they must."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen.workers.metrics import COUNTERS, GAUGES
from tests.fixtures.workspace import ROOT

BOARD = json.loads((ROOT / "deploy/grafana/synthgen.json").read_text(encoding="utf-8"))
PROMETHEUS = ROOT / "deploy/prometheus"
RULES = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/watching.md").read_text(encoding="utf-8")
WIDTH = 24  # of a board
LABELS = {"run", "le", "WorkerId"}  # that every metric has, or that Ray and Prometheus add

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def board_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def served() -> dict[str, set[str]]:
    """Return the names that Ray serves the metrics of a run by, each with its labels."""
    gauges = {f"ray_{name}": {*labels, "run"} for name, (_, labels) in GAUGES.items()}
    return gauges | {f"ray_{name}_total": {*labels, "run"} for name, (_, labels) in COUNTERS.items()}


def test_board_and_alerts_ask_for_metrics_and_labels_that_exist() -> None:
    known, recorded = served(), {rule["record"] for rule in rules() if "record" in rule}
    for expression in [*board_expressions(), *(rule["expr"] for rule in rules())]:
        names = set(re.findall(r"\bray_synth_\w+", expression))
        assert names <= set(known), expression
        assert set(re.findall(r"\brun:\w+:\w+", expression)) <= recorded, expression
        used = {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", labels)}
        used |= set(re.findall(r"(\w+)=~?\"", expression))
        allowed = set().union(*(known[name] for name in names)) if names else set()
        assert used <= allowed | LABELS, expression


def test_the_page_has_every_metric_and_every_alert() -> None:
    assert set(re.findall(r"`(ray_synth_\w+)`", PAGE)) == set(served())
    alerts = [rule["alert"] for rule in rules() if "alert" in rule]
    assert re.findall(r"^\| `(Synth\w+)` \|", PAGE, re.MULTILINE) == alerts


def test_the_board_is_what_grafana_imports() -> None:
    assert BOARD["uid"] == "synthgen" and BOARD["schemaVersion"] >= 39 and "id" not in BOARD
    assert [variable["name"] for variable in BOARD["templating"]["list"]] == ["datasource", "run"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}" and panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("AB")[: len(panel["targets"])]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_panels_fill_the_board_and_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < WIDTH
        taken |= cells
    height = 1 + max(y for _, y in taken)
    assert len(taken) == WIDTH * height, "no hole is left"


def promtool(*words: object, folder: Path = PROMETHEUS) -> None:
    """Run promtool, and show what it says where it finds a fault."""
    done = subprocess.run(["promtool", *map(str, words)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("check", "config", "prometheus.yaml")
    promtool("test", "rules", "alerts_test.yaml")
    tested = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


@needs_promtool
def test_prometheus_reads_every_expression_of_the_board(tmp_path: Path) -> None:
    plain = [expression.replace("$__rate_interval", "1m").replace("$run", ".*") for expression in board_expressions()]
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(plain)]
    (tmp_path / "board.yaml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": recorded}]}))
    promtool("check", "rules", "board.yaml", folder=tmp_path)
