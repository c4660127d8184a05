"""Weights of a mapping from the tags and types that occur together in a seed: the TF-IDF of Infinity-MM, completed.

The paper (arXiv 2410.18558, section 3.2) takes each instruction type as a document and image tags as its terms:

    tf[t,g]  = n[t,g] / sum over g' of n[t,g']               n[t,g]: images of the seed with type t and tag g
    idf[g]   = log(|T| / (1 + |{t : n[t,g] > 0}|)) + 1
    score(t | image) = sum of tf[t,g] idf[g] over the image's tags, each type's row first brought to unit length

The paper leaves some questions open. They are settled here as follows (benchmarks/mapping.py measures the result;
`is_plain` leaves all of it out):

- tags imply their ancestors, so a leaf that is too rare to count leaves its images to its parent;
- a pair of tag and type counts from `min_support` images on, and a type that is rarer is not learned;
- tf is the excess over chance, n[t,g] / n[t] - n[g] / n: a tag that all images have says nothing about a type;
- of a type's tags those count that are at least half as strong as its strongest, or twice as common with it as overall;
- a type that no tag predicts goes to a rule for all images: a caption can be asked of any;
- a tag shares its weight among its `top_k` types by their scores to the power of 1 / temperature, instead of an argmax.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthgen.config.taxonomy import with_ancestors

Floats = NDArray[np.float64]
Example = tuple[tuple[str, ...], tuple[str, ...]]  # the tags and the types of an image, each sorted
Weights = dict[str, dict[str, float]]  # tag -> type -> weight

ALL_IMAGES = "**"  # the tag pattern of every image
MAX_WEIGHT = 10.0  # the largest weight of a file: in mappings written by hand, 10 is the main purpose of a tag
MIN_WEIGHT = 0.05  # a smaller weight is left out
STRONG = 0.5  # share of a type's strongest tag from which on another tag counts
HIGH_LIFT = 2.0  # lift from which on a tag counts, and tells all there is about a type
PRIOR_IMAGES = 5.0  # added to both sides of a lift, so that a few images that met by chance do not make a high one


@dataclass(frozen=True)
class TfidfSettings:
    """The parameters of the arithmetic."""

    top_k: int = 8  # types per tag
    temperature: float = 1.0  # towards 0 a tag asks its strongest type alone, towards infinity all alike
    min_support: int = 3  # images
    is_plain: bool = False  # the paper's formula as it stands, for comparison


@dataclass(frozen=True)
class TermCounts:
    """Images of a seed by type and tag."""

    types: tuple[str, ...]
    tags: tuple[str, ...]
    both: Floats  # (types, tags) float64
    of_type: Floats  # (types,) float64
    of_tag: Floats  # (tags,) float64
    images: float


def example(tags: Iterable[str], types: Iterable[str]) -> Example:
    """Return an image of the seed in the one spelling in which equal images are equal."""
    return tuple(sorted(set(tags))), tuple(sorted(set(types)))


def count(examples: Counter[Example]) -> TermCounts:
    """Count the images of a seed by type and tag; a tag counts for its ancestors too."""
    types = tuple(sorted({path for _, paths in examples for path in paths}))
    tags = tuple(sorted({path for paths, _ in examples for path in with_ancestors(paths)}))
    row_of, column_of = _places(types), _places(tags)
    both, of_type, of_tag = np.zeros((len(types), len(tags))), np.zeros(len(types)), np.zeros(len(tags))
    for (example_tags, example_types), times in examples.items():
        columns = [column_of[path] for path in with_ancestors(example_tags)]
        rows = [row_of[path] for path in example_types]
        of_tag[columns] += times
        of_type[rows] += times
        both[np.ix_(rows, columns)] += times
    return TermCounts(types, tags, both, of_type, of_tag, float(examples.total()))


def learn(examples: Counter[Example], counts: TermCounts, settings: TfidfSettings) -> Weights:
    """Return the weights that a seed teaches, the largest MAX_WEIGHT; tags that ask for nothing are left out.

    Args:
        examples: The images of the seed.
        counts: Their counts.
        settings: The parameters.
    """
    scores = type_vectors(counts, settings)
    if settings.is_plain:
        return _scale(counts, _share_by_tag(scores, settings), np.zeros(len(counts.types)))
    kept = np.where(_predicts(counts, scores), scores, 0.0)
    everywhere = _unpredicted(examples, counts) * (counts.of_type >= settings.min_support)
    by_tag = _share_by_tag(_normalize_rows(kept), settings)
    return _scale(counts, by_tag, _apply_temperature(everywhere, settings.temperature))


def type_vectors(counts: TermCounts, settings: TfidfSettings) -> Floats:
    """Return the TF-IDF of every tag for every type, (types, tags) float64, each row of unit length or zero."""
    min_support = 1 if settings.is_plain else settings.min_support
    supported = np.where(counts.both >= min_support, counts.both, 0.0)
    # The paper divides by the sum of the row instead of its images; a row of unit length is the same either way.
    share = supported / np.maximum(counts.of_type, 1.0)[:, None]
    excess = np.maximum(share - counts.of_tag / max(counts.images, 1.0), 0.0)
    tf = share if settings.is_plain else np.where(supported > 0, excess, 0.0)
    idf = np.log(len(counts.types) / (1.0 + (tf > 0).sum(axis=0))) + 1.0
    return _normalize_rows(tf * idf)


def rare_types(counts: TermCounts, settings: TfidfSettings) -> list[str]:
    """Return the types of a seed that are too rare to be learned."""
    return [path for path, images in zip(counts.types, counts.of_type, strict=True) if images < settings.min_support]


def _places(names: tuple[str, ...]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _normalize_rows(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit


def _lift(counts: TermCounts) -> Floats:
    """Return how many times as common each tag is with each type as overall; near 1 while the images are few."""
    expected = np.outer(counts.of_type, counts.of_tag) / max(counts.images, 1.0)
    lift: Floats = (counts.both + PRIOR_IMAGES) / (expected + PRIOR_IMAGES)
    return lift


def _predicts(counts: TermCounts, scores: Floats) -> NDArray[np.bool_]:
    """Return whether each tag counts for each type: it is strong for the type, or has a high lift."""
    is_strong = scores >= STRONG * scores.max(axis=1, keepdims=True, initial=0.0)
    predicts: NDArray[np.bool_] = (scores > 0) & (is_strong | (_lift(counts) >= HIGH_LIFT))
    return predicts


def _unpredicted(examples: Counter[Example], counts: TermCounts) -> Floats:
    """Return for each type the share of its images that no tag predicts, (types,) float64.

    It is 1 if no tag is commoner with the type than overall, and 0 if each of its images has a tag of HIGH_LIFT.
    """
    excess = 1.0 - 1.0 / np.maximum(_lift(counts), 1.0)
    strength = np.clip(excess / (1.0 - 1.0 / HIGH_LIFT), 0.0, 1.0)
    row_of, column_of = _places(counts.types), _places(counts.tags)
    predicted = np.zeros(len(counts.types))
    for (tags, types), times in sorted(examples.items()):  # the order of a sum shows in its last digits
        columns = [column_of[path] for path in with_ancestors(tags)]
        for row in (row_of[path] for path in types):
            predicted[row] += times * strength[row, columns].max(initial=0.0)
    unpredicted: Floats = 1.0 - predicted / np.maximum(counts.of_type, 1.0)
    return unpredicted


def _share_by_tag(scores: Floats, settings: TfidfSettings) -> Floats:
    """Share the whole score of each tag among its strongest types; of equal ones the first name is the stronger."""
    shares = np.zeros_like(scores)
    for column in range(scores.shape[1]):
        strongest = np.argsort(-scores[:, column], kind="stable")[: settings.top_k]
        top_scores = scores[strongest, column]
        whole = scores[:, column].sum() / max(top_scores.sum(), 1e-300)
        shares[strongest, column] = _apply_temperature(top_scores, settings.temperature) * whole
    return shares


def _apply_temperature(values: Floats, temperature: float) -> Floats:
    """Share the sum of values in proportion to their power of 1 / temperature; 0 stays 0."""
    is_positive = values > 0
    if not is_positive.any():
        return values
    powers = np.zeros_like(values)
    # The logarithm keeps a power of a thousand from becoming 0 / 0.
    powers[is_positive] = np.exp((np.log(values[is_positive]) - np.log(values.max())) / temperature)
    shared: Floats = powers * (values.sum() / powers.sum())
    return shared


def _scale(counts: TermCounts, by_tag: Floats, everywhere: Floats) -> Weights:
    """Return rounded weights by name; in a rule the heavier types come first."""
    columns: Mapping[str, Floats] = {ALL_IMAGES: everywhere} | dict(zip(counts.tags, by_tag.T, strict=True))
    largest = max((float(values.max(initial=0.0)) for values in columns.values()), default=0.0)
    factor = MAX_WEIGHT / largest if largest else 0.0
    weights: Weights = {}
    for tag, values in columns.items():
        rounded = zip(np.round(values * factor, 2), counts.types, strict=True)
        order = sorted((-float(weight), path) for weight, path in rounded if weight >= MIN_WEIGHT)
        if order:
            weights[tag] = {path: -negative for negative, path in order}
    return weights
