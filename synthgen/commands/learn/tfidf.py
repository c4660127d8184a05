"""From what goes together in a seed to the weights of a mapping: the TF-IDF of Infinity-MM, with its gaps filled.

Comes in: how many images have which tags and which instruction types. Goes out: for every tag the types that it asks for, each
with its weight. The paper (arXiv 2410.18558, section 3.2) takes each instruction type as a document and image tags as its terms:

    tf[t,g]  = n[t,g] / sum over g' of n[t,g']               n[t,g]: images of the seed with type t and tag g
    idf[g]   = log(|T| / (1 + |{t : n[t,g] > 0}|)) + 1
    score(t | image) = sum of tf[t,g] idf[g] over the image's tags, each type's row first brought to unit length

What it leaves open is filled so (benchmarks/mapping.py measures it; `is_plain` leaves all of it out):

- tags imply their ancestors, so a leaf that is too rare to count leaves its images to its parent;
- a pair of tag and type counts from `min_support` images on, and a type that is rarer is not learned;
- tf is what exceeds chance, n[t,g] / n[t] - n[g] / n: a tag that all images have says nothing about a type;
- of a type's tags those count that are at least half as strong as its strongest, or twice as common with it as elsewhere;
- what no tag tells about a type goes to a rule for all images: a caption can be asked of any;
- a tag shares its weight among its `top_k` types by their scores to the power of 1 / temperature, instead of an argmax.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthgen.config.taxonomy import with_ancestors

Floats = NDArray[np.float64]
Example = tuple[tuple[str, ...], tuple[str, ...]]  # the tags and the types of an image, each sorted
Weights = dict[str, dict[str, float]]  # tag -> type -> weight

EVERY = "**"  # the tag of all images
STRONGEST = 10.0  # the largest weight of a file: in mappings written by hand 10 is what a tag is there for
FAINTEST = 0.05  # a smaller weight is left out
HALF, TWICE = 0.5, 2.0
DOUBT = 5.0  # images added to both sides before two numbers are compared, so that a few met by chance stay a few


@dataclass(frozen=True)
class TfidfSettings:
    """What the arithmetic may be told."""

    top_k: int = 8  # types a tag
    temperature: float = 1.0  # towards 0 a tag asks its strongest type alone, towards infinity all alike
    min_support: int = 3  # images
    is_plain: bool = False  # the paper's formula as it stands, for comparison


@dataclass(frozen=True)
class TermCounts:
    """A seed in numbers: arrays have a row a type and a column a tag."""

    types: tuple[str, ...]
    tags: tuple[str, ...]
    both: Floats
    of_type: Floats
    of_tag: Floats
    images: float


def example(tags: list[str], types: list[str]) -> Example:
    """An image of the seed, spelled so that equal ones are equal."""
    return tuple(sorted(set(tags))), tuple(sorted(set(types)))


def count(seen: Counter[Example]) -> TermCounts:
    """The numbers of a seed; a tag counts for its ancestors too, a type once an image."""
    types = tuple(sorted({one for _, found in seen for one in found}))
    tags = tuple(sorted({one for found, _ in seen for one in with_ancestors(found)}))
    type_at, tag_at = ({name: place for place, name in enumerate(names)} for names in (types, tags))
    both, of_type, of_tag = np.zeros((len(types), len(tags))), np.zeros(len(types)), np.zeros(len(tags))
    for (found, asked), times in seen.items():
        columns, rows = [tag_at[one] for one in with_ancestors(found)], [type_at[one] for one in asked]
        of_tag[columns] += times
        of_type[rows] += times
        both[np.ix_(rows, columns)] += times
    return TermCounts(types, tags, both, of_type, of_tag, float(seen.total()))


def learn(seen: Counter[Example], settings: TfidfSettings) -> Weights:
    """The weights that a seed teaches; the strongest is STRONGEST, and tags that ask for nothing are left out."""
    counts = count(seen)
    told = vectors(counts, settings)
    if settings.is_plain:
        return _scaled(counts, _shared(told, settings), np.zeros(len(counts.types)))
    kept = np.where(_telling(counts, told), told, 0.0)
    everywhere = _untold(seen, counts) * (counts.of_type >= settings.min_support)
    shares = _shared(_unit(kept), settings)
    return _scaled(counts, shares, _cooled(everywhere, settings.temperature))


def vectors(counts: TermCounts, settings: TfidfSettings) -> Floats:
    """TF-IDF rows of unit length, one a type: what its tags tell of it."""
    supported = np.where(counts.both >= (1 if settings.is_plain else settings.min_support), counts.both, 0.0)
    share = supported / np.maximum(counts.of_type, 1.0)[:, None]
    beyond_chance = np.where(supported > 0, np.maximum(share - counts.of_tag / max(counts.images, 1.0), 0.0), 0.0)
    tf = (
        share if settings.is_plain else beyond_chance
    )  # a row of unit length does not see whether it was divided by its sum or its images
    idf = np.log(len(counts.types) / (1.0 + (tf > 0).sum(axis=0))) + 1.0
    return _unit(tf * idf)


def unlearned(seen: Counter[Example], settings: TfidfSettings) -> list[str]:
    """The types that are in the seed and too rare to be learned."""
    counts = count(seen)
    return [one for one, images in zip(counts.types, counts.of_type, strict=True) if images < settings.min_support]


def covered(seen: Counter[Example], weights: Weights) -> float:
    """The share of the seed's own questions whose type gets a weight on their image."""
    asked = got = 0
    for (tags, types), times in seen.items():
        offered = {one for tag in (EVERY, *with_ancestors(tags)) for one in weights.get(tag, ())}
        asked += times * len(types)
        got += times * len(offered.intersection(types))
    return got / max(asked, 1)


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return found


