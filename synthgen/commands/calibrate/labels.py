"""Reads labelled images and scores them with the tagger.

The labels of an image must be all its tags, down to the level that they name. So an image labelled `animal` counts
neither for nor against `animal/cat`, and one with an empty list of labels is known to show nothing in the taxonomy.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthgen.commands.calibrate.fitting import Flags, LabelledScores
from synthgen.commands.usable import UseCounts
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.config.taxonomy import Tree, with_ancestors
from synthgen.config.vocabulary import Lexicon, read_words
from synthgen.errors import Failure, one_line
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.load import load_images
from synthgen.ingest.sources import Listed, ObjectRef
from synthgen.tables import object_id
from synthgen.taggers import ClipTagger, Floats, one_by_one, prepare_image

BATCH = 32  # images per call of the model


@dataclass(frozen=True)
class LabelledSet:
    """The labelled images, and where their labels are."""

    objects: Iterator[Listed]  # of the source; read once
    source: SourceConfig
    images: ImagesConfig
    key: str  # of source_meta


def read(labelled_set: LabelledSet, tagger: ClipTagger, tree: Tree) -> tuple[LabelledScores, UseCounts]:
    """Score all images that can be used.

    Returns:
        The scores with the labels, and the counts of all images.
    """
    counts = UseCounts()
    labels = _read_labels(labelled_set, tree, counts)
    scores = _score_all(list(labels), labelled_set, tagger, counts)
    used = [ref for ref in labels if ref.object_id in scores]  # in the order of the listing; scoring has none
    counts.used = len(used)
    truths = [truth(labels[ref], tree) for ref in used]
    shape = (len(used), len(tree))
    labelled = LabelledScores(
        np.array([scores[ref.object_id] for ref in used], dtype=np.float32).reshape(shape),
        np.array([true for true, _ in truths], dtype=bool).reshape(shape),
        np.array([known for _, known in truths], dtype=bool).reshape(shape),
    )
    return labelled, counts


def truth(labels: Sequence[str], tree: Tree) -> tuple[Flags, Flags]:
    """Return which nodes an image shows, and of which nodes that is known: two arrays, (nodes,) bool."""
    implied = set(with_ancestors(labels))
    deepest = [path for path in implied if not implied.intersection(tree.nodes[path].children)]
    known = [not any(path.startswith(f"{label}/") for label in deepest) for path in tree.nodes]
    return np.array([path in implied for path in tree.nodes]), np.array(known)


def _read_labels(labelled_set: LabelledSet, tree: Tree, counts: UseCounts) -> dict[ObjectRef, list[str]]:
    """Return the labels of each image that has any, in the order of the listing."""
    lexicon = Lexicon(tree.nodes)
    labels: dict[ObjectRef, list[str]] = {}
    for listed in labelled_set.objects:
        ref = ObjectRef(object_id(listed.uri, listed.version, listed.row), listed.uri, listed.version, listed.row)
        paths = _labels(listed, labelled_set.key, lexicon, counts)
        if isinstance(paths, str):
            counts.leave_out(paths, _where(ref))
        else:
            labels.setdefault(ref, paths)
    return labels


def _labels(listed: Listed, key: str, lexicon: Lexicon, counts: UseCounts) -> list[str] | str:
    """Return the tag paths that an image is labelled with, or the reason why there are none."""
    meta = json.loads(listed.source_meta or "{}")  # the listing has checked that it is JSON
    if isinstance(meta, dict) and "sidecar_unreadable" in meta:
        return "labels_unreadable"
    given = read_words(meta.get(key)) if isinstance(meta, dict) else None
    if given is None:
        return "no_labels"
    paths, unknown = lexicon.look_up(given)
    counts.unknown_words("labels").update(unknown)
    return "unknown_labels" if given and not paths else paths


def _score_all(
    refs: Sequence[ObjectRef], labelled_set: LabelledSet, tagger: ClipTagger, counts: UseCounts
) -> dict[str, Floats]:
    """Return object id -> scores of all nodes, (nodes,) float32, of the images that can be read and scored."""
    ref_of = {ref.object_id: ref for ref in refs}
    scores: dict[str, Floats] = {}
    for key, result in _score_images(ref_of, labelled_set, tagger, counts):
        if isinstance(result, Failure):
            counts.leave_out(result.reason, f"{_where(ref_of[key])}: {one_line(result.detail, 200)}")
        else:
            scores[key] = result
    return scores


def _score_images(
    ref_of: dict[str, ObjectRef], labelled_set: LabelledSet, tagger: ClipTagger, counts: UseCounts
) -> Iterator[tuple[str, Floats | Failure]]:
    """Yield object id and scores, or the tagger's failure, of each image that can be read."""
    batch: dict[str, Any] = {}  # object id -> input of the model
    with DecoderPool[str](labelled_set.images) as decoder:
        for loaded in load_images(list(ref_of.values()), labelled_set.source, decoder):
            key, image = loaded.object_id, loaded.image
            if isinstance(image, Failure):
                counts.leave_out(image.reason, f"{_where(ref_of[key])}: {image.detail}")
                continue
            tensor = prepare_image(tagger.prepare, image.image, None)
            if isinstance(tensor, Failure):
                yield key, tensor
                continue
            batch[key] = tensor
            if len(batch) == BATCH:
                yield from _score_batch(tagger, batch)
                batch = {}
    yield from _score_batch(tagger, batch)


def _score_batch(tagger: ClipTagger, batch: dict[str, Any]) -> Iterator[tuple[str, Floats | Failure]]:
    scores = one_by_one(lambda tensors: tagger.probabilities(tagger.embed(tensors)), list(batch.values()))
    yield from zip(batch, scores, strict=True)


def _where(ref: ObjectRef) -> str:
    return ref.uri if ref.row is None else f"{ref.uri} row {ref.row}"
