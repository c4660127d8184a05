"""A weighted draw of the questions of an image that depends only on the seed and the image.

Every (type, ordinal) of an image runs an exponential race with the weight of its type as its rate, and the first `k` to
arrive are drawn: weighted reservoir sampling (Efraimidis & Spirakis 2006). The clock of each runner depends only on
(seed, image, type, ordinal). So a changed weight moves only its own runners, and an edit of the mapping keeps nearly
all draws; and any number of workers, in any order, draws the same.

Strings enter as words: 64-bit hashes.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
Indexes = NDArray[np.int64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def word(*parts: str) -> int:
    """Return a 64-bit hash of some strings."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "little")


def image_words(seed: int, image_ids: Sequence[str]) -> Words:
    """Return the words of images under a seed, (images,) uint64."""
    return np.array([word("draw", str(seed), image_id) for image_id in image_ids], dtype=np.uint64)


def uniforms(images: Words, names: Words) -> Floats:
    """Return uniform numbers in (0, 1), one for each pair of words; the two arrays are broadcast."""
    state = images + names * GOLDEN
    # The finaliser of splitmix64 (Steele, Lea & Flood 2014): every bit of the state affects every bit of the result.
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    numbers: Floats = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return numbers


def _waiting_times(images: Words, names: Words, weights: Floats) -> Floats:
    """Return exponential waiting times with these rates; infinite where the weight is 0."""
    with np.errstate(divide="ignore"):
        times: Floats = -np.log(uniforms(images, names)) / weights
    return times


class TypeSampler:
    """Draws instruction types for images; the words of the types are computed once."""

    def __init__(self, types: Sequence[str], per_type: int, most: Mapping[str, int] | None = None) -> None:
        """Set the runners up.

        Args:
            types: The instruction types.
            per_type: How often a type can be drawn for one image.
            most: Type → a lower limit of its own.
        """
        self.types = tuple(types)
        limits = np.array([(most or {}).get(path, per_type) for path in types], dtype=np.int64)
        self._allowed = np.arange(per_type)[:, None] < limits  # (ordinals, types)
        words = [[word("type", path, str(number)) for path in types] for number in range(per_type)]
        self._words = np.array(words, dtype=np.uint64).reshape(per_type, len(types))

    def race(self, images: Words, weights: Floats, k: int | Indexes) -> tuple[Indexes, Indexes, Indexes]:
        """Return the first `k` arrivals of each image, image by image in order of arrival.

        Args:
            images: As of `image_words`, (images,).
            weights: (images, types) float64.
            k: One number, or one for each image.

        Returns:
            For each arrival the index of its image, the index of its type and its ordinal, each (arrivals,) int64.
        """
        most = np.broadcast_to(np.asarray(k, dtype=np.int64), len(images))
        steps = _waiting_times(images[:, None, None], self._words, weights[:, None, :])
        arrivals = np.where(self._allowed, np.cumsum(steps, axis=1), np.inf).reshape(len(images), self._words.size)
        first = _smallest(arrivals, int(most.max(initial=0)))
        times = np.take_along_axis(arrivals, first, axis=1)
        order = np.argsort(times, axis=1, kind="stable")
        has_arrived = np.isfinite(np.take_along_axis(times, order, axis=1))
        is_drawn = has_arrived & (np.arange(first.shape[1]) < most[:, None])
        image, rank = np.nonzero(is_drawn)
        runner = np.take_along_axis(first, order, axis=1)[image, rank]
        ordinal, kind = np.divmod(runner, max(len(self.types), 1))
        return image, kind, ordinal


def _smallest(rows: Floats, count: int) -> Indexes:
    """Return the columns of the `count` smallest values of each row, or of all of them, in no order."""
    count = min(count, rows.shape[1])
    if not rows.size:
        return np.empty((len(rows), 0), np.int64)
    return np.argpartition(rows, max(count - 1, 0), axis=1)[:, :count]


class OptionSampler:
    """Draws one of several named options by weight, for each of several purposes, by the same race."""

    def __init__(self, shares: Mapping[str, float], allowed: Mapping[str, Container[str] | None]) -> None:
        """Set the runners up.

        Args:
            shares: Option → its weight.
            allowed: Purpose → the options it can have, None for all.

        Raises:
            ValueError: A purpose has no option with a weight.
        """
        self.names = [name for name, share in shares.items() if share > 0]
        self._words = np.array([[word(purpose, name) for name in self.names] for purpose in allowed], dtype=np.uint64)
        weights = [
            [shares[name] if options is None or name in options else 0.0 for name in self.names]
            for options in allowed.values()
        ]
        self._weights = np.array(weights).reshape(len(allowed), len(self.names))
        if not self._weights.any(axis=1).all():
            raise ValueError(f"no option has a share and is allowed: {dict(shares)}")

    def draw(self, images: Words, purposes: Indexes) -> list[str]:
        """Return the option drawn for each image.

        Args:
            images: As of `image_words`, (images,).
            purposes: The index of the purpose of each image, (images,) int64.
        """
        times = _waiting_times(images[:, None], self._words[purposes], self._weights[purposes])
        return [self.names[option] for option in np.argmin(times, axis=1).tolist()]


def balance(weights: Floats, counts: Floats, strength: float) -> Floats:
    """Return factors on the weights that even out the expected shares of the types.

    They are found by fixed-point iteration, since a factor affects every group that its type is in.

    Args:
        weights: (groups, types) float64.
        counts: The number of images in each group, (groups,) float64.
        strength: From 0 to 1. With 0 every factor is 1. With 1 the expected number of questions is as equal over the
            types as the images allow. Between them, a share is its natural value to the power 1 - strength.
    """
    factors: Floats = np.ones(weights.shape[1])
    natural = _expected(weights, counts, factors)
    is_asked = natural > 0
    if strength == 0 or not is_asked.any():
        return factors
    goal = natural[is_asked] ** (1 - strength)
    goal *= natural[is_asked].sum() / goal.sum()
    for _ in range(50):
        factors[is_asked] *= np.sqrt(goal / _expected(weights, counts, factors)[is_asked])
    return factors


def _expected(weights: Floats, counts: Floats, factors: Floats) -> Floats:
    """Return the expected number of questions of each type with these factors, at one question an image."""
    totals: Floats = np.maximum(weights @ factors, 1e-300)
    return factors * ((counts / totals) @ weights)
