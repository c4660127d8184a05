"""What shapes the pairs and the scores of a run.

Comes in: the settings and texts of a job. Goes out: Terms, sent to every worker, and the hashes by which a row is known to
be of today: the recipe of a pair, the fingerprint of a score. Whatever is not in a recipe (replicas, places in flight,
retries) may change between two starts of one run without making a single pair stale.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from synthgen.config.pipeline import EngineConfig, ImagesConfig, SamplingConfig, SourceConfig
from synthgen.config.prompt_pack import Prompts, recipe_texts
from synthgen.engines import ModelName
from synthgen.engines.kinds import reply_options
from synthgen.stages.generate import scoring
from synthgen.store import Folder
from synthgen.tables import make_id

PLANNED, GENERATED = "2-planned", "3-generated"

Recipes = Mapping[tuple[str, str], str]  # instruction type and answer form -> recipe


@dataclass(frozen=True)
class GenerateContext:
    """What a generating worker needs to know."""

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    prompts: Prompts
    model: ModelName
    engine: EngineConfig
    sampling: SamplingConfig
    scores: tuple[str, ...]
    seed: int
    retry: frozenset[str] = frozenset()  # reasons of failures that are asked again

    def recipes(self) -> Recipes:
        """The recipe of every type and form: the hash of everything that shapes the text of such pairs."""
        named = [] if self.model.revision.startswith("files:") else [self.model.model]
        shaping = {
            "model": [*named, self.model.revision],
            "engine": reply_options(self.engine),
            "sampling": self.sampling.model_dump(
                mode="json", include={"ask_temperature", "answer_temperature", "top_p"}
            ),
            "image": [self.images.model_pixels, self.seed],
        }
        return {
            (path, form): make_id(
                "recipe", json.dumps([shaping, recipe_texts(self.prompts, path, form)], sort_keys=True)
            )
            for path, kind in self.prompts.types.items()
            for form in kind.forms
        }

    def fingerprint(self, recipes: Recipes) -> str:
        """Changes when any recipe does."""
        return make_id("recipes", json.dumps(sorted(recipes.values())))

    def fingerprints(self) -> dict[str, str]:
        """What the tables of a partition are marked with that was made on these terms."""
        scores = {f"scores/{name}": made for name, made in self.score_fingerprints().items()}
        return {"pairs": self.fingerprint(self.recipes()), **scores}

    def score_fingerprints(self) -> dict[str, str]:
        """For every score, a hash of what shapes its values beyond the pairs' recipes."""
        shaped = {name: scoring.shaping(name, self.prompts.pack, self.sampling) for name in self.scores}
        return {name: make_id("score", name, json.dumps(found, sort_keys=True)) for name, found in shaped.items()}
