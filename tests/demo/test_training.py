"""The recipe: patch labels fit the drawing, examples fit their scene, and packed examples see only themselves."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from demo.draw import draw
from demo.ground_truth import qa_pairs
from demo.inference import Call, NanoVLM
from demo.multitask_model import MultitaskVLM
from demo.nano_vlm import PATCHES_A_SIDE, pixel_values
from demo.packing import PREFIX_TOKENS, ROW_TOKENS, ROWS, Packer, row_mask
from demo.patch_labels import CLASS_OF, COLUMN_OF, patch_labels
from demo.tokenizer import ASSISTANT, END, USER
from demo.training_examples import KEYS, sample_examples
from demo.world import Scene, sample
from tests.fixtures.workspace import ROOT

scenes = st.builds(sample, st.integers(0, 10**6), st.integers(0, 10**6))
EQUAL_WEIGHTS = dict.fromkeys(KEYS, 1.0)


@given(scenes)
def test_patch_labels_name_every_thing(scene: Scene) -> None:
    grid = patch_labels(scene).reshape(PATCHES_A_SIDE, PATCHES_A_SIDE, -1)
    for thing in scene.things:
        row, column = divmod(thing.cell, 3)
        block = grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert (block[..., COLUMN_OF["name"]] == CLASS_OF["name"][thing.name]).all()
    labelled = {int(value) for value in grid[..., COLUMN_OF["text"]].ravel()} - {0}
    texts = [scene.sign.text] if scene.sign else [str(bar.value) for bar in scene.bars]
    assert labelled == {CLASS_OF["text"][text] for text in texts}


def _packer() -> Packer:
    return Packer(lambda text: [10 + ord(character) % 50 for character in text.split(" ")[0]] or [10], 1, 2, 3)


@given(scenes)
def test_an_example_sees_the_picture_and_itself_alone(scene: Scene) -> None:
    pack = _packer().pack(scene, random.Random(0), EQUAL_WEIGHTS)
    mask = row_mask(torch.from_numpy(pack.example), torch.from_numpy(pack.is_blind)).numpy()
    assert mask.shape == (ROWS, ROW_TOKENS, PREFIX_TOKENS + ROW_TOKENS)
    for row in range(ROWS):
        for at in range(ROW_TOKENS):
            visible = np.flatnonzero(mask[row, at, PREFIX_TOKENS:])
            assert visible.max() == at
            assert set(pack.example[row, visible]) == {pack.example[row, at]}
            assert mask[row, at, :PREFIX_TOKENS].all() != pack.is_blind[row, at]
    for number in range(1, len(pack.keys) + 1):
        positions = pack.position[pack.example == number]
        assert list(positions) == list(range(positions[0], positions[0] + len(positions)))
        assert positions[0] in (0, PREFIX_TOKENS)


@given(scenes)
def test_examples_ask_for_supported_types_and_decline_the_others(scene: Scene) -> None:
    supported = {pair.type for pair in qa_pairs(scene, random.Random(0))}
    drawn = islice(sample_examples(scene, random.Random(1), EQUAL_WEIGHTS), 60)
    asked = [example for example in drawn if example.task in ("ask", "decline")]
    assert asked
    for example in asked:
        is_none = example.turns[0][1] == "none"
        assert is_none == (example.task == "decline") == (example.type not in supported)


def test_packed_logits_are_those_of_each_example_alone() -> None:
    """Our attention on packed rows, beside the stock model and processor on one example after the other."""
    stock = NanoVLM(ROOT / "demo" / "models" / "nano-vlm")
    tokenizer = stock.processor.tokenizer
    model = MultitaskVLM(tokenizer)
    model.vlm.load_state_dict(stock.model.state_dict())
    special = tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END])
    packer = Packer(lambda text: list(tokenizer.encode(text, add_special_tokens=False)), *special)
    scene = sample(5, 3)
    pack = packer.pack(scene, random.Random(2), EQUAL_WEIGHTS)
    assert len(pack.keys) > 10
    arrays = (pack.token_ids, pack.position, pack.example, pack.is_blind)
    token_ids, position, example, is_blind = (torch.from_numpy(array)[None] for array in arrays)  # (1, R, L)
    images = pixel_values(np.array(draw(scene))[None])  # (1, 3, SIZE, SIZE)
    inputs = stock.inputs([Call(scene, draw(scene), "", "answer", "caption")])
    assert torch.allclose(inputs["pixel_values"][0, 0], images[0], atol=1e-6)
    with torch.inference_mode():
        hidden, _ = model(images, token_ids, position, row_mask(example, is_blind))
        logits = model.vlm.lm_head(hidden)  # (1, R, L, V)
        for number in range(1, len(pack.keys) + 1):
            own = example == number
            ids = token_ids[own]
            if is_blind[own].any():
                expected = stock.model(input_ids=ids[None]).logits[0]
            else:
                whole = torch.cat([inputs["input_ids"][0, :PREFIX_TOKENS], ids])[None]
                picture = {"pixel_values": inputs["pixel_values"], "image_sizes": inputs["image_sizes"]}
                expected = stock.model(input_ids=whole, **picture).logits[0, PREFIX_TOKENS:]
            assert torch.allclose(logits[own], expected, atol=1e-4), KEYS[pack.keys[number - 1]]
