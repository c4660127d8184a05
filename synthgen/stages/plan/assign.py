"""The assignments of images: the questions that each is asked, as rows of `2-planned/assignments`.

The rules of the mapping give every instruction type a weight (`weights`). Balancing multiplies it and decides how many
questions an image is asked; `sampling` draws the types; then each question gets an answer form and a language, and a
question about a thing the thing (`things`). The arithmetic is done for many images at once, and every number in it
depends on one image alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.config.families import InstructionType, Presence
from synthgen.config.mapping import ImageFacts, Match, RuleSet
from synthgen.config.planning import PlanConfig
from synthgen.stages.contract import Job
from synthgen.stages.plan.images import PlannedImage, mean_rarity, seen_tags
from synthgen.stages.plan.negatives import Negatives
from synthgen.stages.plan.sampling import (
    Floats,
    Indexes,
    OptionSampler,
    TypeSampler,
    Words,
    balance,
    image_words,
    uniforms,
    word,
)
from synthgen.stages.plan.things import Companions, Slot, Things, ThingSampler
from synthgen.stages.plan.weights import Weights
from synthgen.store import Folder
from synthgen.store.earlier_runs import EarlierRun, open_earlier_runs
from synthgen.tables import ASSIGNMENTS, PLAN, assignment_id

IMAGES_AT_ONCE = 500  # images whose races are run together; a race of one takes some 10 kB
MAX_MULTIPLE = 4.0  # limit on the questions of an image with rare tags, as a multiple of plan.per_image
COUNT_WORD = np.array([word("how many")], dtype=np.uint64)
PRESENCES: tuple[Presence, ...] = ("present", "absent")
NO_THINGS = Things({}, {})
NOTHING: Mapping[str, Any] = {}
Drawn = tuple[int, str, str, str, int]  # a question: the index of its image, type, form, language and ordinal


@dataclass(frozen=True)
class PlanContext:
    """Everything that shapes a plan.

    Attributes:
        types: Path → the instruction type.
        taggers: The names of the taggers whose tags are read.
        leaves: The leaf tags of the taxonomy.
        fingerprint: Of all of it.
        home: The folder that relative names of folders start from.
    """

    settings: PlanConfig
    rules: RuleSet
    types: Mapping[str, InstructionType]
    taggers: tuple[str, ...]
    leaves: frozenset[str]
    fingerprint: str
    home: Path = Path()

    def earlier_runs(self, out: Folder) -> tuple[EarlierRun, ...]:
        """Return the earlier runs whose planned images come first. Raises Mistakes if some cannot be used."""
        return open_earlier_runs("plan.against", self.settings.against, self.home, out, PLAN)

    @property
    def drawn_types(self) -> list[str]:
        """The types that can be drawn: one of their forms has a share, and they are allowed if they are sensitive."""
        wanted, allowed = self.settings.forms, (None, *self.settings.allow)
        return [
            path
            for path, kind in self.types.items()
            if kind.sensitive in allowed and any(wanted.get(form, 0) > 0 for form in kind.forms)
        ]


def context_of(job: Job) -> PlanContext:
    """Return the context of a job."""
    return PlanContext(
        job.pipeline.plan,
        job.definitions.rules,
        job.definitions.prompts.types,
        job.pipeline.tag.taggers,
        frozenset(job.definitions.taxonomy.tree.leaves),
        job.fingerprint("planned"),
        job.home,
    )


@dataclass(frozen=True)
class WeighedImages:
    """Some images with what they can be asked, in their order.

    Attributes:
        seen: The tags that rules see.
        weights: Of all types, (images, types) float64; 0 where a type names a thing and there is none.
        room: For how many questions that name a thing there are things, (images, PRESENCES) int64.
    """

    seen: Sequence[Mapping[str, float]]
    matches: Sequence[Match]
    things: Sequence[Things]
    weights: Floats
    room: Indexes


class Assigner:
    """Draws the assignments of images; everything that they share is computed once."""

    def __init__(
        self,
        context: PlanContext,
        factors: Mapping[str, float],
        rarity: Mapping[str, float] = NOTHING,
        companions: Companions = NOTHING,
    ) -> None:
        """Prepare the samplers.

        Args:
            context: Everything that shapes the plan.
            factors: Type → the factor on its weight, from balancing.
            rarity: Tag → how rare it is, as of `rarity_of`.
            companions: Leaf tag → the leaf tags often with it, as of `grow_companions`.
        """
        settings = context.settings
        self.context, self._rarity = context, rarity
        self._rarest = max(rarity.values(), default=1.0)  # the rarity of a tag that appeared later
        self.types = context.drawn_types
        kinds = {path: context.types[path] for path in self.types}
        self.weights = Weights(context.rules, self.types, factors, settings.side_tags)
        presences = {path: kind.thing for path, kind in kinds.items() if kind.thing is not None}
        self._things = ThingSampler(presences, context.rules.nameable(context.leaves), companions)
        groups = [[path for path in presences if presences[path] == presence] for presence in PRESENCES]
        self._of_sets = np.array([kinds[path].of == "set" for path in self.types], bool)
        self._of_group = [np.array([path in group for path in self.types], bool) for group in groups]
        most = {path: kind.most for path, kind in kinds.items() if kind.most is not None}
        followers = [path for path, kind in kinds.items() if kind.follows]
        self._type_sampler = TypeSampler(self.types, settings.per_type, most, groups, followers)
        places = list(product(self.types, range(settings.per_type)))
        forms = {f"form {path} {number}": context.types[path].forms for path, number in places}
        self._form_sampler = OptionSampler(settings.forms, forms)
        languages = {f"language {path} {number}": None for path, number in places}
        self._language_sampler = OptionSampler(settings.languages, languages)
        shared = settings.negatives, settings.seed, context.types, context.leaves
        self._negatives = Negatives(*shared) if settings.negatives else None

    def see(self, image: PlannedImage) -> tuple[Mapping[str, float], Match]:
        """Return the tags of an image that rules see, and the rules that fire."""
        seen = seen_tags(image.tags, self.context.leaves, self.context.settings.most_a_parent)
        facts = ImageFacts(image.width, image.height, image.license, image.source)
        return seen, self.context.rules.match(seen, facts)

    def weigh(self, images: Sequence[PlannedImage]) -> WeighedImages:
        """Return what some images can be asked."""
        sights = [self.see(image) for image in images]
        matches = [match for _, match in sights]
        weights = self.weights.matrix(matches)
        are_sets = np.array([image.is_set for image in images], bool)
        weights[are_sets[:, None] != self._of_sets[None, :]] = 0  # a question about one image is none about several
        needs_things = np.asarray((weights[:, np.any(self._of_group, axis=0)] > 0).any(axis=1))
        things = [
            self._things.things_of(image.tags) if needs_things[number] else NO_THINGS
            for number, image in enumerate(images)
        ]
        room = np.array([[len(of.present), len(of.absent)] for of in things], dtype=np.int64).reshape(-1, 2)
        for number, types in enumerate(self._of_group):
            weights[np.ix_(room[:, number] == 0, types)] = 0
        return WeighedImages([seen for seen, _ in sights], matches, things, weights, room)

    def balance_factors(self, images: Sequence[PlannedImage], strength: float) -> dict[str, float]:
        """Return the factor on each type's weight that balances the types over these images."""
        counts: dict[Any, float] = {}
        rows: list[Floats] = []
        for batch in _batches(images):
            weighed = self.weigh(batch)
            for image, match, room, row in zip(batch, weighed.matches, weighed.room, weighed.weights, strict=True):
                # Images with one key have equal weights.
                key = (tuple(match.items()), image.is_set, *(room > 0).tolist())
                rows += [] if key in counts else [row.copy()]
                counts[key] = counts.get(key, 0.0) + self._multiple(image)
        weights = np.array(rows).reshape(len(rows), len(self.types))
        factors = balance(weights, np.array(list(counts.values())), strength)
        return dict(zip(self.types, factors.tolist(), strict=True))

    def draw_all(self, images: Sequence[PlannedImage], planned: Mapping[str, str] = NOTHING) -> pa.Table:
        """Return the assignments of images, image by image in their order, each by type and ordinal; then negatives.

        Args:
            images: The images, of which those of a partition can be partners of each other.
            planned: The ids of assignments that are planned already → the things or partners that they name, which
                stay.
        """
        rows = [row for batch in _batches(images) for row in self._draw_batch(batch, planned)]
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(ASSIGNMENTS)
        assignments = pa.table(columns, schema=ASSIGNMENTS)
        if not self._negatives:
            return assignments
        return pa.concat_tables([assignments, self._negatives.draw(images, assignments, planned)])

    def _draw_batch(self, images: Sequence[PlannedImage], planned: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of ASSIGNMENTS of some images."""
        settings, weighed = self.context.settings, self.weigh(images)
        words = image_words(settings.seed, [image.image_id for image in images])
        counts = self._question_counts(words, images)
        index, kind, ordinal = self._type_sampler.race(words, weighed.weights, counts, weighed.room)
        order = np.lexsort((ordinal, kind, index))
        index, kind, ordinal = index[order], kind[order], ordinal[order]
        purposes = kind * settings.per_type + ordinal
        forms = self._form_sampler.draw(words[index], purposes)
        languages = self._language_sampler.draw(words[index], purposes)
        types = [self.types[number] for number in kind.tolist()]
        drawn = list(zip(index.tolist(), types, forms, languages, ordinal.tolist(), strict=True))
        names = [
            assignment_id(images[number].image_id, path, form, language, count)
            for number, path, form, language, count in drawn
        ]
        things = self._choose_things(words, weighed.things, drawn, [planned.get(name) for name in names])
        for name, (number, path, form, language, count) in zip(names, drawn, strict=True):
            image, thing = images[number], things.get((number, path, count))
            because = self.context.rules.causes(weighed.matches[number], weighed.seen[number], path)
            yield name, image.image_id, image.object_id, path, form, language, count, because, thing, None, False

    def _choose_things(
        self, words: Words, things: Sequence[Things], drawn: Sequence[Drawn], planned: Sequence[str | None]
    ) -> dict[tuple[int, str, int], str]:
        """Return (index of the image, type, ordinal) → the thing, of the drawn questions that name one."""
        slots: dict[int, dict[Slot, str | None]] = {}
        for (number, path, _, _, ordinal), thing in zip(drawn, planned, strict=True):
            if path in self._things.types:
                slots.setdefault(number, {})[path, ordinal] = thing
        return {
            (number, *slot): thing
            for number, of_image in slots.items()
            for slot, thing in self._things.choose(words[number : number + 1], things[number], of_image).items()
        }

    def _question_counts(self, words: Words, images: Sequence[PlannedImage]) -> Indexes:
        """Return how many questions each image is asked, (images,) int64; a fraction is rounded at random."""
        wanted = self.context.settings.per_image * np.array([self._multiple(image) for image in images])
        counts: Indexes = np.floor(wanted + uniforms(words, COUNT_WORD)).astype(np.int64)
        return np.maximum(counts, 1)

    def _multiple(self, image: PlannedImage) -> float:
        """Return how many times `plan.per_image` questions an image is asked for its tags."""
        if not self._rarity:
            return 1.0
        return min(MAX_MULTIPLE, mean_rarity(image, self._rarity, self._rarest))


def _batches(images: Sequence[PlannedImage]) -> Iterator[Sequence[PlannedImage]]:
    return (images[start : start + IMAGES_AT_ONCE] for start in range(0, len(images), IMAGES_AT_ONCE))
