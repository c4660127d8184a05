"""Each tiny checkpoint loads as a released one does, and an image takes the tokens that its family's rule says."""

from typing import Any

import pytest
from PIL import Image
from transformers import AutoConfig, AutoProcessor

from tests.zoo.checkpoints import FAMILIES, checkpoint
from tests.zoo.interview import SIZES

OWN_TEMPLATE = [name for name in FAMILIES if name not in ("no-system-role", "string-content")]


@pytest.fixture(params=OWN_TEMPLATE, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def processor(name: str) -> Any:
    return AutoProcessor.from_pretrained(checkpoint(name))


def prompt(processor: Any, *, image: bool) -> str:
    content = [{"type": "image"}] * image + [{"type": "text", "text": "What is it?"}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))


def test_a_checkpoint_names_its_architecture_and_stays_small(name: str) -> None:
    folder = checkpoint(name)
    assert AutoConfig.from_pretrained(folder).architectures == [FAMILIES[name].model]
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 8 * 2**20


def test_an_image_takes_the_tokens_of_the_familys_rule(name: str, processor: Any) -> None:
    blind = len(processor.tokenizer(prompt(processor, image=False), add_special_tokens=False)["input_ids"])
    text = prompt(processor, image=True)
    taken = {
        size: len(processor(text=[text], images=[Image.new("RGB", size)], add_special_tokens=False)["input_ids"][0])
        for size in (*SIZES, (64, 48), (30, 700))
    }
    family = FAMILIES[name]
    assert taken == {size: blind + family.image_tokens(*size) + family.marks for size in taken}


def test_special_tokens_are_single_tokens_and_digits_are_too(name: str, processor: Any) -> None:
    vocabulary, tokenizer = FAMILIES[name].vocabulary, processor.tokenizer
    single = (*vocabulary.special, *vocabulary.plain, *"0123456789")
    assert [tokenizer.encode(token, add_special_tokens=False) for token in single] == [
        [tokenizer.convert_tokens_to_ids(token)] for token in single
    ]
