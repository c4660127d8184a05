"""Stage 4: every pair gets one decision, for a stated reason, whatever the partitions and however often it runs."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import tables as schemas
from synthgen.config.pipeline import SelectConfig, Threshold
from synthgen.errors import UserMistake
from synthgen.stages import select
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE, PLAN, SELECT

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few questions make a bucket that a handful are more than that."""
    monkeypatch.setattr("synthgen.dedup.questions.BUCKET_ROWS", 2)
    monkeypatch.setattr("synthgen.store.spill.ROWS_AT_ONCE", 3)


@pytest.fixture
def out(tmp_path: Path) -> Iterable[tuple[Folder, Lease]]:
    folder = Folder(str(tmp_path))
    with Lease.take(folder) as lease:
        yield folder, lease


def pair(image: str, question: str, answer: str = "It is red.", number: int = 0, **more: Any) -> Row:
    assignment = schemas.make_id(image, question, str(number))
    return {
        "assignment_id": assignment,
        "pair_id": schemas.pair_id(assignment, "recipe", 0),
        "image_id": image,
        "outcome": "pair",
        "form": "short",
        "question": question,
        "answer": answer,
        **more,
    }


def generate(
    out: tuple[Folder, Lease], partition: str, pairs: Sequence[Row], scores: Mapping[str, Sequence[Any]] | None = None
) -> None:
    """Commits pairs, and scores aligned with them, as the generate stage would."""
    stage = StageFolder(out[0], GENERATE)
    revision = stage.log().next_revision(partition)
    tables = {
        "pairs": TablePart((stage.write("pairs", partition, revision, schemas.table(pairs, schemas.PAIRS)),), "f")
    }
    for name, values in (scores or {}).items():
        scored = [{"pair_id": row["pair_id"], "value": value} for row, value in zip(pairs, values, strict=True)]
        file = stage.write(f"scores/{name}", partition, revision, schemas.table(scored, schemas.SCORES))
        tables[f"scores/{name}"] = TablePart((file,), "f")
    stage.commit(Receipt(partition, revision, tables, {"pair": len(pairs)}), out[1], int(partition[1:4]))


def plan(out: tuple[Folder, Lease], partition: str, pairs: Sequence[Row], *, retired: bool) -> None:
    """Commits assignments as the plan would, or the same ones taken back by an edit."""
    stage = StageFolder(out[0], PLAN)
    revision = stage.log().next_revision(partition)
    marked = [{"assignment_id": row["assignment_id"], "image_id": row["image_id"], "retired": retired} for row in pairs]
    file = stage.write("assignments", partition, revision, schemas.table(marked, schemas.ASSIGNMENTS))
    taken_back = len(pairs) if retired else -len(pairs) if revision > 1 else 0
    counts = {"assigned": -taken_back or len(pairs), "retired": taken_back}
    stage.commit(Receipt(partition, revision, {"assignments": TablePart((file,), "f")}, counts), out[1], revision)


def decide(out: tuple[Folder, Lease], how: SelectConfig | None = None) -> dict[str, str]:
    """Runs the stage and commits; the reason of every current decision by pair id."""
    for receipt in select.run(select.prepare(out[0], how or SelectConfig())):
        StageFolder(out[0], SELECT).commit(receipt, out[1], int(receipt.partition[1:4]))
    return decisions(out)


def decisions(out: tuple[Folder, Lease]) -> dict[str, str]:
    stage = StageFolder(out[0], SELECT)
    log, reasons = stage.log(), dict[str, str]()
    for name in log.partitions:
        for row in stage.current(log, name, "decisions", schemas.DECISIONS.names).to_pylist():
            assert row["pair_id"] not in reasons, "two decisions on one pair"
            assert row["kept"] == (row["reason"] == "kept")
            reasons[row["pair_id"]] = row["reason"]
    return reasons


