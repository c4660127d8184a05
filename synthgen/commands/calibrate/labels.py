"""Images whose tags are known, as scores beside the truth.

Comes in: a folder of images with a JSON file beside each, or Parquet with a column of tags, and an open_clip tagger. Goes out: the
scores of every node on every image, what is true, and for each image that cannot be used the reason. An image's labels are
taken to be all its tags, down to the level that they name: one labelled `animal` may be a cat, and counts neither for nor
against it; one labelled with an empty list is known to hold nothing of the taxonomy.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthgen.commands.calibrate.fitting import Flags, LabelledScores
from synthgen.commands.learn.records import words
from synthgen.commands.learn.vocabulary import Lexicon
from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.config.taxonomy import Tree, with_ancestors
from synthgen.errors import Failure
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.load import load_images
from synthgen.ingest.sources import Listed, ObjectRef
from synthgen.tables import object_id
from synthgen.taggers import ClipTagger, Failed, one_by_one, prepared

BATCH = 32  # images that the model sees at once


@dataclass
class LabelCounts:
    """What became of the images."""

    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    first: dict[str, str] = field(default_factory=dict)  # of each reason, an example
    unknown: Counter[str] = field(default_factory=Counter)  # words that the taxonomy does not have

    def leave_out(self, reason: str, where: str) -> None:
        """Counts an image that is left out."""
        self.left_out[reason] += 1
        self.first[reason] = min(self.first.get(reason, where), where)


@dataclass(frozen=True)
class LabelledSet:
    """The images, where they are, and where their labels are."""

    objects: Iterator[Listed]  # of the source; read once
    source: SourceConfig
    images: ImagesConfig
    key: str  # of source_meta


def read(given: LabelledSet, tagger: ClipTagger, tree: Tree) -> tuple[LabelledScores, LabelCounts]:
    """All images that can be used."""
    tally, lexicon = LabelCounts(), Lexicon(tree.nodes)
    labelled: dict[str, list[str]] = {}
    refs: list[ObjectRef] = []
    for listed in given.objects:
        found = _labels(listed, given.key, lexicon, tally)
        ref = ObjectRef(object_id(listed.uri, listed.version, listed.row), listed.uri, listed.version, listed.row)
        if isinstance(found, str):
            tally.leave_out(found, _where(ref))
        elif ref.object_id not in labelled:
            labelled[ref.object_id] = found
            refs.append(ref)
    scored = dict(_scored(refs, given, tagger, tally))
    for ref in refs:
        if isinstance(failed := scored.get(ref.object_id), Failed):
            tally.leave_out("tagger_failed", f"{_where(ref)}: {failed.why[:200]}")
            del scored[ref.object_id]
    order = [ref.object_id for ref in refs if ref.object_id in scored]  # reading is as fast as it can, and in no order
    tally.used = len(order)
    width = len(tree)
    rows = [truth(labelled[one], tree) for one in order]
    true, known = (np.array([row[place] for row in rows], dtype=bool).reshape(-1, width) for place in (0, 1))
    return LabelledScores(
        np.array([scored[one] for one in order], dtype=np.float32).reshape(-1, width), true, known
    ), tally


def truth(labels: Sequence[str], tree: Tree) -> tuple[Flags, Flags]:
    """(which nodes are true, of which that is known)"""
    implied = set(with_ancestors(labels))
    deepest = [path for path in implied if not implied.intersection(tree.nodes[path].children)]
    known = [not any(path.startswith(f"{one}/") for one in deepest) for path in tree.nodes]
    return np.array([path in implied for path in tree.nodes]), np.array(known)


def _labels(listed: Listed, key: str, lexicon: Lexicon, tally: LabelCounts) -> list[str] | str:
    """The tags that an image is labelled with, or the reason why there are none."""
    meta = json.loads(listed.source_meta or "{}")  # the listing has made sure that it can be read
    if isinstance(meta, dict) and "sidecar_unreadable" in meta:
        return "labels_unreadable"
    given = words(meta.get(key)) if isinstance(meta, dict) else None
    if given is None:
        return "no_labels"
    found, strange = lexicon.known(given)
    tally.unknown.update(strange)
    return "unknown_labels" if given and not found else found


def _scored(
    refs: Sequence[ObjectRef], given: LabelledSet, tagger: ClipTagger, tally: LabelCounts
) -> Iterator[tuple[str, Any]]:
    """Yield (object id, scores of all nodes or Failed) of the images that can be read."""
    by_id = {ref.object_id: ref for ref in refs}
    batch: list[tuple[str, Any]] = []
    with DecoderPool[str](given.images) as decoder:
        for loaded in load_images(refs, given.source, decoder):
            if isinstance(loaded.image, Failure):
                where = _where(by_id[loaded.object_id])
                tally.leave_out(loaded.image.reason, f"{where}: {loaded.image.detail}")
                continue
            item = prepared(tagger.prepare, loaded.image.image, None)
            if isinstance(item, Failed):
                yield loaded.object_id, item
                continue
            batch.append((loaded.object_id, item))
            if len(batch) == BATCH:
                yield from _scores(tagger, batch)
                batch = []
    yield from _scores(tagger, batch)


def _scores(tagger: ClipTagger, batch: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    rows = one_by_one(lambda items: tagger.probabilities(tagger.embed(items)), [item for _, item in batch])
    yield from zip((key for key, _ in batch), rows, strict=True)


def _where(ref: ObjectRef) -> str:
    return ref.uri if ref.row is None else f"{ref.uri} row {ref.row}"
