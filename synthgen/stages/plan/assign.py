"""Which questions an image is asked.

Comes in: images with their tags and sizes. Goes out: rows of `2-planned/assignments`. The rules of the mapping give every
instruction type a weight, balancing multiplies it and says how many questions the image is asked, and sampling.py runs the race;
then each question drawn gets an answer form and a language. The arithmetic is done for many images at once, and every number
in it depends on one image alone.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.config.families import InstructionType
from synthgen.config.mapping import ImageSize, RuleSet
from synthgen.config.pipeline import PlanConfig
from synthgen.stages.contract import Job
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
from synthgen.tables import ASSIGNMENTS, assignment_id

AT_ONCE = 500  # images whose races are run together; a race of one takes some 10 kB
REMEMBERED = 4096  # sets of rules whose weights are kept
MOST_TIMES = 4.0  # as many questions as plan.per_image that balancing gives to an image, however rare its tags
UNTAGGED = ""  # what stands for "no tag" where tags are counted
HOW_MANY = np.array([word("how many")], dtype=np.uint64)
NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True)
class PlanContext:
    """What shapes a plan."""

    settings: PlanConfig
    rules: RuleSet
    types: Mapping[str, InstructionType]
    taggers: tuple[str, ...]
    fingerprint: str


def context_of(job: Job) -> PlanContext:
    """Return the context of a job."""
    return PlanContext(
        job.pipeline.plan,
        job.definitions.rules,
        job.definitions.prompts.types,
        job.pipeline.tag.taggers,
        job.fingerprint("planned"),
    )


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image to be asked about."""

    object_id: str
    image_id: str
    tags: Sequence[str]
    width: int
    height: int


def subject_of(row: Mapping[str, Any]) -> PlannedImage:
    """The subject in a row with these columns and `tags`."""
    return PlannedImage(
        row["object_id"], row["image_id"], [tag["path"] for tag in row["tags"]], row["width"], row["height"]
    )


