"""The values that cross between an engine and its callers: a Request goes in, a Reply comes out.

A call that fails is a Reply that says so, so that it costs one row. Only an engine that can serve no further call
raises (EngineDied): then the actor that holds it ends, and workers/pool.py starts another.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL.Image import Image

from synthgen.errors import Failure

Purpose = Literal["ask", "answer", "sample", "paraphrase", "judge", "given", "tag"]
Capability = Literal["labels", "given", "schema", "more"]  # named after the fields of a Request
MOST_TOKENS = 2**31 - 1  # that a table can hold
ALL_CAPABILITIES: frozenset[Capability] = frozenset({"labels", "given", "schema", "more"})


@dataclass(frozen=True)
class ModelName:
    """A model and its exact revision: a hub commit, a digest of local files, or a note that the revision is unknown."""

    model: str
    revision: str

    @property
    def named(self) -> "str | list[str]":
        """The model as the run record has it: its name and revision, or of local files the digest alone."""
        return self.revision if self.revision.startswith("files:") else [self.model, self.revision]


@dataclass(frozen=True)
class Request:
    """One call. The images, if there are any, come before the text, in order.

    Attributes:
        image_key: Identifies the pixels (content, decoding and size) in the engine's caches.
        schema: JSON schema that the reply must follow.
        labels: The reply is one of these; the caller wants the probability of each.
        choices: The reply is one of these texts, where the engine can hold it to them.
        given: Nothing is generated; the caller wants the log-probabilities of this reply and of the token that ends it.
        more: Of a set of images, those after `image`.
    """

    purpose: Purpose
    text: str
    max_tokens: int
    image: Image | None = None
    image_key: str | None = None
    system: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    labels: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    given: str | None = None
    more: tuple[Image, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in order."""
        return () if self.image is None else (self.image, *self.more)

    @property
    def image_keys(self) -> tuple[str, ...] | None:
        """A key for each image; None if nothing identifies them."""
        if self.image_key is None:
            return None
        return (self.image_key, *(f"{self.image_key}-{number}" for number in range(1, len(self.images))))


@dataclass(frozen=True)
class Reply:
    """The answer to a Request.

    Attributes:
        text: The generated text; after a failure, whatever came before it.
        reasoning: What the model wrote before the text to work it out, if that is no part of it.
        whole: What was generated, where the text is a part of it.
        finish: Why generation ended: "stop", "length" (`max_tokens` reached), "content_filter" or "error".
        failure: "call_failed" or "call_timeout", one of tables.FAILURE_REASONS; None if the call succeeded.
        detail: One line about the failure; without one, what is missing from the reply.
        logprobs: Natural logarithms, one per token of the text, plus one for the token that ends it if the engine
            reports that token; a `given` reply always includes it.
        labels: Probability of each label; the remainder to 1 belongs to other text.
        prompt_tokens: With the cached ones. None is unknown, as of the other two.
    """

    text: str
    finish: str = "stop"
    failure: str | None = None
    detail: str | None = None
    logprobs: tuple[float, ...] = ()
    labels: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0
    output_tokens: int | None = 0
    seconds: float = 0.0
    reasoning: str = ""
    whole: str = ""

    @staticmethod
    def failed(failure: Failure) -> "Reply":
        """Return the reply of a call that failed without any text."""
        return Reply("", "error", failure.reason, failure.detail)


def add_tokens(*counts: int | None) -> int | None:
    """Return the sum of some numbers of tokens; None, which is unknown, if one of them is or no table can hold it."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total if total <= MOST_TOKENS else None


def label_probabilities(first: Iterable[tuple[str, float]], labels: tuple[str, ...]) -> dict[str, float]:
    """Return the probability of each label as the first token; several spellings of a label ("5", " 5") add up.

    Args:
        first: The likeliest first tokens, each with its natural logarithm.
        labels: The labels.
    """
    probabilities = dict.fromkeys(labels, 0.0)
    for token, logprob in first:
        if (label := token.strip()) in probabilities:
            probabilities[label] += math.exp(logprob)
    return probabilities


@dataclass(frozen=True)
class EngineInfo:
    """Facts that an engine reports once it runs.

    Attributes:
        kv_tokens: Capacity of the KV cache in tokens; None if unknown.
        sequences: Most sequences in one batch; None if unknown.
    """

    model: str
    revision: str
    capabilities: frozenset[Capability]
    kv_tokens: int | None
    version: str
    sequences: int | None = None


class EngineDied(Exception):
    """The engine can serve no further call."""


class Engine(Protocol):
    """A running model."""

    facts: EngineInfo

    async def generate(self, request: Request) -> Reply:
        """Serve one call.

        Raises:
            EngineDied: The engine can serve no further call. Any other failure is part of the reply.
        """

    async def close(self) -> None:
        """Release the processes and connections of the engine."""
