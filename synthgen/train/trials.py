"""Rows that are tried before the first step, and rows that stand in for others while training."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake
from synthgen.train import packing
from synthgen.train.agreement import Spares
from synthgen.train.encode import IGNORED, Encoder, MicroBatch, blank_image
from synthgen.train.feed import Feed
from synthgen.train.group import Group
from synthgen.train.loader import describe_skipped, to_device
from synthgen.train.loss import answer_loss
from synthgen.train.stream import rows

GREETING = [{"role": role, "content": "Hello."} for role in ("user", "assistant")]
TOO_LONG = "bound the images with train.image_tokens or train.model_pixels, or raise train.max_tokens"
FEW_TEXTS = 64  # rows of text alone, after which no more are looked at for one with an image


def check_packing(feed: Feed, settings: TrainConfig, model: Any, processor: Any, group: Group) -> None:
    """Try whether the model keeps the first two usable rows apart. Raises UserMistake if it does not."""

    def loss(micro_batch: MicroBatch) -> float:
        with torch.no_grad():
            return answer_loss(model, to_device(packing.with_axes(model, micro_batch), group.device)).item()

    model.eval()
    packing.check_apart(model, first_usable(feed, settings, processor, 2), loss)
    model.train()


def spares(processor: Any, settings: TrainConfig) -> Spares:
    """Return a row with an image and one without, with labels that are all ignored."""
    encoder, silent = Encoder(processor, settings), list[MicroBatch]()
    for images in ([{"bytes": blank_image()}], []):
        micro_batch, skipped = encoder.encode([{"images": images, "messages": GREETING}])
        if micro_batch is None:
            raise UserMistake(f"the processor of this model refuses a greeting: {describe_skipped(skipped)}")
        silent.append(replace(micro_batch, labels=torch.full_like(micro_batch.labels, IGNORED)))
    return Spares(*silent)


def first_usable(feed: Feed, settings: TrainConfig, processor: Any, count: int = 1) -> list[MicroBatch]:
    """Return the first usable rows of the stream with images, each in a micro-batch of its own.

    Those of text alone stand in where there is no other.

    Raises:
        UserMistake: There is none.
    """
    encoder, skipped, total = Encoder(processor, settings), Counter[str](), feed.rows
    usable, texts = list[MicroBatch](), list[MicroBatch]()
    for row in islice(rows(feed, settings, 0), total):
        micro_batch, failed = encoder.encode([row])
        if micro_batch and micro_batch.answer_tokens:
            (usable if micro_batch.has_images else texts).append(micro_batch)
        if len(usable) == count or len(texts) == FEW_TEXTS:
            break
        skipped += failed
    if usable or texts:
        return [*usable, *texts, *(usable or texts) * count][:count]
    advice = f"; {TOO_LONG}" if skipped["too_long"] else ""
    raise UserMistake(f"none of the {total:,} rows can be trained on: {describe_skipped(skipped)}{advice}")
