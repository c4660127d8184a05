"""A tally says what a run with other settings would keep, and writes nothing."""

import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.selection import AnswerBalance, KeepRule, Quota, Quotas, SelectConfig
from synthgen.stages.select.trial import tallies
from synthgen.store import Folder, Lease
from synthgen.store.commits import partition_name
from tests.fixtures.selecting import Output, Row, decide, generate, pair, selection_of

QUESTIONS = [
    "What colour is the bus?",
    "What colour is the bus there?",
    "How many dogs are there?",
    "Why?",
    "Is it red?",
]
PAIRS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(QUESTIONS),
        st.sampled_from(["Yes.", "No.", ""]),
        st.sampled_from(["a", "b"]),
        st.none() | st.sampled_from([0.1, 0.5, 0.9]),
        st.booleans(),
    ),
    max_size=25,
)
RULES = st.builds(KeepRule, min=st.none() | st.sampled_from([0.2, 0.6]), drop=st.none() | st.sampled_from([0.25, 0.5]))
SETTINGS = st.builds(
    SelectConfig,
    keep=st.dictionaries(st.sampled_from(["answer", "blind"]), RULES),
    balance=st.sampled_from([{}, {"a": AnswerBalance(by="answer")}]),
    same_question=st.none() | st.integers(1, 3),
    survivor=st.sampled_from([None, "blind"]),
    near_questions=st.sampled_from([0.6, 1.0]),
    quotas=st.sampled_from([Quotas(), Quotas(types={"b": Quota(share=0.5)})]),
)


def made(drawn: list[Any]) -> list[Row]:
    """Return pairs; some go on from the one before them."""
    rows = [
        pair(f"image {image}", question, answer, number, type=kind, language="English")
        for number, (image, question, answer, kind, *_) in enumerate(drawn)
    ]
    for before, row, (*_, goes_on) in zip(rows, rows[1:], drawn[1:], strict=False):
        if goes_on and "follows" not in before:
            row |= {"follows": before["pair_id"], "image_id": before["image_id"]}
    return rows


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder but those of the lease."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "lease" not in path.parts
    }


@given(drawn=PAIRS, configs=st.lists(SETTINGS, min_size=1, max_size=4))
def test_a_tally_is_what_a_run_keeps_of_each_type(drawn: list[Any], configs: list[SelectConfig]) -> None:
    rows = made(drawn)
    values = [value for *_, value, _ in drawn]
    with tempfile.TemporaryDirectory() as directory, Lease.take(Folder(directory)) as lease:
        out: Output = (Folder(directory), lease)
        scores = {"answer": values, "blind": random.Random(1).sample(values, len(values))}
        generate(out, partition_name(1, 0), rows, scores)
        before = files_of(Path(directory))
        found = tallies([selection_of(out, config) for config in configs])
        assert files_of(Path(directory)) == before
        for config, tally in zip(configs, found, strict=True):
            reasons = decide(out, config)
            kept = Counter(row["type"] for row in rows if reasons[row["pair_id"]] == "kept")
            assert {kind: count for kind, count in tally.kept.items() if count} == kept
            assert {kind: count for kind, count in tally.pairs.items() if count} == Counter(row["type"] for row in rows)


def test_a_tally_has_the_letters_of_kept_multiple_choice(out: Output) -> None:
    rows = [pair(f"image {number}", f"What is thing number {number}?", letter) for number, letter in enumerate("AABD")]
    rows = [{**row, "form": "choice", "options": list("wxyz")} for row in rows]
    generate(out, "e001-00000", [*rows, pair("other", "What colour is the bus?")], {"answer": [0.1, 1, 1, 1, 1]})
    config = SelectConfig(keep={"answer": KeepRule(min=0.5)})
    plain, kept = tallies([selection_of(out), selection_of(out, config)])
    assert plain.letters == {"A": 2, "B": 1, "C": 0, "D": 1} and kept.letters == {"A": 1, "B": 1, "C": 0, "D": 1}
