"""Scoring passes over pairs that are there: what they measure, what they leave alone, and what each edit redoes."""

import contextlib
import json
import math
from pathlib import Path

import pytest

from synthgen.commands.dropped import find_dropped
from synthgen.commands.purge import _rewrite_tables
from synthgen.commands.repair import repair
from synthgen.commands.retry import nothing_to_retry
from synthgen.job.funnel import score_counts
from synthgen.stages.select import decide, prepare
from synthgen.store import Lease, RunFolder
from synthgen.tables import GENERATE, SCORE, SELECT, image_id
from tests.fixtures.rows import rows_of
from tests.fixtures.scoring import SECOND, THIRD, TROUBLED, ScoredWorld, copy_of
from tests.fixtures.stage_runs import commit_all
from tests.fixtures.workspace import write

PARTITIONS = ["e001-00000", "e001-00001"]
OF_SECOND = [f"{name}.second" for name in PARTITIONS]
OF_THIRD = [f"{name}.third" for name in PARTITIONS]


def test_a_pass_scores_every_pair_and_touches_no_file_of_an_earlier_stage(world: ScoredWorld) -> None:
    before = {stage: world.checksums(stage) for stage in ("1-tagged", "2-planned", "3-generated")}
    assert world.run(SECOND, THIRD) == [*OF_SECOND, *OF_THIRD]
    assert before == {stage: world.checksums(stage) for stage in before}
    world.adds_up("second.answer", "second.likelihood", "third.question")
    assert {model for model, _ in world.calls} == {"two", "three"}
    assert not world.run(SECOND, THIRD) and not world.run(SECOND, THIRD, update=True)


def test_the_likelihood_of_a_pass_is_that_of_the_given_answer_under_its_own_model(world: ScoredWorld) -> None:
    """The script gives -2 for each token of a given answer, and gave -0.1 for each that it wrote itself."""
    world.run(SECOND)
    stored = {row["pair_id"]: row["value"] for row in rows_of(world.out, GENERATE, "scores/likelihood")}
    rows = world.scores("second.likelihood")
    assert {round(value, 4) for value in stored.values()} == {round(math.exp(-0.1), 4)}
    for pair_id, row in rows.items():
        detail = json.loads(row["detail"])
        assert row["value"] == pytest.approx(math.exp(-0.1))
        assert detail["loss"] == pytest.approx(0.1)
        assert detail["tokens"] == len(world.pairs()[pair_id]["answer"].split()) + 1
        assert (row["calls"], row["prompt_tokens"]) == (1, 40), "the call with the given answer is on record"
    assert sum(purpose == "given" for _, purpose in world.calls) == len(rows)


@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_passes_killed_between_commits_end_with_the_same_rows(
    world: ScoredWorld, made: Path, tmp_path: Path, commits: int
) -> None:
    whole = copy_of(made, tmp_path / "whole")
    order = whole.run(SECOND, THIRD)
    assert world.run(SECOND, THIRD, commits=commits) == order[:commits]
    assert world.run(SECOND, THIRD) == order[commits:], "what is committed is not done again"
    for name in ("second.answer", "second.likelihood", "third.question"):
        assert world.scores(name) == whole.scores(name)


def test_an_edit_of_a_pass_measures_what_it_touches_and_leaves_the_other_pass_alone(world: ScoredWorld) -> None:
    world.run(SECOND, THIRD)
    third, answers = world.scores("third.question"), world.scores("second.answer")
    newer = "score.second={model: newer, scores: [answer, likelihood]}"
    assert not world.run(newer, THIRD), "it is for an update"
    assert world.run(newer, THIRD, update=True) == OF_SECOND and {model for model, _ in world.calls} == {"newer"}
    more = "score.second={model: newer, scores: [answer, likelihood, question]}"
    assert world.run(more, THIRD, update=True) == OF_SECOND
    assert {purpose for _, purpose in world.calls} == {"judge"}
    assert len(world.calls) == len(world.pairs()), "and only the new score is measured"
    assert world.scores("third.question") == third and world.scores("second.answer").keys() == answers.keys()
    options = "score.second={model: newer, scores: [answer], engine: {kind: scripted, in_flight: 3, retries: 9}}"
    assert not world.run(options, THIRD, update=True), "nothing that shapes a reply, and one score fewer"


def test_a_model_that_is_edited_and_edited_back_measures_each_time(world: ScoredWorld) -> None:
    """The rows of the model in between have taken the place of the first ones."""
    other = TROUBLED.format("{fail: 0.3}").replace("two", "other")
    world.run(SECOND)
    first = world.scores("second.answer")
    assert world.run(other, update=True) == OF_SECOND and world.scores("second.answer") != first
    assert world.run(SECOND, update=True) == OF_SECOND and world.scores("second.answer") == first
    world.adds_up("second.answer", "second.likelihood")
    assert not world.run(SECOND, update=True)


