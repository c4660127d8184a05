"""Ranks, quotas and balance look at the whole set, and their result depends on nothing but settings, values and ids."""

import random
import tempfile
from collections import Counter
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.selection import AnswerBalance, KeepRule, Quota, Quotas, SelectConfig, fits
from synthgen.errors import Mistakes
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import PLAN, SELECT, columns_of, schemas, table
from tests.fixtures.selecting import Output, Row, decide, generate, pair, pending, selection_of

WORDS = ("bus", "car", "dog", "cat", "tree", "house", "sign", "child", "table", "chair", "window", "lamp", "boat")


def rows_of(count: int, **more: Any) -> list[Row]:
    """Return pairs of images of their own, whose questions are unlike each other."""
    questions = [f"What is {WORDS[number % len(WORDS)]} number {number} made of?" for number in range(count)]
    return [pair(f"image {number}", question, **more) for number, question in enumerate(questions)]


def decided(out: Output, rows: list[Row], given: list[Any], config: SelectConfig) -> list[str]:
    """Return the reasons of pairs with the score `answer`, in their order."""
    generate(out, "e001-00000", rows, {"answer": given})
    reasons = decide(out, config)
    return [reasons[row["pair_id"]] for row in rows]


def test_the_lowest_share_of_each_group_is_dropped(out: Output) -> None:
    rows = rows_of(20)
    for number, row in enumerate(rows):
        row["type"] = "a/count" if number < 10 else "a/colour"
    values = [float(value) for value in (*range(10), *range(100, 110))]
    reasons = decided(out, rows, values, SelectConfig(keep={"answer": KeepRule(drop=0.2)}))
    assert [number for number, reason in enumerate(reasons) if reason == "rank:answer"] == [0, 1, 10, 11]
    assert set(reasons) == {"kept", "rank:answer"}


def test_one_group_of_the_whole_set_is_ranked_where_within_is_empty(out: Output) -> None:
    rows = rows_of(5, type="a/count") + [{**row, "type": "b"} for row in rows_of(10)[5:]]
    reasons = decided(out, rows, [*range(10)], SelectConfig(keep={"answer": KeepRule(drop=0.5, within=())}))
    assert reasons == ["rank:answer"] * 5 + ["kept"] * 5


def test_of_equal_values_the_lower_id_stays(out: Output) -> None:
    rows = rows_of(10, type="a")
    reasons = decided(out, rows, [3.0] * 10, SelectConfig(keep={"answer": KeepRule(drop=0.3)}))
    by_id = sorted(zip((row["pair_id"] for row in rows), reasons, strict=True))
    assert [reason for _, reason in by_id] == ["kept"] * 7 + ["rank:answer"] * 3


def test_a_share_is_counted_in_decimals(out: Output) -> None:
    rows = rows_of(100, type="a")  # 0.29 x 100 is 28.999… in binary fractions
    reasons = decided(out, rows, [*range(100)], SelectConfig(keep={"answer": KeepRule(drop=0.29)}))
    assert Counter(reasons) == {"rank:answer": 29, "kept": 71}


