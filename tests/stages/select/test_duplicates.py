"""Of pairs that are alike one survives, by score and then by id, and growth drops none that was kept."""

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import tables as schemas
from synthgen.config.deduplication import NearAnswersConfig, NearQuestionsConfig, PhrasesConfig
from synthgen.config.selection import SelectConfig
from synthgen.errors import Mistakes
from synthgen.stages import select
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE, SELECT
from tests.fixtures.selecting import Output, Row, decide, generate, pair, receipts_of, selection_of
from tests.fixtures.stage_runs import commit_all

BUS = "What colour is the large bus on the left of the square?"
NEAR_BUS = "What colour is the large bus on the left of the squares?"
DOGS = "How many dogs are lying on the old wooden bench?"
LONG = "A large red bus waits at the corner of a busy street in front of a brick building."
NEAR_LONG = "A large red bus waits at the corner of a busy street in front of a brick buildings."


def clusters(out: Output, name: str) -> list[tuple[str, str, str | None, float, bool]]:
    """Return the rows of a table of clusters."""
    folder = RunFolder(out[0])
    rows = [
        row
        for part in folder.log(SELECT).partitions
        for row in folder.table(SELECT, part, f"clusters/{name}").to_pylist()
    ]
    return [
        (*(row[key] for key in ("pair_id", "cluster", "run")), round(row["similarity"], 3), row["survivor"])
        for row in rows
    ]


def by_id(*rows: Row) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["pair_id"]))


def reasons(out: Output, rows: Sequence[Row], config: SelectConfig) -> list[str]:
    decided = decide(out, config)
    return [decided[row["pair_id"]] for row in rows]


@pytest.mark.parametrize("scores", [[0.2, 0.9, 0.5], [0.9, 0.2, None]])
def test_the_pair_with_the_best_score_survives(out: Output, scores: list[float | None]) -> None:
    rows = [pair("i", BUS, number=number) for number in range(3)]
    generate(out, "e001-00000", rows, {"answer": scores})
    best = scores.index(0.9)
    expected = ["kept" if number == best else "duplicate:question" for number in range(3)]
    assert reasons(out, rows, SelectConfig(survivor="answer")) == expected


CAR = (
    "What colour is the car on the left?",
    "What is the color of the car on the left?",
    "Which colour does the car on the left have?",
)


