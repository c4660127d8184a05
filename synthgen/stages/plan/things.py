"""The things that questions name: tags that an image has, and tags that it lacks although images like it have them.

A type with `thing: present` or `thing: absent` is asked about one of them, so that the truth of its answer is known
before anything is asked. Absent things are those that POPE calls adversarial and popular (arXiv 2305.10355): the leaf
tags that occur most often together with the tags of the image. A tag can be right and not be found, so none is taken
that stands near to a tag of the image: a picture of a dog may hold an untagged puppy.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from synthgen.config.families import Presence
from synthgen.config.taxonomy import with_ancestors
from synthgen.stages.plan.sampling import Words, waiting_times, word

SURE = 0.5  # share of the best score of an image from which on its leaf tags count as present

Companions = Mapping[str, Mapping[str, float]]  # leaf → the leaves often with it → in which share of its images
Slot = tuple[str, int]  # an instruction type and an ordinal


@dataclass(frozen=True, slots=True)
class Things:
    """The things that an image can be asked about, each with the weight of its draw."""

    present: Mapping[str, float]
    absent: Mapping[str, float]

    def of(self, presence: Presence) -> Mapping[str, float]:
        """Return those that the image has, or those that it lacks."""
        return self.present if presence == "present" else self.absent


def present_things(tags: Mapping[str, float], leaves: Collection[str]) -> dict[str, float]:
    """Return the leaf tags of an image whose scores are at least half of its best, all with one weight."""
    least = SURE * max(tags.values(), default=0.0)
    return {tag: 1.0 for tag, score in tags.items() if score >= least and tag in leaves}


def absent_things(tags: Mapping[str, float], companions: Companions) -> dict[str, float]:
    """Return the leaf tags that often occur with the tags of an image, and that nothing suggests it to have.

    The weight of each is the sum of its shares of the images with each tag.
    """
    implied = set(with_ancestors(tags))
    found: dict[str, float] = {}
    for tag in tags:
        for other, share in companions.get(tag, {}).items():
            if other in found or not is_near(other, tags, implied):
                found[other] = found.get(other, 0.0) + share
    return found


def is_near(thing: str, tags: Collection[str], implied: Collection[str]) -> bool:
    """Return whether an image may have a thing untagged, judged by its tags and all tags that these imply.

    That is so of its tags and of those above and below them, and of each thing directly below a tag that it implies.
    """
    above = _above(thing)
    return thing in implied or bool(above and above[-1] in implied) or any(path in tags for path in above)


@cache
def _above(tag: str) -> tuple[str, ...]:
    """Return the tags above a tag, from the root down."""
    return tuple(with_ancestors([tag])[:-1])


class ThingSampler:
    """Draws the things of questions, by the race that draws types (see `sampling`)."""

    def __init__(self, types: Mapping[str, Presence], leaves: Collection[str], companions: Companions) -> None:
        """Take what all images share.

        Args:
            types: Type → whether it names a thing that is there.
            leaves: The leaf tags of the taxonomy that questions may name.
            companions: The table of the epoch.
        """
        self.types, self._leaves, self._companions = types, leaves, companions
        self._presences = frozenset(types.values())

    def things_of(self, tags: Mapping[str, float]) -> Things:
        """Return the things that an image with these tags can be asked about."""
        present = present_things(tags, self._leaves) if "present" in self._presences else {}
        absent = absent_things(tags, self._companions) if "absent" in self._presences else {}
        return Things(present, {tag: weight for tag, weight in absent.items() if tag in self._leaves})

    def choose(self, image: Words, things: Things, slots: Mapping[Slot, str | None]) -> dict[Slot, str]:
        """Return the thing of each question of an image, no thing twice.

        Args:
            image: The word of the image, (1,).
            things: That it can be asked about; of each presence at least as many as there are questions.
            slots: The questions, each with the thing that it names in the plan so far, which stays if it is still
                right; None for a new one.
        """
        chosen: dict[Slot, str] = {}
        taken = set[str]()
        for slot in sorted(slots, key=lambda slot: (slots[slot] is None, *slot)):  # those that are planned come first
            pool = {thing: weight for thing, weight in things.of(self.types[slot[0]]).items() if thing not in taken}
            before = slots[slot]
            chosen[slot] = before if before in pool else self._race(image, slot, pool)
            taken.add(chosen[slot])
        return chosen

    @staticmethod
    def _race(image: Words, slot: Slot, pool: Mapping[str, float]) -> str:
        """Return the first of some things to arrive; each runs with its weight."""
        path, ordinal = slot
        names = np.array([word("thing", path, str(ordinal), thing) for thing in pool], dtype=np.uint64)
        times = waiting_times(image, names, np.array(list(pool.values())))
        return list(pool)[int(np.argmin(times))]
