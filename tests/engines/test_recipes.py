"""Recipes: which settings of model and engine make every pair another, and which leave all of them."""

from dataclasses import replace
from typing import Any

import pytest

from synthgen.config import prompt_pack
from synthgen.config.engine import EngineConfig, SamplingConfig
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.engines import ModelName
from synthgen.engines.kinds import reply_options
from synthgen.stages.generate.context import GenerateContext
from synthgen.store import Folder


def context(**changes: Any) -> GenerateContext:
    plain = GenerateContext(
        out=Folder("/nowhere"),
        source=SourceConfig(),
        images=ImagesConfig(),
        prompts=prompt_pack.load("small"),
        model=ModelName("/models/one", "files:0123"),
        engine=EngineConfig(options={"dtype": "bfloat16", "max_num_seqs": 8}),
        sampling=SamplingConfig(),
        scores=("likelihood", "agreement"),
        seed=0,
    )
    return replace(plain, **changes)


SHAPING: dict[str, dict[str, Any]] = {
    "weights": {"model": ModelName("/models/one", "files:4567")},
    "hub model": {"model": ModelName("a/b", "0123")},
    "endpoint's model": {"model": ModelName("a/b", "unverified")},
    "dtype": {"engine": EngineConfig(options={"dtype": "float32"})},
    "quantization": {"engine": EngineConfig(options={"dtype": "bfloat16", "quantization": "fp8"})},
    "longest prompt": {"engine": EngineConfig(options={"dtype": "bfloat16", "max_model_len": 512})},
    "what the processor does": {
        "engine": EngineConfig(options={"dtype": "bfloat16", "mm_processor_kwargs": {"max_pixels": 1}})
    },
    "overridden configuration": {"engine": EngineConfig(options={"dtype": "bfloat16", "hf_overrides": {"x": 1}})},
    "tokens of an image": {"engine": EngineConfig(options={"dtype": "bfloat16"}, image_tokens=640)},
    "chat template": {"engine": EngineConfig(options={"dtype": "bfloat16"}, template={"enable_thinking": False})},
    "ask temperature": {"sampling": SamplingConfig(ask_temperature=0.1)},
    "answer temperature": {"sampling": SamplingConfig(answer_temperature=0.1)},
    "top p": {"sampling": SamplingConfig(top_p=0.5)},
    "size of images": {"images": ImagesConfig(model_pixels=1000)},
    "seed": {"seed": 1},
}
IDLE: dict[str, dict[str, Any]] = {
    "place of the model": {"model": ModelName("/models/moved", "files:0123")},
    "replicas": {
        "engine": EngineConfig(
            options={"dtype": "bfloat16"}, replicas=4, in_flight=9, retries=0, call_seconds=5, gpus=0
        )
    },
    "engine's speed": {
        "engine": EngineConfig(options={"dtype": "bfloat16", "max_num_seqs": 99, "gpu_memory_utilization": 0.5})
    },
    "environment": {"engine": EngineConfig(options={"dtype": "bfloat16"}, environment={"OMP_NUM_THREADS": "1"})},
    "samples of a score": {"sampling": SamplingConfig(agree_samples=9, agree_temperature=0.1)},
    "scores": {"scores": ()},
    "limits of decoding": {"images": ImagesConfig(max_bytes=5, decode_seconds=1)},
    "source": {"source": SourceConfig(uri="/elsewhere")},
}
pytestmark = pytest.mark.usefixtures("workspace")


@pytest.mark.parametrize("change", SHAPING.values(), ids=SHAPING)
def test_a_setting_that_shapes_replies_makes_every_pair_another(change: dict[str, Any]) -> None:
    before, after = context().recipes(), context(**change).recipes()
    assert set(before) == set(after) and not set(before.values()) & set(after.values())
    assert context().fingerprints()["pairs"] != context(**change).fingerprints()["pairs"]


@pytest.mark.parametrize("change", IDLE.values(), ids=IDLE)
def test_a_setting_of_speed_or_place_leaves_every_pair(change: dict[str, Any]) -> None:
    assert context(**change).recipes() == context().recipes()


def test_another_way_of_reading_images_makes_every_pair_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = context().recipes()
    monkeypatch.setattr("synthgen.stages.generate.context.DECODING", "another")
    assert not set(before.values()) & set(context().recipes().values())


def test_neither_a_chat_template_without_options_nor_unbounded_images_are_part_of_a_recipe() -> None:
    """Pairs from before there were such options keep their recipe."""
    plain = EngineConfig(options={"dtype": "bfloat16", "seed": 1}, template={}, image_tokens=None)
    assert reply_options(plain) == {"dtype": "bfloat16"}


def test_two_hub_models_are_two_models_even_of_one_commit() -> None:
    first, second = (context(model=ModelName(name, "0123")).recipes() for name in ("a/b", "a/c"))
    assert not set(first.values()) & set(second.values())


def test_every_type_and_form_has_a_recipe_of_its_own() -> None:
    recipes = context().recipes()
    assert len(set(recipes.values())) == len(recipes) == 6


def test_a_score_is_stale_after_a_change_of_its_own_settings() -> None:
    before = context().score_fingerprints()
    after = context(sampling=SamplingConfig(agree_samples=9)).score_fingerprints()
    assert before["likelihood"] == after["likelihood"] and before["agreement"] != after["agreement"]
