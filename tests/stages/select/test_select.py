"""Selecting gives every pair one decision with a reason, whatever the partitions and however often it runs."""

import tempfile
from collections import Counter
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen import tables as schemas
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.errors import Mistakes, UserMistake
from synthgen.stages import select
from synthgen.stages.contract import StageRun
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE, PLAN, SCORE, SELECT
from synthgen.workers import StopSignals
from tests.fixtures.selecting import (
    Output,
    Row,
    decide,
    decisions,
    generate,
    pair,
    pending,
    plan,
    receipts_of,
    scored_row,
    selection_of,
)
from tests.fixtures.stage_runs import commit_all, job_with


def reason_of(out: Output, row: Row, settings: SelectConfig) -> str:
    """Return the reason of the decision on a pair that is alone in its run."""
    generate(out, "e001-00000", [row])
    return decide(out, settings)[row["pair_id"]]


GOOD = "What colour is the large bus?"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (pair("i", GOOD), "kept"),
        (pair("i", "  "), "rule:empty_question"),
        (pair("i", GOOD, " \n"), "rule:empty_answer"),
        (pair("i", "Why?"), "rule:question_too_short"),
        (pair("i", GOOD, "x" * 101), "rule:answer_too_long"),
        (pair("i", "What is this? Answer: a bus"), "rule:answer_in_question"),
        (pair("i", GOOD, "As an AI language model, I do not see images."), "rule:meta"),
        (pair("i", GOOD, "I'm sorry, but the picture is dark."), "kept"),
        (pair("i", GOOD, "I cannot see the image."), "rule:meta"),
        (pair("i", GOOD, "The sign cannot be read."), "kept"),
        (pair("i", GOOD, "what colour is the large bus"), "rule:repeats_question"),
        (pair("i", GOOD, "Call 555-1234 now"), "rule:forbidden"),
        (pair("i", GOOD, "B", form="choice", options=["red", "blue"]), "kept"),
        (pair("i", GOOD, "B. blue", form="choice", options=["red", "blue"]), "kept"),
        (pair("i", GOOD, "B、蓝色", form="choice", options=["红色", "蓝色"]), "kept"),
        (pair("i", GOOD, "**B**", form="choice", options=["red", "blue"]), "kept"),
        (pair("i", GOOD, "A、B", form="choice", options=["红色", "蓝色"]), "rule:broken_choice"),
        (pair("i", GOOD, "C", form="choice", options=["red", "blue"]), "rule:broken_choice"),
        (pair("i", GOOD, "blue", form="choice", options=["red", "blue"]), "rule:broken_choice"),
        (pair("i", GOOD, "A", form="choice", options=["red", "red"]), "rule:broken_choice"),
        (pair("i", GOOD, "A", form="choice"), "rule:broken_choice"),
        (pair("i", GOOD, "B", form="choice", options=["red", "blue"], key="B"), "kept"),
        (pair("i", GOOD, "A", form="choice", options=["red", "blue"], key="B"), "rule:wrong_key"),
        (pair("i", GOOD, "red", form="choice", options=["red", "blue"], key="B"), "rule:broken_choice"),
        (pair("i", GOOD, '[{"point": [1, 2], "label": "bus"}]', form="points"), "kept"),
        (pair("i", GOOD, '[{"point": [1, 2000], "label": "bus"}]', form="points"), "rule:broken_places"),
        (pair("i", GOOD, "on the left", form="boxes"), "rule:broken_places"),
        (pair("i", GOOD, "Yes, there is.", truth="yes", language="English"), "kept"),
        (pair("i", GOOD, "No, there is none.", truth="yes", language="English"), "rule:not_as_planned"),
        (pair("i", 'What does the sign "', "SALE"), "rule:breaks_off"),
        (pair("i", "What is it? And how many people stand there?"), "rule:two_questions"),
        (pair("i", "图中的公交车是什么颜色", "红色", language="English"), "rule:wrong_language"),
        (pair("i", GOOD, "It is the red one. " * 5, form="brief"), "rule:loops"),
    ],
)
def test_a_rule_drops_the_pairs_that_it_describes(out: Output, row: Row, reason: str) -> None:
    assert reason_of(out, row, SelectConfig(max_answer_characters=100, forbidden=(r"\d{3}-\d{4}",))) == reason