def _ratio(counts: TermCounts) -> Floats:
    """How many times as common a tag is with a type as it is on the whole; doubtful while the images are few."""
    expected = np.outer(counts.of_type, counts.of_tag) / max(counts.images, 1.0)
    found: Floats = (counts.both + DOUBT) / (expected + DOUBT)
    return found


def _telling(counts: TermCounts, told: Floats) -> NDArray[np.bool_]:
    strong = told >= HALF * told.max(axis=1, keepdims=True, initial=0.0)
    found: NDArray[np.bool_] = (told > 0) & (strong | (_ratio(counts) >= TWICE))
    return found


def _untold(seen: Counter[Example], counts: TermCounts) -> Floats:
    """For each type, the share of its images that no tag tells about: 1 if all its tags are no commoner than elsewhere, 0
    if every one of its images has a tag that is TWICE as common."""
    tells = np.clip((1.0 - 1.0 / np.maximum(_ratio(counts), 1.0)) / (1.0 - 1.0 / TWICE), 0.0, 1.0)
    type_at, tag_at = ({name: place for place, name in enumerate(names)} for names in (counts.types, counts.tags))
    told = np.zeros(len(counts.types))
    for (found, asked), times in sorted(seen.items()):  # the order of a sum shows in its last digits
        columns = [tag_at[one] for one in with_ancestors(found)]
        for row in (type_at[one] for one in asked):
            told[row] += times * tells[row, columns].max(initial=0.0)
    untold: Floats = 1.0 - told / np.maximum(counts.of_type, 1.0)
    return untold


def _shared(rows: Floats, settings: TfidfSettings) -> Floats:
    """Each tag's whole weight, shared out among its strongest types; a tie goes to the name that comes first."""
    shares = np.zeros_like(rows)
    for column in range(rows.shape[1]):
        strongest = np.argsort(-rows[:, column], kind="stable")[: settings.top_k]
        cooled = _cooled(rows[strongest, column], settings.temperature)
        shares[strongest, column] = cooled * (rows[:, column].sum() / max(rows[strongest, column].sum(), 1e-300))
    return shares


def _cooled(values: Floats, temperature: float) -> Floats:
    """The same sum, shared out by the values to the power of 1 / temperature; what is 0 stays 0."""
    positive = values > 0
    if not positive.any():
        return values
    powers = np.zeros_like(values)
    # The logarithm keeps a power of a thousand from becoming 0 / 0.
    powers[positive] = np.exp((np.log(values[positive]) - np.log(values.max())) / temperature)
    cooled: Floats = powers * (values.sum() / powers.sum())
    return cooled


def _scaled(counts: TermCounts, shares: Floats, everywhere: Floats) -> Weights:
    """Rounded weights by name; in a rule the heavier types come first."""
    columns: Mapping[str, Floats] = {EVERY: everywhere} | dict(zip(counts.tags, shares.T, strict=True))
    largest = max((float(values.max(initial=0.0)) for values in columns.values()), default=0.0)
    found: Weights = {}
    for tag, values in columns.items():
        weights = np.round(values * (STRONGEST / largest if largest else 0.0), 2)
        order = sorted(
            (-float(weight), name) for weight, name in zip(weights, counts.types, strict=True) if weight >= FAINTEST
        )
        if order:
            found[tag] = {name: -weight for weight, name in order}
    return found
