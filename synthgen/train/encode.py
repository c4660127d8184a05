"""Rows into what the model takes, with labels on the answers alone.

Comes in: rows with `images` and `messages`, and the model's own processor. Goes out: tensors, padded on the right, and
labels that are -100 everywhere but on the tokens of assistant texts and the token that ends each of them. Where an answer
lies is found in the rendered text (a turn begins where the generation prompt before it ends) and carried over to tokens by
their offsets, so that any chat template works that says its answers verbatim; templates need no {% generation %} marks,
which most lack. Every sample is checked: its labelled tokens, decoded, must give back its answers. A row that cannot be used
is left out and counted under a reason; nothing is ever cut off.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image

from synthgen.config.pipeline import ImagesConfig, TrainConfig
from synthgen.errors import UserMistake
from synthgen.ingest.images import Unfit, decode
from synthgen.train.dataset import Row

IGNORED = -100  # the label of a token that teaches nothing
REFUSALS = (
    ValueError,
    TypeError,
    IndexError,
    RuntimeError,
)  # what processors raise over a picture that they do not like
SKIPS = (
    "malformed",  # no message of a role with content of type image and text
    "unreadable_image",
    "images_do_not_match",  # as many images as the messages speak of, and at least one
    "no_answer",
    "control_tokens",  # a text holds a token that the template uses: it would forge a turn or an image
    "template_refused",
    "labels_unclear",
    "processor_refused",
    "too_long",
)

Messages = list[dict[str, Any]]


class UnusableRow(Exception):
    """A row that cannot be trained on: one of SKIPS, and one line of detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class EncodedRow:
    """A row before the processor sees its images. `answer_of` says of each token which answer it belongs to, from 1; 0: none."""

    images: Sequence[Image.Image]
    text: str
    ids: Sequence[int]  # of the text, with one placeholder an image
    answer_of: Sequence[int]


@dataclass(frozen=True)
class MicroBatch:
    """What the model sees at once."""

    inputs: Mapping[str, torch.Tensor]
    labels: torch.Tensor

    @property
    def tokens(self) -> int:
        """Tokens that are no padding, those of the images included."""
        return int(self.inputs["attention_mask"].sum())

    @property
    def answer_tokens(self) -> int:
        """Tokens that have a label; the first of a row is never predicted."""
        return int((self.labels[:, 1:] != IGNORED).sum())


