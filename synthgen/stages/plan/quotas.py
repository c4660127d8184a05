"""Quotas on the questions of a type: `plan.share` and `plan.caps`, over all images at once.

Every question has a key, a uniform number that depends only on (seed, image, type, ordinal), and it is asked if its key
is at most the limit of its type. So every type is thinned evenly over all images instead of being cut off at an end,
and a limit that moves affects only the keys in between. The limits are recorded with the epoch.

Questions that are planned already come first: growth retires none of them, and an edit only as many as a smaller quota
requires.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthgen.config.planning import PlanConfig
from synthgen.config.taxonomy import matching
from synthgen.stages.plan.sampling import Floats, Words, image_words, uniforms, word

NO_LIMIT = [1.0, 1.0]  # every key is smaller
Limits = Mapping[str, Sequence[float]]  # type → the largest key of planned questions, and of new ones
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnQuestions:
    """Questions that an epoch would ask, one entry in each array for each; a million take 10 MB.

    Attributes:
        types: Indexes into all types.
        is_planned: Whether an earlier epoch planned them.
    """

    types: NDArray[np.int16]
    keys: Floats
    is_planned: Mask


@dataclass(frozen=True)
class Candidates:
    """The questions that quotas apply to.

    Attributes:
        fixed: Type → planned questions that no quota removes.
    """

    types: tuple[str, ...]
    drawn: DrawnQuestions
    fixed: Mapping[str, int]


def has_quotas(settings: PlanConfig) -> bool:
    """Return whether the questions of any type are limited."""
    return settings.share < 1 or bool(settings.caps)


def keys_of(seed: int, assignments: pa.Table) -> Floats:
    """Return the keys of assignments, (assignments,) float64."""
    images, types, ordinals = (assignments.column(name).to_pylist() for name in ("image_id", "type", "ordinal"))
    return uniforms(image_words(seed, images), _words(types, ordinals))


def _words(types: Sequence[str], ordinals: Sequence[int]) -> Words:
    pairs = list(zip(types, ordinals, strict=True))
    words = {(path, ordinal): word("quota", path, str(ordinal)) for path, ordinal in set(pairs)}
    return np.array([words[pair] for pair in pairs], dtype=np.uint64)


def concatenate(parts: Iterable[DrawnQuestions]) -> DrawnQuestions:
    """Return the questions of all parts."""
    parts = list(parts)
    if not parts:
        return DrawnQuestions(np.empty(0, np.int16), np.empty(0), np.empty(0, bool))
    names = [field.name for field in fields(DrawnQuestions)]
    return DrawnQuestions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def limits_of(settings: PlanConfig, candidates: Candidates) -> dict[str, list[float]]:
    """Return the limits that meet share and caps exactly; types without a limit are left out."""
    limits: dict[str, list[float]] = {}
    if settings.share < 1:
        counts = np.bincount(candidates.drawn.types, minlength=len(candidates.types)).tolist()
        for path, count in zip(candidates.types, counts, strict=True):
            room = ceil(settings.share * count)  # at least 1, so that no type is lost
            _tighten(limits, [path], room, candidates)
    for pattern, cap in settings.caps.items():
        types = matching([pattern], candidates.types)
        room = max(0, cap - sum(candidates.fixed.get(path, 0) for path in types))
        _tighten(limits, types, room, candidates)
    return limits


def _tighten(limits: dict[str, list[float]], types: Sequence[str], room: int, candidates: Candidates) -> None:
    """Lower the limits of some types until no more than `room` of their questions are within them."""
    drawn = candidates.drawn
    numbers = [number for number, path in enumerate(candidates.types) if path in types]
    chosen = np.flatnonzero(np.isin(drawn.types, numbers))
    chosen = chosen[_within(limits, candidates.types, drawn, chosen)]
    if len(chosen) <= room:
        return
    is_planned = drawn.is_planned[chosen]
    planned, new = np.sort(drawn.keys[chosen[is_planned]]), np.sort(drawn.keys[chosen[~is_planned]])
    highest = (_limit_of(planned, room), _limit_of(new, room - len(planned)))
    for path in types:
        before = limits.get(path, NO_LIMIT)
        limits[path] = [min(before[0], highest[0]), min(before[1], highest[1])]


def _limit_of(keys: Floats, room: int) -> float:
    """Return the limit that the `room` smallest of these sorted keys are within."""
    if room >= len(keys):
        return 1.0
    return float(keys[room - 1]) if room > 0 else 0.0


def _within(limits: Limits, types: Sequence[str], drawn: DrawnQuestions, chosen: NDArray[np.intp]) -> Mask:
    """Return whether each of the chosen questions is within its limit."""
    bounds = np.array([limits.get(path, NO_LIMIT) for path in types])
    bound = bounds[drawn.types[chosen], np.where(drawn.is_planned[chosen], 0, 1)]
    is_within: Mask = drawn.keys[chosen] <= bound
    return is_within


def quota_mask(settings: PlanConfig, candidates: Candidates) -> Mask:
    """Return whether share and caps keep each of the drawn questions."""
    drawn = candidates.drawn
    return _within(limits_of(settings, candidates), candidates.types, drawn, np.arange(len(drawn.types)))


def limit_mask(limits: Limits, seed: int, assignments: pa.Table, is_planned: Mask) -> Mask:
    """Return whether each assignment is within its limit.

    Args:
        limits: As recorded with the epoch.
        seed: `plan.seed`.
        assignments: With the columns of ASSIGNMENTS.
        is_planned: Whether an earlier epoch planned each of them.
    """
    row_of = {path: row for row, path in enumerate(limits)}
    rows = [row_of.get(path, len(row_of)) for path in assignments.column("type").to_pylist()]
    bounds = np.array([*limits.values(), NO_LIMIT])
    bound = bounds[rows, np.where(is_planned, 0, 1)]
    is_within: Mask = keys_of(seed, assignments) <= bound
    return is_within
