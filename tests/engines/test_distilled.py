"""A distilled judge learns the grades of another one, says where it is unsure, and serves many calls at once."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.commands.distill.metrics import calibration_error, f1, rank_correlation
from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName, Reply, Request, open_engine
from synthgen.engines.distilled import UNSURE, DistilledModel, Embedder, fit, load, save
from synthgen.engines.distilled.embedder import WINDOW, windows_of
from synthgen.engines.distilled.features import HASHED, features_of, hashed_words
from synthgen.engines.revision import folder_digest
from synthgen.errors import ModelUnavailable, UserMistake
from tests.fixtures.tagging import clip_model

LABELS = ("1", "2", "3", "4", "5")
GOOD, BAD = "Answer: right and complete", "Answer: wrong and invented"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distil a judge that knows good words from bad ones, whatever the image."""
    folder = tmp_path_factory.mktemp("distilled")
    clip = clip_model(folder / "clip")
    embedder = Embedder(str(clip), None)
    draws = np.random.default_rng(3)
    pictures = [Image.fromarray(draws.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(120)]
    texts = [f"{GOOD if number % 2 else BAD} number {number}" for number in range(120)]
    grades = np.array([0.9 if number % 2 else 0.1 for number in range(120)], np.float32)
    features = features_of(embedder.images(pictures), embedder.texts(texts), texts)
    head = fit(features, grades, features, 1.0)
    model = DistilledModel("answer", LABELS, str(clip), None, folder_digest(clip))
    save(folder / "judge", model, replace(head, sure=9.0))  # never unsure
    return folder / "judge"


def ask(judge: Path, *requests: Request) -> list[Reply]:
    """Send requests side by side."""

    async def calls() -> list[Reply]:
        engine = await open_engine(ModelName(str(judge), "files:x"), EngineConfig(kind="distilled"))
        replies = await asyncio.gather(*(engine.generate(request) for request in requests))
        await engine.close()
        return list(replies)

    return asyncio.run(calls())


def grading(text: str, key: str | None = "image") -> Request:
    return Request("judge", text, 1, Image.new("RGB", (16, 16)), key, labels=LABELS)


def expected(reply: Reply) -> float:
    return sum(place * reply.labels[label] for place, label in enumerate(LABELS, 1))


def test_what_counts_as_sure_is_a_share_of_calls_that_were_left_out() -> None:
    rows = np.random.default_rng(0).normal(size=(560, 200)).astype(np.float32)
    own, left_out, new = np.split(rows, [60, 310])
    head = fit(own, (own[:, 0] > 0).astype(np.float32), left_out, 0.8)
    shares = [(head.predict(some)[1] <= head.sure).mean() for some in (own, new)]
    assert 0.7 < shares[1] < 0.9 and not 0.7 < shares[0] < 0.9  # members agree otherwise on what they were fitted to


def test_grades_are_learnt_and_given_as_probabilities_of_labels(judge: Path) -> None:
    good, bad = ask(judge, grading(f"{GOOD} number 7"), grading(f"{BAD} number 8"))
    assert expected(good) > 4 and expected(bad) < 2
    assert sum(good.labels.values()) == pytest.approx(1) and good.text in LABELS
    assert good.failure is None


def test_a_batch_of_calls_gives_each_its_own_grade(judge: Path) -> None:
    requests = [grading(f"{GOOD if number % 3 else BAD} number {number}", f"{number}") for number in range(150)]
    together, alone = ask(judge, *requests), [ask(judge, request)[0] for request in requests[:3]]
    assert [expected(reply) > 3 for reply in together] == [bool(number % 3) for number in range(150)]
    assert [expected(reply) for reply in alone] == pytest.approx([expected(reply) for reply in together[:3]], abs=1e-4)


def test_an_image_without_a_key_is_never_taken_for_another(judge: Path) -> None:
    one, two = ask(judge, grading(GOOD, None), grading(BAD, None))
    assert expected(one) > expected(two)


def test_a_grade_on_which_the_members_disagree_is_unsure(judge: Path, tmp_path: Path) -> None:
    model, head = load(judge)
    save(tmp_path / "doubtful", model, replace(head, sure=-1.0))
    (reply,) = ask(tmp_path / "doubtful", grading(GOOD))
    assert reply.text == UNSURE and sum(reply.labels.values()) == 0


@pytest.mark.parametrize(
    "request_",
    [Request("answer", "How many?", 9), Request("judge", "?", 1, labels=("no", "yes"))],
    ids=["text", "labels"],
)
def test_what_it_was_not_made_for_fails_with_a_reason(judge: Path, request_: Request) -> None:
    (reply,) = ask(judge, request_)
    assert reply.failure == "call_failed" and "it only grades 'answer' with the labels 1, 2, 3, 4, 5" in (
        reply.detail or ""
    )


def test_a_folder_that_is_none_damaged_or_of_another_embedder_is_refused_in_one_line(
    judge: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match="holds no distilled judge; `synth distill` makes one"):
        ask(tmp_path)
    model, head = load(judge)
    save(tmp_path / "moved", replace(model, digest="other"), head)
    with pytest.raises(ModelUnavailable, match="has other files now; distill again"):
        ask(tmp_path / "moved")
    record = tmp_path / "moved" / "distilled.json"
    record.write_text(record.read_text()[:40])
    with pytest.raises(ModelUnavailable, match="is damaged"):
        ask(tmp_path / "moved")
    save(tmp_path / "short", model, head)
    weights = tmp_path / "short" / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelUnavailable, match="is damaged"):
        ask(tmp_path / "short")
    with pytest.raises(UserMistake, match="takes no options, and has dtype"):
        asyncio.run(open_engine(ModelName("x", ""), EngineConfig(kind="distilled", options={"dtype": "float32"})))


def test_what_is_saved_is_read_back(judge: Path, tmp_path: Path) -> None:
    model, head = load(judge)
    save(tmp_path / "again", model, head)
    again, same = load(tmp_path / "again")
    assert again == model and same.sure == head.sure and (same.weights == head.weights).all()
    assert json.loads((judge / "distilled.json").read_text())["score"] == "answer"


@given(st.text(alphabet="ab \n", max_size=600))
def test_the_windows_of_a_text_hold_all_its_words(text: str) -> None:
    windows = windows_of(text)
    assert " ".join(windows).split() == text.split() and windows
    assert all(len(window.split()) <= WINDOW for window in windows)


def test_hashed_words_depend_on_the_words_alone_and_not_on_the_order_of_texts() -> None:
    texts = ["three red bars", "", "three red bars and more"]
    hashed = hashed_words(texts)
    assert hashed.shape == (3, HASHED) and not hashed[1].any()
    assert (hashed_words(texts[::-1])[::-1] == hashed).all()
    assert (hashed_words(["red three bars"]) != hashed[0]).any()


def test_measures_are_right_on_known_values() -> None:
    one, other = np.array([0.1, 0.2, 0.3, 0.9], np.float32), np.array([1, 2, 3, 4], np.float32)
    assert rank_correlation(one, other) == pytest.approx(1) and rank_correlation(one, -other) == pytest.approx(-1)
    assert rank_correlation(one, np.ones(4, np.float32)) == 0.0
    assert f1(np.array([True, True, False]), np.array([True, False, True])) == 0.5
    assert f1(np.zeros(3, bool), np.ones(3, bool)) == 0.0
    assert calibration_error(np.full(4, 0.8, np.float32), np.array([1, 1, 1, 0], np.float32)) == pytest.approx(0.05)
