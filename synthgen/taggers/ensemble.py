"""The taggers of a pipeline, loaded and used together.

The tags of all taggers are kept, each with the name of its tagger; the plan takes the highest score of each path. If
one tagger fails on an image, the image has failed: missing tags would look like tags that were not found. A tagger is
loaded on first use, because after an update most of its tags may be cached. One that refines others is asked after
them, about the images on which they found what it refines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from synthgen.engines import JOB_ERRORS
from synthgen.errors import Failure, ModelUnavailable, one_line
from synthgen.taggers.cache import CachedTags
from synthgen.taggers.checked import checked_result
from synthgen.taggers.protocol import (
    EmbeddingTagger,
    Floats,
    RefiningTagger,
    SourceMetaTagger,
    Tagged,
    Tagger,
    check_number,
    one_by_one,
)
from synthgen.taggers.spec import TaggerSpec, starts_below, stored_embedding_model

KnownTags = Mapping[str, Tagged]  # tagger -> its tags of an image, found without the pixels
NO_TAGS: KnownTags = {}


def open_tagger(spec: TaggerSpec) -> Tagger:
    """Load a tagger.

    Raises:
        ModelUnavailable: If its model does not load.
        UserMistake: If the user's code cannot be used.
    """
    try:
        return spec.file.open(spec)
    except JOB_ERRORS:
        raise
    except Exception as error:  # else every image would be blamed for it
        raise ModelUnavailable(f"tagger '{spec.name}' does not start: {one_line(error)}") from error


class Taggers:
    """Several taggers as one, over the same images."""

    def __init__(self, specs: Sequence[TaggerSpec]) -> None:
        self._specs = specs
        self._loaded: dict[str, Tagger] = {}

    def prepare(self, image: Image, source_meta: str | None, known: KnownTags = NO_TAGS) -> dict[str, Any]:
        """Return by tagger its known tags, or its input."""
        return {
            spec.name: known[spec.name] if spec.name in known else self._load(spec).prepare(image, source_meta)
            for spec in self._specs
        }

    def tag(self, inputs: Sequence[Mapping[str, Any]]) -> list[Tagged | Failure]:
        """Return the tags of all taggers for each image, with the first embedding that one of them makes."""
        by_image: list[list[Tagged | Failure]] = [[] for _ in inputs]
        for spec in self._specs:
            items = [image[spec.name] for image in inputs]
            results = self._refine(spec, items, by_image) if spec.file.refines() else self._tag_unknown(spec, items)
            for so_far, result in zip(by_image, results, strict=True):
                so_far.append(result)
        return [_merge(results) for results in by_image]

    def recall(self, cached: Sequence[CachedTags], source_metas: Sequence[str | None]) -> list[KnownTags]:
        """Return the tags of each image that need no pixels, by tagger; where none is missing, it need not be read."""
        known = [dict(image.tags) for image in cached]
        for spec in self._specs:
            if spec.file.refines():
                self._recall_unasked(spec, known)
                continue
            missing = [index for index, tags in enumerate(known) if spec.name not in tags]
            results = self._recall_one(
                spec, [cached[index] for index in missing], [source_metas[index] for index in missing]
            )
            for index, result in zip(missing, results, strict=True):
                if isinstance(result, Tagged):
                    known[index][spec.name] = result
        return list(known)

    def close(self) -> None:
        """Close the taggers that were loaded."""
        for tagger in self._loaded.values():
            tagger.close()

    def _tag_unknown(self, spec: TaggerSpec, inputs: Sequence[Any]) -> list[Tagged | Failure]:
        """Return one tagger's tags of each image; it sees only the images whose tags are not known."""
        unknown = [item for item in inputs if not isinstance(item, Tagged)]
        results = iter(check_number(list(self._load(spec).tag(unknown)), unknown) if unknown else ())
        return [item if isinstance(item, Tagged) else _checked(next(results), spec) for item in inputs]

    def _refine(
        self, spec: TaggerSpec, items: Sequence[Any], before: Sequence[Sequence[Tagged | Failure]]
    ) -> list[Tagged | Failure]:
        """Return the tags of a tagger that looks closer where those before it found something.

        It is not asked about an image that has failed already.
        """
        starts = [_starts(spec, results) for results in before]
        asked = [index for index, item in enumerate(items) if not isinstance(item, Tagged) and starts[index]]
        results: list[Tagged | Failure] = [item if isinstance(item, Tagged) else Tagged([]) for item in items]
        if not asked:
            return results
        tagger = self._load(spec)
        assert isinstance(tagger, RefiningTagger), f"tagger '{spec.name}' cannot look below tags"
        inputs = [items[index] for index in asked]
        found = check_number(list(tagger.tag_below(inputs, [starts[index] for index in asked])), inputs)
        for index, result in zip(asked, found, strict=True):
            results[index] = _checked(result, spec)
        return results

    def _recall_unasked(self, spec: TaggerSpec, known: Sequence[dict[str, Tagged]]) -> None:
        """Complete images about which a refining tagger is not asked, as far as all taggers before it are known."""
        before = [other.name for other in self._specs[: self._specs.index(spec)]]
        for tags in known:
            is_told = spec.name not in tags and all(name in tags for name in before)
            if is_told and not _starts(spec, [tags[name] for name in before]):
                tags[spec.name] = Tagged([])

    def _recall_one(
        self, spec: TaggerSpec, cached: Sequence[CachedTags], source_metas: Sequence[str | None]
    ) -> Sequence[Tagged | Failure | None]:
        """Return one tagger's tags of each image without its pixels; None or a Failure where it needs them."""
        works_from = spec.file.works_from
        if works_from == "embedding" and spec.embedding_model != stored_embedding_model(self._specs):
            works_from = "pixels"  # the stored embeddings are of another model
        tagger = self._load(spec) if cached and works_from != "pixels" else None
        if works_from == "source_meta" and isinstance(tagger, SourceMetaTagger):
            found: Sequence[Tagged | Failure | None] = one_by_one(tagger.tag_source_meta, source_metas)
        elif works_from == "embedding" and isinstance(tagger, EmbeddingTagger):
            found = _tag_stored(tagger, [image.embedding for image in cached])
        else:
            found = [None] * len(cached)
        return [None if result is None else _checked(result, spec) for result in found]

    def _load(self, spec: TaggerSpec) -> Tagger:
        if spec.name not in self._loaded:
            self._loaded[spec.name] = open_tagger(spec)
        return self._loaded[spec.name]


