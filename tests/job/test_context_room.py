"""Whether the longest prompts fit the context, from the files of a model alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthgen.config import pipeline as pipelines
from synthgen.engines import ModelName
from synthgen.job.context_room import context_faults, image_notes
from synthgen.job.resolve import load_definitions
from synthgen.stages.contract import Job, ScoringPass
from synthgen.store import Folder

QWEN = {"model_type": "qwen2_5_vl", "max_position_embeddings": 32_768}
pytestmark = pytest.mark.usefixtures("workspace")


def job(engine: dict[str, Any], model: str = "model", config: dict[str, Any] | None = None) -> Job:
    """Return a job of a model in a folder."""
    folder = Path(model)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or QWEN))
    pipeline = pipelines.load("small", [f"generate.engine={json.dumps(engine)}"])
    return Job(Folder("/nowhere"), pipeline, load_definitions(pipeline, Path()), ModelName(model, "files:0"), {})


def test_calls_that_fit_are_not_told_of_and_the_plan_says_what_an_image_takes() -> None:
    fits = job({"kind": "vllm"})
    assert context_faults(fits) == []
    assert image_notes(fits) == ["model model: an image takes up to 1,280 tokens of a context of 32,768"]


def test_a_context_too_small_is_told_in_one_line_with_each_part() -> None:
    (line,) = context_faults(job({"kind": "vllm", "options": {"max_model_len": 1300}}))
    assert line.startswith("model model: the longest call does not fit the context of 1,300 tokens: ")
    assert "the image up to 1,280, the text about " in line and "the reply up to " in line
    assert line.endswith("or raise generate.engine.options.max_model_len")
    assert context_faults(job({"kind": "vllm", "image_tokens": 200, "options": {"max_model_len": 1300}})) == []


def test_the_context_of_a_pass_is_that_of_its_own_calls_and_settings() -> None:
    """A judge needs room for the image and its prompt, and none for a long answer."""
    made = job({"kind": "vllm"})
    folder = Path("judge")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN))

    def faults(scores: str, context: int) -> list[str]:
        engine = f"{{kind: vllm, options: {{max_model_len: {context}}}}}"
        section = f"score.second={{model: judge, scores: {scores}, engine: {engine}}}"
        pipeline = pipelines.load("small", ["generate.engine={kind: vllm}", section])
        definitions, model = load_definitions(pipeline, Path()), ModelName("judge", "files:1")
        judge = ScoringPass("second", pipeline.passes["second"], model, definitions.passes["second"])
        return context_faults(replace(made, pipeline=pipeline, definitions=definitions, passes=(judge,)))

    assert not faults("[answer]", 1310) and not faults("[likelihood]", 1400)
    (line,) = faults("[likelihood]", 1310)
    assert line.startswith("model judge: the longest call does not fit the context of 1,310 tokens: ")
    assert line.endswith("lower score.second.engine.image_tokens, or raise score.second.engine.options.max_model_len")


def test_the_plan_tells_of_a_family_that_takes_more_than_the_setting() -> None:
    llava = {"model_type": "llava_onevision", "text_config": {"max_position_embeddings": 32_768}}
    (line,) = image_notes(job({"kind": "vllm"}, config=llava))
    assert "an image takes up to 1,485 tokens, more than engine.image_tokens (1,280)" in line


@pytest.mark.parametrize(
    ("engine", "config"),
    [({"kind": "vllm"}, {"model_type": "other", "max_position_embeddings": 10}), ({"kind": "scripted"}, QWEN)],
)
def test_nothing_is_said_where_nothing_is_known(engine: dict[str, Any], config: dict[str, Any]) -> None:
    assert context_faults(job(engine, config=config)) == image_notes(job(engine, config=config)) == []
    assert context_faults(replace(job({"kind": "vllm"}), model=ModelName("absent", "files:0"))) == []


def test_the_model_that_asks_is_looked_at_for_its_own_calls() -> None:
    both = job({"kind": "vllm", "options": {"max_model_len": 1300}})
    Path("asker").mkdir()
    (Path("asker") / "config.json").write_text(json.dumps({**QWEN, "max_position_embeddings": 1281}))
    asking = replace(both, asking=ModelName("asker", "files:1"))
    pipeline = pipelines.load(
        "small", ["generate.engine={kind: vllm}", "generate.ask={model: asker, engine: {kind: vllm}}"]
    )
    (line,) = context_faults(replace(asking, pipeline=pipeline))
    assert line.startswith("model asker: the longest call does not fit the context of 1,281")