def test_pairs_of_a_folder_made_before_there_were_keys_and_truths_are_judged_without(out: Output) -> None:
    rows = [pair("i", GOOD, "B", form="choice", options=["red", "blue"]), pair("j", GOOD, "No.")]
    old = pa.schema([field for field in schemas.PAIRS if field.name not in ("key", "truth")])
    stage = StageFolder(out[0], GENERATE)
    file = stage.write("pairs", "e001-00000", 1, schemas.table(rows, old))
    stage.commit(Receipt("e001-00000", 1, {"pairs": TablePart((file,), "f")}, {"pair": 2}, epoch=1), out[1])
    assert set(decide(out).values()) == {"kept"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.5, "kept"), (0.4, "score:likelihood"), (0.9, "score:likelihood"), (None, "unscored:likelihood")],
)
def test_a_threshold_keeps_values_between_its_ends(out: Output, value: float | None, reason: str) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"likelihood": [value]})
    assert decide(out, SelectConfig(keep={"likelihood": KeepRule(min=0.5, max=0.8)}))[row["pair_id"]] == reason


def test_a_threshold_is_exact_at_its_ends(out: Output) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"likelihood": [0.1]})  # neither 32 nor 64 bits can say 0.1, and they differ
    assert decide(out, SelectConfig(keep={"likelihood": KeepRule(min=0.1, max=0.1)}))[row["pair_id"]] == "kept"


def test_a_threshold_does_not_apply_to_other_answer_forms(out: Output) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"agreement": [None]})
    settings = SelectConfig(keep={"agreement": KeepRule(min=0.5, forms=("choice",))})
    assert decide(out, settings)[row["pair_id"]] == "kept"


def test_a_score_added_later_counts_and_the_last_value_of_a_pair_wins(out: Output) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"judge": [0.1]})
    settings = SelectConfig(keep={"judge": KeepRule(min=0.5)})
    assert set(decide(out, settings).values()) == {"score:judge"}
    generate(out, "e001-00000", [row], {"judge": [0.9]})
    assert set(decide(out, settings).values()) == {"kept"}


def test_a_score_that_no_pair_has_is_a_mistake_of_the_user(out: Output) -> None:
    generate(out, "e001-00000", [pair("i", GOOD)], {"likelihood": [1.0]})
    with pytest.raises(UserMistake, match="did you mean 'likelihood'"):
        selection_of(out, SelectConfig(keep={"likelyhood": KeepRule(min=0)}))
    with pytest.raises(Mistakes) as caught:
        selection_of(out, SelectConfig(keep={name: KeepRule(min=0) for name in ("blind", "likelihood", "answer")}))
    assert [line.partition(";")[0] for line in caught.value.lines] == [
        f"select.keep: no pair has the score '{name}'" for name in ("answer", "blind")
    ]


def test_the_earliest_question_of_an_image_survives_if_it_passes_everything_else(out: Output) -> None:
    refused = pair("i", "What colour is the large bus on the left?", "")
    first = pair("i", "What colour is the large bus on the left?", number=1)
    near = pair("i", "What colour is the large bus on the left side?", number=2)
    elsewhere = pair("j", "What colour is the large bus on the left?")
    generate(out, "e001-00000", [refused, first, near, elsewhere])
    reasons = decide(out, SelectConfig(near_questions=0.7))
    assert [reasons[row["pair_id"]] for row in (refused, first, near, elsewhere)] == [
        "rule:empty_answer",
        "kept",
        "duplicate:question",
        "kept",
    ]


def test_growth_never_drops_a_pair_that_was_kept(out: Output) -> None:
    """An image of a later epoch whose partition sorts first pushes out no earlier pair, and neither does a retry."""
    old = pair("i", "What colour is the large bus?")
    generate(out, "e001-00001", [old])
    assert decide(out, SelectConfig(same_question=1))[old["pair_id"]] == "kept"
    generate(out, "e001-00000", [pair("k", "Something else altogether here?")])
    generate(out, "e001-00000", [pair("k", GOOD)])  # a second revision: a retry of the first
    generate(out, "e002-00000", [pair("i", GOOD, number=1), pair("z", GOOD)])
    reasons = decide(out, SelectConfig(same_question=1))
    assert reasons[old["pair_id"]] == "kept"
    assert Counter(reasons.values()) == {"kept": 2, "duplicate:question": 1, "duplicate:common": 2}


def test_a_failure_is_not_a_pair_and_a_pair_of_a_retired_assignment_is_dropped(
    out: Output,
) -> None:
    kept, retired = pair("i", GOOD), pair("j", GOOD)
    failed = pair("i", "", outcome="failed", pair_id=None, number=1)
    plan(out, "e001-00000", [kept, failed, retired], retired=False)
    generate(out, "e001-00000", [kept, failed, retired])
    assert decide(out) == {kept["pair_id"]: "kept", retired["pair_id"]: "kept"}
    plan(out, "e001-00000", [retired], retired=True)
    assert decide(out) == {kept["pair_id"]: "kept", retired["pair_id"]: "retired"}
    plan(out, "e001-00000", [retired], retired=False)  # a second edit undoes the first
    assert decide(out) == {kept["pair_id"]: "kept", retired["pair_id"]: "kept"}
    assert StageFolder(out[0], SELECT).log().counts() == {"kept": 2}


