"""The exported VLM in stock transformers: greedy replies, likelihoods, and the odds of yes over no.

All three batch their calls and return results in the order in which the calls were given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

from demo.world import Scene

BATCH = 64


@dataclass(frozen=True)
class Call:
    """One prompt about one picture, and what it is for."""

    scene: Scene
    image: Image | None  # None: the prompt is given without the picture
    prompt: str
    task: str
    type: str


class NanoVLM:
    """The exported model, in float32 on the CPU.

    Shapes: B calls, T tokens of the longest, V tokens in the vocabulary. Padding is on the left, so the last token of
    every call is the last of its row.
    """

    def __init__(self, folder: Path) -> None:
        self.model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def render(self, call: Call) -> str:
        """Return the prompt of a call in the chat template."""
        image = [{"type": "image"}] if call.image else []
        message = {"role": "user", "content": [*image, {"type": "text", "text": call.prompt}]}
        return str(self.processor.apply_chat_template([message], add_generation_prompt=True))

    def inputs(self, calls: Sequence[Call], replies: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return a padded batch, `input_ids` (B, T), of prompts, each followed by its reply if there are replies."""
        texts = [self.render(call) + (replies[i] if replies else "") for i, call in enumerate(calls)]
        images = [call.image for call in calls if call.image]
        return dict(
            self.processor(images=images or None, text=texts, padding=True, padding_side="left", return_tensors="pt")
        )

    @torch.inference_mode()
    def reply(self, calls: Sequence[Call], max_tokens: int = 64) -> list[str]:
        """Return greedy replies, in the order of the calls; calls of one task and type are batched together."""
        order = sorted(range(len(calls)), key=lambda i: (calls[i].image is None, calls[i].task, calls[i].type))
        replies = [""] * len(calls)
        for batch in _batches(order):
            inputs = self.inputs([calls[i] for i in batch])
            generated = self.model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)  # (B, T + new)
            new = generated[:, inputs["input_ids"].shape[1] :]  # (B, new)
            for i, text in zip(batch, self.processor.batch_decode(new, skip_special_tokens=True), strict=True):
                replies[i] = text.strip()
        return replies

    @torch.inference_mode()
    def likelihood(self, calls: Sequence[Call], answers: Sequence[str]) -> list[float]:
        """Return the mean log probability of the tokens of each answer, its end included."""
        order = sorted(range(len(calls)), key=lambda i: (calls[i].image is None, len(answers[i])))
        means = [0.0] * len(calls)
        for batch in _batches(order):
            inputs = self.inputs([calls[i] for i in batch], [f"{answers[i]}<|end|>" for i in batch])
            log_probs = self.model(**inputs).logits[:, :-1].log_softmax(-1)  # (B, T - 1, V)
            next_ids = inputs["input_ids"][:, 1:, None]  # (B, T - 1, 1)
            chosen = log_probs.gather(-1, next_ids)[..., 0]  # (B, T - 1)
            for row, i in enumerate(batch):
                length = len(self.processor.tokenizer.encode(answers[i])) + 1  # with <|end|>
                means[i] = float(chosen[row, -length:].mean())
        return means

    @torch.inference_mode()
    def yes_odds(self, calls: Sequence[Call]) -> list[float]:
        """Return the log odds of yes over no as the first token of each reply."""
        yes, no = (self.processor.tokenizer.encode(word)[0] for word in ("yes", "no"))
        odds: list[float] = []
        for batch in _batches(range(len(calls))):
            logits = self.model(**self.inputs([calls[i] for i in batch])).logits[:, -1]  # (B, T, V) -> (B, V)
            odds += (logits[:, yes] - logits[:, no]).tolist()  # (B,)
        return odds


def _batches(order: Iterable[int]) -> Iterator[list[int]]:
    indices = list(order)
    for start in range(0, len(indices), BATCH):
        yield indices[start : start + BATCH]
