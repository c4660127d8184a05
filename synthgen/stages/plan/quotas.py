"""How many questions of a type there may be: `plan.share` and `plan.caps`, over all images at once.

Comes in: the questions that an epoch would ask, drawn but not yet written, and how many are planned already. Goes out: Limits,
a number for each type that is short, recorded with the epoch. Every question has a key, a uniform number that is a function of
(seed, image, type, ordinal), and is asked if its key is at most its type's limit; so the tail is not chopped off, each type is
thinned evenly over all images, and a limit that moves adds or takes back only what lies between. What is planned already comes
first: growth takes nothing of it back, and an edit only as much as a smaller quota wants.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthgen.config.pipeline import PlanConfig
from synthgen.config.taxonomy import matching
from synthgen.stages.plan.sampling import Floats, Words, image_words, uniforms, word

ALL = [1.0, 1.0]  # keys are smaller
Limits = Mapping[str, Sequence[float]]  # type -> the largest key of what is planned already, and of what is new


@dataclass(frozen=True)
class Drawn:
    """Questions that an epoch would ask, an entry each; of a million questions 10 MB."""

    types: NDArray[np.int16]  # place among all types
    keys: Floats
    is_planned: NDArray[np.bool_]  # already, by an earlier epoch


@dataclass(frozen=True)
class Candidates:
    """What is to be cut down, and what is planned and stays whatever is cut."""

    types: tuple[str, ...]
    drawn: Drawn
    stays: Mapping[str, int]  # type -> questions


def are_set(settings: PlanConfig) -> bool:
    """Whether anything limits the questions of a type."""
    return settings.share < 1 or bool(settings.caps)


def keys_of(seed: int, assignments: pa.Table) -> Floats:
    """The keys of assignments."""
    columns = (assignments.column(name).to_pylist() for name in ("image_id", "type", "ordinal"))
    images, types, ordinals = columns
    return uniforms(image_words(seed, images), _words(types, ordinals))


def _words(types: Sequence[str], ordinals: Sequence[int]) -> Words:
    known = {one: word("quota", one[0], str(one[1])) for one in set(zip(types, ordinals, strict=True))}
    return np.array([known[one] for one in zip(types, ordinals, strict=True)], dtype=np.uint64)


def together(parts: Iterable[Drawn]) -> Drawn:
    """Many as one."""
    listed = list(parts)
    if not listed:
        return Drawn(np.empty(0, np.int16), np.empty(0), np.empty(0, bool))
    return Drawn(*(np.concatenate([getattr(part, name) for part in listed]) for name in Drawn.__annotations__))


def limits_of(settings: PlanConfig, candidates: Candidates) -> dict[str, list[float]]:
    """The limits that hold share and caps exactly; types that nothing limits are left out."""
    limits: dict[str, list[float]] = {}
    drawn = candidates.drawn
    if settings.share < 1:
        counts = np.bincount(drawn.types, minlength=len(candidates.types)).tolist()
        for path, count in zip(candidates.types, counts, strict=True):
            _tighten(
                limits, [path], ceil(settings.share * count), candidates
            )  # at least one of each: no type is thinned away
    for pattern, cap in settings.caps.items():
        types = matching([pattern], candidates.types)
        _tighten(limits, types, max(0, cap - sum(candidates.stays.get(path, 0) for path in types)), candidates)
    return limits


def _tighten(limits: dict[str, list[float]], types: Sequence[str], room: int, candidates: Candidates) -> None:
    """Lowers the limits of some types until no more than `room` of their questions are let through."""
    drawn = candidates.drawn
    mine = np.isin(drawn.types, [place for place, path in enumerate(candidates.types) if path in set(types)])
    places = np.flatnonzero(mine)
    places = places[_passes(limits, candidates.types, drawn, places)]
    if len(places) <= room:
        return
    planned, new = (np.sort(drawn.keys[places[drawn.is_planned[places] == which]]) for which in (True, False))
    highest = (_highest(planned, room), _highest(new, room - len(planned)))
    for path in types:
        before = limits.get(path, ALL)
        limits[path] = [min(before[0], highest[0]), min(before[1], highest[1])]


def _highest(keys: Floats, room: int) -> float:
    """The limit that lets the `room` smallest keys through."""
    if room >= len(keys):
        return 1.0
    return float(keys[room - 1]) if room > 0 else 0.0


def _passes(limits: Limits, types: Sequence[str], drawn: Drawn, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    bounds = np.array([limits.get(path, ALL) for path in types])
    bound = bounds[drawn.types[places], np.where(drawn.is_planned[places], 0, 1)]
    passes: NDArray[np.bool_] = drawn.keys[places] <= bound
    return passes


def passing(settings: PlanConfig, candidates: Candidates) -> NDArray[np.bool_]:
    """Which of the questions drawn share and caps leave."""
    drawn = candidates.drawn
    return _passes(limits_of(settings, candidates), candidates.types, drawn, np.arange(len(drawn.types)))


def let_through(limits: Limits, seed: int, assignments: pa.Table, is_planned: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which assignments the limits allow; `is_planned` says of each whether an earlier epoch planned it."""
    known = {path: place for place, path in enumerate(limits)}
    types = assignments.column("type").to_pylist()
    bounds = np.array([*limits.values(), ALL])
    bound = bounds[[known.get(path, len(known)) for path in types], np.where(is_planned, 0, 1)]
    passes: NDArray[np.bool_] = keys_of(seed, assignments) <= bound
    return passes