def test_an_edit_of_a_judge_prompt_redoes_that_score_in_passes_that_have_it(world: ScoredWorld, made: Path) -> None:
    world.run(SECOND, THIRD)
    pack = made / "prompts/small.yaml"
    before = pack.read_text()
    try:
        write(pack, before.replace('answer: {text: "Rate {{ question }} {{ answer }}"', 'answer: {text: "Judge it"'))
        assert world.run(SECOND, THIRD, update=True) == OF_SECOND
        assert {purpose for _, purpose in world.calls} == {"judge"} and len(world.calls) == len(world.pairs())
        write(pack, before.replace("{{ question }} Short.", "{{ question }} In short."))
        assert world.run(SECOND, THIRD, update=True) == OF_SECOND
        assert "given" in {purpose for _, purpose in world.calls}, "the likelihood depends on the prompt of the answer"
    finally:
        write(pack, before)


@pytest.mark.parametrize("score", ["answer", "likelihood", "image_gain"])
def test_an_edit_of_the_system_text_measures_every_score_of_a_pass_again(
    world: ScoredWorld, made: Path, score: str
) -> None:
    """It is the first of what each call shows; the pairs have their own."""
    text = (made / "prompts/small.yaml").read_text()
    write(made / "prompts/mine.yaml", text)
    settings = f"score.second={{model: two, scores: [{score}], prompts: mine}}"
    world.run(settings)
    write(made / "prompts/mine.yaml", text.replace("system: Be good.", "system: Be strict."))
    assert world.run(settings, update=True) == OF_SECOND and world.calls


def test_a_pass_has_prompts_of_its_own_and_the_types_of_the_pairs(world: ScoredWorld, made: Path) -> None:
    text = (
        (made / "prompts/small.yaml").read_text().replace('"Rate {{ question }} {{ answer }}"', '"{{ type.about }}?"')
    )
    family = (made / "prompts/families/small.yaml").read_text().replace("coarse", "other")
    write(made / "prompts/families/others.yaml", family)
    write(made / "prompts/others.yaml", text.replace("families: [small]", "families: [others]"))
    world.run("score.second={model: two, scores: [answer], prompts: others}")
    world.adds_up("second.answer")
    assert all(row["value"] is not None for row in world.scores("second.answer").values())


def test_a_pass_that_is_removed_keeps_its_tables_and_is_shown_as_removed(world: ScoredWorld) -> None:
    world.run(SECOND, THIRD)
    kept = world.checksums("3-scored")
    assert not world.run(THIRD, update=True)
    assert world.checksums("3-scored") == kept
    folder = RunFolder(world.out)
    with folder.lease():
        folder.write_record({**(folder.record or {}), "pipeline": {"score": {"third": {"scores": ["question"]}}}})
    removed = {counts.name: counts.is_removed for counts in score_counts(folder)}
    assert removed == {"second.answer": True, "second.likelihood": True, "third.question": False}


def test_a_score_that_failed_is_tried_again_and_no_other(world: ScoredWorld) -> None:
    world.run(TROUBLED.format("{fail: 0.3}"))
    world.adds_up("second.answer", "second.likelihood")
    rows = {name: world.scores(name) for name in ("second.answer", "second.likelihood")}
    failed = {name: {key for key, row in of.items() if row["value"] is None} for name, of in rows.items()}
    assert all(failed.values())
    assert {row["reason"] for of in rows.values() for row in of.values()} == {None, "call_failed: scripted failure"}
    assert not world.run(SECOND), "a plain run tries nothing again"
    assert find_dropped(RunFolder(world.out), "call_failed").count == sum(map(len, failed.values()))
    listed = list(find_dropped(RunFolder(world.out), "second.answer.call_failed").rows)
    assert len(listed) == len(failed["second.answer"]) and all(row.question and row.uri for row in listed)
    assert world.run(SECOND, retry={"call_failed"}) == OF_SECOND
    assert len(world.calls) == sum(map(len, failed.values()))
    world.adds_up("second.answer", "second.likelihood")
    for name, keys in failed.items():
        now = world.scores(name)
        assert all(now[key]["value"] is not None for key in keys)
        assert {key: row for key, row in now.items() if key not in keys} == {
            key: row for key, row in rows[name].items() if key not in keys
        }
    assert "no row failed for call_failed" in str(nothing_to_retry(RunFolder(world.out), {"call_failed"}))


def test_an_image_that_cannot_be_read_costs_the_scores_of_its_pairs(world: ScoredWorld, made: Path) -> None:
    photo = Path("photos/0003.png")
    gone = image_id(photo.read_bytes())
    photo.rename("elsewhere.png")
    try:
        world.run(SECOND)
    finally:
        Path("elsewhere.png").rename(photo)
    world.adds_up("second.answer", "second.likelihood")
    for pair_id, row in world.scores("second.answer").items():
        assert (row["reason"] is not None) == (world.pairs()[pair_id]["image_id"] == gone)
        assert row["reason"] is None or row["reason"].startswith("image_unreadable")
    world.run(SECOND, retry={"image_unreadable"})
    assert all(row["value"] is not None for row in world.scores("second.answer").values())


