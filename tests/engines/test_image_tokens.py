"""`image_tokens` in the settings of each family; tests/zoo/test_image_tokens.py asks the real processors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName, Request
from synthgen.engines.image_tokens import FAMILIES, ImageBound, bound_images, images_of, rule_of, with_bound
from synthgen.engines.image_tokens.grids import PatchGrid
from synthgen.engines.image_tokens.measure import MEASURED, ImageMeter, too_long
from synthgen.engines.model_files import ModelFiles, read_model_files
from tests.fixtures.images import drawn

# The settings of released checkpoints, as far as they bear on the tokens of an image.
QWEN2_5 = ModelFiles(
    {"model_type": "qwen2_5_vl", "max_position_embeddings": 128_000, "vision_config": {"patch_size": 14}},
    {"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "merge_size": 2},
)
QWEN3 = ModelFiles(
    {"model_type": "qwen3_vl", "text_config": {"max_position_embeddings": 262_144}},
    {"size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}, "patch_size": 16, "merge_size": 2},
)
GLM = ModelFiles(
    {"model_type": "glm4v"},
    {"size": {"shortest_edge": 12_544, "longest_edge": 9_633_792}, "patch_size": 14, "merge_size": 2},
)
INTERNVL = ModelFiles(
    {"model_type": "internvl", "vision_config": {"image_size": [448, 448], "patch_size": [14, 14]}},
    {"size": {"height": 448, "width": 448}, "crop_to_patches": True, "max_patches": 12, "min_patches": 1},
    {"image_seq_length": 256},
)
INTERNVL_CHAT = ModelFiles(
    {
        "model_type": "internvl_chat",
        "vision_config": {"image_size": 448, "patch_size": 14},
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
    }
)
GEMMA = ModelFiles({"model_type": "gemma3", "mm_tokens_per_image": 256}, {"do_pan_and_scan": None})
IDEFICS = ModelFiles(
    {"model_type": "idefics3", "scale_factor": 2, "vision_config": {"patch_size": 14}},
    {"size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364}},
    {"image_seq_len": 169},
)
SMOLVLM = ModelFiles(
    {"model_type": "smolvlm", "scale_factor": 4, "vision_config": {"patch_size": 16}},
    {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}, "do_image_splitting": True},
)
MISTRAL = ModelFiles(
    {"model_type": "mistral3", "spatial_merge_size": 2, "vision_config": {"patch_size": 14}},
    {"size": {"longest_edge": 1540}, "patch_size": {"height": 14, "width": 14}},
)
PINPOINTS = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
LLAVA = ModelFiles(
    {
        "model_type": "llava_onevision",
        "image_grid_pinpoints": PINPOINTS,
        "vision_config": {"image_size": 384, "patch_size": 14},
    },
    {"image_grid_pinpoints": PINPOINTS},
)
MINICPM = ModelFiles({"model_type": "minicpmv4_6"}, {"max_slice_nums": 9, "scale_resolution": 448, "patch_size": 14})
RELEASED = (
    QWEN2_5,
    replace(QWEN2_5, config={"model_type": "qwen2_vl"}),
    QWEN3,
    GLM,
    INTERNVL,
    INTERNVL_CHAT,
    GEMMA,
    IDEFICS,
    SMOLVLM,
    MISTRAL,
    LLAVA,
    MINICPM,
)
# At 1,280: what vLLM is told, and the most tokens of an image that follow.
TOLD: dict[str, tuple[Any, int]] = {
    "qwen2_vl": ({"size": {"shortest_edge": 3136, "longest_edge": 1_003_520}}, 1280),
    "qwen2_5_vl": ({"size": {"shortest_edge": 3136, "longest_edge": 1_003_520}}, 1280),
    "qwen3_vl": ({"size": {"shortest_edge": 65_536, "longest_edge": 1_310_720}}, 1280),
    "glm4v": ({"size": {"shortest_edge": 12_544, "longest_edge": 2_007_040}}, 1280),
    "internvl": ({"max_patches": 4}, 1280),
    "internvl_chat": ({"max_dynamic_patch": 4}, 1280),
    "gemma3": (None, 256),
    "idefics3": ({"size": {"longest_edge": 728}}, 858),
    "smolvlm": (None, 1127),
    "mistral3": ({"size": {"longest_edge": 980}}, 1260),
    "llava_onevision": ({"image_grid_pinpoints": [[384, 384]]}, 1485),
    "minicpmv4_6": (None, 1071),
}
SIDES = st.integers(16, 5000)


def bound(files: ModelFiles, wanted: int | None = 1280, **options: Any) -> ImageBound:
    return bound_images(files, EngineConfig(image_tokens=wanted, options=options))


@pytest.mark.parametrize("files", RELEASED, ids=lambda files: files.family)
def test_each_family_is_told_in_its_own_settings(files: ModelFiles) -> None:
    found = bound(files)
    told, most = TOLD[files.family]
    assert found.arguments.get("mm_processor_kwargs") == told
    assert found.rule and found.rule.most == most
    assert (found.note is None) == (most <= 1280)
    assert bound(files, None).arguments == {} and bound(files, None).note is None


@pytest.mark.parametrize("files", RELEASED, ids=lambda files: files.family)
@given(width=SIDES, height=SIDES, wanted=st.integers(200, 8000))
def test_no_image_takes_more_than_its_rule_says(files: ModelFiles, width: int, height: int, wanted: int) -> None:
    rule = bound(files, wanted).rule
    assert rule
    if max(width, height) <= 100 * min(width, height):
        assert 0 < rule.tokens(width, height) <= rule.most
        assert rule.most <= wanted or rule == rule.within(1)


@pytest.mark.parametrize("files", RELEASED, ids=lambda files: files.family)
def test_a_model_that_keeps_to_the_number_is_left_as_it_is(files: ModelFiles) -> None:
    rule = rule_of(files)
    assert rule and bound(files, rule.most).arguments == {}
    assert bound(files, rule.most).rule == rule


def test_photographs_of_the_everyday_pipeline_keep_their_size_for_qwen() -> None:
    """They are scaled to 1,003,520 pixels already, 1,280 squares of 28 pixels a side."""
    bounded, before = bound(QWEN2_5).rule, rule_of(QWEN2_5)
    assert bounded and before
    for width, height in ((1176, 840), (640, 480), (1120, 896), (1344, 728), (32, 32)):
        assert bounded.tokens(width, height) == before.tokens(width, height) <= 1280


def test_the_settings_of_llava_reach_the_model_and_the_processor() -> None:
    arguments = bound(LLAVA, 3000).arguments
    assert arguments["hf_overrides"] == arguments["mm_processor_kwargs"]
    assert [768, 768] not in arguments["hf_overrides"]["image_grid_pinpoints"]


@pytest.mark.parametrize(
    ("files", "options", "most"),
    [
        (QWEN2_5, {"mm_processor_kwargs": {"max_pixels": 4096 * 784}}, 4096),
        (QWEN2_5, {"mm_processor_kwargs": {"images_kwargs": {"max_pixels": 2048 * 784}}}, 2048),
        (INTERNVL, {"mm_processor_kwargs": {"max_patches": 6}}, 1792),
        (INTERNVL, {"mm_processor_kwargs": {"crop_to_patches": False}}, 256),
        (LLAVA, {"hf_overrides": {"image_grid_pinpoints": [[384, 768]]}}, 2214),
    ],
)
def test_settings_that_the_pipeline_names_itself_are_left_alone(
    files: ModelFiles, options: dict[str, Any], most: int
) -> None:
    image = {**files.image} if files is not LLAVA else {}
    found = bound(replace(files, image=image), 1280, **options)
    assert found.arguments == {} and with_bound(options, found) == options
    assert found.rule and found.rule.most == most
    assert (found.note is not None) == (most > 1280)
    if found.note:
        assert "engine.options.mm_processor_kwargs allows it" in found.note


def test_other_options_stay_beside_those_that_bound_images() -> None:
    options = {"dtype": "float32", "mm_processor_kwargs": {"fps": 1}, "hf_overrides": {"rope_theta": 1.0}}
    merged = with_bound(options, bound(LLAVA, 1280, **options))
    assert merged["dtype"] == "float32"
    assert merged["mm_processor_kwargs"] == {"fps": 1, "image_grid_pinpoints": [[384, 384]]}
    assert merged["hf_overrides"] == {"rope_theta": 1.0, "image_grid_pinpoints": [[384, 384]]}


def test_crops_of_gemma_are_turned_off_only_where_they_are_on_and_too_many() -> None:
    crops = replace(GEMMA, image={"do_pan_and_scan": True, "pan_and_scan_max_num_crops": 4})
    assert bound(crops, 1280).arguments == {}
    assert bound(crops, 1000).arguments == {"mm_processor_kwargs": {"do_pan_and_scan": False}}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (ModelFiles({"model_type": "paligemma"}), "how images of the family 'paligemma' become tokens is not known"),
        (
            replace(QWEN3, image={"size": {"longest_edge": "many"}}),
            "the family 'qwen3_vl' become tokens is not",
        ),
        (ModelFiles({}), "its configuration cannot be read"),
    ],
)
def test_a_family_that_is_not_known_is_told_of_and_left_as_it_is(files: ModelFiles, said: str) -> None:
    found = bound(files)
    assert found.rule is None and found.most is None and found.arguments == {}
    assert found.note and said in found.note and "the first images are measured" in found.note
    assert bound(files, None).note is None


def test_every_family_is_tried_here_or_is_one_of_these() -> None:
    alike = {"qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v_moe"}
    assert {files.family for files in RELEASED} | alike == set(FAMILIES)


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_processor_is_read_from_either_form_of_its_file(tmp_path: Path) -> None:
    name = ModelName(str(tmp_path), "files:x")
    assert read_model_files(name) is None
    assert images_of(name, EngineConfig()) == ImageBound("", 1280, None, {})
    (tmp_path / "config.json").write_text(json.dumps(QWEN3.config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(QWEN3.image))
    files = read_model_files(name)
    assert files == QWEN3 and files.context == 262_144
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"size": 1}}))
    files = read_model_files(name)
    assert files and files.image == {"size": 1}
    (tmp_path / "config.json").write_text("{")
    assert read_model_files(name) is None


def test_a_model_of_the_hub_is_read_from_its_cache_alone_unless_it_may_be_downloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def download(model: str, file: str, revision: str) -> str:
        asked.append(f"{model}@{revision}/{file}")
        raise OSError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    name = ModelName("organisation/model", "0" * 40)
    assert read_model_files(name) is None and asked == []
    assert read_model_files(name, may_download=True) is None
    assert asked == [f"organisation/model@{'0' * 40}/config.json"]


# --- engines ----------------------------------------------------------------------------------------------------------

SEEN = Request("answer", "What?", 1, image=drawn(size=(40, 30)))
UNKNOWN = bound(ModelFiles({"model_type": "paligemma"}))


def test_the_first_images_of_an_unknown_family_are_measured_and_one_too_large_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "synthgen")
    meter = ImageMeter("a/b", UNKNOWN)
    meter.see(Request("answer", "What?", 1), 5000)
    meter.see(SEEN, 1280)
    assert meter.is_measuring and caplog.messages == []
    for tokens in (1281, 4000):
        meter.see(SEEN, tokens)
    (line,) = caplog.messages
    assert line.startswith("model a/b: an image of 40 x 30 takes 1,281 tokens, more than engine.image_tokens")
    assert not meter.is_measuring


def test_measuring_ends_and_is_not_begun_for_a_family_that_is_known() -> None:
    meter = ImageMeter("a/b", UNKNOWN)
    for _ in range(MEASURED):
        meter.see(SEEN, 10)
    assert not meter.is_measuring
    assert not ImageMeter("a/b", bound(QWEN3)).is_measuring
    assert not ImageMeter("a/b", replace(UNKNOWN, wanted=None)).is_measuring


@pytest.mark.parametrize(
    "message",
    [
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that …",
        "The decoder prompt (length 9000) plus the number of requested output tokens (at least 1) is longer than the "
        "maximum model length of 8192.",
        "This model's maximum context length is 8192 tokens. However, your prompt contains at least 9000 input tokens,",
    ],
)
def test_a_prompt_that_does_not_fit_says_how_long_it_is_and_what_to_do(message: str) -> None:
    said = too_long(message, SEEN)
    assert said == (
        "the prompt with its image of 40 x 30 is 9,000 tokens, the context holds 8,192; lower "
        "engine.image_tokens, or raise engine.options.max_model_len"
    )
    blind = too_long(message, replace(SEEN, image=None))
    assert blind and blind.endswith("holds 8,192; raise engine.options.max_model_len")
    assert too_long("CUDA out of memory", SEEN) is None


def test_a_narrow_image_is_enlarged_as_the_processor_of_glm_rounds_it() -> None:
    assert PatchGrid(28, 12_544, 9_633_792, frames=2, enlarges=True).tokens(670, 20) == 33
