"""The survey of duplicates, over all tagged images at once: each object is kept, or another object represents it.

The newest bytes of a place count. Of equal or near images the first counts: those of earlier runs (`plan.against`) come
before all others, and images that are planned already before the rest; so growth never retires what is planned, in
whatever order partitions are tagged. A newer version with the same bytes is a copy like any other, so a file with a new
date costs nothing but a look at it. Near are images by their hash and thumbnail, and where `plan.semantic_duplicates`
is set by their embedding. A survey of many objects runs in another process (survey_process.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthgen.dedup import Thumbnails, near_embeddings, near_images
from synthgen.stages.plan.facts import (
    CHANGED,
    EXCLUDED,
    KEPT,
    NEAR_DUPLICATE,
    OTHER_RUN,
    QUARANTINED,
    RESERVED,
    SAME_BYTES,
    SEMANTIC_DUPLICATE,
    UNKNOWN,
    Facts,
    Ids,
    Outcomes,
    Pictures,
    embedding_model,
    read_earlier_run,
    read_objects,
)
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.survey_settings import SurveySettings
from synthgen.store import CommitLog, Folder, RunFolder
from synthgen.store.earlier_runs import EarlierRun

Indexes = NDArray[np.int64]
NO_ID = np.zeros(1, "S16")[0]


@dataclass(frozen=True)
class DuplicateSurvey:
    """Every tagged object, in the order of the partitions and within them; arrays have one entry for each.

    Attributes:
        spans: Partition → the indexes of its objects.
        representative: The index of the object that represents each object; itself if it is kept or of another run.
        run: The earlier run that has it, or -1, int16.
        other_ids: The object that represents it there.
        outdated: The partitions whose committed plan no longer agrees with the survey.
    """

    spans: Mapping[str, slice]
    object_ids: Ids
    outcome: Outcomes
    representative: Indexes
    run: NDArray[np.int16]
    other_ids: Ids
    outdated: frozenset[str]

    def represented_by(self, index: int) -> str | None:
        """Return the id of the object that represents an object, in another run where it is of one; None if none."""
        if self.run[index] >= 0:
            return _hex(self.other_ids, index)
        other = int(self.representative[index])
        return None if other == index else self.object_id(other)

    def object_id(self, index: int) -> str:
        """Return the id of an object."""
        return _hex(self.object_ids, index)


def _hex(ids: Ids, index: int) -> str:
    return ids[index : index + 1].tobytes().hex()


def survey_duplicates(inputs: Inputs, planned: CommitLog, settings: SurveySettings) -> DuplicateSurvey:
    """Survey every tagged object.

    Args:
        inputs: The listed and tagged objects.
        planned: The plan so far.
        settings: What counts as a duplicate.
    """
    embedding = embedding_model(RunFolder(inputs.out))
    with Pictures.on_disk(with_embeddings=settings.cosine is not None) as pictures:
        earlier = [
            read_earlier_run(EarlierRun(name, RunFolder(Folder(url))), number, embedding, pictures)
            for number, (name, url) in enumerate(settings.against)
        ]
        parts = {
            partition: read_objects(inputs, planned, partition, settings, pictures) for partition in inputs.partitions
        }
        return _survey(parts, earlier, pictures, settings)


def _survey(
    parts: Mapping[str, Facts], earlier: list[Facts], pictures: Pictures, settings: SurveySettings
) -> DuplicateSurvey:
    """Survey the objects of some partitions; those of earlier runs come before them."""
    objects = Facts.joined([*earlier, *parts.values()])
    first = sum(len(part.run) for part in earlier)
    ends = np.cumsum([len(part.run) for part in parts.values()]).tolist()
    spans = {partition: slice(start, end) for partition, start, end in zip(parts, [0, *ends], ends, strict=False)}
    newest = np.concatenate([np.arange(first), first + _newest(objects.places[first:])])
    outcome, representative = _find_representatives(objects, newest, first, pictures, settings)
    run, other_ids = objects.run[representative[first:]], objects.object_ids[representative[first:]]
    other_ids = np.where(run >= 0, other_ids, NO_ID)
    own = np.where(run >= 0, np.arange(len(run)), representative[first:] - first)
    outdated = _outdated(objects, newest, outcome, representative, spans, first)
    return DuplicateSurvey(spans, objects.object_ids[first:], outcome[first:], own, run, other_ids, outdated)


def _find_representatives(
    objects: Facts, newest: Indexes, first: int, pictures: Pictures, settings: SurveySettings
) -> tuple[Outcomes, Indexes]:
    """Return the outcome of each object, and the index of the object that represents it; those before `first` stay."""
    outcome = np.full(len(objects.object_ids), KEPT, np.int8)
    representative, earlier = np.arange(len(objects.object_ids)), np.arange(first)
    outcome[objects.image_ids[newest] != objects.image_ids] = CHANGED
    outcome[(outcome == KEPT) & objects.is_excluded] = EXCLUDED
    # What one object says of its bytes holds for every other one that has them.
    outcome[(outcome == KEPT) & np.isin(objects.image_ids, objects.image_ids[objects.is_reserved])] = RESERVED
    outcome[~objects.is_tagged] = QUARANTINED
    rest = first + np.flatnonzero(outcome[first:] == KEPT)
    rest = rest[np.argsort(objects.before[rest] != KEPT, kind="stable")]  # planned objects first

    def represent(rows: Indexes, found: Indexes, code: int) -> None:
        """Write the representatives of some objects. What is planned stays, even if something comes before it now."""
        stays = objects.is_settled[rows] & ((code != SAME_BYTES) | (objects.run[found] >= 0))
        representative[rows] = np.where(stays, rows, found)
        outcome[rows[representative[rows] != rows]] = code
        # An object with the bytes of a near duplicate is near to the same image, which represents both.
        outcome[first:][(representative[representative] != representative)[first:]] = code
        representative[:] = representative[representative]

    everything = np.concatenate([earlier, rest])
    _, place, inverse = np.unique(objects.image_ids[everything], return_index=True, return_inverse=True)
    represent(rest, everything[place[inverse]][first:], SAME_BYTES)
    if settings.bits >= 0:
        rest = rest[outcome[rest] == KEPT]
        rows = np.concatenate([earlier, rest])
        shown = Thumbnails(pictures.thumbnails(), objects.flat_shares, rows)
        near = near_images(objects.phashes[rest], settings.bits, kept=objects.phashes[:first], thumbnails=shown)
        represent(rest, rows[np.where(near < 0, -1 - near, near + first)], NEAR_DUPLICATE)
    if settings.cosine is not None and (embeddings := pictures.embeddings()) is not None:
        rest = rest[outcome[rest] == KEPT]
        rows = np.concatenate([earlier, rest])
        keys = np.ascontiguousarray(objects.image_ids[rows]).view(np.uint64).reshape(-1, 2)[:, 0]
        near = near_embeddings(embeddings, settings.cosine, keys, first, rows)[first:]
        represent(rest, rows[near], SEMANTIC_DUPLICATE)
    outcome[first:][objects.run[representative[first:]] >= 0] = OTHER_RUN
    return outcome, representative


def _newest(places: Ids) -> Indexes:
    """Return the index of the newest object at the place of each object, which is the last one."""
    _, last, inverse = np.unique(places[::-1], return_index=True, return_inverse=True)
    return (len(places) - 1 - last)[inverse[::-1]]


def _outdated(
    objects: Facts,
    newest: Indexes,
    outcome: Outcomes,
    representative: Indexes,
    spans: Mapping[str, slice],
    first: int,
) -> frozenset[str]:
    """Return the partitions whose plan has another outcome for an object, or a representative that is not kept.

    So are those with a kept object whose bytes are found by a newer version from now on.
    """
    is_known = objects.before != UNKNOWN
    differs = is_known & (objects.before != outcome)
    is_duplicate = np.isin(outcome, (SAME_BYTES, NEAR_DUPLICATE, SEMANTIC_DUPLICATE, OTHER_RUN))
    doubtful = np.flatnonzero(is_known & ~differs & is_duplicate)
    doubtful = doubtful[objects.object_ids[representative[doubtful]] != objects.same_as[doubtful]]
    differs[doubtful] = ~np.isin(objects.same_as[doubtful], objects.object_ids[outcome == KEPT])
    has_newer = (outcome == KEPT) & (outcome[newest] == SAME_BYTES)
    differs |= is_known & has_newer & (objects.before[newest] == UNKNOWN)
    ends = [span.stop for span in spans.values()]
    partitions = np.searchsorted(ends, np.flatnonzero(differs[first:]), side="right")
    return frozenset(np.array(list(spans))[partitions].tolist())
