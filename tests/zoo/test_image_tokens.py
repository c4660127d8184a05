"""The tokens of an image: each family's rule against its real processor, under the settings that bound them."""

from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor

from synthgen.config.engine import EngineConfig
from synthgen.engines.image_tokens import PROCESSOR
from tests.zoo.checkpoints import FAMILIES, checkpoint, images
from tests.zoo.interview import SIZES
from tests.zoo.test_checkpoints import OWN_TEMPLATE

MORE_SIZES = (*SIZES, (64, 48), (30, 700), (448, 448), (16, 1600))
WANTED = (None, 200, 1280, 3000)
FLOORS = {"llava-onevision": 1485, "internvl3": 256, "gemma3": 256}  # tokens, the fewest that a family can take


def prompt(processor: Any, *, image: bool) -> str:
    content = [{"type": "image"}] * image + [{"type": "text", "text": "What is it?"}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))


def counted(name: str, settings: dict[str, Any]) -> dict[tuple[int, int], int]:
    """Return the tokens that the real processor of a family writes for images, by their size."""
    processor = AutoProcessor.from_pretrained(checkpoint(name), **settings)
    blind = len(processor.tokenizer(prompt(processor, image=False), add_special_tokens=False)["input_ids"])
    text = [prompt(processor, image=True)]
    lengths = {
        size: len(processor(text=text, images=[Image.new("RGB", size)], add_special_tokens=False)["input_ids"][0])
        for size in MORE_SIZES
    }
    return {size: length - blind - FAMILIES[name].marks for size, length in lengths.items()}


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("name", OWN_TEMPLATE)
def test_an_image_takes_the_tokens_of_the_familys_rule_and_no_more_than_the_setting(
    name: str, wanted: int | None
) -> None:
    bound = images(name, EngineConfig(image_tokens=wanted))
    rule = bound.rule
    assert rule
    taken = counted(name, dict(bound.arguments.get(PROCESSOR, {})))
    assert taken == {size: rule.tokens(*size) + rule.around for size in taken}
    most = max(taken.values()) - rule.around
    assert most <= rule.most
    if wanted is None:
        assert not bound.arguments
    elif wanted >= FLOORS.get(name, 0):
        assert most <= rule.most <= wanted and bound.note is None
    else:
        assert rule.most == FLOORS[name]
        assert bound.note and f"takes up to {FLOORS[name]:,} tokens" in bound.note and f"({wanted:,})" in bound.note
