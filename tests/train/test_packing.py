"""Samples packed into one sequence do not see each other: the loss is that of padded rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake
from synthgen.train import packing, pretrained, train
from synthgen.train.encode import IGNORED, MicroBatch
from synthgen.train.loss import answer_loss, judge_answers
from tests.fixtures.tiny_vlm import FAST, losses, part, picture, row, samples, write

LONG = row(("Is it light or dark?", "It is light. " * 9), image=picture("green", (30, 60)))


@pytest.fixture
def rows() -> list[Any]:
    """Return samples of several lengths, the longest one in the middle."""
    return [*samples(2), LONG, *samples(3)]


def test_sequences_hold_every_sample_once_and_no_more_tokens_than_they_may(processor: Any, rows: list[Any]) -> None:
    single = [part(processor, [each]) for each in rows]
    longest, shortest = (pick(each.tokens for each in single) for pick in (max, min))
    packed = packing.pack(single, longest + shortest)
    assert all(each.tokens <= longest + shortest for each in packed) and len(packed) < len(rows)
    assert sum(each.answer_tokens for each in packed) == sum(each.answer_tokens for each in single)
    assert sorted(token for each in packed for token in each.inputs["input_ids"][0].tolist()) == sorted(
        token for each in single for token in each.inputs["input_ids"][0].tolist()
    )
    assert [each.tokens for each in packing.pack(single, 1)] == sorted((each.tokens for each in single), reverse=True)


def test_the_labels_of_a_sequence_are_the_answers(processor: Any, rows: list[Any]) -> None:
    (sequence,) = packing.pack([part(processor, [each]) for each in rows[:3]], 10_000)
    labels = sequence.labels[0]
    text = processor.tokenizer.decode(labels[labels != IGNORED])
    assert text == "It is light. " * 9 + "<|end|>" + "".join(
        f"It is {colour}.<|end|>It is {shade}.<|end|>" for colour, shade in (("red", "light"), ("blue", "dark"))
    )


def test_the_loss_and_the_gradients_are_those_of_padded_rows(model: Path, processor: Any, rows: list[Any]) -> None:
    loaded = pretrained.load_model(str(model), model).eval()
    found = []
    for batch in (part(processor, rows), *packing.pack([part(processor, [each]) for each in rows], 10_000)):
        loss = answer_loss(loaded, packing.with_axes(loaded, batch))
        loss.backward()
        found.append((loss.item(), [weight.grad.clone() for weight in loaded.parameters() if weight.grad is not None]))
        loaded.zero_grad()
    (padded, its), (packed, others) = found
    assert packed == pytest.approx(padded, rel=1e-5)
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in zip(its, others, strict=True))


def test_packing_makes_the_same_steps_in_fewer_tokens(
    model: Path, tmp_path: Path, rows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, seen = write(tmp_path / "shards", rows), list[int]()

    def counted(model: Any, micro_batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(micro_batch.labels.numel())
        return judge_answers(model, micro_batch)

    train(str(shards), str(model), tmp_path / "padded", FAST)
    monkeypatch.setattr("synthgen.train.loop.judge_answers", counted)
    train(str(shards), str(model), tmp_path / "packed", FAST.model_copy(update={"pack_tokens": 200}))
    assert losses(tmp_path / "packed") == pytest.approx(losses(tmp_path / "padded"), rel=1e-4)
    assert all(length <= 200 for length in seen) and len(seen) < FAST.steps * FAST.batch


def test_a_model_in_which_samples_see_each_other_is_refused(model: Path, processor: Any, rows: list[Any]) -> None:
    loaded = pretrained.load_model(str(model), model).eval()
    two = [part(processor, [each]) for each in rows[1:3]]

    def apart(micro_batch: MicroBatch) -> float:
        with torch.no_grad():
            return answer_loss(loaded, micro_batch).item()

    def blended(micro_batch: MicroBatch) -> float:
        mask = torch.ones_like(micro_batch.labels)  # with a mask, positions that begin anew part nothing
        return apart(replace(micro_batch, inputs={**micro_batch.inputs, "attention_mask": mask}))

    packing.check_apart(loaded, two, apart)
    with pytest.raises(UserMistake, match="models of the kind llava_onevision do not keep samples apart") as caught:
        packing.check_apart(loaded, two, blended)
    assert "\n" not in str(caught.value)


def test_micro_batches_and_sequences_are_not_given_together() -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        TrainConfig(micro_batch=2, pack_tokens=1000)
