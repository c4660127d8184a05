"""Rows to tensors, with labels on the answers only.

Answers are found in the rendered text (conversation.py) and carried over to tokens by the tokenizer's offsets. Labels
are IGNORED everywhere but on the tokens of an answer and on the token that ends its turn. Every row is checked: its
labelled tokens, decoded, give back its answers. An unusable row is skipped and counted by reason; none is truncated.
"""

import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.config.training import TrainConfig
from synthgen.errors import Failure, UserMistake, one_line
from synthgen.ingest.images import Unfit, decode_pixels
from synthgen.train.conversation import ChatTemplate, Messages, Span, UnusableRow, clean_messages, text_of
from synthgen.train.forms import Row
from synthgen.train.turns import Turn, turns_of

IGNORED = -100  # the label of a token without a loss
BLANK_SIDE = 448  # pixels
PROCESSOR_ERRORS = (ValueError, TypeError, IndexError, RuntimeError)  # of a processor that refuses an image
TEMPLATE_FAULTS = ("malformed", "template_refused", "labels_unclear")  # reasons that are likely to hold for every row


@dataclass(frozen=True)
class EncodedRow:
    """A row before the processor sees its images.

    Attributes:
        images: The decoded images, RGB, in the order of their placeholders.
        text: The rendered conversation.
        ids: `(text tokens,)` token ids of the text, with one placeholder an image.
        answer_of: `(text tokens,)` for each token the number of its answer, from 1; 0 is no answer.
        turns: What each answer is about.
    """

    images: Sequence[Image.Image]
    text: str
    ids: Sequence[int]
    answer_of: Sequence[int]
    turns: Sequence[Turn]


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one forward pass, padded on the right.

    `batch` is the number of rows, `tokens` the length of the longest one with its image tokens, `images` the number of
    images in all rows.

    Attributes:
        inputs: The processor's tensors, by the model's argument names.
            `input_ids`: `(batch, tokens) int64`.
            `attention_mask`: `(batch, tokens) int64`, 1 on tokens and 0 on padding.
            `pixel_values`: float32, in the layout of the model: `(images, 3, height, width)` in most,
            `(images, crops, 3, height, width)` in LLaVA-OneVision, `(patches, features)` in Qwen2-VL.
            Some models add sizes, such as `image_sizes`: `(images, 2) int64`.
        labels: `(batch, tokens) int64`, the token id on answers and IGNORED elsewhere.
        turn_of: `(batch, tokens) int64`, for each token of an answer its number in `turns`, from 1; 0 elsewhere.
        turns: What the answers of all rows are about.
    """

    inputs: Mapping[str, torch.Tensor]
    labels: torch.Tensor
    turn_of: torch.Tensor
    turns: Sequence[Turn]

    @property
    def tokens(self) -> int:
        """The number of tokens, image tokens included, padding excluded."""
        mask = self.inputs.get("attention_mask")  # none where samples are packed: no padding
        return self.labels.numel() if mask is None else int(mask.sum())  # (batch, tokens) to one number

    @property
    def has_images(self) -> bool:
        """Whether the vision tower sees anything of it: pixels are its only numbers that are not whole."""
        return any(tensor.is_floating_point() for tensor in self.inputs.values())

    @property
    def answer_tokens(self) -> int:
        """The number of tokens with a loss; the first token of a row is never predicted."""
        return int((self.labels[:, 1:] != IGNORED).sum())  # (batch, tokens - 1) to one number


class Encoder:
    """Encodes rows with one processor. Not for two threads at once: fast tokenizers refuse that."""

    def __init__(self, processor: Any, settings: TrainConfig) -> None:
        self._processor, self._tokenizer = processor, processor.tokenizer
        self._template = ChatTemplate(processor)
        # The pipeline that packed an image has applied its own limits; this one only bounds the cost of decoding.
        self._limits = ImagesConfig(model_pixels=settings.model_pixels, min_side=1, max_aspect=1e6, max_bytes=2**31)
        self._max_tokens = settings.max_tokens

    def check(self, rows: Sequence[Row]) -> None:
        """Raise a UserMistake if the model's chat template or processor does not fit the first rows of the shards."""
        for row in rows:
            try:
                sample = self.sample(row)
                failure = sample if isinstance(sample, Failure) else self._collate([sample])[1][0]
            except PROCESSOR_ERRORS as error:
                raise UserMistake(
                    f"the processor of this model refuses a sample of the shards: {one_line(error)}"
                ) from error
            if failure and failure.reason in TEMPLATE_FAULTS:
                raise UserMistake(f"the chat template of this model does not fit the shards: {failure}")

    def encode(self, rows: Sequence[Row]) -> tuple[MicroBatch | None, Counter[str]]:
        """Encode the usable rows as one micro-batch. Either all of them have images, or none has.

        Returns:
            The micro-batch, or None if no row is usable, and the number of skipped rows by reason.
        """
        outcomes = [self.sample(row) for row in rows]
        samples = [outcome for outcome in outcomes if isinstance(outcome, EncodedRow)]
        skipped = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Failure))
        if not samples:
            return None, skipped
        try:
            micro_batch, failures = self._collate(samples)
        except PROCESSOR_ERRORS:
            # An image that the processor refuses must not cost the other rows: look for it row by row.
            failures = [self._failure_alone(sample) for sample in samples]
            if not any(failures):
                raise
        if not any(failures):
            return micro_batch, skipped
        skipped.update(failure.reason for failure in failures if failure)
        usable = [sample for sample, failure in zip(samples, failures, strict=True) if not failure]
        return (self._collate(usable)[0] if usable else None), skipped

    def sample(self, row: Row) -> EncodedRow | Failure:
        """Decode the images of a row, render and tokenize its conversation, and find the tokens of its answers."""
        try:
            return self._sample(row)
        except UnusableRow as error:
            return error.failure

    def _sample(self, row: Row) -> EncodedRow:
        images = [self._decode(image) for image in row["images"] or ()]
        messages = clean_messages(row["messages"] or (), len(images))
        for message in messages:
            self._template.refuse_control_tokens(text_of(message))
        text, spans = self._template.render(messages)
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoding["input_ids"]  # (text tokens,)
        if len(ids) > self._max_tokens:
            raise UnusableRow("too_long", f"{len(ids)} tokens without its images")
        answer_of = _number_answers(encoding["offset_mapping"], spans)  # (text tokens,)
        self._check_answers(messages, ids, answer_of)
        return EncodedRow(images, text, ids, answer_of, turns_of(row, len(spans)))

    def _decode(self, image: Any) -> Image.Image:
        data = image.get("bytes") if isinstance(image, dict) else image
        if not data:
            raise UnusableRow("unreadable_image", "the row has no bytes for it")
        try:
            return decode_pixels(data, self._limits)
        except Unfit as unfit:
            raise UnusableRow("unreadable_image", str(unfit)) from unfit

    def _check_answers(self, messages: Messages, ids: Sequence[int], answer_of: Sequence[int]) -> None:
        """Raise UnusableRow if the tokens of an answer do not decode to that answer."""
        answers = [text_of(message) for message in messages if message["role"] == "assistant"]
        for number, answer in enumerate(answers, start=1):
            answer_ids = [token for token, owner in zip(ids, answer_of, strict=True) if owner == number]
            decoded = self._tokenizer.decode(answer_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if _words(decoded) != _words(answer):
                raise UnusableRow(
                    "labels_unclear",
                    f"the tokens of an answer decode to {decoded[:60]!r}, the answer is {answer[:60]!r}",
                )

    def _collate(self, samples: Sequence[EncodedRow]) -> tuple[MicroBatch, list[Failure | None]]:
        """Run the processor over samples and put labels on their answers.

        Returns:
            The samples as one micro-batch, and for each of them the failure that excludes it, or None.
        """
        images = {"images": [list(sample.images) for sample in samples]} if samples[0].images else {}
        outputs = self._processor(
            text=[sample.text for sample in samples],
            **images,
            padding=True,
            padding_side="right",
            add_special_tokens=False,  # the template has written them
            return_tensors="pt",
        )
        # input_ids, attention_mask: (batch, tokens) int64; pixel_values: see MicroBatch, float32.
        inputs = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
        lengths: list[int] = inputs["attention_mask"].sum(1).tolist()  # (batch, tokens) to (batch,)
        labels = torch.full_like(inputs["input_ids"], IGNORED)  # (batch, tokens) int64
        turn_of = torch.zeros_like(labels)  # (batch, tokens) int64
        turns, failures = list[Turn](), list[Failure | None]()
        for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            ids = inputs["input_ids"][row, :length]  # (length,) int64
            aligned = _align_answers(sample, ids.tolist())
            if aligned:
                answer_of = torch.tensor(aligned)  # (length,) int64
                labels[row, :length] = ids.where(answer_of > 0, IGNORED)
                turn_of[row, :length] = (answer_of + len(turns)).where(answer_of > 0, 0)
            turns += sample.turns
            failures.append(self._failure(length, bool(aligned)))
        return MicroBatch(inputs, labels, turn_of, turns), failures

    def _failure(self, length: int, is_aligned: bool) -> Failure | None:
        if length > self._max_tokens:
            return Failure("too_long", f"{length} tokens with its images")
        if not is_aligned:
            return Failure("labels_unclear", "its processor makes other tokens of the answers than its tokenizer")
        return None

    def _failure_alone(self, sample: EncodedRow) -> Failure | None:
        """Return the failure of a sample in a micro-batch without the others, or None."""
        try:
            return self._collate([sample])[1][0]
        except PROCESSOR_ERRORS as error:
            return Failure("processor_refused", one_line(error))


def blank_image() -> bytes:
    """Return an image that every processor takes."""
    file = io.BytesIO()
    Image.new("RGB", (BLANK_SIDE, BLANK_SIDE), "grey").save(file, "PNG")
    return file.getvalue()


def _number_answers(offsets: Sequence[Span], spans: Sequence[Span]) -> list[int]:
    """Return for each token the number of the answer that it overlaps.

    Args:
        offsets: `(text tokens,)` spans of the tokens in the text, in order.
        spans: `(answers,)` spans of the answers in the text, in order.

    Returns:
        `(text tokens,)` numbers from 1; 0 is no answer.
    """
    answer_of, number = list[int](), 0
    for start, end in offsets:
        while number < len(spans) and spans[number][1] <= start:
            number += 1
        is_inside = number < len(spans) and spans[number][0] < end and start < end
        answer_of.append(number + 1 if is_inside else 0)
    return answer_of


def _align_answers(sample: EncodedRow, ids: Sequence[int]) -> list[int] | None:
    """Return for each of the processor's tokens the number of its answer, or None if the tokens do not align.

    A processor replaces each image placeholder with many tokens. Tokens are compared from the end, so that the text
    after an image aligns for any number of image tokens, and only down to the first answer: some processors put blank
    lines around an image, and those become one token with the line break of the template.

    Args:
        sample: A row with `(text tokens,)` ids.
        ids: `(length,)` ids of the same row from the processor, without padding.

    Returns:
        `(length,)` numbers from 1; 0 is no answer.
    """
    first = next(position for position, answer in enumerate(sample.answer_of) if answer)
    answer_of, remaining = [0] * len(ids), len(sample.ids)
    for position in range(len(ids) - 1, -1, -1):
        if remaining > first and ids[position] == sample.ids[remaining - 1]:
            remaining -= 1
            answer_of[position] = sample.answer_of[remaining]
    return answer_of if remaining == first else None


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).split()
