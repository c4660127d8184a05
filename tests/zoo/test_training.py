"""`synth train` takes the shards with each family: labels cover the answers, and three steps give a folder to serve."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake
from synthgen.train import packing, pretrained, train
from synthgen.train.encode import IGNORED, Encoder
from synthgen.train.loss import answer_loss
from tests.fixtures.tiny_vlm import picture, row, write
from tests.zoo.checkpoints import FAMILIES, checkpoint

USUAL = [name for name in FAMILIES if name not in ("no-system-role", "string-content")]
# The processor of GLM-4.1V makes an array of a tensor in a way that numpy will not take for ever.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TURNS = (("What does the sign say?", "It says 42."), ("Where is it?", "Left of the 7."))
THREE_STEPS = TrainConfig(steps=3, batch=2, learning_rate=1e-3, workers=1, model_pixels=200_000)


@pytest.mark.parametrize("name", USUAL)
def test_labels_cover_the_answers(name: str) -> None:
    processor = AutoProcessor.from_pretrained(checkpoint(name))
    encoder = Encoder(processor, THREE_STEPS)
    encoder.check([row(*TURNS)])
    batch, skipped = encoder.encode([row(*TURNS)])
    assert batch is not None and not skipped
    labels = batch.labels[0]
    text = processor.tokenizer.decode(labels[labels != IGNORED], skip_special_tokens=True)
    # Where an answer has a space or a line break around it, a template may write another.
    assert "".join(text.split()) == "".join("".join(answer.split()) for _, answer in TURNS)


# Of each family, what ends a turn; the template of GLM-4.1V ends none, the next turn does.
ENDS = {
    **dict.fromkeys(USUAL, "<|im_end|>"),
    **{"gemma3": "<end_of_turn>", "idefics3": "<end_of_utterance>", "smolvlm": "<end_of_utterance>"},
    **{"mistral3": "</s>", "glm-4.1v": ""},
}


@pytest.mark.parametrize("name", USUAL)
def test_the_mask_decodes_to_each_answer_with_the_end_of_its_turn(name: str) -> None:
    processor = AutoProcessor.from_pretrained(checkpoint(name))
    batch, _ = Encoder(processor, THREE_STEPS).encode([row(*TURNS)])
    assert batch is not None
    ids, is_labelled = batch.inputs["input_ids"][0].tolist(), (batch.labels[0] != IGNORED).tolist()
    runs = [list(group) for kept, group in groupby(zip(ids, is_labelled, strict=True), lambda each: each[1]) if kept]
    learned = [processor.tokenizer.decode([token for token, _ in run]).strip() for run in runs]
    assert learned == ["It says 42." + ENDS[name], "Left of the 7." + ENDS[name]]


@pytest.mark.parametrize("name", ["qwen2.5-vl", "gemma3"])
def test_three_steps_change_the_weights_and_keep_their_names(name: str, tmp_path: Path) -> None:
    tuned = three_steps(name, tmp_path)
    before, after = (weights(folder) for folder in (checkpoint(name), tuned))
    assert after.keys() == before.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert len((tmp_path / "tuned" / "log.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3", "glm-4.1v", "mistral3"])
def test_samples_that_are_packed_have_the_loss_of_padded_ones(name: str) -> None:
    model, encode = loaded(name)
    rows = [row(*TURNS), row(TURNS[0], image=picture("blue", (60, 90))), row(TURNS[1])]
    padded, _ = encode(rows)
    (packed,) = packing.pack([encode([each])[0] for each in rows], 10_000)
    with torch.no_grad():
        found = answer_loss(model, packing.with_axes(model, packed)).item()
        assert found == pytest.approx(answer_loss(model, padded).item(), rel=1e-5)


def test_a_model_that_does_not_take_packed_samples_is_named() -> None:
    model, encode = loaded("minicpm-v-4.6")
    two = [encode([row(turn)])[0] for turn in TURNS]
    with torch.no_grad(), pytest.raises(UserMistake, match="models of the kind minicpmv"):
        packing.check_apart(model, two, lambda micro_batch: answer_loss(model, micro_batch).item())


def loaded(name: str) -> tuple[Any, Any]:
    """Return a checkpoint's model and the function that encodes rows for it."""
    folder = checkpoint(name)
    encoder = Encoder(AutoProcessor.from_pretrained(folder), THREE_STEPS)
    return pretrained.load_model(name, folder).eval(), encoder.encode


def three_steps(name: str, folder: Path) -> Path:
    """Return the folder of a checkpoint after three steps on a few samples."""
    torch.set_num_threads(1)
    samples = [row(*TURNS, colour=colour) for colour in ("red", "blue", "green", "black")]
    train(str(write(folder / "shards", samples)), str(checkpoint(name)), folder / "tuned", THREE_STEPS)
    return folder / "tuned" / "model"


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {key: value for path in folder.glob("*.safetensors") for key, value in load_file(path).items()}