def _tag_stored(tagger: EmbeddingTagger, embeddings: Sequence[Floats | None]) -> Sequence[Tagged | Failure | None]:
    """Return the tags of each image, given its stored (width,) float32; None where none is stored."""
    stored = [embedding for embedding in embeddings if embedding is not None]
    results = iter(one_by_one(lambda batch: tagger.tag_embeddings(np.stack(batch)), stored))
    return [None if embedding is None else next(results) for embedding in embeddings]


def _starts(spec: TaggerSpec, results: Sequence[Tagged | Failure]) -> list[str]:
    """Return the groups below which a refining tagger looks at an image; none if the image has failed."""
    tagged = [result for result in results if isinstance(result, Tagged)]
    if len(tagged) < len(results):
        return []
    return starts_below(spec, (tag["path"] for result in tagged for tag in result.tags))


def _merge(results: Sequence[Tagged | Failure]) -> Tagged | Failure:
    """Return the results of all taggers for one image as one; a Failure of any of them is the image's."""
    tagged: list[Tagged] = []
    for result in results:
        if isinstance(result, Failure):
            return result
        tagged.append(result)
    embedding = next((result.embedding for result in tagged if result.embedding is not None), None)
    left_out = tuple(phrase for result in tagged for phrase in result.left_out)
    return Tagged([tag for result in tagged for tag in result.tags], embedding, left_out)


def _checked(result: object, spec: TaggerSpec) -> Tagged | Failure:
    return checked_result(result, spec.name, spec.taxonomy.tree.nodes)