def test_a_purge_takes_the_scores_of_every_pass_and_makes_nothing_stale(world: ScoredWorld) -> None:
    world.run(SECOND, THIRD)
    gone = {pair for pair, row in world.pairs().items() if row["image_id"] == image_id(photo_of("0003.png"))}
    folder = RunFolder(world.out)
    with contextlib.suppress(KeyError), folder.lease() as lease:
        folder.write_record({"unfinished": {}, "started_in": ".", "pipeline": {}, "shape": {}})
        _rewrite_tables(folder, ["0003.png"], lease, str)
    names = ("second.answer", "second.likelihood", "third.question")
    assert gone and not any(gone & world.scores(name).keys() for name in names)
    world.adds_up(*names)
    assert not world.run(SECOND, THIRD), "the purge itself makes nothing stale"


def photo_of(name: str) -> bytes:
    return Path("photos", name).read_bytes()


def test_a_damaged_table_of_a_pass_costs_that_table_alone(world: ScoredWorld) -> None:
    world.run(SECOND, THIRD)
    before = {name: world.scores(name) for name in ("second.answer", "second.likelihood")}
    folder = RunFolder(world.out)
    for part in folder.log(SCORE).parts(OF_SECOND[0], "scores/second.answer"):
        for file in part.files:
            Path(world.out.path, "3-scored/scores/second.answer", file.name).write_bytes(b"damaged")
    with folder.lease() as lease:
        folder.write_record({"unfinished": {}, "started_in": ".", "pipeline": {}, "shape": {}})
        assert repair(folder, [f"3-scored/{OF_SECOND[0]}"], lease) == 1
    assert world.run(SECOND, THIRD) == OF_SECOND[:1]
    assert {purpose for _, purpose in world.calls} == {"judge"}, "the other score is not measured again"
    assert {name: world.scores(name) for name in before} == before
    world.adds_up(*before, "third.question")


def test_pairs_that_are_made_again_are_scored_again_and_no_others(world: ScoredWorld) -> None:
    """One partition of the pairs gets a new commit: the pass reads it again, and measures what it lacks."""
    world.run(SECOND)
    before = world.scores("second.answer")
    folder = RunFolder(world.out)
    with Lease.take(world.out) as lease:
        folder.empty(GENERATE, PARTITIONS[1], lease)
    assert not world.run(SECOND), "there is nothing to score until it is generated again"
    assert world.scores("second.answer") == before


def test_thresholds_name_scores_of_passes_and_select_reads_both(world: ScoredWorld) -> None:
    """Pairs without a value are dropped as unscored, those below the threshold by the score's name."""
    world.run(TROUBLED.format("{fail: 0.3}"))
    settings = world.job(SECOND, "select.keep={second.answer: {min: 2}, likelihood: {min: 0.5}}").pipeline.select
    reasons = decisions(world, settings)
    failed = [row for row in world.scores("second.answer").values() if row["value"] is None]
    assert failed and reasons["unscored:second.answer"] == len(failed)
    assert reasons["kept"] == len(world.pairs()) - len(failed)
    strict = settings.model_copy(update={"keep": {"second.answer": settings.keep["second.answer"]}})
    stricter = world.job(SECOND, "select.keep={second.answer: {min: 2.99}}").pipeline.select
    assert decisions(world, stricter)["score:second.answer"] == len(world.pairs()) - len(failed)
    selected = prepare(RunFolder(world.out), strict)
    world.run(SECOND, retry={"call_failed"})
    assert prepare(RunFolder(world.out), strict).fingerprint != selected.fingerprint, "new values are decided on"
    assert decisions(world, strict)["kept"] == len(world.pairs())


def decisions(world: ScoredWorld, settings: "object") -> dict[str, int]:
    """Decide on all pairs and return the counts."""
    folder = RunFolder(world.out)
    selection = prepare(folder, settings)  # type: ignore[arg-type]
    with Lease.take(world.out) as lease:
        commit_all(folder, SELECT, decide(selection, set(selection.todo)), lease)
    return folder.log(SELECT).counts()


def test_a_pass_that_select_does_not_use_changes_no_decision(world: ScoredWorld) -> None:
    world.run(SECOND)
    settings = world.job(SECOND, "select.keep={answer: {min: 2}}").pipeline.select
    before = prepare(RunFolder(world.out), settings).fingerprint
    world.run(SECOND, THIRD)
    assert prepare(RunFolder(world.out), settings).fingerprint == before
