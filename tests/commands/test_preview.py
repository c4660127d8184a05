"""A preview of one image draws what its plan draws, and says what it cannot know from one image."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.commands import preview
from synthgen.commands.verdicts import Scores, verdict_lines
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.config.source import PlaceConfig, SourceConfig
from synthgen.ingest.images import plugins
from synthgen.stages.plan.assign import Assigner
from synthgen.stages.plan.images import PlannedImage
from synthgen.tables import NOT_APPLICABLE, PAIRS
from tests.fixtures.pdfs import pdf
from tests.fixtures.sources import tree
from tests.fixtures.workspace import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import asked

PRESENT, ABSENT = "single_instance/presence/object_present", "single_instance/presence/object_absent"


def test_a_preview_names_the_thing_that_the_plan_names_and_leaves_absent_ones_out() -> None:
    everyday = asked.everyday()
    context = replace(everyday, settings=everyday.settings.model_copy(update={"per_image": 200}))
    dog, lawn = "animal/mammal/dog/golden_retriever", "plant/low_plant/lawn_grass"
    image = PlannedImage("", "dog", {dog: 0.5, lawn: 0.4}, 1024, 768)
    planned = Assigner(context, {}, companions={dog: {"vehicle/car/sedan": 0.5}}).draw_all([image]).to_pylist()
    alone = Assigner(context, {})
    previewed = alone.draw_all([image]).to_pylist()
    [thing] = [row["thing"] for row in planned if row["type"] == PRESENT]
    assert [row["thing"] for row in previewed if row["type"] == PRESENT] == [thing]
    assert ABSENT in {row["type"] for row in planned} - {row["type"] for row in previewed}
    lines = list(preview._plan_lines(alone, image, previewed))
    assert any(line.strip().startswith(PRESENT) and f"about {thing}" in line for line in lines)
    assert any("absent things are left out" in line for line in lines)


def test_a_preview_says_what_select_has_against_each_pair_by_itself() -> None:
    settings = SelectConfig(keep={"answer": KeepRule(min=3, drop=0.5), "blind": KeepRule(min=0.5, forms=("choice",))})
    pair = {**dict.fromkeys(PAIRS.names), "outcome": "pair", "language": "English", "type": "a/b", "form": "short"}
    pair |= {"question": "What colour is the car?", "answer": "red"}
    rows = [{**pair, "pair_id": name} for name in ("good", "low", "unscored", "unfit")]
    rows += [
        {**pair, "pair_id": "asks again", "question": "What is it? And whose is it?"},
        {**pair, "outcome": "failed"},
    ]
    values = {"good": 4.0, "low": 2.0, "asks again": 1.0}
    scores: Scores = {(name, "answer"): {"value": value, "reason": None} for name, value in values.items()}
    scores["unscored", "answer"] = {"value": None, "reason": "call_failed: out of order"}
    scores["unfit", "answer"] = {"value": None, "reason": f"{NOT_APPLICABLE} to the form 'short'"}
    scores["good", "blind"] = {"value": 0.0, "reason": None}
    head, *told = list(verdict_lines(rows, scores, settings))[1:]
    assert "ranks, duplicates, balance and quotas take all pairs to see" in head
    assert told == [
        "  a/b, short: passes",
        "  a/b, short: score:answer (2 is below 3)",
        "  a/b, short: unscored:answer",
        "  a/b, short: passes",
        "  a/b, short: rule:two_questions; score:answer (1 is below 3)",
    ]
    assert list(verdict_lines(rows[-1:], {}, settings)) == []


@pytest.mark.skipif(not plugins.has_package("PDF"), reason="pypdfium2 is not installed")
def test_a_page_of_a_pdf_is_previewed_and_without_a_page_the_first_one(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["", ""]))
    places = {"a.pdf": 1, "a.pdf#page=2": 2, "a.pdf#page=3": None}
    for place, page in places.items():
        listed = preview._list_image(f"{tmp_path}/{place}", SourceConfig())
        assert (listed and listed.uri) == (page and f"{tmp_path}/a.pdf#page={page}")


def test_an_image_is_previewed_as_the_source_around_it_lists_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tree(tmp_path / name, "a.jpg")
        (tmp_path / name / "a.json").write_text(f'{{"from": "{name}"}}')
    places = {"one": PlaceConfig(uri=f"{tmp_path}/one"), "two": PlaceConfig(uri=f"{tmp_path}/two", sidecar=".json")}
    found = [preview._list_image(f"{tmp_path}/{name}/a.jpg", SourceConfig(named=places)) for name in ("one", "two")]
    assert [listed and listed.source_meta for listed in found] == [None, '{"from":"two"}']