class Encoder:
    """Encodes rows with one processor. Not for two threads at once: fast tokenizers refuse that."""

    def __init__(self, processor: Any, settings: TrainConfig) -> None:
        self._processor, self._tokenizer = processor, processor.tokenizer
        # What was packed was let through by its pipeline's own limits; here only what decoding may take is held.
        self._limits = ImagesConfig(model_pixels=settings.model_pixels, min_side=1, max_aspect=1e6, max_bytes=2**31)
        self._max_tokens = settings.max_tokens
        self._closes: dict[str, bool] = {}  # control token seen after an answer → whether it ends the turn
        self._template = processor.chat_template or self._tokenizer.chat_template
        added = (str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        named = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video"))
        self._controls = tuple({token for token in (*added, *named, *self._tokenizer.all_special_tokens) if token})

    def check(self, rows: Sequence[Row]) -> None:
        """Stops with one line if this model's template does not say where answers lie, told from the first rows."""
        for row in rows:
            try:
                if "labels_unclear" in self._inputs([self.sample(row)])[1]:
                    raise UnusableRow(
                        "labels_unclear", "its processor makes other tokens of the answers than its tokenizer"
                    )
            except UnusableRow as error:
                if error.reason in ("malformed", "template_refused", "labels_unclear"):
                    raise UserMistake(f"the chat template of this model does not fit the shards: {error}") from error
            except REFUSALS as error:
                raise UserMistake(
                    f"the processor of this model refuses a sample of the shards: {_one_line(error)}"
                ) from error

    def encode(self, rows: Sequence[Row]) -> tuple[MicroBatch | None, Counter[str]]:
        """The usable ones of the rows as one part, or None if there is none, and how many were left out for which reason."""
        samples, skipped = list[EncodedRow](), Counter[str]()
        for row in rows:
            try:
                samples.append(self.sample(row))
            except UnusableRow as error:
                skipped[error.reason] += 1
        if not samples:
            return None, skipped
        part: MicroBatch | None
        try:
            part, reasons = self._inputs(samples)
        except REFUSALS:
            # One picture of a shape that the processor refuses must not cost the others their place.
            reasons = [self._reason(sample) for sample in samples]
            if not any(reasons):
                raise
        if any(reasons):
            samples = [sample for sample, reason in zip(samples, reasons, strict=True) if not reason]
            skipped.update(reason for reason in reasons if reason)
            part = self._inputs(samples)[0] if samples else None
        return part, skipped

    def sample(self, row: Row) -> EncodedRow:
        """A row decoded and rendered, or Unusable."""
        images = [self._image(image) for image in row["images"] or ()]
        messages = _messages(row["messages"] or (), len(images))
        for message in messages:
            self._refuse_controls(_text(message))
        text, spans = self._answers(messages)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if len(found["input_ids"]) > self._max_tokens:
            raise UnusableRow("too_long", f"{len(found['input_ids'])} tokens without its images")
        answer_of = _answer_of(found["offset_mapping"], spans)
        for number, message in enumerate((one for one in messages if one["role"] == "assistant"), start=1):
            ids = [token for token, answer in zip(found["input_ids"], answer_of, strict=True) if answer == number]
            told = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if _words(told) != _words(_text(message)):
                raise UnusableRow(
                    "labels_unclear",
                    f"the tokens of an answer say {told[:60]!r}, the answer is {_text(message)[:60]!r}",
                )
        return EncodedRow(images, text, found["input_ids"], answer_of)

    def _image(self, image: Any) -> Image.Image:
        data = image.get("bytes") if isinstance(image, dict) else image
        if not data:
            raise UnusableRow("unreadable_image", "the row holds no bytes of it")
        try:
            return decode(data, self._limits).image
        except Unfit as unfit:
            raise UnusableRow("unreadable_image", str(unfit)) from unfit

    def _refuse_controls(self, text: str) -> None:
        if found := [token for token in self._controls if token in text]:
            raise UnusableRow("control_tokens", f"a text holds {found[0]!r}")

    def _render(self, messages: Messages, *, prompt: bool = False) -> str:
        render = self._processor.apply_chat_template
        try:
            return str(render(messages, chat_template=self._template, tokenize=False, add_generation_prompt=prompt))
        except TemplateError as error:
            raise UnusableRow("template_refused", _one_line(error)) from error

    def _answers(self, messages: Messages) -> tuple[str, list[tuple[int, int]]]:
        """The rendered conversation, and from where to where in it each answer lies, with the token that ends it."""
        whole, spans = self._render(messages), list[tuple[int, int]]()
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            answer = _text(message)
            if not answer.strip():
                raise UnusableRow("no_answer", "a turn of the assistant is empty")
            turn = _shared(whole, self._render(messages[:number], prompt=True)) if number else 0
            if (span := _span(whole, turn, answer)) is None:
                raise UnusableRow("labels_unclear", f"the answer {answer[:60]!r} is not where its turn begins")
            spans.append((span[0], self._with_end(whole, span[1], messages[: number + 1])))
        if not spans:
            raise UnusableRow("no_answer", "no turn of the assistant")
        return whole, spans

    def _with_end(self, whole: str, end: int, turn: Messages) -> int:
        """Where the token ends that follows an answer, if it is of that turn and not of the next: the model must learn to stop."""
        token = max((token for token in self._controls if whole.startswith(token, end)), key=len, default="")
        if token and token not in self._closes:
            self._closes[token] = self._render(turn).startswith(token, end)
        return end + len(token) if self._closes.get(token) else end

    def _inputs(self, samples: Sequence[EncodedRow]) -> tuple[MicroBatch, list[str | None]]:
        """The samples as one part, and for each the reason why it must not stay in, or None."""
        inputs = self._processor(
            text=[sample.text for sample in samples],
            images=[list(sample.images) for sample in samples],
            padding=True,
            padding_side="right",
            add_special_tokens=False,  # the template has written what there is to write
            return_tensors="pt",
        )
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        lengths = tensors["attention_mask"].sum(1).tolist()
        labels = torch.full_like(tensors["input_ids"], IGNORED)
        reasons: list[str | None] = []
        for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            ids = tensors["input_ids"][row, :length]
            is_answer = _spread(sample, ids.tolist())
            reasons.append("too_long" if length > self._max_tokens else None if is_answer else "labels_unclear")
            if is_answer:
                labels[row, :length] = ids.where(torch.tensor(is_answer), IGNORED)
        return MicroBatch(tensors, labels), reasons

    def _reason(self, sample: EncodedRow) -> str | None:
        try:
            return self._inputs([sample])[1][0]
        except REFUSALS:
            return "processor_refused"


def _messages(messages: Sequence[Mapping[str, Any]], images: int) -> Messages:
    """The messages without the nulls that Arrow fills in; images that no message speaks of go before the first user's words."""
    try:
        cleaned = [{"role": message["role"], "content": list(_parts(message["content"]))} for message in messages]
    except (KeyError, TypeError, AttributeError) as error:
        raise UnusableRow("malformed", f"a message has not the columns of TRL's form ({_one_line(error)})") from error
    places = sum(part["type"] == "image" for message in cleaned for part in message["content"])
    first = next((message for message in cleaned if message["role"] == "user"), None)
    if not places and first:
        first["content"] = [{"type": "image"}] * images + first["content"]
    elif places != images:
        raise UnusableRow("images_do_not_match", f"{images} images, {places} places for them")
    if not images:
        raise UnusableRow("images_do_not_match", "no image")
    return cleaned


def _parts(content: Any) -> Iterator[dict[str, str]]:
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
        if part["type"] not in ("image", "text"):
            raise UnusableRow("malformed", f"a message holds a part of type {part['type']!r}")
        yield {"type": "image"} if part["type"] == "image" else {"type": "text", "text": part.get("text") or ""}


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def _answer_of(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """For each token the number of the answer that it overlaps, from 1, or 0; both are in order."""
    found, number = [], 0
    for low, high in offsets:
        while number < len(spans) and spans[number][1] <= low:
            number += 1
        found.append(number + 1 if number < len(spans) and spans[number][0] < high and low < high else 0)
    return found


def _spread(sample: EncodedRow, ids: Sequence[int]) -> list[bool] | None:
    """Which of the processor's tokens are answers: it put many tokens in place of each placeholder and left the others as they are.

    Read from the end, so that what follows an image lines up whatever stands in its place, and only as far as the first answer:
    some processors put blank lines around an image, which become one token with what the template has there. None if the tokens
    do not line up.
    """
    first = next(place for place, answer in enumerate(sample.answer_of) if answer)
    is_answer, left = [False] * len(ids), len(sample.ids)
    for place in range(len(ids) - 1, -1, -1):
        if left > first and ids[place] == sample.ids[left - 1]:
            left -= 1
            is_answer[place] = sample.answer_of[left] > 0
    return is_answer if left == first else None


def _span(whole: str, turn: int, answer: str) -> tuple[int, int] | None:
    """Where an answer stands in its turn: some templates trim it, some put other spaces before it than they ask for one with."""
    for said in (answer, answer.strip()):
        start = whole.find(said, turn)
        if start >= 0 and not whole[turn:start].strip():
            return start, start + len(said)
    return None


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    if one.startswith(other):
        return len(other)
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).split()


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
