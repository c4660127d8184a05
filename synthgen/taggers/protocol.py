"""What a tagger takes and what it gives, and what becomes of an image that it cannot take.

Comes in: an image and whatever the source carried along with it. Goes out: Tagged, the tags of one image. All taggers, ours and a
user's own, stand behind the Tagger protocol, so that a worker need not know which it holds. Models and a user's code raise what they
like over an odd image; `one_by_one` makes that one image's reason wherever a tagger is used. Only what no image is to blame for goes
on: the job's own errors, an engine that died, memory that ran out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from synthgen.engines import EngineDied
from synthgen.errors import SynthError

Floats = NDArray[np.float32]
Result = TypeVar("Result")
NOT_OF_AN_IMAGE = (SynthError, EngineDied, MemoryError)


@dataclass(frozen=True)
class Tagged:
    """What a tagger says of one image; tags surest first. With `failure` set it could not say."""

    tags: list[dict[str, Any]]  # path, score, tagger
    embedding: Floats | None = None
    failure: str | None = None
    left_out: tuple[str, ...] = ()  # by tagger, a phrase on tags that came along and were not taken


class Tagger(Protocol):
    """What a worker tags with."""

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The tagger's input for one image, small enough to be kept for a batch."""

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """The tags of a batch of prepared images."""

    def close(self) -> None:
        """Gives back what it holds; nothing is tagged after it."""


@dataclass(frozen=True)
class Failed:
    """What stands for a result that one image did not get."""

    why: str


def in_a_line(text: str) -> str:
    """Somebody else's words in one line, in characters that any table can hold."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def told(error: BaseException) -> str:
    """An exception in one line."""
    words = in_a_line(str(error))
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def one_by_one(do: Callable[[Sequence[Any]], Iterable[Result]], inputs: Sequence[Any]) -> list[Result | Failed]:
    """What `do` makes of a batch; where it fails, image by image, so that one costs one."""
    try:
        return list(do(inputs)) if inputs else []
    except NOT_OF_AN_IMAGE:
        raise
    except Exception as error:
        if len(inputs) == 1:
            return [Failed(told(error))]
        return [found for one in inputs for found in one_by_one(do, [one])]


def prepared(prepare: Callable[[Image, str | None], Any], image: Image, source_meta: str | None) -> Any:
    """What a tagger's `prepare` makes of one image, or Failed."""
    return one_by_one(lambda images: [prepare(one, source_meta) for one in images], [image])[0]


def tags_of_each(tagger: Tagger, inputs: Sequence[Any]) -> list[Tagged]:
    """What the tagger says of each prepared image, or its `failure`."""
    return [Tagged([], failure=one.why) if isinstance(one, Failed) else one for one in one_by_one(tagger.tag, inputs)]
