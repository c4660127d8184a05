"""A job: a pipeline with every text that it names, fingerprinted, before anything runs.

Comes in: a Pipeline and an output folder. Goes out: a Job. What shapes the rows of each
stage is gathered in `shape`; it is stored in the output folder, and the next start compares it with its own (changes.py).
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from synthgen import __version__
from synthgen import taggers as tagging
from synthgen.config import mapping
from synthgen.config.pipeline import GenerateConfig, Pipeline
from synthgen.config.prompt_pack import turn_text
from synthgen.engines import ModelName
from synthgen.engines.revision import resolve
from synthgen.errors import SettingsChanged
from synthgen.job import run_record
from synthgen.job.diff import differences, in_words
from synthgen.job.request import RunRequest
from synthgen.job.resolve import Definitions, load_definitions
from synthgen.stages.generate import GenerateContext
from synthgen.stages.generate.scoring import shaping
from synthgen.stages.pack import PackContext, redact
from synthgen.stages.plan import PlanContext
from synthgen.stages.tag import TagContext
from synthgen.store import Folder
from synthgen.taggers.spec import embedding_of

COMMIT = re.compile("[0-9a-f]{40}")  # of a model's repository


@dataclass(frozen=True)
class Job:
    """Everything that a run needs."""

    out: Folder
    pipeline: Pipeline
    texts: Definitions
    model: ModelName
    shape: Mapping[str, Any]  # table group -> what shapes its rows
    line: RunRequest  # what the job was started with

    def fingerprint(self, group: str) -> str:
        """The hash of what shapes a group of tables."""
        return hashlib.sha256(json.dumps(self.shape[group], sort_keys=True).encode()).hexdigest()[:32]

    @property
    def tag_terms(self) -> TagContext:
        pipeline = self.pipeline
        return TagContext(
            self.out,
            pipeline.source,
            pipeline.images,
            self.texts.taggers,
            pipeline.tag.batch,
            self.fingerprint("images"),
        )

    @property
    def plan_terms(self) -> PlanContext:
        return PlanContext(
            self.pipeline.plan,
            self.texts.rules,
            self.texts.prompts.types,
            self.pipeline.tag.taggers,
            self.fingerprint("planned"),
        )

    @property
    def generate_terms(self) -> GenerateContext:
        pipeline, generate = self.pipeline, self.pipeline.generate
        return GenerateContext(
            self.out, pipeline.source, pipeline.images, self.texts.prompts, self.model,
            generate.engine, generate.sampling, generate.scores, pipeline.plan.seed,
        )  # fmt: skip

    @property
    def pack_terms(self) -> PackContext:
        pipeline, prompts = self.pipeline, self.texts.prompts
        turns = {form: answer.turn for form, answer in prompts.pack.answer.items()}
        wording = hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()[:32]
        return PackContext(
            self.out, pipeline.source, pipeline.images, pipeline.pack, pipeline.generate.scores,
            partial(turn_text, prompts), wording, redact.root_of(pipeline.source.uri),
            self.fingerprint("tags") + self.fingerprint("scores"),
        )  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        """Where the data come from, for the dataset card; nothing that could hold a secret, and no folder of this machine."""
        pipeline = self.pipeline
        return {
            "Model": redact.model(self.model.model),
            "Model revision": self.model.revision,
            "Prompts": redact.shelf_name(pipeline.generate.prompts),
            "Mapping": redact.shelf_name(pipeline.plan.mapping),
            "Tagger": ", ".join(map(redact.shelf_name, pipeline.tag.taggers)),
            "Taxonomy": redact.shelf_name(self.texts.taxonomy.name),
            "Made by": f"synthgen {__version__}",
        }


def open_job(
    out: Folder,
    pipeline: Pipeline,
    texts: Definitions | None = None,
    line: RunRequest | None = None,
    before: Any = None,
) -> Job:
    """The job, ready to run; with the texts of its pipeline, if they are loaded, and the line that it is started with, if there is a
    new one. The folder's record is read unless it is given."""
    texts = texts or load_definitions(pipeline)
    before = before if before is not None else run_record.record(out) or {}
    begun = before.get("tagger_models", {})
    taggers = tuple(tagging.resolved(one, partial(_resolved, begun.get(one.name))) for one in texts.taggers)
    texts = replace(texts, taggers=taggers)
    model = _resolved(before.get("shape", {}).get("generated", {}).get("model"), pipeline.generate)
    return Job(out, pipeline, texts, model, _shape(pipeline, texts, model), line or RunRequest.of(before))


def _resolved(before: Any, settings: GenerateConfig, said_at: str = "generate.model") -> ModelName:
    """The exact model; one of the hub at the commit that the folder was begun with, as its record has it. What its author pushes
    later changes no run, unless a `revision` asks for it."""
    is_of_hub = (
        settings.engine.kind == "vllm" and not settings.revision and not Path(settings.model).expanduser().is_dir()
    )
    if is_of_hub and isinstance(before, list) and before[0] == settings.model and COMMIT.fullmatch(before[1]):
        return ModelName(*before)
    return resolve(settings, said_at)


def reopen(out: Folder) -> Job:
    """The job that a folder was last made with, for what is done to a folder afterwards.

    Names of shelf files, images and models may be relative to the folder that its run was started in, so this process goes
    there where it exists. Raises if the files that shaped the tables are others now.
    """
    record = run_record.made(out)
    home = record["started_in"]
    if Path(home).is_dir():
        os.chdir(home)
        sys.path.insert(0, home)
    job = open_job(out, run_record.pipeline(out))
    if found := differences(
        record["shape"], {group: one for group, one in job.shape.items() if group in record["shape"]}
    ):
        raise SettingsChanged(
            f"{out.url}: was made with other files: {in_words(found)}. It was started in {home}; "
            f"run this where they are as they were, or after `synth run --out {out.url} --update` with these"
        )
    return job


def _shape(pipeline: Pipeline, texts: Definitions, model: ModelName) -> dict[str, Any]:
    source, pack = run_record.in_full(pipeline.source, Path.cwd()), texts.prompts.pack
    return {
        "listed": source.model_dump(mode="json"),
        # The other limits say what is quarantined, and `synth retry` judges that again; they change no image that is tagged.
        "images": {"model_pixels": pipeline.images.model_pixels, "embedding": embedding_of(texts.taggers)},
        "tags": {one.name: one.fingerprint for one in texts.taggers},
        "planned": {
            "settings": pipeline.plan.model_dump(mode="json"),
            "mapping": mapping.fingerprint_texts(pipeline.plan.mapping),
            "types": {path: [list(kind.forms), kind.most] for path, kind in texts.prompts.types.items()},
        },
        "generated": {
            "model": model.revision if model.revision.startswith("files:") else [model.model, model.revision],
            "engine": pipeline.generate.engine.shaping,
            "system": pack.system,
            "ask": pack.ask.model_dump(mode="json"),
            "ask_choice": pack.ask_choice.model_dump(mode="json") if pack.ask_choice else None,
            "answer": {form: answer.model_dump(mode="json") for form, answer in pack.answer.items()},
            "types": {
                path: [kind.about, kind.needs, kind.ask_as, list(kind.examples)]
                for path, kind in texts.prompts.types.items()
            },
            "sampling": pipeline.generate.sampling.model_dump(
                mode="json", exclude={"agree_temperature", "agree_samples"}
            ),
            "seed": pipeline.plan.seed,
        },
        "scores": {name: shaping(name, pack, pipeline.generate.sampling) for name in pipeline.generate.scores},
    }