def subjects_of(rows: pa.Table) -> list[PlannedImage]:
    """The subjects in a table of Inputs.objects."""
    lists = rows.column("tags").combine_chunks()
    # A tag is one text in memory, however many images have it: balancing looks at some ten thousand of them at once.
    paths = list(map(sys.intern, lists.flatten().field("path").to_pylist()))
    ends = np.cumsum(lists.value_lengths().to_numpy()).tolist()
    tags = [paths[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    object_ids, image_ids, widths, heights = (
        rows.column(name).to_pylist() for name in ("object_id", "image_id", "width", "height")
    )
    return list(map(PlannedImage, object_ids, image_ids, tags, widths, heights))


def rarity_of(subjects: Sequence[PlannedImage], strength: float) -> dict[str, float]:
    """How rare each tag of these images is: its frequency to the power -strength, scaled so that images have 1 on average.

    An image counts as the mean of its tags. Inverse frequency, as MetaCLIP balances (arXiv 2309.16671), but nothing is thrown
    away: an image of common tags is asked less, not left out.
    """
    counts = Counter(tag for one in subjects for tag in one.tags or [UNTAGGED])
    rare = {tag: count**-strength for tag, count in counts.items()}
    total = sum(sum(rare[tag] for tag in tags) / len(tags) for one in subjects if (tags := one.tags or [UNTAGGED]))
    return {tag: value * len(subjects) / total for tag, value in sorted(rare.items())}


class Weights:
    """The weight of every type where some rules fire: what they ask added up, then boosted, then what is never asked left out.

    All types at once, from one table a rule; images for which the same rules fire share what was worked out.
    """

    def __init__(self, rules: RuleSet, types: Sequence[str], factors: Mapping[str, float]) -> None:
        self._types = types
        self._ask = np.array([[line.ask.get(path, 0.0) for path in types] for line in rules.rules])
        self._boost = np.array([[line.boost.get(path, 1.0) for path in types] for line in rules.rules])
        self._never = np.array([[path in line.never for path in types] for line in rules.rules])
        self._factors = np.array([factors.get(path, 1.0) for path in types])
        self._known: dict[tuple[int, ...], Floats] = {}

    def of(self, fired: tuple[int, ...]) -> Floats:
        """One number a type."""
        if fired not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            lines = list(fired)
            weights = self._ask[lines].sum(axis=0) * self._boost[lines].prod(axis=0) * self._factors
            weights[self._never[lines].any(axis=0)] = 0
            self._known[fired] = weights
        return self._known[fired]

    def named(self, fired: tuple[int, ...]) -> dict[str, float]:
        """The types that are asked, each with its weight."""
        return {path: weight for path, weight in zip(self._types, self.of(fired).tolist(), strict=True) if weight > 0}


class Assigner:
    """Draws the assignments of images; what all of them share is worked out once."""

    def __init__(
        self, context: PlanContext, factors: Mapping[str, float], rarity: Mapping[str, float] = NOTHING
    ) -> None:
        """`factors` are what balancing multiplies the types' weights by, `rarity` is as of `rarity_of`."""
        settings = context.settings
        self.context, self._rarity = context, rarity
        self._rarest = max(rarity.values(), default=1.0)  # what a tag counts that came later
        wanted = {form for form, share in settings.forms.items() if share > 0}
        self.types = [path for path, kind in context.types.items() if wanted & set(kind.forms)]
        most = {path: kind.most for path, kind in context.types.items() if kind.most is not None}
        self.weights = Weights(context.rules, self.types, factors)
        self._runners = TypeSampler(self.types, settings.per_type, most)
        places = list(product(self.types, range(settings.per_type)))
        self._forms = OptionSampler(
            settings.forms, {f"form {path} {number}": context.types[path].forms for path, number in places}
        )
        self._languages = OptionSampler(
            settings.languages, {f"language {path} {number}": None for path, number in places}
        )

    def fired(self, row: Mapping[str, Any]) -> tuple[int, ...]:
        """The rules that fire for an object's row."""
        return self._fired(subject_of(row))

    def draw(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The assignments of one object's row."""
        found: list[dict[str, Any]] = self.draw_all([subject_of(row)]).to_pylist()
        return found

    def balanced(self, subjects: Iterable[PlannedImage], strength: float) -> dict[str, float]:
        """What each type's weight is to be multiplied by so that types are balanced over these images."""
        counts: dict[tuple[int, ...], float] = {}
        for one in subjects:
            fired = self._fired(one)
            counts[fired] = counts.get(fired, 0.0) + self._times(one)
        weights = np.empty((len(counts), len(self.types)))
        for row, fired in zip(weights, counts, strict=True):
            row[:] = self.weights.of(fired)
        factors = balance(weights, np.array(list(counts.values())), strength)
        return dict(zip(self.types, factors.tolist(), strict=True))

    def draw_all(self, subjects: Sequence[PlannedImage]) -> pa.Table:
        """The assignments of images, image by image in their order, types in theirs."""
        parts = [subjects[start : start + AT_ONCE] for start in range(0, len(subjects), AT_ONCE)]
        rows = [row for part in parts for row in self._drawn(part)]
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(ASSIGNMENTS)
        return pa.table(columns, schema=ASSIGNMENTS)

    def _drawn(self, subjects: Sequence[PlannedImage]) -> Iterator[tuple[Any, ...]]:
        """The rows of ASSIGNMENTS of some images."""
        settings, rules = self.context.settings, self.context.rules
        words = image_words(settings.seed, [one.image_id for one in subjects])
        fired = [self._fired(one) for one in subjects]
        weights = np.array([self.weights.of(some) for some in fired]).reshape(len(subjects), len(self.types))
        image, kind, ordinal = self._runners.race(words, weights, self._how_many(words, subjects))
        order = np.lexsort((ordinal, kind, image))
        image, kind, ordinal = image[order], kind[order], ordinal[order]
        purpose = kind * settings.per_type + ordinal
        forms, languages = (choice.of(words[image], purpose) for choice in (self._forms, self._languages))
        for which, path, number, form, language in zip(
            image.tolist(), (self.types[one] for one in kind.tolist()), ordinal.tolist(), forms, languages, strict=True
        ):
            one = subjects[which]
            name = assignment_id(one.image_id, path, form, language, number)
            because = rules.causes(fired[which], one.tags, path)
            yield name, one.image_id, one.object_id, path, form, language, number, because, False

    def _how_many(self, words: Words, subjects: Sequence[PlannedImage]) -> Indexes:
        """How many questions each image is asked; a broken number is rounded by lot."""
        wanted = self.context.settings.per_image * np.array([self._times(one) for one in subjects])
        whole: Indexes = np.floor(wanted + uniforms(words, HOW_MANY)).astype(np.int64)
        return np.maximum(whole, 1)

    def _times(self, subject: PlannedImage) -> float:
        """How many times as many questions as usual an image is asked for its tags."""
        if not self._rarity:
            return 1.0
        tags = subject.tags or [UNTAGGED]
        return min(MOST_TIMES, sum(self._rarity.get(tag, self._rarest) for tag in tags) / len(tags))

    def _fired(self, subject: PlannedImage) -> tuple[int, ...]:
        return self.context.rules.match(subject.tags, ImageSize(subject.width, subject.height))
