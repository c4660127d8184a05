"""Everything that shapes the pairs and the scores of a run, and the hashes by which a row is known to be current.

A pair has a recipe, a score a fingerprint. Settings outside of them (replicas, conversations in flight, retries) may
change between two starts of one run without making any pair stale.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from synthgen.config.pipeline import EngineConfig, ImagesConfig, SamplingConfig, SourceConfig
from synthgen.config.prompt_pack import Prompts, recipe_texts
from synthgen.engines import ModelName
from synthgen.engines.kinds import reply_options
from synthgen.ingest.images import DECODING
from synthgen.stages.contract import Job
from synthgen.stages.generate import scoring
from synthgen.stages.generate.conversation import ConversationContext
from synthgen.store import Folder
from synthgen.tables import make_id

Recipes = Mapping[tuple[str, str], str]  # (instruction type, answer form) → recipe


@dataclass(frozen=True)
class GenerateContext:
    """Everything that a generating worker needs to know."""

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    prompts: Prompts
    model: ModelName
    engine: EngineConfig
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int
    retry: frozenset[str] = frozenset()  # reasons of failures that are tried again

    def conversations(self) -> ConversationContext:
        """Return the settings that all conversations share."""
        return ConversationContext(self.prompts, self.sampling, self.scores, self.seed)

    def recipes(self) -> Recipes:
        """Return the recipe of every type and form: the hash of everything that shapes the text of such pairs."""
        named = [] if self.model.revision.startswith("files:") else [self.model.model]
        shaping = {
            "model": [*named, self.model.revision],
            "engine": reply_options(self.engine),
            "sampling": self.sampling.model_dump(
                mode="json", include={"ask_temperature", "answer_temperature", "top_p"}
            ),
            "image": [self.images.model_pixels, self.seed, DECODING],
        }
        return {
            (path, form): make_id(
                "recipe", json.dumps([shaping, recipe_texts(self.prompts, path, form)], sort_keys=True)
            )
            for path, kind in self.prompts.types.items()
            for form in kind.forms
        }

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each table of a partition, `pairs` and `scores/NAME`."""
        recipes = make_id("recipes", json.dumps(sorted(self.recipes().values())))
        return {"pairs": recipes, **{f"scores/{name}": made for name, made in self.score_fingerprints().items()}}

    def score_fingerprints(self) -> dict[str, str]:
        """Return for each score the hash of what shapes its values beyond the pairs' recipes."""
        shaped = {name: scoring.score_settings(name, self.prompts.pack, self.sampling) for name in self.scores}
        return {name: make_id("score", name, json.dumps(shape, sort_keys=True)) for name, shape in shaped.items()}


def context_of(job: Job, retry: frozenset[str] = frozenset()) -> GenerateContext:
    """Return the context of a job."""
    pipeline, generate = job.pipeline, job.pipeline.generate
    return GenerateContext(
        job.out,
        pipeline.source,
        pipeline.images,
        job.definitions.prompts,
        job.model,
        generate.engine,
        generate.sampling,
        generate.scores,
        pipeline.plan.seed,
        retry,
    )
