"""Which questions an image is asked: a weighted draw that is a function of (seed, image) alone.

Comes in: an image id and a weight for every instruction type. Goes out: the types drawn, each with its ordinal. Every
(type, ordinal) of an image runs an exponential race with its weight as its rate, and the first `k` to arrive are drawn
(weighted reservoir sampling, Efraimidis & Spirakis 2006). The clock of each runner depends on (seed, image, type, ordinal)
and on nothing else, so a weight that changes moves only its own runners: an edit of the mapping leaves nearly every draw
as it was, and any number of workers in any order draws the same.
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
    """64 bits that stand for some strings."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "little")


def image_words(seed: int, image_ids: Sequence[str]) -> Words:
    """What stands for images under a seed."""
    return np.array([word("draw", str(seed), one) for one in image_ids], dtype=np.uint64)


def uniforms(images: Words, names: Words) -> Floats:
    """Uniform numbers in (0, 1), one for each image and name, as the shapes of both are broadcast."""
    state = images + names * GOLDEN
    # splitmix64's finaliser (Steele, Lea & Flood 2014): every bit of the state reaches every bit of the result.
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    drawn: Floats = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return drawn


def _steps(images: Words, names: Words, weights: Floats) -> Floats:
    """Waiting times with these rates; infinite where the weight is 0."""
    with np.errstate(divide="ignore"):
        steps: Floats = -np.log(uniforms(images, names)) / weights
    return steps


class TypeSampler:
    """The racers of a set of types: their names as words, worked out once."""

    def __init__(self, types: Sequence[str], per_type: int, most: Mapping[str, int] | None = None) -> None:
        """A type arrives `per_type` times at most, or as often as `most` says of it."""
        self.types = tuple(types)
        allowed = np.array([(most or {}).get(path, per_type) for path in types], dtype=np.int64)
        self._allowed = np.arange(per_type)[:, None] < allowed  # (ordinals, types)
        words = [[word("type", path, str(number)) for path in types] for number in range(per_type)]
        self._words = np.array(words, dtype=np.uint64).reshape(per_type, len(types))

    def race(self, images: Words, weights: Floats, k: int | Indexes) -> tuple[Indexes, Indexes, Indexes]:
        """The first `k` arrivals of each image, as (image, type, ordinal): image by image, in order of arrival.

        `images` are image_words, `weights` has a row an image and a column a type; `k` is one number, or one an image.
        """
        most = np.broadcast_to(np.asarray(k, dtype=np.int64), len(images))
        steps = _steps(images[:, None, None], self._words, weights[:, None, :])
        arrivals = np.where(self._allowed, np.cumsum(steps, axis=1), np.inf).reshape(len(images), self._words.size)
        widest = min(int(most.max(initial=0)), arrivals.shape[1])
        first = (
            np.argpartition(arrivals, max(widest - 1, 0), axis=1)[:, :widest]
            if arrivals.size
            else np.empty((len(images), 0), np.int64)
        )
        times = np.take_along_axis(arrivals, first, axis=1)
        order = np.argsort(times, axis=1, kind="stable")
        has_arrived = np.isfinite(np.take_along_axis(times, order, axis=1)) & (np.arange(widest) < most[:, None])
        image, place = np.nonzero(has_arrived)
        index = np.take_along_axis(first, order, axis=1)[image, place]
        return image, index % max(len(self.types), 1), index // max(len(self.types), 1)


class OptionSampler:
    """A weighted choice of one among named options, for each of some purposes, by the same race."""

    def __init__(self, shares: Mapping[str, float], allowed: Mapping[str, Container[str] | None]) -> None:
        """`allowed` has the purposes, and which options each of them may have, at least one; None for all."""
        self.names = [name for name, share in shares.items() if share > 0]
        self._words = np.array([[word(purpose, name) for name in self.names] for purpose in allowed], dtype=np.uint64)
        weights = [
            [shares[name] if some is None or name in some else 0.0 for name in self.names] for some in allowed.values()
        ]
        self._weights = np.array(weights).reshape(len(allowed), len(self.names))
        if not self._weights.any(axis=1).all():
            raise ValueError(f"no option has a share and is allowed: {dict(shares)}")

    def of(self, images: Words, purposes: Indexes) -> list[str]:
        """The options drawn for these images (image_words), each for one purpose: its place among them."""
        steps = _steps(images[:, None], self._words[purposes], self._weights[purposes])
        return [self.names[option] for option in np.argmin(steps, axis=1).tolist()]


def balance(weights: Floats, counts: Floats, strength: float) -> Floats:
    """Factors on the weights that even out the types' expected shares.

    `weights` is (groups, types), `counts` how many images are in each group. With strength 0 every factor is 1; with 1 the
    expected number of questions is as equal over the types as the images allow; between, a share goes as its natural value
    to the power 1 - strength. Found by fixed-point iteration, since a factor moves every group that its type is in.
    """
    factors: Floats = np.ones(weights.shape[1])
    natural = _expected(weights, counts, factors)
    asked = natural > 0
    if strength == 0 or not asked.any():
        return factors
    goal = natural[asked] ** (1 - strength)
    goal *= natural[asked].sum() / goal.sum()
    for _ in range(50):
        factors[asked] *= np.sqrt(goal / _expected(weights, counts, factors)[asked])
    return factors


def _expected(weights: Floats, counts: Floats, factors: Floats) -> Floats:
    """The expected number of questions of each type, one question an image, with weights so multiplied."""
    totals: Floats = np.maximum(weights @ factors, 1e-300)
    return factors * ((counts / totals) @ weights)
