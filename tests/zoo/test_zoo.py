"""What holds for each family in a real vLLM: `make zoo` for all, a few of them in the usual run of the tests."""

import json
import math
from typing import Any

import pytest

from synthgen.config.engine import EngineConfig
from tests.zoo.checkpoints import FAMILIES, images
from tests.zoo.interview import CONTEXT, LABELS, SCHEMA

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine

ROOM = 2048  # tokens: the longest prompt of the everyday pack and its longest reply


def test_it_loads(found: dict[str, Any]) -> None:
    assert found["kv_tokens"] > 0
    assert found["first"]["failure"] is None and found["first"]["output_tokens"] > 0


def tokens_of(family: str, size: tuple[int, int]) -> int:
    """Return the tokens that an image adds to a prompt, by the product's own rule and its default settings."""
    rule = images(family, EngineConfig()).rule
    assert rule
    return rule.tokens(*size) + rule.around + FAMILIES[family].marks


def test_an_image_takes_the_tokens_of_the_familys_rule(family: str, found: dict[str, Any]) -> None:
    counted = {tuple(row["seen"]): row["tokens"] for row in found["sizes"] if not row["failure"]}
    assert counted == {seen: tokens_of(family, seen) for seen in counted}
    assert counted


def test_no_image_takes_more_tokens_than_the_settings_say_and_every_prompt_leaves_room(
    family: str, found: dict[str, Any]
) -> None:
    assert [row for row in found["sizes"] if row["failure"]] == []
    bound, settings = images(family, EngineConfig()), EngineConfig()
    assert settings.image_tokens and bound.rule and bound.most
    most = max(row["tokens"] for row in found["sizes"])
    assert most <= bound.most + FAMILIES[family].marks <= CONTEXT - ROOM
    assert (bound.rule.most <= settings.image_tokens) == (bound.note is None)


def test_a_second_call_finds_the_image_in_the_cache(family: str, found: dict[str, Any]) -> None:
    first, second = found["first"], found["second"]
    tokens = tokens_of(family, (640, 480))
    # Whole blocks are cached, and the block in which the image ends holds text of the first call too.
    assert first["cached_tokens"] < found["block"] <= second["cached_tokens"]
    assert second["cached_tokens"] > tokens - found["block"]


def test_json_parses_under_the_grammar(found: dict[str, Any]) -> None:
    reply = found["schema"]
    assert reply["failure"] is None and reply["finish"] == "stop"
    value = json.loads(reply["text"])
    assert list(value) == SCHEMA["required"] and all(isinstance(item, str) for item in value["questions"])


def test_labels_have_the_probability_that_they_have_as_given_replies(found: dict[str, Any]) -> None:
    seen = found["labels"]["labels"]
    given = {label: math.exp(row["logprobs"][0]) for label, row in found["given_labels"].items()}
    assert seen.keys() == set(LABELS)
    assert all(seen[label] >= given[label] * 0.999 for label in LABELS), (seen, given)


def test_the_mass_of_the_labels_is_read(family: str, found: dict[str, Any]) -> None:
    mass = sum(found["labels"]["labels"].values())
    if family == "qwen3-vl-thinking":
        assert mass < 0.01  # it would think first
    else:
        assert 0.1 < mass <= 1.001


def compared(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the replies that are text alone; log-probabilities of thoughts are not the answer's, so there are none."""
    return [row for row in found["given"] if not row["said"]["reasoning"] and row["said"]["logprobs"]]


def test_a_given_reply_has_a_log_probability_a_token_and_one_for_its_end(found: dict[str, Any]) -> None:
    whole = [row for row in compared(found) if row["said"]["finish"] == "stop"]
    for row in whole:
        assert len(row["given"]["logprobs"]) == len(row["blind"]["logprobs"]) > 0
    same = [row for row in whole if len(row["said"]["logprobs"]) == len(row["given"]["logprobs"])]
    assert len(same) >= len(whole) - 1  # text of stray tokens may be read back as others


def test_a_given_reply_is_as_likely_as_when_it_was_said_its_end_included(family: str, found: dict[str, Any]) -> None:
    if family == "qwen3-vl-thinking":
        pytest.skip("what it says without an end of its thoughts is thought, and a given reply comes after them")
    equal = 0
    for row in compared(found):
        said, given = row["said"]["logprobs"], row["given"]["logprobs"]
        if row["said"]["finish"] != "stop":  # it was cut off, so the given one has an end more
            given = given[:-1]
        if len(said) == len(given):  # text of stray tokens may be read back as others
            assert given == pytest.approx(said, abs=1e-3)
            equal += row["said"]["finish"] == "stop"
    assert equal >= 2


def test_the_image_changes_how_likely_a_reply_is(found: dict[str, Any]) -> None:
    assert any(abs(sum(row["given"]["logprobs"]) - sum(row["blind"]["logprobs"])) > 1e-3 for row in found["given"])
