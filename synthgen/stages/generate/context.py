"""Everything that shapes the pairs and the scores of a run, and the hashes by which a row is known to be current.

A pair has a recipe, a score a fingerprint. Settings outside of them (replicas, conversations in flight, retries) may
change between two starts of one run without making any pair stale.

Where one model asks and another answers, the stage is two passes over the same assignments: the first writes questions
(3-asked), the second reads them and writes pairs and scores (3-generated). Each has a context of its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from synthgen.config import phrasings
from synthgen.config.engine import EngineConfig, SamplingConfig
from synthgen.config.families import with_unanswerable
from synthgen.config.prompt_pack import Prompts, question_texts, recipe_texts
from synthgen.config.selection import Threshold
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.engines import ModelName
from synthgen.engines.kinds import reply_options
from synthgen.ingest.images import DECODING
from synthgen.stages.contract import Job
from synthgen.stages.generate import scoring
from synthgen.stages.generate.conversation import ConversationContext
from synthgen.store import Folder
from synthgen.tables import ASK, GENERATE, StageSpec, make_id

Recipes = Mapping[tuple[str, str], str]  # (instruction type, answer form) → recipe


FOLLOW_UP = "follow_up"  # in place of the recipe of a question that is asked in the second pass


@dataclass(frozen=True)
class Asker:
    """The model that asks and its engine."""

    model: ModelName
    engine: EngineConfig


@dataclass(frozen=True)
class GenerateContext:
    """Everything that a generating worker needs to know.

    Attributes:
        model: That this worker calls, as `engine` is its engine.
        retry: Reasons of failures that are tried again.
        asker: The model that wrote the questions in a pass before this one; None where there is one pass.
        is_first_pass: Whether this worker writes questions for another model.
        things: Tag → its words with their article, for questions about a tag.
    """

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    prompts: Prompts
    model: ModelName
    engine: EngineConfig
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int
    retry: frozenset[str] = frozenset()
    asker: Asker | None = None
    is_first_pass: bool = False
    things: Mapping[str, str] = field(default_factory=dict)
    gate: Mapping[str, Threshold] = field(default_factory=dict)

    @property
    def spec(self) -> StageSpec:
        """The stage whose tables this worker writes."""
        return ASK if self.is_first_pass else GENERATE

    def first_pass(self) -> "GenerateContext":
        """Return the context of the pass that asks, which measures no score."""
        assert self.asker, "one model asks and answers in one pass"
        asker = self.asker
        return replace(self, model=asker.model, engine=asker.engine, scores=(), gate={}, asker=None, is_first_pass=True)

    def conversations(self) -> ConversationContext:
        """Return the settings that all conversations share."""
        return ConversationContext(self.prompts, self.sampling, self.scores, self.seed, self.gate)

    def recipes(self) -> Recipes:
        """Return the recipe of every type and form: the hash of everything that shapes the text of such rows.

        In the first pass these are rows of QUESTIONS, which depend on nothing that only answers do; else rows of PAIRS.
        """
        types = with_unanswerable(self.prompts.types)
        kinds = [(path, form) for path, kind in types.items() for form in kind.forms]
        return {
            kind: self._question_recipe(*kind) if self.is_first_pass else self._pair_recipe(*kind) for kind in kinds
        }

    def thing_of(self, row: Mapping[str, Any]) -> str | None:
        """Return the words of the tag that a row of ASSIGNMENTS asks about."""
        tag = row.get("thing")
        return tag and self.things.get(tag, tag.rpartition("/")[2].replace("_", " "))

    def recipe_of(self, recipes: Recipes, row: Mapping[str, Any]) -> str | None:
        """Return the recipe of a row of ASSIGNMENTS; None if its type or form is gone."""
        recipe, thing = recipes.get((row["type"], row["form"])), self.thing_of(row)
        return recipe if recipe is None or thing is None else make_id("thing", recipe, thing)

    def _question_recipe(self, path: str, form: str) -> str:
        if self.prompts.type_of(path).follows:
            return FOLLOW_UP
        shaping = self._shaping(_made_by(self.model, self.engine), "ask_temperature", "top_p")
        return make_id("question", json.dumps([shaping, question_texts(self.prompts, path, form)], sort_keys=True))

    def _pair_recipe(self, path: str, form: str) -> str:
        own = _made_by(self.model, self.engine)
        asked = _made_by(self.asker.model, self.asker.engine) if self.asker else own
        # The model that answers asks what goes on from its own answers.
        is_own = asked == own or self.prompts.type_of(path).follows
        made_by = own if is_own else {**own, "asked": asked}
        shaping = self._shaping(made_by, "ask_temperature", "answer_temperature", "top_p")
        return make_id("recipe", json.dumps([shaping, recipe_texts(self.prompts, path, form)], sort_keys=True))

    def _shaping(self, made_by: Mapping[str, Any], *sampling: str) -> dict[str, Any]:
        return {
            **made_by,
            "sampling": self.sampling.model_dump(mode="json", include=set(sampling)),
            "image": [self.images.model_pixels, self.seed, DECODING],
        }

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each table of a partition: `questions`, or `pairs` and `scores/NAME`."""
        recipes = make_id("recipes", json.dumps(sorted(self.recipes().values())))
        scores = {f"scores/{name}": made for name, made in self.score_fingerprints().items()}
        return {self.spec.watched: recipes, **scores}

    def score_fingerprints(self) -> dict[str, str]:
        """Return for each score the hash of what shapes its values beyond the pairs' recipes."""
        shaped = {name: scoring.score_settings(name, self.prompts.pack, self.sampling) for name in self.scores}
        return {name: make_id("score", name, json.dumps(shape, sort_keys=True)) for name, shape in shaped.items()}


def _made_by(model: ModelName, engine: EngineConfig) -> dict[str, Any]:
    """Return what a model and its engine add to the recipe of a row."""
    named = [] if model.revision.startswith("files:") else [model.model]
    return {"model": [*named, model.revision], "engine": reply_options(engine)}


def context_of(job: Job, retry: frozenset[str] = frozenset()) -> GenerateContext:
    """Return the context of a job; where another model asks, that of the pass that answers."""
    pipeline, generate = job.pipeline, job.pipeline.generate
    return GenerateContext(
        job.out,
        pipeline.source,
        pipeline.images,
        job.definitions.prompts,
        job.model,
        generate.answerer.engine,
        generate.sampling,
        pipeline.scores,
        pipeline.plan.seed,
        retry,
        Asker(job.asking, generate.asker.engine) if job.asking else None,
        things=_things(job),
        gate=pipeline.gate,
    )


def _things(job: Job) -> dict[str, str]:
    """Return the words of every tag with their article, if the pack has types that ask about one."""
    if not any(kind.thing for kind in job.definitions.prompts.types.values()):
        return {}
    nodes = job.definitions.taxonomy.tree.nodes.values()
    return {node.path: phrasings.fill("a {}", node.words, node.values.get("article")) for node in nodes}
