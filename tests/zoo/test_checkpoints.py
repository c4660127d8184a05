"""Each tiny checkpoint loads as a released one does."""

from typing import Any

import pytest
from transformers import AutoConfig, AutoProcessor

from tests.zoo.checkpoints import FAMILIES, checkpoint

OWN_TEMPLATE = [name for name in FAMILIES if name not in ("no-system-role", "string-content")]


@pytest.fixture(params=OWN_TEMPLATE, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def processor(name: str) -> Any:
    return AutoProcessor.from_pretrained(checkpoint(name))


def test_a_checkpoint_names_its_architecture_and_stays_small(name: str) -> None:
    folder = checkpoint(name)
    assert AutoConfig.from_pretrained(folder).architectures == [FAMILIES[name].model]
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 8 * 2**20


def test_special_tokens_are_single_tokens_and_digits_are_too(name: str, processor: Any) -> None:
    vocabulary, tokenizer = FAMILIES[name].vocabulary, processor.tokenizer
    single = (*vocabulary.special, *vocabulary.plain, *"0123456789")
    assert [tokenizer.encode(token, add_special_tokens=False) for token in single] == [
        [tokenizer.convert_tokens_to_ids(token)] for token in single
    ]
