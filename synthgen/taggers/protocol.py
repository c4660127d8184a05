"""The protocol of a tagger, and the functions that confine a failure to the image that caused it.

Models and user code may raise anything over an odd image. If a batch raises, its images are tried one at a time, and
the failure is recorded on the image that raised. Errors that no image caused propagate: the job's own errors, a dead
engine, exhausted memory.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from synthgen.engines import JOB_ERRORS
from synthgen.errors import Failure, describe_error, one_line

Floats = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")
DETAIL_LENGTH = 500  # characters
logger = logging.getLogger(__name__)
_warned: set[type[BaseException]] = set()  # classes of the errors of batches that were logged


@dataclass(frozen=True)
class Tagged:
    """The tags of one image.

    Attributes:
        tags: {"path", "score", "tagger"} of each tag, highest score first.
        embedding: (width,) float32 of unit length, if the tagger makes one.
        left_out: A phrase per tagger about tags in source_meta that it could not use.
    """

    tags: list[dict[str, Any]]
    embedding: Floats | None = None
    left_out: tuple[str, ...] = ()


class Tagger(Protocol):
    """A loaded tagger. It lives in a worker."""

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """Return the tagger's input for one image, small enough to hold a batch of them."""

    def tag(self, inputs: Sequence[Any]) -> Sequence[Tagged | Failure]:
        """Return the tags of each prepared image."""

    def close(self) -> None:
        """Release the model and everything else that the tagger holds."""


@runtime_checkable
class EmbeddingTagger(Tagger, Protocol):
    """A tagger that can work from the stored embeddings of images."""

    def tag_embeddings(self, embeddings: Floats) -> Sequence[Tagged | Failure]:
        """Return the tags of each image, given (images, width) float32."""


@runtime_checkable
class SourceMetaTagger(Tagger, Protocol):
    """A tagger that needs no pixels, only the JSON that the source carries with each image."""

    def tag_source_meta(self, source_metas: Sequence[str | None]) -> Sequence[Tagged | Failure]:
        """Return the tags of each image, given its source_meta."""


@runtime_checkable
class RefiningTagger(Tagger, Protocol):
    """A tagger that is asked only below tags that those before it found."""

    def tag_below(self, inputs: Sequence[Any], starts: Sequence[Sequence[str]]) -> Sequence[Tagged | Failure]:
        """Return the tags of each prepared image, given the paths below which each is looked at."""


def tagging_failure(error: BaseException | str) -> Failure:
    """Return the failure of one image; that of an exception has the file and line that raised it."""
    detail = one_line(error, DETAIL_LENGTH) if isinstance(error, str) else describe_error(error, DETAIL_LENGTH)
    return Failure("tagger_failed", detail)


def one_by_one(do: Callable[[Sequence[Item]], Iterable[Result]], inputs: Sequence[Item]) -> list[Result | Failure]:
    """Return `do(inputs)`; if that raises, call it on each input alone and return a Failure where it raises again.

    A result of another length counts as an error.
    """
    try:
        all_results = list(do(inputs)) if inputs else []
        error: BaseException = _wrong_number(all_results, inputs)
        if len(all_results) == len(inputs):
            return list(all_results)
    except JOB_ERRORS:
        raise
    except (Exception, SystemExit) as raised:
        error = raised
    if len(inputs) == 1:
        return [tagging_failure(error)]
    results = [result for single in inputs for result in one_by_one(do, [single])]
    if not any(isinstance(result, Failure) for result in results):  # else no row would tell of the error
        _warn_once(error, len(inputs))
    return results


def check_number(results: list[Result], inputs: Sequence[Item]) -> list[Result]:
    """Return the results; raise ValueError unless there is one for each input."""
    if len(results) != len(inputs):
        raise _wrong_number(results, inputs)
    return results


def _wrong_number(results: Sequence[Any], inputs: Sequence[Any]) -> ValueError:
    return ValueError(f"{len(results)} results for {len(inputs)} images")


def _warn_once(error: BaseException, images: int) -> None:
    """Log the first error of its class that a batch raised and no image alone."""
    if type(error) not in _warned:
        _warned.add(type(error))
        detail = one_line(error, DETAIL_LENGTH)
        logger.warning("a batch of %d images failed and was tagged one by one, more slowly: %s", images, detail)


def prepare_image(prepare: Callable[[Image, str | None], Any], image: Image, source_meta: str | None) -> Any | Failure:
    """Return a tagger's input for one image, or a Failure if `prepare` raises."""
    return one_by_one(lambda images: [prepare(single, source_meta) for single in images], [image])[0]


def tag_images(tagger: Tagger, inputs: Sequence[Any]) -> list[Tagged | Failure]:
    """Return the tags of each prepared image, or a Failure."""
    return one_by_one(tagger.tag, inputs)