def test_an_assignment_that_is_retired_in_one_partition_can_be_planned_in_another(out: Output) -> None:
    row = pair("i", GOOD)
    for partition in ("e001-00000", "e002-00000"):
        plan(out, partition, [row], retired=False)
    generate(out, "e001-00000", [row])
    plan(out, "e001-00000", [row], retired=True)
    generate(out, "e002-00000", [row])
    counts = {receipt.partition: receipt.counts for receipt in receipts_of(out)}
    assert counts == {"e001-00000": {"retired": 1}, "e002-00000": {"kept": 1}}


def test_a_pair_made_again_replaces_the_old_one(out: Output) -> None:
    old = pair("i", GOOD)
    new = {**old, "pair_id": schemas.pair_id(old["assignment_id"], "another recipe", 0)}
    generate(out, "e001-00000", [old])
    generate(out, "e001-00000", [new])
    assert decide(out) == {new["pair_id"]: "kept"}


def test_a_finished_selection_has_nothing_to_do_and_a_half_finished_one_the_rest(out: Output) -> None:
    for number in range(3):
        generate(out, partition_name(1, number), [pair(f"i{number}", GOOD)])
    commit_all(RunFolder(out[0]), SELECT, receipts_of(out)[:1], out[1])
    assert pending(out) == ["e001-00001", "e001-00002"]
    assert len(decide(out)) == 3
    assert pending(out) == []
    assert receipts_of(out) == []


def test_the_driver_decides_on_the_pending_partitions_in_one_epoch(out: Output) -> None:
    for number in range(3):
        generate(out, partition_name(1, number), [pair(f"i{number}", GOOD)])
    job = job_with(out[0], select=SelectConfig(same_question=2))
    run = StageRun(SELECT, job, RunFolder(out[0]), out[1], StopSignals())
    tasks = select.pending(run)
    assert [task.partition for task in tasks] == ["e001-00000", "e001-00001", "e001-00002"]
    assert commit_all(run.folder, SELECT, select.results(run, tasks), out[1]) == 3
    assert Counter(decisions(out).values()) == {"kept": 2, "duplicate:common": 1}
    assert {commits[0].epoch for commits in run.folder.log(SELECT).partitions.values()} == {1}
    assert select.pending(run) == [] and list(select.results(run, [])) == []


def test_other_settings_or_more_pairs_make_every_partition_pending_again(out: Output) -> None:
    generate(out, "e001-00000", [pair("i", GOOD)])
    decide(out)
    assert pending(out, SelectConfig(max_answer_characters=5)) == ["e001-00000"]
    generate(out, "e001-00001", [pair("j", GOOD)])
    assert pending(out) == ["e001-00000", "e001-00001"]


def test_a_partition_without_pairs_is_decided_too(out: Output) -> None:
    generate(out, "e001-00000", [])
    generate(out, "e001-00001", [pair("i", GOOD, outcome="failed")])
    assert decide(out) == {}
    assert pending(out) == []


def test_an_output_without_pairs_has_nothing_to_do(out: Output) -> None:
    assert pending(out, SelectConfig(keep={"likelihood": KeepRule(min=0)})) == []


QUESTIONS = [
    "What colour is the bus?",
    "What color is the bus?",
    "How many dogs are there?",
    "Why?",
    "How many dogs are there, Answer: 2",
]
PAIR_VALUES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(QUESTIONS),
        st.sampled_from(["two", "", "I cannot see the image"]),
        st.none() | st.floats(0, 1),
    ),
    max_size=25,
)


@given(drawn=PAIR_VALUES, cuts=st.sets(st.integers(0, 25)), most=st.none() | st.integers(1, 3))
def test_kept_and_dropped_are_all_pairs_whatever_the_partitions(
    drawn: list[Any], cuts: set[int], most: int | None
) -> None:
    pairs = [
        pair(f"image {image}", question, answer, number) for number, (image, question, answer, _) in enumerate(drawn)
    ]
    values = [value for *_, value in drawn]
    settings = SelectConfig(keep={"likelihood": KeepRule(min=0.3)}, same_question=most, near_questions=0.6)
    results = []
    for ends in ([len(pairs)], [*sorted(cut for cut in cuts if cut < len(pairs)), len(pairs)]):
        with tempfile.TemporaryDirectory() as directory, Lease.take(Folder(directory)) as lease:
            out = Folder(directory), lease
            for number, (start, end) in enumerate(pairwise([0, *ends])):
                scores = {"likelihood": values[start:end]}
                generate(out, partition_name(1, number), pairs[start:end], scores)
            results.append(decide(out, settings))
            assert results[-1] == decide(out, settings), "a second run changed something"
            assert sum(StageFolder(out[0], SELECT).log().counts().values()) == len(pairs)
    assert results[0] == results[1]
    assert set(results[0]) == {row["pair_id"] for row in pairs}


