"""Types that the seed does not give come from a types file, from the words of the questions or from a model."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.learn import classify, learn, row_types
from synthgen.config import prompt_pack
from synthgen.config.engine import EngineConfig
from synthgen.engines import EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.errors import UserMistake
from tests.fixtures.seeds import (
    COUNTING,
    READING,
    ROWS,
    SCENE,
    learn_request,
    llava,
    seed_rows,
    strongest,
    weights_of,
    write_seed,
)
from tests.fixtures.workspace import write


def test_types_come_from_a_file_of_row_ids(workspace: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "types"} for row in seed_rows("llava")]
    by_id = {f"r{number}": ROWS[number % len(ROWS)][1] for number in range(len(rows) - 1)}
    _, report = learn(
        learn_request(
            write_seed(workspace / "s.json", rows), types_file=write(workspace / "types.json", json.dumps(by_id))
        )
    )
    assert "24 rows, 23 used, 1 left out" in report[0]
    assert "no_types" in report[1] and "no row 'r23'" in report[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", '{"r1": ["reading"], "r2": [], "r1": ["scene"]}'),
        ("t.jsonl", '{"id": "r1", "types": ["reading"]}\n{"id": "r1", "types": ["scene"]}\n'),
    ],
)
def test_a_types_file_that_names_a_row_twice_is_refused(workspace: Path, name: str, text: str) -> None:
    with pytest.raises(UserMistake, match="holds 'r1' twice; keep one of them"):
        row_types.read_types_file(write(workspace / name, text))


def test_a_line_of_a_types_file_ends_at_a_line_feed_alone(workspace: Path) -> None:
    path = write(workspace / "t.jsonl", '{"id": "a\u2028b", "types": ["reading"]}\n{"id": 2, "types": "scene"}\n')
    assert row_types.read_types_file(path) == {"a\u2028b": ("reading",), "2": ("scene",)}


def test_types_are_found_by_the_likeness_of_words(workspace: Path) -> None:
    asked = {READING: "Read it: what is written?", COUNTING: "Please count: how many?", SCENE: "What place is it?"}
    rows = [{**llava(n, asked[ROWS[n % 6][1]]), "tags": [ROWS[n % 6][0]]} for n in range(24)]
    rows += [{**llava(99, "Zyzzyva?"), "tags": ["cat"]}]
    path, report = learn(learn_request(write_seed(workspace / "s.json", rows)))
    assert strongest(weights_of(path), "document") == READING
    assert "25 rows, 24 used, 1 left out" in report[0] and "no_type_fits" in report[1]


class Sorter:
    """An engine that chooses by a word of the question, and fails on some words."""

    def __init__(self, name: ModelName, settings: EngineConfig) -> None:
        self.facts = EngineInfo("sorter", "1", frozenset({"schema"}), None, "1")
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request)
        if "broken" in request.text:
            return Reply("", "error", "call_failed", "no")
        if "die" in request.text:
            raise EngineDied("dead")
        if "babble" in request.text:
            return Reply('{"chosen": ["nothing known"]}')
        names = request.schema["properties"]["chosen"]["items"]["enum"] if request.schema else []
        asked = request.text.rpartition("Question:")[2]
        wanted = ["fine", "reading"] if "written" in asked else ["coarse", "counting"] if "many" in asked else []
        return Reply(json.dumps({"chosen": [name for name in names if name in wanted]}))

    async def close(self) -> None:
        pass


def classify_with(
    monkeypatch: pytest.MonkeyPatch, questions: Sequence[str], **engine: Any
) -> list[classify.Classified]:
    async def sorter(name: ModelName, settings: EngineConfig) -> Sorter:
        return Sorter(name, settings)

    monkeypatch.setattr(classify, "open_engine", sorter)
    subjects = tuple(map(classify.ClassifySubject, questions))
    return asyncio.run(
        classify.classify_all(
            classify.ClassifyTask(ModelName("m", "r"), EngineConfig(**engine), prompt_pack.load("small").tree, subjects)
        )
    )


def test_a_model_sorts_questions_by_family_and_then_by_type(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = classify_with(monkeypatch, ["What is written?", "How many?", "Hm?", "broken", "babble"])
    assert [result.types for result in results] == [(READING,), (COUNTING,), (), (), ()]
    assert [bool(result.failure) for result in results] == [False, False, False, True, True]


def test_no_more_questions_are_sorted_at_once_than_the_engine_takes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = 0

    async def choose(*arguments: object, most: int) -> classify.Classified:
        nonlocal at_once
        at_once += 1
        peaks.append(at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return classify.Classified(())

    peaks: list[int] = []
    monkeypatch.setattr(classify, "choose", choose)
    classify_with(monkeypatch, ["a", "b", "c", "d"], in_flight=2)
    assert max(peaks) == 2


def test_an_engine_that_dies_while_sorting_is_one_line(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="the engine died while it sorted questions: dead"):
        classify_with(monkeypatch, ["die"])


def test_types_are_found_by_the_scripted_engine_in_an_actor(workspace: Path) -> None:
    """The whole way through Ray; the scripted engine chooses at random, so only the sums are checked."""
    rows = [{**llava(number, f"How many {number}?"), "tags": [ROWS[number % 6][0]]} for number in range(24)]
    seed = write_seed(workspace / "s.json", rows)
    path, report = learn(
        learn_request(
            seed,
            overrides=["generate.engine.options={fail: 0.1}", "learn.find_types=model", "learn.min_support=1"],
        )
    )
    used, left_out = (int(word.split()[0]) for word in report[0].split(", ")[1:])
    assert used + left_out == 24 and used
    assert weights_of(path)