def test_small_groups_lose_none_and_are_told_of(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(6, type="a") + [{**row, "type": "b"} for row in rows_of(13)[6:]]
    reasons = decided(out, rows, [*range(13)], SelectConfig(keep={"answer": KeepRule(drop=0.15)}))
    assert [number for number, reason in enumerate(reasons) if reason != "kept"] == [6]
    (told,) = capsys.readouterr().err.splitlines()
    assert told == "select.keep.answer: 1 of 2 groups have fewer than 7 pairs, and none is dropped of them"


def test_pairs_that_a_threshold_drops_are_not_ranked_and_ranked_ones_drop_no_duplicate(out: Output) -> None:
    low, other = pair("i", "What colour is the large bus?"), pair("i", "What colour is the large bus??", number=1)
    rows = [low, other, *rows_of(3)]
    reasons = decided(out, rows, [1.0, 2.0, 3.0, 4.0, 0.1], SelectConfig(keep={"answer": KeepRule(min=0.5, drop=0.25)}))
    assert reasons == ["rank:answer", "kept", "kept", "kept", "score:answer"]


def test_ranks_by_two_scores_do_not_depend_on_each_other(out: Output) -> None:
    rows = rows_of(4, type="a")
    generate(out, "e001-00000", rows, {"answer": [1, 2, 3, 4], "blind": [1, 2, 3, 4]})
    rule = KeepRule(drop=0.25)
    reasons = decide(out, SelectConfig(keep={"answer": rule, "blind": rule}))
    assert Counter(reasons.values()) == {"kept": 3, "rank:answer": 1}


def test_a_rank_is_for_the_types_and_forms_of_its_threshold(out: Output) -> None:
    rows = rows_of(4, type="a/open") + [{**row, "type": "b/closed"} for row in rows_of(8)[4:]]
    rule = KeepRule(drop=0.5, min=100, types=("a/**",))
    reasons = decided(out, rows, [*range(8)], SelectConfig(keep={"answer": rule}))
    assert reasons == ["score:answer"] * 4 + ["kept"] * 4


@pytest.mark.parametrize(
    ("quotas", "left"),
    [
        (Quotas(types={"a/**": Quota(most=2, by="answer")}), [2, 3, 4, 5, 6, 7]),
        (Quotas(types={"a/**": Quota(most=0)}), [4, 5, 6, 7]),
        (Quotas(types={"**": Quota(most=3, by="answer")}), [5, 6, 7]),
        (Quotas(languages={"French": Quota(most=1, by="answer")}), [0, 1, 2, 3, 4, 5, 7]),
        (Quotas(forms={"brief": Quota(most=1, by="answer")}), [0, 1, 2, 3, 5, 6, 7]),
        (Quotas(types={"b/**": Quota(share=0.5, by="answer")}), [*range(8)]),
        (Quotas(types={"b/**": Quota(share=0.34, by="answer")}), [0, 1, 2, 3, 6, 7]),
    ],
)
def test_a_quota_keeps_the_best_of_its_pattern(out: Output, quotas: Quotas, left: list[int]) -> None:
    rows = rows_of(8)
    for number, row in enumerate(rows):
        row["type"] = "a/count" if number < 4 else "b/colour"
        row["language"] = "French" if number > 5 else "English"
        row["form"] = "brief" if number in (4, 5) else "short"
        row["answer"] = "Oui." if number > 5 else "Yes."
    reasons = decided(out, rows, [*range(8)], SelectConfig(quotas=quotas))
    assert [number for number, reason in enumerate(reasons) if reason == "kept"] == left
    ((kind, pattern, _),) = quotas.all()
    assert set(reasons) - {"kept"} <= {f"quota:{kind}:{pattern}"}


def test_a_quota_counts_no_pair_that_is_dropped_for_something_else(out: Output) -> None:
    rows = [*rows_of(4), pair("image 3", "What is cat number 3 made of??")]
    rows[0]["answer"] = ""
    config = SelectConfig(quotas=Quotas(types={"**": Quota(most=2, by="answer")}), keep={"answer": KeepRule(drop=0.3)})
    reasons = decided(out, rows, [9, 1, 2, 3, 8], config)
    assert sorted(reasons) == ["duplicate:question", "kept", "kept", "rank:answer", "rule:empty_answer"]


def test_a_quota_of_tags_counts_the_pairs_of_images_with_a_tag_or_one_below_it(out: Output) -> None:
    rows = rows_of(4)
    tags = {"image 0": ["document/receipt"], "image 1": ["animal/cat"], "image 2": ["document"], "image 3": []}
    images = [
        {"image_id": image, "tags": [{"path": path, "score": 1.0} for path in paths]} for image, paths in tags.items()
    ]
    schema = columns_of(schemas.PLANNED_IMAGES, "image_id", "tags")

    def commit(images: list[Row]) -> None:
        stage = StageFolder(out[0], PLAN)
        revision = stage.log().next_revision("e001-00000")
        file = stage.write("images", "e001-00000", revision, table(images, schema))
        stage.commit(Receipt("e001-00000", revision, {"images": TablePart((file,), "f", replaces=True)}), out[1])

    commit(images)
    config = SelectConfig(quotas=Quotas(tags={"document": Quota(most=1, by="answer"), "animal/**": Quota(most=5)}))
    assert decided(out, rows, [4, 3, 5, 1], config) == ["quota:tag:document", "kept", "kept", "kept"]
    assert not pending(out, config)
    commit(images[2:])
    assert pending(out, config) == ["e001-00000"]  # other tags were planned


def test_the_commoner_of_yes_and_no_is_thinned_in_each_type(out: Output) -> None:
    answers = ["Yes.", "Yes, it is.", "No.", "yes", "It is red.", "No.", "No", "Yes"]
    rows = [{**row, "answer": answer, "language": "English"} for row, answer in zip(rows_of(8), answers, strict=True)]
    for number, row in enumerate(rows):
        row["type"] = "a/there" if number < 5 else "b/there"
    config = SelectConfig(balance={"*/there": AnswerBalance(by="answer")})
    reasons = decided(out, rows, [1, 2, 1, 3, 1, 2, 1, 1], config)
    assert reasons == ["balance:yes", "balance:yes", "kept", "kept", "kept", "kept", "balance:no", "kept"]


def test_a_pattern_can_be_balanced_as_one_and_to_another_ratio(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["Oui.", "Oui.", "Oui.", "Non."]
    rows = [{**row, "answer": answer, "language": "French"} for row, answer in zip(rows_of(4), answers, strict=True)]
    for number, row in enumerate(rows):
        row["type"] = "presence/there" if number < 3 else "presence/not_there"
    one = SelectConfig(balance={"presence/**": AnswerBalance(ratio=2, within=(), by="answer")})
    assert decided(out, rows, [1, 2, 3, 1], one) == ["balance:yes", "kept", "kept", "kept"]
    assert capsys.readouterr().err == ""
    each = SelectConfig(balance={"presence/**": AnswerBalance()})
    assert set(decide(out, each).values()) == {"balance:yes", "balance:no"}
    assert capsys.readouterr().err.splitlines() == [
        "select.balance.presence/**: 1 of 2 groups have no answer but 'yes', and none is kept of them",
        "select.balance.presence/**: 1 of 2 groups have no answer but 'no', and none is kept of them",
    ]


def test_letters_that_are_right_too_often_are_thinned(out: Output) -> None:
    rows = rows_of(10, form="choice", options=list("wxyz"))
    for row, letter in zip(rows, "AAAAABBCCD", strict=True):
        row["answer"] = letter
    generate(out, "e001-00000", rows)
    reasons = decide(out, SelectConfig(letters=2))
    kept = Counter(row["answer"] for row in rows if reasons[row["pair_id"]] == "kept")
    assert kept == {"A": 2, "B": 2, "C": 2, "D": 1}
    assert Counter(reasons.values()) == {"kept": 7, "balance:letter": 3}


def test_a_letter_that_no_answer_has_leaves_no_multiple_choice_and_is_told(
    out: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(3, form="choice", options=list("wxyz"))
    for row, letter in zip(rows, "ABC", strict=True):
        row["answer"] = letter
    generate(out, "e001-00000", rows)
    assert set(decide(out, SelectConfig(letters=2)).values()) == {"balance:letter"}
    told = capsys.readouterr().err.splitlines()
    assert told == ["select.letters: no answer of 3 is D, so none of multiple choice is kept"]


def test_a_score_that_no_pair_has_cannot_choose_the_best(out: Output) -> None:
    generate(out, "e001-00000", rows_of(1), {"answer": [1.0]})
    config = SelectConfig(
        quotas=Quotas(types={"**": Quota(most=1, by="answr")}), balance={"a": AnswerBalance(by="blind")}
    )
    with pytest.raises(Mistakes) as caught:
        selection_of(out, config)
    assert caught.value.lines == [
        "select.balance.a.by: no pair has the score 'blind'; known: answer",
        "select.quotas.types.**.by: no pair has the score 'answr'; did you mean 'answer'?",
    ]


TYPES = ["a/count", "a/colour", "b/there"]
PAIRS = st.lists(
    st.tuples(
        st.sampled_from(TYPES),
        st.sampled_from(["short", "brief"]),
        st.sampled_from(["English", "French"]),
        st.sampled_from(["Yes.", "No.", "Red."]),
        st.none() | st.sampled_from([0.1, 0.5, 0.5, 0.9]),
    ),
    max_size=30,
)
SHARES = st.sampled_from([0.1, 0.25, 0.5, 0.9])
QUOTAS = st.builds(Quota, most=st.integers(0, 8), by=st.sampled_from([None, "answer"])) | st.builds(
    Quota, share=SHARES, by=st.sampled_from([None, "answer"])
)
RULES = st.builds(KeepRule, drop=st.none() | SHARES, within=st.sampled_from([(), ("type",), ("type", "form")]))
BALANCES = st.builds(AnswerBalance, ratio=st.sampled_from([1, 1.5, 2]))
CONFIGS = st.builds(
    SelectConfig,
    keep=st.fixed_dictionaries({"answer": RULES}),
    balance=st.dictionaries(st.sampled_from(["**", "b/**"]), BALANCES, max_size=1),
    quotas=st.builds(
        Quotas,
        types=st.dictionaries(st.sampled_from(["a/**", "**/there"]), QUOTAS),
        languages=st.dictionaries(st.sampled_from(["French", "English"]), QUOTAS),
    ),
)


@given(drawn=PAIRS, config=CONFIGS, seed=st.integers(0, 5))
def test_decisions_depend_neither_on_partitions_nor_on_the_order_of_rows(
    drawn: list[Any], config: SelectConfig, seed: int
) -> None:
    rows = rows_of(len(drawn))
    for row, (kind, form, language, answer, _) in zip(rows, drawn, strict=True):
        row.update(type=kind, form=form, language=language, answer=answer)
    values = [value for *_, value in drawn]
    order = list(range(len(rows)))
    results = []
    for parts in (1, 3):
        with tempfile.TemporaryDirectory() as directory, Lease.take(Folder(directory)) as lease:
            out = Folder(directory), lease
            for part in range(parts):
                some = order[part::parts]
                scores = {"answer": [values[place] for place in some]}
                generate(out, partition_name(1, part), [rows[place] for place in some], scores)
            results.append(decide(out, config))
            assert sum(StageFolder(out[0], SELECT).log().counts().values()) == len(rows)
        random.Random(seed).shuffle(order)
    assert results[0] == results[1] and set(results[0]) == {row["pair_id"] for row in rows}
    _check_rules(rows, drawn, results[0], config)


def _check_rules(rows: list[Row], drawn: list[Any], reasons: dict[str, str], config: SelectConfig) -> None:
    """Check that as many are dropped as each rule says, and no more pairs of a quota are kept than it allows."""
    rule = config.keep["answer"]
    groups = Counter[tuple[str, ...]]()
    for row, (*_, value) in zip(rows, drawn, strict=True):
        if value is not None:
            groups[tuple(row[part] for part in rule.within)] += 1
    dropped = sum(floor(Fraction(str(rule.drop)) * count) for count in groups.values()) if rule.drop else 0
    assert Counter(reasons.values())["rank:answer"] == dropped
    kept = [row for row in rows if reasons[row["pair_id"]] == "kept"]
    for kind, pattern, quota in config.quotas.all():
        own = [row for row in kept if (fits(pattern, row[kind]) if kind == "type" else row[kind] == pattern)]
        room = quota.most if quota.most is not None else (quota.share or 0) * len(kept) + 1e-9
        assert len(own) <= room
