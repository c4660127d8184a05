"""The contract of a stage: two functions in its module, both given a StageRun.

    pending(run)         → the tasks that are not done yet, in order
    results(run, tasks)  → a receipt for each task, as it is done

The driver (`synthgen.run`) commits each receipt before it asks for the next, so a stage sees its own commits in
`run.folder`. A stage that is done in this process computes receipts itself; one that needs workers returns those of a
pool. What `results` does after its last receipt (a card, a note) is done at each run, whether there were tasks or not.
"""

import hashlib
import json
from collections.abc import Container, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from synthgen.config.engine import EngineConfig
from synthgen.config.generation import GenerateConfig
from synthgen.config.mapping import RuleSet
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.config.scoring import AfterConfig
from synthgen.config.taxonomy import Taxonomy
from synthgen.engines import ModelName
from synthgen.ingest.sources import Item, kind_of_source
from synthgen.store import Folder, Lease, Receipt, RunFolder
from synthgen.tables import GENERATE, SCORE, StageSpec, score_name
from synthgen.taggers import TaggerSpec
from synthgen.workers import StopSignals, Task

# What is done again beside what is new: nothing, what other settings had shaped, or all of it.
Change = Literal["growth", "edit", "redraw"]


@dataclass(frozen=True)
class Definitions:
    """The definition files of a pipeline, loaded."""

    taggers: tuple[TaggerSpec, ...]  # all of one taxonomy
    prompts: Prompts
    rules: RuleSet
    passes: Mapping[str, Prompts] = field(default_factory=dict)  # of scoring, by name; their types are those of prompts

    @property
    def taxonomy(self) -> Taxonomy:
        """The tags that images can have."""
        return self.taggers[0].taxonomy


@dataclass(frozen=True)
class ScoringPass:
    """A pass over the pairs that measures scores with a model of its own, ready to run.

    Attributes:
        settings: The section `generate` as it is for this model.
        model: The exact model.
        prompts: Its pack, with the instruction types of the pairs.
        after: The score that leaves open which pairs it scores; None for all.
    """

    name: str
    settings: GenerateConfig
    model: ModelName
    prompts: Prompts
    after: AfterConfig | None = None

    @property
    def scores(self) -> tuple[str, ...]:
        """The whole names of its scores, PASS.SCORE."""
        return tuple(score_name(self.name, score) for score in self.settings.scores)


@dataclass(frozen=True)
class Job:
    """A pipeline with everything that it names, ready to run.

    Attributes:
        out: The output folder.
        model: The exact model that answers and scores, and asks where none does it in its place.
        shape: Group of settings → everything that shapes the rows of its tables, as JSON values.
        home: The working folder that the run was started in, from the root: relative names start from it, and code of
            the user is imported from it.
        asking: The exact model that asks, where another model or engine answers.
        passes: Those that score the pairs, in the order of the pipeline.
    """

    out: Folder
    pipeline: Pipeline
    definitions: Definitions
    model: ModelName
    shape: Mapping[str, Any]
    home: Path = field(default_factory=Path.cwd)
    asking: ModelName | None = None
    passes: tuple[ScoringPass, ...] = ()

    @property
    def has_pairs(self) -> bool:
        """Whether the source brings the pairs, so that none are planned and asked."""
        return kind_of_source(self.pipeline.source.uri).has_pairs

    @property
    def scores(self) -> tuple[str, ...]:
        """The whole names of all scores that pairs have: those of `generate`, then those of passes."""
        return (*self.pipeline.scores, *(score for each in self.passes for score in each.scores))

    @property
    def engines(self) -> tuple[tuple[ModelName, EngineConfig], ...]:
        """The models that generate, each with its engine, in the order in which they work; none if pairs are given."""
        if self.has_pairs:
            return ()
        generate = self.pipeline.generate
        asking = ((self.asking, generate.asker.engine),) if self.asking else ()
        return (*asking, (self.model, generate.answerer.engine))

    def engines_of(self, stages: Container[str]) -> tuple[tuple[ModelName, EngineConfig], ...]:
        """Return the models that these stages call, each with its engine."""
        generating = self.engines if GENERATE.typed in stages else ()
        scoring = self.passes if SCORE.typed in stages else ()
        return (*generating, *((judge.model, judge.settings.engine) for judge in scoring))

    def fingerprint(self, group: str) -> str:
        """Return the hash of everything that shapes a group of tables."""
        return hashlib.sha256(json.dumps(self.shape[group], sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class StageRun:
    """A stage at work: what it may read, and which part of its work is wanted.

    Attributes:
        folder: The output folder, with all commits so far.
        lease: Held by this driver.
        signals: Those that ask the run to end.
        change: What is done again beside what is new.
        retry: Reasons of failures that are tried again.
        objects: The listing of the source, where the run lists it.
    """

    spec: StageSpec
    job: Job
    folder: RunFolder
    lease: Lease
    signals: StopSignals
    change: Change = "growth"
    retry: frozenset[str] = frozenset()
    objects: Iterable[Item] | None = None

    @property
    def is_update(self) -> bool:
        """Whether rows that other settings shaped are done again."""
        return self.change != "growth"

    @cached_property
    def epoch(self) -> int:
        """The epoch of what is committed now."""
        return self.folder.log(self.spec).next_epoch

    @property
    def strikes(self) -> Folder:
        """The folder where deaths of workers are recorded."""
        return self.folder.stage(self.spec).folder.child("strikes")


class StageModule(Protocol):
    """The module of a stage."""

    def pending(self, run: StageRun) -> Iterable[Task]:
        """Return the tasks that are not done yet, in order."""

    def results(self, run: StageRun, tasks: Any) -> Generator[Receipt, None, None]:
        """Yield a receipt for each task, as it is done."""
