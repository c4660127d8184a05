"""The assignments of images: the questions that each is asked, as rows of `2-planned/assignments`.

The rules of the mapping give every instruction type a weight. Balancing multiplies it and decides how many questions an
image is asked; `sampling` draws the types; then each question gets an answer form and a language. The arithmetic is
done for many images at once, and every number in it depends on one image alone.
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

IMAGES_AT_ONCE = 500  # images whose races are run together; a race of one takes some 10 kB
CACHED_RULE_SETS = 4096  # sets of rules whose weights are kept
MAX_MULTIPLE = 4.0  # limit on the questions of an image with rare tags, as a multiple of plan.per_image
UNTAGGED = ""  # counted as the tag of an image without tags
COUNT_WORD = np.array([word("how many")], dtype=np.uint64)
NO_RARITY: Mapping[str, float] = {}

FiredRules = tuple[int, ...]  # the indexes of the rules that fire for an image


@dataclass(frozen=True)
class PlanContext:
    """Everything that shapes a plan.

    Attributes:
        types: Path → the instruction type.
        taggers: The names of the taggers whose tags are read.
        fingerprint: Of all of it.
    """

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
    """An image to be asked about; width and height in pixels."""

    object_id: str
    image_id: str
    tags: Sequence[str]
    width: int
    height: int


def images_of(rows: pa.Table) -> list[PlannedImage]:
    """Return the images in a table of `Inputs.objects`."""
    lists = rows.column("tags").combine_chunks()
    # Balancing reads the tags of some ten thousand images at once, so each tag is one string in memory.
    paths = list(map(sys.intern, lists.flatten().field("path").to_pylist()))
    ends = np.cumsum(lists.value_lengths().to_numpy()).tolist()
    tags = [paths[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    object_ids, image_ids, widths, heights = (
        rows.column(name).to_pylist() for name in ("object_id", "image_id", "width", "height")
    )
    return list(map(PlannedImage, object_ids, image_ids, tags, widths, heights))


def rarity_of(images: Sequence[PlannedImage], strength: float) -> dict[str, float]:
    """Return how rare each tag of these images is: its count to the power -strength, scaled.

    An image counts as the mean of its tags; the scale makes that 1 on average over the images. The inverse frequency is
    that by which MetaCLIP balances (arXiv 2309.16671), but no image is left out: one of common tags is asked less.
    """
    counts = Counter(tag for image in images for tag in image.tags or [UNTAGGED])
    rare = {tag: count**-strength for tag, count in counts.items()}
    total = sum(_mean_rarity(image, rare, 0.0) for image in images)
    return {tag: value * len(images) / total for tag, value in sorted(rare.items())}


def _mean_rarity(image: PlannedImage, rarity: Mapping[str, float], default: float) -> float:
    """Return the mean over the tags of an image; `default` is the rarity of an unknown tag."""
    tags = image.tags or [UNTAGGED]
    return sum(rarity.get(tag, default) for tag in tags) / len(tags)


class Weights:
    """The weights of all instruction types for the rules that fire.

    The `ask` of the rules is added up and multiplied by their `boost`; types that a rule has in `never` get weight 0.
    Images for which the same rules fire share the result.
    """

    def __init__(self, rules: RuleSet, types: Sequence[str], factors: Mapping[str, float]) -> None:
        self._types = types
        self._ask = np.array([[rule.ask.get(path, 0.0) for path in types] for rule in rules.rules])
        self._boost = np.array([[rule.boost.get(path, 1.0) for path in types] for rule in rules.rules])
        self._never = np.array([[path in rule.never for path in types] for rule in rules.rules])
        self._factors = np.array([factors.get(path, 1.0) for path in types])
        self._known: dict[FiredRules, Floats] = {}

    def vector(self, fired: FiredRules) -> Floats:
        """Return the weights where these rules fire, (types,) float64."""
        if fired not in self._known:
            if len(self._known) >= CACHED_RULE_SETS:
                self._known.clear()
            rows = list(fired)
            weights = self._ask[rows].sum(axis=0) * self._boost[rows].prod(axis=0) * self._factors
            weights[self._never[rows].any(axis=0)] = 0
            self._known[fired] = weights
        return self._known[fired]

    def by_type(self, fired: FiredRules) -> dict[str, float]:
        """Return the types that are asked where these rules fire, each with its weight."""
        weights = zip(self._types, self.vector(fired).tolist(), strict=True)
        return {path: weight for path, weight in weights if weight > 0}


class Assigner:
    """Draws the assignments of images; everything that they share is computed once."""

    def __init__(
        self, context: PlanContext, factors: Mapping[str, float], rarity: Mapping[str, float] = NO_RARITY
    ) -> None:
        """Prepare the samplers.

        Args:
            context: Everything that shapes the plan.
            factors: Type → the factor on its weight, from balancing.
            rarity: Tag → how rare it is, as of `rarity_of`.
        """
        settings = context.settings
        self.context, self._rarity = context, rarity
        self._rarest = max(rarity.values(), default=1.0)  # the rarity of a tag that appeared later
        wanted = {form for form, share in settings.forms.items() if share > 0}
        self.types = [path for path, kind in context.types.items() if wanted & set(kind.forms)]
        self.weights = Weights(context.rules, self.types, factors)
        most = {path: kind.most for path, kind in context.types.items() if kind.most is not None}
        self._type_sampler = TypeSampler(self.types, settings.per_type, most)
        places = list(product(self.types, range(settings.per_type)))
        forms = {f"form {path} {number}": context.types[path].forms for path, number in places}
        self._form_sampler = OptionSampler(settings.forms, forms)
        languages = {f"language {path} {number}": None for path, number in places}
        self._language_sampler = OptionSampler(settings.languages, languages)

    def match_rules(self, image: PlannedImage) -> FiredRules:
        """Return the rules that fire for an image."""
        return self.context.rules.match(image.tags, ImageSize(image.width, image.height))

    def balance_factors(self, images: Iterable[PlannedImage], strength: float) -> dict[str, float]:
        """Return the factor on each type's weight that balances the types over these images."""
        counts: dict[FiredRules, float] = {}
        for image in images:
            fired = self.match_rules(image)
            counts[fired] = counts.get(fired, 0.0) + self._multiple(image)
        weights = np.empty((len(counts), len(self.types)))
        for row, fired in zip(weights, counts, strict=True):
            row[:] = self.weights.vector(fired)
        factors = balance(weights, np.array(list(counts.values())), strength)
        return dict(zip(self.types, factors.tolist(), strict=True))

    def draw_all(self, images: Sequence[PlannedImage]) -> pa.Table:
        """Return the assignments of images, image by image in their order, each by type and ordinal."""
        batches = [images[start : start + IMAGES_AT_ONCE] for start in range(0, len(images), IMAGES_AT_ONCE)]
        rows = [row for batch in batches for row in self._draw_batch(batch)]
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(ASSIGNMENTS)
        return pa.table(columns, schema=ASSIGNMENTS)

    def _draw_batch(self, images: Sequence[PlannedImage]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of ASSIGNMENTS of some images."""
        settings, rules = self.context.settings, self.context.rules
        words = image_words(settings.seed, [image.image_id for image in images])
        fired = [self.match_rules(image) for image in images]
        weights = np.array([self.weights.vector(key) for key in fired]).reshape(len(images), len(self.types))
        index, kind, ordinal = self._type_sampler.race(words, weights, self._question_counts(words, images))
        order = np.lexsort((ordinal, kind, index))
        index, kind, ordinal = index[order], kind[order], ordinal[order]
        purposes = kind * settings.per_type + ordinal
        forms = self._form_sampler.draw(words[index], purposes)
        languages = self._language_sampler.draw(words[index], purposes)
        types = [self.types[number] for number in kind.tolist()]
        for number, path, count, form, language in zip(
            index.tolist(), types, ordinal.tolist(), forms, languages, strict=True
        ):
            image = images[number]
            name = assignment_id(image.image_id, path, form, language, count)
            because = rules.causes(fired[number], image.tags, path)
            yield name, image.image_id, image.object_id, path, form, language, count, because, False

    def _question_counts(self, words: Words, images: Sequence[PlannedImage]) -> Indexes:
        """Return how many questions each image is asked, (images,) int64; a fraction is rounded at random."""
        wanted = self.context.settings.per_image * np.array([self._multiple(image) for image in images])
        counts: Indexes = np.floor(wanted + uniforms(words, COUNT_WORD)).astype(np.int64)
        return np.maximum(counts, 1)

    def _multiple(self, image: PlannedImage) -> float:
        """Return how many times `plan.per_image` questions an image is asked for its tags."""
        if not self._rarity:
            return 1.0
        return min(MAX_MULTIPLE, _mean_rarity(image, self._rarity, self._rarest))