def reason_of(out: tuple[Folder, Lease], row: Row, how: SelectConfig | None = None) -> str:
    generate(out, "e001-00000", [row])
    return decide(out, how)[row["pair_id"]]


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
        (pair("i", GOOD, "I'm sorry, but the picture is dark."), "rule:meta"),
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
    ],
)
def test_a_rule_drops_what_it_is_there_for(out: tuple[Folder, Lease], row: Row, reason: str) -> None:
    assert reason_of(out, row, SelectConfig(max_answer_characters=100, forbidden=(r"\d{3}-\d{4}",))) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.5, "kept"), (0.4, "score:likelihood"), (0.9, "score:likelihood"), (None, "unscored:likelihood")],
)
def test_a_threshold_keeps_what_lies_between_its_ends(
    out: tuple[Folder, Lease], value: float | None, reason: str
) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"likelihood": [value]})
    assert decide(out, SelectConfig(keep={"likelihood": Threshold(min=0.5, max=0.8)}))[row["pair_id"]] == reason


def test_a_threshold_is_exact_at_its_ends(out: tuple[Folder, Lease]) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"likelihood": [0.1]})  # neither 32 nor 64 bits can say 0.1, and they differ
    assert decide(out, SelectConfig(keep={"likelihood": Threshold(min=0.1, max=0.1)}))[row["pair_id"]] == "kept"


def test_a_threshold_leaves_other_answer_forms_alone(out: tuple[Folder, Lease]) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"agreement": [None]})
    assert (
        decide(out, SelectConfig(keep={"agreement": Threshold(min=0.5, forms=("choice",))}))[row["pair_id"]] == "kept"
    )


def test_a_score_added_later_counts_and_the_last_value_of_a_pair_wins(out: tuple[Folder, Lease]) -> None:
    row = pair("i", GOOD)
    generate(out, "e001-00000", [row], {"judge": [0.1]})
    how = SelectConfig(keep={"judge": Threshold(min=0.5)})
    assert set(decide(out, how).values()) == {"score:judge"}
    generate(out, "e001-00000", [row], {"judge": [0.9]})
    assert set(decide(out, how).values()) == {"kept"}


def test_a_score_that_nobody_made_is_the_users_mistake(out: tuple[Folder, Lease]) -> None:
    generate(out, "e001-00000", [pair("i", GOOD)], {"likelihood": [1.0]})
    with pytest.raises(UserMistake, match="did you mean 'likelihood'"):
        select.prepare(out[0], SelectConfig(keep={"likelyhood": Threshold(min=0)}))


def test_the_earliest_question_of_an_image_survives_if_it_passes_everything_else(out: tuple[Folder, Lease]) -> None:
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


def test_growth_never_takes_back_what_was_kept(out: tuple[Folder, Lease]) -> None:
    """Images named so that a later epoch's partition would sort first cannot push out earlier pairs; nor can a retry."""
    old = pair("i", "What colour is the large bus?")
    generate(out, "e001-00001", [old])
    assert decide(out, SelectConfig(same_question=1))[old["pair_id"]] == "kept"
    generate(out, "e001-00000", [pair("k", "Something else altogether here?")])
    generate(out, "e001-00000", [pair("k", GOOD)])  # a second revision: a retry of the first
    generate(out, "e002-00000", [pair("i", GOOD, number=1), pair("z", GOOD)])
    reasons = decide(out, SelectConfig(same_question=1))
    assert reasons[old["pair_id"]] == "kept"
    assert Counter(reasons.values()) == {"kept": 2, "duplicate:question": 1, "duplicate:common": 2}


def test_a_failure_is_not_a_pair_and_a_pair_whose_assignment_was_taken_back_is_dropped(
    out: tuple[Folder, Lease],
) -> None:
    kept, failed, taken = pair("i", GOOD), pair("i", "", outcome="failed", pair_id=None, number=1), pair("j", GOOD)
    plan(out, "e001-00000", [kept, failed, taken], retired=False)
    generate(out, "e001-00000", [kept, failed, taken])
    assert decide(out) == {kept["pair_id"]: "kept", taken["pair_id"]: "kept"}
    plan(out, "e001-00000", [taken], retired=True)
    assert decide(out) == {kept["pair_id"]: "kept", taken["pair_id"]: "retired"}
    plan(out, "e001-00000", [taken], retired=False)  # a second edit undoes the first
    assert decide(out) == {kept["pair_id"]: "kept", taken["pair_id"]: "kept"}
    assert StageFolder(out[0], SELECT).log().counts() == {"kept": 2}


