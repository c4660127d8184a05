"""The laboratory: areas under ROC curves, thresholds that are set on other pictures, tables in a page."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import synthgen
from demo.laboratory import report
from demo.laboratory.faults import FALSE_ALARMS, dropped_by
from demo.laboratory.gates import Pairs, area_under_roc, kept_by, thresholds_for, trials
from demo.laboratory.pictures import draw_pictures, load_scenes
from demo.laboratory.planted import RIGHT, WRONG, plant
from demo.oracle import judge
from demo.question_templates import TYPES
from demo.world import sample

LABORATORY = Path(report.__file__).parent
RATED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=60)


@given(RATED)
def test_the_area_is_the_share_of_true_and_false_pairs_in_the_right_order(rated: list[tuple[int, int, bool]]) -> None:
    values, is_true = np.array([row[0] for row in rated], float), np.array([row[2] for row in rated])
    true, false = values[is_true], values[~is_true]
    expected = [(a > b) + (a == b) / 2 for a in true for b in false]
    area = area_under_roc(values, is_true)
    assert area == pytest.approx(np.mean(expected)) if expected else np.isnan(area)


@given(RATED, st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_thresholds_keep_enough_true_pairs_and_no_smaller_share_of_true_ones_than_all(
    rated: list[tuple[int, int, bool]], least: float
) -> None:
    values, is_true = np.array([row[:2] for row in rated], float), np.array([row[2] for row in rated])
    kept = kept_by(values, thresholds_for(values, is_true, least))
    assert kept[is_true].sum() >= least * is_true.sum()
    assert not kept.any() or is_true[kept].mean() >= is_true.mean()


def test_a_gate_is_counted_on_pictures_that_its_threshold_was_not_set_on() -> None:
    seed = np.repeat([1, 2], 100)
    is_true = np.tile([False, True], 100)
    value = np.where(is_true, 1.0, 0.0) + np.where(seed == 2, 5.0, 0.0)  # another scale on the other pictures
    pairs = Pairs(seed, is_true, {"gate": value}, {"gate": 1.0}, {"gate": 2.0})
    first, second = trials(pairs, ["gate"], 0.7)
    assert (first.area, first.kept) == (1.0, 0.0), "nothing reaches the threshold of the second pictures"
    assert (second.area, second.true_of_kept, second.true_kept) == (1.0, 0.5, 1.0)


def test_a_pair_without_a_value_is_kept_by_every_threshold() -> None:
    values = np.array([np.nan, 0.1, 0.9])
    pairs = Pairs(np.array([1, 1, 1]), np.array([True, False, True]), {"gate": values}, {}, {})
    assert kept_by(pairs.of(["gate"], np.ones(3, bool)), [0.5]).tolist() == [True, False, True]


def test_pictures_are_drawn_once_and_their_scenes_are_those_that_no_training_saw(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "one", 1, 3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    draw_pictures(tmp_path / "one", 1, 3)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    scenes = load_scenes(tmp_path / "one")
    assert sorted(scenes) == ["00000.png", "00001.png", "00002.png"]
    assert all(scene.seed < 1000 for scene in scenes.values())


def test_what_is_planted_as_right_is_true_and_what_is_planted_as_wrong_is_not() -> None:
    harmless = {RIGHT, "gives its answer away", "the same in other words"}
    seen = set()
    for scene in [sample(701, index) for index in range(60)]:
        for type_ in TYPES:
            for each in plant(scene, type_):
                verdict = judge(scene, each.question, each.answer)
                assert (verdict.value == "true") == (each.fault in harmless), (each, verdict)
                seen.add(each.fault)
    assert seen >= {*harmless, *WRONG, "not in the picture", "what the sign says"}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=80))
def test_a_gate_drops_no_more_than_the_stated_share_of_the_right_pairs(rated: list[tuple[int, bool]]) -> None:
    values, is_right = np.array([row[0] for row in rated], float), np.array([row[1] for row in rated])
    dropped = dropped_by(values, is_right)
    assert dropped[is_right].sum() <= FALSE_ALARMS * is_right.sum()


def test_a_table_replaces_the_one_before_it_in_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- weak -->\n| old |\n<!-- /weak -->\n\nAfter.\n")
    table = report.markdown([{"gate": "a", "kept": "1"}, {"gate": "b", "kept": "2"}])
    report.write_table(page, "weak", table)
    assert page.read_text() == f"Before.\n\n<!-- weak -->\n{table}\n<!-- /weak -->\n\nAfter.\n"
    assert table.splitlines() == ["| gate | kept |", "| --- | --- |", "| a | 1 |", "| b | 2 |"]
    with pytest.raises(ValueError, match="has no marks <!-- strong -->"):
        report.write_table(page, "strong", table)


@pytest.mark.parametrize("name", ["laboratory", "planted"])
def test_the_pipelines_of_the_laboratory_hold(name: str) -> None:
    assert {"judge", "large"} <= synthgen.load_pipeline(LABORATORY / f"{name}.yaml").score.keys()
