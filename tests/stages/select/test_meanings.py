"""Texts that mean nearly the same are found by their embeddings, which are made once and kept."""

import random
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.config.deduplication import AnswerMeaningsConfig, QuestionMeaningsConfig, SemanticConfig
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.dedup import semantic
from synthgen.dedup.text_set import text_hashes
from synthgen.engines import text_model
from synthgen.engines.text_model import Floats, TextModel
from synthgen.errors import UserMistake
from synthgen.stages import select
from synthgen.stages.select import embedded
from synthgen.stages.select.embedded import EmbeddedTexts
from synthgen.stages.select.forgetting import forget_embeddings
from synthgen.stages.select.meanings import Meanings
from synthgen.stages.select.trial import tallies
from synthgen.store import Folder, Lease, RunFolder
from tests.dedup.test_dedup import plain_loop
from tests.fixtures.rows import describe_run
from tests.fixtures.selecting import Output, Row, decide, generate, pair, selection_of
from tests.stages.select.test_duplicates import clusters, falling

QUESTION, ANSWER = "duplicate:semantic_question", "duplicate:semantic_answer"
MEANING = {"hue": "colour", "automobile": "car", "which": "what", "has": "is"}
CAR, SAME_CAR = "What colour is the car?", "Which hue has the automobile?"
DOG = "How many dogs sleep here?"