def test_what_is_retired_in_one_partition_can_be_planned_in_another(out: tuple[Folder, Lease]) -> None:
    row = pair("i", GOOD)
    for partition in ("e001-00000", "e002-00000"):
        plan(out, partition, [row], retired=False)
    generate(out, "e001-00000", [row])
    plan(out, "e001-00000", [row], retired=True)
    generate(out, "e002-00000", [row])
    for receipt in select.run(select.prepare(out[0], SelectConfig())):
        assert receipt.counts == ({"retired": 1} if receipt.partition == "e001-00000" else {"kept": 1})


def test_a_remade_pair_takes_the_place_of_the_old_one(out: tuple[Folder, Lease]) -> None:
    old = pair("i", GOOD)
    new = {**old, "pair_id": schemas.pair_id(old["assignment_id"], "another recipe", 0)}
    generate(out, "e001-00000", [old])
    generate(out, "e001-00000", [new])
    assert decide(out) == {new["pair_id"]: "kept"}


def test_a_finished_selection_has_nothing_to_do_and_a_half_finished_one_the_rest(out: tuple[Folder, Lease]) -> None:
    for number in range(3):
        generate(out, partition_name(1, number), [pair(f"i{number}", GOOD)])
    receipts = list(select.run(select.prepare(out[0], SelectConfig())))
    StageFolder(out[0], SELECT).commit(receipts[0], out[1], 1)
    assert select.prepare(out[0], SelectConfig()).todo == ["e001-00001", "e001-00002"]
    assert len(decide(out)) == 3
    assert select.prepare(out[0], SelectConfig()).todo == []
    assert list(select.run(select.prepare(out[0], SelectConfig()))) == []


def test_other_settings_or_more_pairs_make_every_partition_work_again(out: tuple[Folder, Lease]) -> None:
    generate(out, "e001-00000", [pair("i", GOOD)])
    decide(out)
    assert select.prepare(out[0], SelectConfig(max_answer_characters=5)).todo == ["e001-00000"]
    generate(out, "e001-00001", [pair("j", GOOD)])
    assert select.prepare(out[0], SelectConfig()).todo == ["e001-00000", "e001-00001"]


def test_a_partition_without_pairs_is_decided_too(out: tuple[Folder, Lease]) -> None:
    generate(out, "e001-00000", [])
    generate(out, "e001-00001", [pair("i", GOOD, outcome="failed")])
    assert decide(out) == {}
    assert select.prepare(out[0], SelectConfig()).todo == []


def test_an_output_without_pairs_has_nothing_to_do(out: tuple[Folder, Lease]) -> None:
    assert select.prepare(out[0], SelectConfig(keep={"likelihood": Threshold(min=0)})).todo == []


QUESTIONS = [
    "What colour is the bus?",
    "What color is the bus?",
    "How many dogs are there?",
    "Why?",
    "How many dogs are there, Answer: 2",
]
SOME_PAIRS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(QUESTIONS),
        st.sampled_from(["two", "", "I cannot see the image"]),
        st.none() | st.floats(0, 1),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(drawn=SOME_PAIRS, cuts=st.sets(st.integers(0, 25)), most=st.none() | st.integers(1, 3))
def test_kept_and_dropped_are_all_pairs_whatever_the_partitions(
    drawn: list[Any], cuts: set[int], most: int | None
) -> None:
    pairs = [
        pair(f"image {image}", question, answer, number) for number, (image, question, answer, _) in enumerate(drawn)
    ]
    values = [value for *_, value in drawn]
    how = SelectConfig(keep={"likelihood": Threshold(min=0.3)}, same_question=most, near_questions=0.6)
    results = []
    for ends in ([len(pairs)], [*sorted(cut for cut in cuts if cut < len(pairs)), len(pairs)]):
        with tempfile.TemporaryDirectory() as folder, Lease.take(Folder(folder)) as lease:
            start = 0
            for number, end in enumerate(ends):
                generate(
                    (Folder(folder), lease),
                    partition_name(1, number),
                    pairs[start:end],
                    {"likelihood": values[start:end]},
                )
                start = end
            results.append(decide((Folder(folder), lease), how))
            assert results[-1] == decide((Folder(folder), lease), how), "a second run changed something"
            assert sum(StageFolder(Folder(folder), SELECT).log().counts().values()) == len(pairs)
    assert results[0] == results[1]
    assert set(results[0]) == {row["pair_id"] for row in pairs}
