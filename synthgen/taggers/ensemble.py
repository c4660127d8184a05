"""Taggers loaded: one, or several as one.

Comes in: the taggers of a pipeline, all of one taxonomy. Goes out: for each image the tags of all of them, every one with the name of
its tagger, so that they can be told apart and stored apart; the plan takes of the tags with one path the surest. An image that
one of them fails on has failed: tags that are missing without a word would look like tags that were not found. A tagger is
loaded when it is first asked: after an update most of what it would be asked may be known. And some need no pixels: what an
open_clip model finds is in its embedding of the image, what a sidecar says came along with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from synthgen.errors import ModelUnavailable
from synthgen.taggers.cache import CachedTags
from synthgen.taggers.clip import ClipTagger
from synthgen.taggers.custom import CustomTagger
from synthgen.taggers.protocol import NOT_OF_AN_IMAGE, Failed, Tagged, Tagger, one_by_one, told
from synthgen.taggers.sidecar import SidecarTagger
from synthgen.taggers.spec import (
    ClipTaggerFile,
    CustomTaggerFile,
    SidecarTaggerFile,
    TaggerSpec,
    VlmTaggerFile,
    embedding_of,
)
from synthgen.taggers.vlm import VlmTagger

KnownTags = Mapping[str, Tagged]  # tagger -> what it said of an image before
NOTHING: KnownTags = {}


def open_tagger(spec: TaggerSpec) -> Tagger:
    """The tagger, loaded; ModelUnavailable if its model does not load, UserMistake if its code cannot be used."""
    try:
        return _opened(spec)
    except NOT_OF_AN_IMAGE:
        raise
    except Exception as error:  # else each image would be blamed for it
        raise ModelUnavailable(f"tagger '{spec.name}' does not start: {told(error)}") from error


def _opened(spec: TaggerSpec) -> Tagger:
    match spec.file:
        case SidecarTaggerFile():
            return SidecarTagger(spec, spec.file)
        case VlmTaggerFile():
            return VlmTagger(spec, spec.file)
        case CustomTaggerFile():
            return CustomTagger(spec, spec.file)
        case ClipTaggerFile():
            return ClipTagger(spec, spec.file)


class Taggers:
    """The taggers of a pipeline, which look at the same images."""

    def __init__(self, specs: Sequence[TaggerSpec]) -> None:
        self._specs = specs
        self._opened: dict[str, Tagger] = {}

    def prepare(self, image: Image, source_meta: str | None, known: KnownTags = NOTHING) -> Any:
        """The input of each tagger, or what is known already."""
        names = {spec.name: spec for spec in self._specs}
        return {
            name: known[name] if name in known else self._tagger(spec).prepare(image, source_meta)
            for name, spec in names.items()
        }

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """What all of them say of each image; the embedding is of the first that has one."""
        said = [self._said(spec, [one[spec.name] for one in inputs]) for spec in self._specs]
        return [_together(of_one) for of_one in zip(*said, strict=True)]

    def recall(self, pasts: Sequence[CachedTags], metas: Sequence[str | None]) -> list[KnownTags]:
        """Of each image what can be said without its pixels, by tagger; where none is missing, it need not be read."""
        known: list[dict[str, Tagged]] = [dict(past.said) for past in pasts]
        for spec in self._specs:
            places = [place for place, said in enumerate(known) if spec.name not in said]
            found = self._unseen(spec, [pasts[place] for place in places], [metas[place] for place in places])
            for place, said in zip(places, found, strict=True):
                if said is not None:
                    known[place][spec.name] = said
        return list(known)

    def close(self) -> None:
        """Closes those that were loaded."""
        for tagger in self._opened.values():
            tagger.close()

    def _said(self, spec: TaggerSpec, inputs: Sequence[Any]) -> list[Tagged]:
        """What one tagger says of each image; it looks only at those of which it is not known."""
        open_questions = [one for one in inputs if not isinstance(one, Tagged)]
        found = iter(self._tagger(spec).tag(open_questions) if open_questions else ())
        return [one if isinstance(one, Tagged) else next(found) for one in inputs]

    def _unseen(
        self, spec: TaggerSpec, pasts: Sequence[CachedTags], metas: Sequence[str | None]
    ) -> Sequence[Tagged | None]:
        """What one tagger says of each image without its pixels; None where it wants them."""
        tool = self._tagger(spec) if pasts and isinstance(spec.file, SidecarTaggerFile | ClipTaggerFile) else None
        if isinstance(tool, SidecarTagger):
            return tool.tag([tool.prepare(None, meta) for meta in metas])
        if not isinstance(tool, ClipTagger) or spec.embedding != embedding_of(self._specs):
            return [None] * len(pasts)
        vectors = [past.embedding for past in pasts]
        said = iter(one_by_one(lambda some: tool.tags_of(np.stack(some)), [one for one in vectors if one is not None]))
        found = [None if one is None else next(said) for one in vectors]
        return [None if isinstance(one, Failed) else one for one in found]

    def _tagger(self, spec: TaggerSpec) -> Tagger:
        if spec.name not in self._opened:
            self._opened[spec.name] = open_tagger(spec)
        return self._opened[spec.name]


def _together(found: Sequence[Tagged]) -> Tagged:
    if failure := next((one.failure for one in found if one.failure), None):
        return Tagged([], failure=failure)
    embedding = next((one.embedding for one in found if one.embedding is not None), None)
    left_out = tuple(phrase for one in found for phrase in one.left_out)
    return Tagged([tag for one in found for tag in one.tags], embedding, left_out=left_out)