def test_a_score_that_does_not_apply_to_the_form_of_a_pair_drops_nothing(out: Output) -> None:
    rows = [pair("a", "What is on the wall?"), pair("b", "Who is at the door?"), pair("c", "Where is the cat?")]
    generate(out, "p001", rows, {"shift_check": [0.2, "does not apply to the form 'short'", "call_failed: HTTP 500"]})
    decided = decide(out, SelectConfig(keep={"shift_check": KeepRule(min=0.5)}))
    assert [decided[row["pair_id"]] for row in rows] == ["score:shift_check", "kept", "unscored:shift_check"]


def test_a_threshold_on_a_pass_that_never_ran_or_is_not_through_says_so(
    out: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [pair(f"image {number}", f"What is in place {number}?") for number in range(3)]
    generate(out, "e001-00000", pairs, {"answer": [3, 3, 3]})
    keep = SelectConfig.model_validate({"keep": {"small.answer": {"min": 2.0}}})
    with pytest.raises(Mistakes) as caught:
        pending(out, keep)
    assert caught.value.lines == [
        "select.keep: no pair has the score 'small.answer', which is measured in the stage score: run it from there; "
        "did you mean 'answer'?"
    ]
    stage, rows = (
        StageFolder(out[0], SCORE),
        [scored_row(pairs[0], 3.0), scored_row(pairs[1], "unsure: it cannot tell")],
    )
    file = stage.write("scores/small.answer", "e001-00000.small", 1, schemas.table(rows, schemas.SCORES))
    parts, counts = (
        {"scores/small.answer": TablePart((file,), "f")},
        {"small.answer.value": 1, "small.answer.unsure": 1},
    )
    stage.commit(Receipt("e001-00000.small", 1, parts, counts), out[1])
    reasons = decide(out, keep)
    assert [reasons[row["pair_id"]] for row in pairs] == ["kept", "unscored:small.answer", "unscored:small.answer"]
    assert "select.keep.small.answer: 1 of 3 pairs are not scored yet, and count as unscored" in capsys.readouterr().err


def test_pairs_about_images_of_other_licences_or_sources_are_dropped(out: Output) -> None:
    rows = [pair(name, f"What colour is the bus of {name}?") for name in ("free", "paid", "web")]
    generate(out, "e001-00000", rows)
    places = [("free", "CC0-1.0", None), ("paid", "all rights", None), ("web", None, "web")]
    images = [
        {"object_id": name, "image_id": name, "outcome": "planned", "source": source, "rights": {"license": license}}
        for name, license, source in places
    ]
    stage = StageFolder(out[0], PLAN)
    for revision, outcome in enumerate(("planned", "unserved"), 1):
        changed = [{**row, "outcome": outcome} for row in images]
        file = stage.write("images", "e001-00000", revision, schemas.table(changed, schemas.PLANNED_IMAGES))
        tables = {"images": TablePart((file,), "f", replaces=True)}
        stage.commit(Receipt("e001-00000", revision, tables, {}, epoch=revision), out[1])
        settings = SelectConfig.model_validate({"where": {"license": ["cc0*", None], "source": [None]}})
        reasons = [decide(out, settings)[row["pair_id"]] for row in rows]
        assert reasons == (["kept", "where", "where"] if outcome == "planned" else ["where"] * 3)
    assert set(decide(out).values()) == {"kept"}


def test_rows_of_a_set_that_show_the_same_image_have_a_licence_each(out: Output) -> None:
    rows = [pair("image", f"What is in place {name}?", object_id=name) for name in ("free", "paid", "replaced")]
    generate(out, "e001-00000", rows)
    images = [
        {"object_id": name, "image_id": "image", "outcome": "planned", "rights": {"license": license}}
        for name, license in (("free", "CC0-1.0"), ("paid", "all rights"))
    ]
    stage = StageFolder(out[0], PLAN)
    file = stage.write("images", "e001-00000", 1, schemas.table(images, schemas.PLANNED_IMAGES))
    stage.commit(Receipt("e001-00000", 1, {"images": TablePart((file,), "f")}, {}), out[1])
    decided = decide(out, SelectConfig.model_validate({"where": {"license": ["CC0*"]}}))
    assert [decided[row["pair_id"]] for row in rows] == ["kept", "where", "kept"]