def falling(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return scores by which the rows survive in their order."""
    return {"answer": [1 - number / 10 for number in range(len(rows))]}


def test_a_question_in_other_words_with_the_same_short_answer_is_dropped(out: Output) -> None:
    rows = [pair("i", text, answer="red", form="short", language="English") for text in CAR]
    rows += [pair("i", "What colour is the car on the right?", answer="Red.", form="short", language="English")]
    generate(out, "e001-00000", rows, falling(rows))
    config = SelectConfig(survivor="answer", same_answer=0.7)
    assert reasons(out, rows, SelectConfig(survivor="answer")) == ["kept"] * 4
    assert reasons(out, rows, config) == ["kept", "duplicate:same_answer", "duplicate:same_answer", "kept"]
    assert [row[2:] for row in clusters(out, "same_answer")] == [(None, 1.0, True)] + [(None, 1.0, False)] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"answer": "blue"},
        {"image": "j"},
        {"form": "brief"},
        {"question": "Is the car red?"},
        {"question": "Where does the bus stop today?"},
    ],
)
def test_other_answers_images_forms_and_questions_are_kept(out: Output, other: Row) -> None:
    same = {"image": "i", "question": CAR[1], "answer": "red", "form": "short", "language": "English"}
    first = pair("i", CAR[0], answer="red", form="short", language="English")
    made = {**same, **other}
    rows = [first, pair(made.pop("image"), made.pop("question"), **made)]
    generate(out, "e001-00000", rows, falling(rows))
    assert reasons(out, rows, SelectConfig(survivor="answer", same_answer=0.7)) == ["kept"] * 2


def test_options_with_the_same_words_are_the_same_answer_wherever_they_stand(out: Output) -> None:
    options = ["red", "blue", "green", "white"]
    rows = [
        pair("i", CAR[0], answer="A", form="choice", language="English", options=options),
        pair("i", CAR[2], answer="D", form="choice", language="English", options=options[::-1]),
        pair("i", CAR[1], answer="A", form="choice", language="English", options=options[::-1]),
    ]
    generate(out, "e001-00000", rows, falling(rows))
    config = SelectConfig(survivor="answer", same_answer=0.7)
    assert reasons(out, rows, config) == ["kept", "duplicate:same_answer", "kept"]


def test_without_spaces_between_words_their_letters_are_compared(out: Output) -> None:
    rows = [
        pair("i", text, answer="红色", form="short", language="Chinese")
        for text in ("左边的汽车是什么颜色", "左边汽车的颜色是什么", "右边的人穿什么衣服")
    ]
    generate(out, "e001-00000", rows, falling(rows))
    config = SelectConfig(survivor="answer", same_answer=0.7)
    assert reasons(out, rows, config) == ["kept", "duplicate:same_answer", "kept"]


def test_of_equal_scores_the_lower_id_survives(out: Output) -> None:
    rows = by_id(*(pair("i", BUS, number=number) for number in range(4)))
    for order in (rows, rows[::-1]):
        generate(out, "e001-00000", order, {"answer": [0.5] * 4})
        assert reasons(out, rows, SelectConfig(survivor="answer")) == ["kept", *["duplicate:question"] * 3]
    assert reasons(out, rows, SelectConfig()) == ["kept", *["duplicate:question"] * 3]


def test_a_survivor_by_a_score_that_no_pair_has_is_a_mistake(out: Output) -> None:
    generate(out, "e001-00000", [pair("i", BUS)], {"answer": [1.0]})
    with pytest.raises(Mistakes, match=r"select\.survivor: no pair has the score 'answr'; did you mean 'answer'"):
        selection_of(out, SelectConfig(survivor="answr"))


# --- growth -----------------------------------------------------------------------------------------------------------

EVERYTHING = SelectConfig(
    survivor="answer",
    same_question=2,
    global_questions=NearQuestionsConfig(similarity=0.7, most=2),
    global_answers=NearAnswersConfig(similarity=0.7, characters=10),
)


@pytest.mark.parametrize("config", [SelectConfig(survivor="answer", same_question=1), EVERYTHING])
def test_growth_drops_no_pair_that_was_kept_though_a_new_one_has_a_better_score(
    out: Output, config: SelectConfig
) -> None:
    old = pair("i", BUS, LONG)
    generate(out, "e001-00001", [old], {"answer": [0.1]})
    assert reasons(out, [old], config) == ["kept"]
    new = [pair("i", NEAR_BUS, LONG), pair("j", BUS, NEAR_LONG)]
    generate(out, "e001-00000", new, {"answer": [0.9, 0.8]})
    generate(out, "e001-00001", [pair("k", BUS, LONG)], {"answer": [1.0]})  # a retry of the same partition
    assert reasons(out, [old], config) == ["kept"]


def test_with_earlier_first_off_the_better_score_survives_growth(out: Output) -> None:
    old, new = pair("i", BUS), pair("i", NEAR_BUS)
    config = SelectConfig(survivor="answer", earlier_first=False)
    generate(out, "e001-00000", [old], {"answer": [0.1]})
    assert reasons(out, [old], config) == ["kept"]
    generate(out, "e002-00000", [new], {"answer": [0.9]})
    assert reasons(out, [old, new], config) == ["duplicate:question", "kept"]
    assert reasons(out, [old, new], config.model_copy(update={"earlier_first": True})) == ["kept", "duplicate:question"]


def test_another_score_chooses_other_survivors_among_the_pairs_of_one_selection(out: Output) -> None:
    rows = [pair("i", BUS), pair("i", NEAR_BUS)]
    generate(out, "e001-00000", rows, {"answer": [0.1, 0.9], "likelihood": [0.9, 0.1]})
    assert reasons(out, rows, SelectConfig(survivor="answer")) == ["duplicate:question", "kept"]
    assert reasons(out, rows, SelectConfig(survivor="likelihood")) == ["kept", "duplicate:question"]


def test_a_selection_that_was_cut_short_continues_to_the_decisions_of_one_that_was_not(out: Output) -> None:
    rows = [pair("i", BUS), pair("j", NEAR_BUS), pair("k", BUS)]
    for number, row in enumerate(rows):
        generate(out, partition_name(1, number), [row], {"answer": [number / 3]})
    whole = {receipt.partition: receipt.counts for receipt in receipts_of(out, EVERYTHING)}
    commit_all(RunFolder(out[0]), SELECT, receipts_of(out, EVERYTHING)[:1], out[1])
    rest = receipts_of(out, EVERYTHING)
    assert [receipt.partition for receipt in rest] == ["e001-00001", "e001-00002"]
    assert {receipt.epoch for receipt in rest} == {1}, "its pairs count as decided on with the others"
    assert {receipt.partition: receipt.counts for receipt in rest}.items() < whole.items()
    decide(out, EVERYTHING)
    generate(out, partition_name(2, 0), [pair("z", DOGS)], {"answer": [1.0]})
    assert {receipt.epoch for receipt in receipts_of(out, EVERYTHING)} == {2}


def test_a_purge_that_writes_a_partition_anew_leaves_its_pairs_their_place(out: Output) -> None:
    old, new = pair("i", BUS), pair("j", BUS)
    generate(out, "e001-00001", [old])
    decide(out, SelectConfig(same_question=1))
    generate(out, "e001-00000", [new])
    stage = StageFolder(out[0], GENERATE)
    file = stage.write("pairs", "e001-00001", 2, schemas.table([old], schemas.PAIRS))
    parts = {"pairs": TablePart((file,), "f", replaces=True)}
    stage.commit(Receipt("e001-00001", 2, parts, {}, epoch=9), out[1])
    assert reasons(out, [old, new], SelectConfig(same_question=1)) == ["kept", "duplicate:common"]


def test_decisions_of_an_older_synth_come_before_new_pairs(out: Output) -> None:
    old, new = pair("i", BUS), pair("i", NEAR_BUS)
    generate(out, "e001-00000", [old], {"answer": [0.1]})
    receipt = receipts_of(out)[0]
    stage = StageFolder(out[0], SELECT)
    decided = pa.table({"pair_id": [old["pair_id"]], "kept": [True], "reason": ["kept"]})
    part = TablePart((stage.write("decisions", "e001-00000", 1, decided),), "f", replaces=True)
    stage.commit(Receipt("e001-00000", 1, {"decisions": part}, {"kept": 1}, receipt.reads, 1), out[1])
    generate(out, "e002-00000", [new], {"answer": [0.9]})
    assert reasons(out, [old, new], SelectConfig(survivor="answer")) == ["kept", "duplicate:question"]


# --- the whole set ----------------------------------------------------------------------------------------------------


def test_near_questions_of_the_whole_set_are_kept_so_many_times(out: Output) -> None:
    rows = [pair(str(number), BUS if number % 2 else NEAR_BUS) for number in range(5)]
    other = pair("x", DOGS)
    generate(out, "e001-00000", [*rows, other], {"answer": [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]})
    config = SelectConfig(survivor="answer", global_questions=NearQuestionsConfig(most=3))
    assert reasons(out, [*rows, other], config) == ["kept"] * 3 + ["duplicate:global_question"] * 2 + ["kept"]
    assert Counter(row[-1] for row in clusters(out, "global_question")) == {True: 3, False: 2}
    config = SelectConfig(survivor="answer", global_questions=NearQuestionsConfig(most=3, characters=100))
    assert set(reasons(out, rows, config)) == {"kept"}, "shorter ones are not compared"


def test_near_answers_of_the_whole_set_are_dropped_and_short_ones_are_not(out: Output) -> None:
    rows = [pair("i", BUS, LONG), pair("j", DOGS, NEAR_LONG), pair("k", BUS, "Red."), pair("l", DOGS, "Red.")]
    generate(out, "e001-00000", rows, {"answer": [0.9, 0.8, 0.7, 0.6]})
    config = SelectConfig(survivor="answer", global_answers=NearAnswersConfig())
    assert reasons(out, rows, config) == ["kept", "duplicate:global_answer", "kept", "kept"]


def test_clusters_are_recorded_with_their_survivor_and_similarity(out: Output) -> None:
    rows = [pair("i", BUS), pair("i", NEAR_BUS), pair("j", BUS), pair("j", DOGS)]
    ids = [row["pair_id"] for row in rows]
    generate(out, "e001-00000", rows[:1] + rows[3:], {"answer": [0.9, 0.0]})
    generate(out, "e001-00001", rows[1:3], {"answer": [0.8, 0.7]})
    config = SelectConfig(survivor="answer", global_questions=NearQuestionsConfig())
    assert reasons(out, rows, config) == ["kept", "duplicate:question", "duplicate:global_question", "kept"]
    (similar,) = (row[3] for row in clusters(out, "question") if row[0] == ids[1])
    assert 0.8 < similar < 1
    assert sorted(clusters(out, "question")) == sorted(
        [(ids[0], ids[0], None, 1.0, True), (ids[1], ids[0], None, similar, False)]
    )
    assert sorted(clusters(out, "global_question")) == sorted(
        [(ids[0], ids[0], None, 1.0, True), (ids[2], ids[0], None, 1.0, False)]
    )
    reasons(out, rows, SelectConfig(survivor="answer", near_questions=1))
    assert clusters(out, "global_question") == clusters(out, "question") == [], "no cluster of other settings stays"


def test_a_kept_pair_is_never_a_duplicate_of_another_comparison(out: Output) -> None:
    """What an earlier comparison dropped takes no place from others."""
    rows = [pair("i", BUS), pair("i", NEAR_BUS, LONG), pair("j", DOGS, NEAR_LONG)]
    generate(out, "e001-00000", rows, {"answer": [0.9, 0.8, 0.7]})
    config = SelectConfig(survivor="answer", global_answers=NearAnswersConfig())
    assert reasons(out, rows, config) == ["kept", "duplicate:question", "kept"]


# --- properties -------------------------------------------------------------------------------------------------------

QUESTIONS = [BUS, NEAR_BUS, DOGS, DOGS.replace("dogs", "cats"), "Why?", "What colour is the small bus in the yard?"]
ANSWERS = ["Red.", LONG, NEAR_LONG, "", "There are two of them on the bench, as far as one can see."]
DRAWN = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(QUESTIONS), st.sampled_from(ANSWERS), st.none() | st.sampled_from([0.1, 0.5])
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(drawn=DRAWN, cuts=st.sets(st.integers(0, 25)), seed=st.randoms(), most=st.integers(1, 2))
def test_decisions_depend_neither_on_partitions_nor_on_the_order_of_rows_and_their_sums_add_up(
    drawn: list[Any], cuts: set[int], seed: random.Random, most: int
) -> None:
    rows = [
        (pair(f"image {image}", question, answer, number), score)
        for number, (image, question, answer, score) in enumerate(drawn)
    ]
    config = SelectConfig(
        survivor="answer",
        near_questions=0.7,
        same_question=2,
        global_questions=NearQuestionsConfig(similarity=0.6, most=most),
        global_answers=NearAnswersConfig(similarity=0.6, most=most, characters=20),
        phrases=PhrasesConfig(words=2, most=0.5),
    )
    results, found = [], []
    for ends in ([len(rows)], [*sorted(cut for cut in cuts if cut < len(rows)), len(rows)]):
        with tempfile.TemporaryDirectory() as directory, Lease.take(Folder(directory)) as lease:
            out = Folder(directory), lease
            for number, (start, end) in enumerate(pairwise([0, *ends])):
                some = rows[start:end]
                generate(
                    out, partition_name(1, number), [row for row, _ in some], {"answer": [value for _, value in some]}
                )
            results.append(decide(out, config))
            assert sum(StageFolder(out[0], SELECT).log().counts().values()) == len(rows)
            tables = ("question", "global_question", "global_answer")
            found.append({name: sorted(clusters(out, name)) for name in tables})
        seed.shuffle(rows)
    assert results[0] == results[1] and found[0] == found[1]
    assert set(results[0]) == {row["pair_id"] for row, _ in rows}
    for name, members in found[0].items():
        lost = {pair_id for pair_id, *_, survives in members if not survives}
        assert lost == {pair_id for pair_id, reason in results[0].items() if reason == f"duplicate:{name}"}
        assert {cluster for _, cluster, *_ in members} <= {pair_id for pair_id, *_ in members}
        assert all(
            survives and similar == 1 for pair_id, cluster, _, similar, survives in members if pair_id == cluster
        )


def test_reasons_of_repeats_have_one_kind() -> None:
    assert {reason.partition(":")[0] for reason in select.REPEATS[1:]} == {"duplicate"}