class Scripted:
    """Embeds a text by the meanings of its words, and counts what it is asked."""

    asked: list[str] = []  # noqa: RUF012 - shared by all, as the stage opens its own

    def __init__(self, *_: object) -> None:
        pass

    def texts(self, texts: Sequence[str]) -> Floats:
        Scripted.asked += texts
        return np.array([self._vector(text) for text in texts], np.float32)

    def _vector(self, text: str) -> Floats:
        words = {MEANING.get(word, word) for word in text.split()}
        drawn = [np.random.default_rng(crc32(word.encode())).standard_normal(64) for word in words]
        return np.asarray(np.sum(drawn, axis=0), np.float32)


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Embed by a script, and return the texts that it is asked for."""
    monkeypatch.setattr(text_model, "Embedder", Scripted)
    monkeypatch.setattr(Scripted, "asked", [])
    return Scripted.asked


def compared(**more: object) -> SelectConfig:
    given = {"model": "ViT-B-32", "pretrained": "some", "questions": {"cosine": 0.95}}
    return SelectConfig(survivor="answer", semantic=SemanticConfig.model_validate({**given, **more}))


def reasons(out: Output, rows: Sequence[Row], config: SelectConfig) -> list[str]:
    decided = decide(out, config)
    return [decided[row["pair_id"]] for row in rows]


def test_of_questions_in_other_words_the_one_with_the_best_score_survives_then_the_lower_id(out: Output) -> None:
    rows = [pair("i", CAR), pair("j", SAME_CAR), pair("k", DOG)]
    generate(out, "e001-00000", rows, {"answer": [0.2, 0.9, 0.5]})
    assert reasons(out, rows, SelectConfig(survivor="answer")) == ["kept"] * 3
    assert reasons(out, rows, compared()) == [QUESTION, "kept", "kept"]
    best, lost = rows[1]["pair_id"], rows[0]["pair_id"]
    expected = [(best, best, None, 1.0, True), (lost, best, None, 1.0, False)]
    assert sorted(clusters(out, "semantic_question")) == sorted(expected)
    by_id = compared().model_copy(update={"survivor": None})
    lower = min(rows[:2], key=lambda row: str(row["pair_id"]))
    assert reasons(out, rows, by_id) == ["kept" if row in (lower, rows[2]) else QUESTION for row in rows]


def test_so_many_stay_and_short_answers_are_not_compared(out: Output) -> None:
    long = "The {} on the left of this busy street is red all over."
    answers = ["Yes.", "Yes.", *(long.format(word) for word in ("car", "automobile", "car", "house"))]
    rows = [pair(str(number), f"{number}{DOG}", answer) for number, answer in enumerate(answers)]
    generate(out, "e001-00000", rows, falling(rows))
    config = compared(questions=None, answers={"cosine": 0.99, "most": 2})
    assert reasons(out, rows, config) == ["kept"] * 4 + [ANSWER, "kept"]
    one = compared(questions=None, answers=AnswerMeaningsConfig(cosine=0.99))
    assert reasons(out, rows, one) == ["kept"] * 3 + [ANSWER, ANSWER, "kept"]


def test_a_text_is_embedded_once_and_only_if_nothing_else_dropped_it(out: Output, scripted: list[str]) -> None:
    rows = [pair("i", CAR), pair("j", SAME_CAR), pair("k", CAR), pair("l", DOG, answer="")]
    generate(out, "e001-00000", rows, falling(rows))
    expected = ["kept", QUESTION, QUESTION, "rule:empty_answer"]
    assert reasons(out, rows, compared()) == expected
    assert sorted(scripted) == ["what colour is the car", "which hue has the automobile"]
    config = compared(questions={"cosine": 0.9})
    assert reasons(out, rows, config) == expected and len(scripted) == 2, "another threshold embeds nothing"
    generate(out, "e002-00000", [pair("m", "Where is the bus?")], {"answer": [0.1]})
    decide(out, config)
    assert scripted[2:] == ["where is the bus"], "growth embeds what is new"
    decide(out, compared(pretrained="other"))
    assert len(scripted) == 3 + 3, "another model makes its own"


def test_a_killed_run_goes_on_and_a_damaged_part_is_made_again(
    out: Output, scripted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedded, "TEXTS_AT_ONCE", 2)
    rows = [pair(str(number), f"{'abcde'[number] * 4} {DOG}") for number in range(5)]
    generate(out, "e001-00000", rows, falling(rows))
    whole = Scripted.texts

    def dies(self: Scripted, texts: Sequence[str]) -> Floats:
        if len(scripted) >= 4:
            raise KeyboardInterrupt
        return whole(self, texts)

    monkeypatch.setattr(Scripted, "texts", dies)
    with pytest.raises(KeyboardInterrupt):
        decide(out, compared())
    monkeypatch.setattr(Scripted, "texts", whole)
    assert reasons(out, rows, compared()) == ["kept"] * 5
    assert len(scripted) == len(set(scripted)) == 5
    parts = sorted(Path(out[0].path, embedded.FOLDER).rglob("*.parquet"))
    assert len(parts) == 3
    parts[0].write_bytes(b"damaged")
    decide(out, compared(questions={"cosine": 0.9}))
    assert len(scripted) in (6, 7) and len(set(scripted)) == 5
    assert f"{parts[0]}: is damaged, so its texts are embedded again" in capsys.readouterr().err


def test_what_an_earlier_run_kept_comes_first_and_its_embeddings_are_used(tmp_path: Path, scripted: list[str]) -> None:
    folders = [Folder(str(tmp_path / name)) for name in ("first", "second")]
    for folder in folders:
        describe_run(folder)
    with Lease.take(folders[0]) as one, Lease.take(folders[1]) as two:
        first, second = (folders[0], one), (folders[1], two)
        earlier = [pair("i", CAR)]
        generate(first, "e001-00000", earlier, {"answer": [0.1]})
        decide(first, compared())
        rows = [pair("j", SAME_CAR), pair("k", CAR), pair("l", DOG)]
        generate(second, "e001-00000", rows, falling(rows))
        config = compared().model_copy(update={"against": (folders[0].path,)})
        run = f"{select.EARLIER_RUN}first"
        assert reasons(second, rows, config) == [run, run, "kept"]
        assert clusters(second, "semantic_question")[0][1:] == (earlier[0]["pair_id"], "first", 1.0, False)
        assert scripted.count("what colour is the car") == 1


def test_partitions_and_the_order_of_rows_do_not_matter(tmp_path: Path) -> None:
    draw, results, found = random.Random(0), [], []
    words = ["colour", "hue", "car", "automobile", "what", "which", "is", "has", "dog"]
    rows = [pair(str(number), " ".join(draw.choices(words, k=4))) for number in range(60)]
    scores = {row["pair_id"]: draw.choice([0.1, 0.5, 0.9]) for row in rows}
    for turn, cut in enumerate((60, 17, 31)):
        with Lease.take(Folder(str(tmp_path / str(turn)))) as lease:
            out = Folder(str(tmp_path / str(turn))), lease
            for number, part in enumerate((rows[:cut], rows[cut:])):
                generate(out, f"e001-0000{number}", part, {"answer": [scores[row["pair_id"]] for row in part]})
            results.append(decide(out, compared()))
            found.append(sorted(clusters(out, "semantic_question")))
        draw.shuffle(rows)
    assert results[0] == results[1] == results[2] and found[0] == found[1] == found[2]
    assert {"kept", QUESTION} == set(results[0].values())


def test_a_trial_counts_what_a_run_would_keep_and_embeds_once(out: Output, scripted: list[str]) -> None:
    rows = [pair("i", CAR, type="a"), pair("j", SAME_CAR, type="a"), pair("k", DOG, type="a")]
    generate(out, "e001-00000", rows, falling(rows))
    strict = compared().model_copy(update={"keep": {"answer": KeepRule(max=0.95)}})
    found = tallies([selection_of(out, compared()), selection_of(out, strict)])
    assert [tally.kept for tally in found] == [{"a": 2}] * 2
    assert len(scripted) == 3


def test_nearly_all_near_texts_of_a_large_set_are_found_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic, "EXACT", 100)
    monkeypatch.setattr(semantic, "A_CELL", 100)
    draw = random.Random(0)
    words = [f"word{number}" for number in range(300)]
    texts = [" ".join(draw.sample(words, 8)) for _ in range(1200)]
    texts += [" ".join([*draw.choice(texts[:1200]).split()[1:], draw.choice(words)]) for _ in range(300)]
    draw.shuffle(texts)
    made = EmbeddedTexts(TextModel("m", "p"), Folder(str(tmp_path / "out")))
    meanings = Meanings(tmp_path / "set", "plain", QuestionMeaningsConfig(cosine=0.8), made)
    rows = {"number": pa.array(np.arange(1500)), "plain": pa.array(texts, pa.large_string())}
    meanings.add(pa.table(rows))
    found = meanings.clusters(np.arange(1500), np.ones(1500, bool), 0)
    unit = semantic.unit(Scripted().texts(texts))
    near = unit @ unit.T
    exact = np.array(plain_loop(range(1500), lambda left, right: bool(near[left, right] >= 0.8)))
    expected = set(np.flatnonzero(exact != np.arange(1500)).tolist())
    dropped = set(found.members.tolist())
    assert len(expected) > 200 and len(expected & dropped) >= 0.94 * len(expected), "recall"
    best = np.array([near[number, :number].max() for number in sorted(dropped)])
    assert best.min() >= 0.799, "precision"
    assert np.allclose(found.similarities, near[found.members, found.centres], atol=2e-3)
    assert len(set(text_hashes(texts).tolist())) == 1500


def test_a_model_that_is_not_there_is_reported_before_anything_is_decided(out: Output) -> None:
    generate(out, "e001-00000", [pair("i", CAR)], {"answer": [0.1]})
    with pytest.raises(UserMistake, match=r"select.semantic.model: no/such: no such folder"):
        decide(out, compared(model="no/such"))


def test_embeddings_of_texts_that_no_pair_has_any_more_are_forgotten(
    tmp_path: Path, scripted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "TEXTS_AT_ONCE", 2)
    options = ["a dog", "a cat"]
    kept = [pair("i", CAR), pair("j", "Who sleeps?", "A", form="choice", options=options)]
    gone = [pair("k", "Where is the bus?"), pair("l", DOG), pair("m", "Why is it red?"), pair("n", "When is noon?")]
    config = compared(answers={"cosine": 0.99, "characters": 1})
    for name, rows in (("all", kept + gone), ("rest", kept)):
        with Lease.take(Folder(str(tmp_path / name))) as lease:
            generate((Folder(str(tmp_path / name)), lease), "e001-00000", rows, falling(rows))
            if name == "all":
                decide((Folder(str(tmp_path / name)), lease), config)
    (tmp_path / "all" / embedded.FOLDER).rename(tmp_path / "rest" / embedded.FOLDER)
    forget_embeddings(RunFolder(Folder(str(tmp_path / "rest"))))
    parts = [pq.read_table(part) for part in (tmp_path / "rest" / embedded.FOLDER).iterdir()]
    texts = ["what colour is the car", "who sleeps a dog a cat", "it is red", "a"]
    assert sorted(key for part in parts for key in part["text"].to_pylist()) == sorted(text_hashes(texts).tolist())
    assert len(scripted) == len(set(scripted)) == 8, "equal texts are embedded once"
    with Lease.take(Folder(str(tmp_path / "rest"))) as lease:
        decide((Folder(str(tmp_path / "rest")), lease), config)
    assert len(scripted) == 8, "what is left needs no model"
