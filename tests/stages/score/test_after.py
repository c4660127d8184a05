"""A pass that waits for another score: which pairs it scores, what it takes over, and what each change redoes."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from synthgen.commands.preview import _score_lines
from synthgen.commands.purge import _rewrite_tables
from synthgen.commands.status import text
from synthgen.engines.protocol import ModelName
from synthgen.job.diff import describe, differences
from synthgen.stages.generate.conversation import Outcome
from synthgen.stages.score import waves_of
from synthgen.store import RunFolder
from synthgen.tables import SCORE, image_id
from tests.fixtures.scoring import ScoredWorld, copy_of

PARTITIONS = ["e001-00000", "e001-00001"]
OF_SMALL = [f"{name}.small" for name in PARTITIONS]
OF_LARGE = [f"{name}.large" for name in PARTITIONS]
SMALL = "score.small={model: small, scores: [answer], engine: {kind: scripted, options: {junk: 0.3}}}"
LARGE = "score.large={model: large, scores: [answer, question], after: {score: small.answer}}"
NAMES = ("small.answer", "large.answer", "large.question")


def open_pairs(world: ScoredWorld, score: str = "small.answer") -> set[str]:
    return {pair for pair, row in world.scores(score).items() if row["value"] is None}


def test_a_pass_scores_what_another_score_leaves_open_and_takes_over_the_rest(world: ScoredWorld) -> None:
    assert world.run(LARGE, SMALL) == [*OF_SMALL, *OF_LARGE], "whatever their order in the pipeline"
    left, pairs = open_pairs(world), world.pairs()
    assert 0 < len(left) < len(pairs)
    assert sum(model == "large" for model, _ in world.calls) == 2 * len(left), "two scores of each open pair"
    small, large, question = (world.scores(name) for name in NAMES)
    for pair, row in large.items():
        assert row["value"] is not None
        assert (row["calls"] == 0) == (pair not in left)
        if pair not in left:
            assert row["value"] == small[pair]["value"] and json.loads(row["detail"]) == {"taken_from": "small.answer"}
            assert question[pair]["reason"] == "does not apply to pairs that small.answer decides"
    world.adds_up(*NAMES)
    assert not world.run(LARGE, SMALL) and not world.run(LARGE, SMALL, update=True)
    shown = text(RunFolder(world.out))
    taken = len(pairs) - len(left)
    assert f"{taken:>10,}                        taken, as another score decides them" in shown
    assert f"{taken:>10,}             decided" in shown


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_passes_that_wait_and_are_killed_end_with_the_same_rows(
    world: ScoredWorld, made: Path, tmp_path: Path, commits: int
) -> None:
    whole = copy_of(made, tmp_path / "whole")
    before = world.checksums("3-generated")
    order = whole.run(SMALL, LARGE)
    assert world.run(SMALL, LARGE, commits=commits) == order[:commits]
    assert world.run(SMALL, LARGE) == order[commits:]
    assert world.checksums("3-generated") == before
    for name in NAMES:
        assert world.scores(name) == whole.scores(name)


def test_a_partition_waits_until_the_first_pass_is_through_it(world: ScoredWorld) -> None:
    world.run(SMALL, commits=1)
    assert world.run(SMALL, LARGE, alone="large") == OF_LARGE[:1]
    assert world.run(SMALL, LARGE) == [OF_SMALL[1], OF_LARGE[1]]
    world.adds_up(*NAMES)


def test_values_within_a_range_are_left_open_and_the_bounds_belong_to_it(world: ScoredWorld) -> None:
    """The script gives 1 for the worst of three labels and 3 for the best, spread a little."""
    small = "score.small={model: small, scores: [answer], engine: {kind: scripted, options: {worst: 0.4}}}"
    world.run(small)
    low, high = (choose(row["value"] for row in world.scores("small.answer").values()) for choose in (min, max))
    assert low < 2 < high
    for bounds, is_open in (
        (f"min: 1, max: {low}", lambda value: value == low),
        (f"min: {high}", lambda value: value == high),
        ("max: 2", lambda value: value < 2),
        ("min: 1.9, max: 2.1", lambda value: False),
    ):
        large = f"score.large={{model: large, scores: [answer], after: {{score: small.answer, {bounds}}}}}"
        world.run(small, large, update=True)
        rows, first = world.scores("large.answer"), world.scores("small.answer")
        assert {pair for pair, row in rows.items() if row["calls"]} == {
            pair for pair, row in first.items() if is_open(row["value"])
        }, bounds
        world.adds_up("large.answer")


def test_a_score_of_generate_is_waited_for_as_well(world: ScoredWorld) -> None:
    large = "score.large={model: large, scores: [answer, question], after: {score: likelihood, max: 0.5}}"
    assert world.run(large) == OF_LARGE and not world.calls
    assert all(row["reason"] for row in world.scores("large.answer").values()), "it is a score of another name"
    assert world.run(large.replace("max", "min"), update=True) == OF_LARGE
    assert len(world.calls) == 2 * len(world.pairs())
    world.adds_up("large.answer", "large.question")


def test_an_edit_of_what_is_left_open_keeps_the_values_that_were_paid_for(world: ScoredWorld) -> None:
    world.run(SMALL, LARGE)
    left = open_pairs(world)
    wider = LARGE.replace("small.answer}", "small.answer, min: 2.5}")
    assert not world.run(SMALL, wider, alone="small", update=True)
    assert world.run(SMALL, wider, update=True) == OF_LARGE
    assert len(world.calls) == 2 * (len(world.pairs()) - len(left)), "open pairs have their values already"
    assert world.run(SMALL, LARGE, update=True) == OF_LARGE and not world.calls
    fresh = {pair: row["value"] for pair, row in world.scores("large.answer").items() if row["calls"] == 0}
    assert fresh.keys() == world.pairs().keys() - left
    world.adds_up(*NAMES)


def test_an_edit_of_the_first_pass_reaches_the_second_and_scores_only_what_is_open_now(
    world: ScoredWorld, made: Path, tmp_path: Path
) -> None:
    world.run(SMALL, LARGE)
    other = SMALL.replace("small, scores", "smaller, scores").replace("0.3", "0.6")
    assert not world.run(other, LARGE), "it is for an update"
    assert world.run(other, LARGE, update=True) == [*OF_SMALL, *OF_LARGE]
    assert sum(model == "large" for model, _ in world.calls) < 2 * len(open_pairs(world)), "some were open before"
    fresh = copy_of(made, tmp_path / "fresh")
    fresh.run(other, LARGE)
    for name in NAMES:
        values = [
            {pair: (row["value"], row["reason"]) for pair, row in of.scores(name).items()} for of in (world, fresh)
        ]
        assert values[0] == values[1], "as if it had been so from the start"
    world.adds_up(*NAMES)


def test_a_retry_of_the_first_pass_is_taken_over(world: ScoredWorld) -> None:
    small = SMALL.replace("junk", "fail")
    world.run(small, LARGE)
    left = open_pairs(world)
    assert left and all(world.scores("large.answer")[pair]["calls"] for pair in left), "a failed call leaves it open"
    well = "score.small={model: small, scores: [answer]}"
    assert world.run(well, LARGE, retry={"call_failed"}) == [*OF_SMALL, *OF_LARGE]
    assert {model for model, _ in world.calls} == {"small"}
    assert not open_pairs(world) and not any(row["calls"] for row in world.scores("large.answer").values())
    world.adds_up(*NAMES)


def test_three_passes_wait_for_each_other_in_a_row(world: ScoredWorld) -> None:
    large = "score.large={model: large, scores: [answer], after: {score: small.answer}, engine: {kind: scripted, "
    large += "options: {refuse: 0.5}}}"
    last = "score.last={model: last, scores: [answer], after: {score: large.answer}}"
    waves = waves_of(world.job(last, large, SMALL))
    assert [[context.name for context in wave] for wave in waves] == [["small"], ["large"], ["last"]]
    world.run(last, large, SMALL)
    left = open_pairs(world, "large.answer")
    assert 0 < len(left) < len(open_pairs(world))
    rows = world.scores("last.answer")
    assert all(row["value"] is not None for row in rows.values())
    assert {pair for pair, row in rows.items() if row["calls"]} == left
    world.adds_up("small.answer", "large.answer", "last.answer")


def test_a_purge_makes_no_pass_stale_that_waits_for_another(world: ScoredWorld) -> None:
    """The name of the second pass comes before that of the first."""
    early = LARGE.replace("score.large", "score.big")
    world.run(SMALL, early)
    photo = image_id(Path("photos/0003.png").read_bytes())
    gone = {pair for pair, row in world.pairs().items() if row["image_id"] == photo}
    folder = RunFolder(world.out)
    with contextlib.suppress(KeyError), folder.lease() as lease:
        folder.write_record({"unfinished": {}, "started_in": ".", "pipeline": {}, "shape": {}})
        _rewrite_tables(folder, ["0003.png"], lease, str)
    assert gone and not any(gone & world.scores(name).keys() for name in ("small.answer", "big.answer"))
    world.adds_up("small.answer", "big.answer", "big.question")
    assert not world.run(SMALL, early)


def test_a_preview_asks_only_about_pairs_that_are_left_open(world: ScoredWorld) -> None:
    small, large = waves_of(world.job(SMALL, LARGE))
    pairs = list(world.pairs().values())[:12]
    task = SimpleNamespace(image=Image.new("RGB", (8, 8)), image_id="one")
    outcome = Outcome(pairs)

    async def both() -> tuple[list[str], dict[tuple[str, str], Mapping[str, Any]]]:
        _, known = await _score_lines(task, small[0], outcome, {})  # type: ignore[arg-type]
        lines, own = await _score_lines(task, large[0], outcome, known)  # type: ignore[arg-type]
        return lines, {**known, **own}

    lines, scores = asyncio.run(both())
    left = {pair for (pair, name), row in scores.items() if name == "small.answer" and row["value"] is None}
    assert 0 < len(left) < len(pairs)
    assert f"SCORE     pass large (large) {2 * len(left)} calls" in lines
    assert f"  small.answer leaves {len(left)} of 12 pairs open" in lines
    for row in pairs:
        taken = scores[row["pair_id"], "large.answer"]
        assert taken["value"] is not None and (taken["calls"] == 0) == (row["pair_id"] not in left)


def test_a_setting_of_what_is_waited_for_is_named_in_the_users_words(world: ScoredWorld) -> None:
    before, after = (world.job(SMALL, large).shape for large in (LARGE, LARGE.replace("answer}", "answer, max: 2}")))
    assert describe(list(differences(before, after))) == "score.large.after.max was None and is 2.0"
    assert ModelName("large", "scripted") in [judge.model for judge in world.job(SMALL, LARGE).passes]
    assert RunFolder(world.out).log(SCORE).partitions == {}
