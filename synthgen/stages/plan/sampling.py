"""A weighted draw of the questions of an image that depends only on the seed and the image.

Every (type, ordinal) of an image runs an exponential race with the weight of its type as its rate, and the first `k` to
arrive are drawn: weighted reservoir sampling (Efraimidis & Spirakis 2006). The clock of each runner depends only on
(seed, image, type, ordinal). So a changed weight moves only its own runners, and an edit of the mapping keeps nearly
all draws; and any number of workers, in any order, draws the same. An arrival for which an image has no room is passed
over, and its place goes to the next one.

Strings enter as words: 64-bit hashes.
"""

import hashlib
from collections.abc import Collection, Container, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
Indexes = NDArray[np.int64]
Mask = NDArray[np.bool_]
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


def waiting_times(images: Words, names: Words, weights: Floats) -> Floats:
    """Return exponential waiting times with these rates; infinite where the weight is 0."""
    with np.errstate(divide="ignore"):
        times: Floats = -np.log(uniforms(images, names)) / weights
    return times


class TypeSampler:
    """Draws instruction types for images; the words of the types are computed once."""

    def __init__(
        self,
        types: Sequence[str],
        per_type: int,
        most: Mapping[str, int] | None = None,
        groups: Sequence[Collection[str]] = (),
        followers: Collection[str] = (),
    ) -> None:
        """Set the runners up.

        Args:
            types: The instruction types.
            per_type: How often a type can be drawn for one image.
            most: Type → a lower limit of its own.
            groups: Sets of types of which an image has room for so many together.
            followers: Types that are drawn only beside one that is not among them.
        """
        self.types = tuple(types)
        limits = np.array([(most or {}).get(path, per_type) for path in types], dtype=np.int64)
        self._allowed = np.arange(per_type)[:, None] < limits  # (ordinals, types)
        words = [[word("type", path, str(number)) for path in types] for number in range(per_type)]
        self._words = np.array(words, dtype=np.uint64).reshape(per_type, len(types))
        # (groups, runners): whether a runner is in a group
        self._groups = [np.tile([path in group for path in types], per_type) for group in groups]
        self._followers = np.tile([path in followers for path in types], per_type)
        is_limited = np.any([*self._groups, self._followers], axis=0)
        self._limited = int(is_limited.sum())

    def race(
        self, images: Words, weights: Floats, k: int | Indexes, room: Indexes | None = None
    ) -> tuple[Indexes, Indexes, Indexes]:
        """Return the first `k` arrivals of each image, image by image in order of arrival.

        Args:
            images: As of `image_words`, (images,).
            weights: (images, types) float64.
            k: One number, or one for each image.
            room: How many of each group an image has room for, (images, groups) int64; needed if there are groups.

        Returns:
            For each arrival the index of its image, the index of its type and its ordinal, each (arrivals,) int64.
        """
        most = np.broadcast_to(np.asarray(k, dtype=np.int64), len(images))
        steps = waiting_times(images[:, None, None], self._words, weights[:, None, :])
        arrivals = np.where(self._allowed, np.cumsum(steps, axis=1), np.inf).reshape(len(images), self._words.size)
        first = _smallest(arrivals, int(most.max(initial=0)) + self._limited)  # so many at most are passed over
        times = np.take_along_axis(arrivals, first, axis=1)
        order = np.argsort(times, axis=1, kind="stable")
        runners = np.take_along_axis(first, order, axis=1)
        has_room = np.isfinite(np.take_along_axis(times, order, axis=1))
        if self._limited:
            has_room = self._with_room(runners, has_room, most, room)
        image, rank = np.nonzero(has_room & (np.cumsum(has_room, axis=1) <= most[:, None]))
        ordinal, kind = np.divmod(runners[image, rank], max(len(self.types), 1))
        return image, kind, ordinal

    def _with_room(self, runners: Indexes, arrives: Mask, most: Indexes, room: Indexes | None) -> Mask:
        """Return which arrivals have room; all arrays but the last two are (images, arrivals) in order of arrival."""
        has_room = arrives
        for number, group in enumerate(self._groups):
            assert room is not None, "a race with groups knows the room of each"
            has_room = has_room & _first_of(group[runners] & has_room, room[:, number])
        follows = self._followers[runners]
        can_follow = (has_room & ~follows).any(axis=1)
        return has_room & _first_of(follows & has_room, np.where(can_follow, most - 1, 0))


def _first_of(marked: Mask, counts: Indexes) -> Mask:
    """Return all cells but the marked ones after the first so many of each row."""
    is_kept: Mask = ~marked | (np.cumsum(marked, axis=1) <= counts[:, None])
    return is_kept


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
        times = waiting_times(images[:, None], self._words[purposes], self._weights[purposes])
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
