"""A job: a pipeline with every text that it names, fingerprinted, before anything runs.

Comes in: a Pipeline and an output folder. Goes out: a Job. What shapes the rows of each
stage is gathered in `shape`; it is stored in the output folder, and the next start compares it with its own and says in the
user's words what differs.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from synthgen import __version__, frozen, mapping, tagger
from synthgen.config import Generate, Pipeline
from synthgen.errors import SettingsChanged, UserMistake
from synthgen.generate import Terms as GenerateTerms
from synthgen.models import ModelName
from synthgen.models.names import resolve
from synthgen.pack import Terms as PackTerms
from synthgen.pack import published
from synthgen.plan import Terms as PlanTerms
from synthgen.prompt import turn_text
from synthgen.score import shaping
from synthgen.store import Folder, Stage
from synthgen.tag import Terms as TagTerms
from synthgen.tagger.files import embedding_of
from synthgen.texts import Texts, load_texts

COMMIT = re.compile("[0-9a-f]{40}")  # of a model's repository
STAGES = ("tag", "plan", "generate", "select", "pack")
WORDS = (  # where settings stand in a shape -> what the user calls them
    (r"listed\.", "source."),
    (r"images\.embedding\b.*", "the model that embeds the images changed"),
    (r"tags\.(.+?) was '.*", r"the tagger '\1' changed"),
    (r"tags\.(.+?) is ", r"the tagger '\1' is "),
    (r"planned\.settings\.|generated\.(?=seed )", "plan."),
    (r"planned\.mapping ", "the mapping "),
    (r"(planned|generated)\.types\.(\S+) ", r"the instruction type '\2' "),
    (r"generated\.engine\.", "generate.engine.options."),
    (r"generated\.(?=model |sampling\.)", "generate."),
    (r"generated\.(\S+) ", r"\1 of the prompts "),
    (r"scores\.agreement\.", "generate.sampling."),
    (r"scores\.(\S+) ", r"the score '\1' "),
)
GROUPS = {"tag": ("listed", "images", "tags"), "plan": ("planned",), "generate": ("generated", "scores")}  # of tables, by stage


@dataclass(frozen=True)
class Job:
    """Everything that a run needs."""

    out: Folder
    pipeline: Pipeline
    texts: Texts
    model: ModelName
    shape: Mapping[str, Any]  # table group -> what shapes its rows

    def fingerprint(self, group: str) -> str:
        """The hash of what shapes a group of tables."""
        return hashlib.sha256(json.dumps(self.shape[group], sort_keys=True).encode()).hexdigest()[:32]

    @property
    def tag_terms(self) -> TagTerms:
        pipeline = self.pipeline
        return TagTerms(self.out, pipeline.source, pipeline.images, self.texts.taggers, pipeline.tag.batch, self.fingerprint("images"))

    @property
    def plan_terms(self) -> PlanTerms:
        return PlanTerms(
            self.pipeline.plan, self.texts.rules, self.texts.prompts.types, self.pipeline.tag.taggers, self.fingerprint("planned")
        )

    @property
    def generate_terms(self) -> GenerateTerms:
        pipeline, generate = self.pipeline, self.pipeline.generate
        return GenerateTerms(
            self.out, pipeline.source, pipeline.images, self.texts.prompts, self.model,
            generate.engine, generate.sampling, generate.scores, pipeline.plan.seed,
        )  # fmt: skip

    @property
    def pack_terms(self) -> PackTerms:
        pipeline, prompts = self.pipeline, self.texts.prompts
        turns = {form: answer.turn for form, answer in prompts.pack.answer.items()}
        wording = hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()[:32]
        return PackTerms(
            self.out, pipeline.source, pipeline.images, pipeline.pack, pipeline.generate.scores,
            partial(turn_text, prompts), wording, published.root_of(pipeline.source.uri),
            self.fingerprint("tags") + self.fingerprint("scores"),
        )  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        """Where the data come from, for the dataset card; nothing that could hold a secret, and no folder of this machine."""
        pipeline = self.pipeline
        return {
            "Model": published.model(self.model.model),
            "Model revision": self.model.revision,
            "Prompts": published.shelf_name(pipeline.generate.prompts),
            "Mapping": published.shelf_name(pipeline.plan.mapping),
            "Tagger": ", ".join(map(published.shelf_name, pipeline.tag.taggers)),
            "Taxonomy": published.shelf_name(self.texts.taxonomy.name),
            "Made by": f"synthgen {__version__}",
        }


def open_job(out: Folder, pipeline: Pipeline, texts: Texts | None = None, before: Any = None) -> Job:
    """The job, ready to run; with the texts of its pipeline, if they are loaded. The folder's record is read unless it is given."""
    texts = texts or load_texts(pipeline)
    before = before if before is not None else frozen.record(out) or {}
    begun = before.get("tagger_models", {})
    taggers = tuple(tagger.resolved(one, partial(_resolved, begun.get(one.name))) for one in texts.taggers)
    texts = replace(texts, taggers=taggers)
    model = _resolved(before.get("shape", {}).get("generated", {}).get("model"), pipeline.generate)
    return Job(out, pipeline, texts, model, _shape(pipeline, texts, model))


def _resolved(before: Any, settings: Generate, said_at: str = "generate.model") -> ModelName:
    """The exact model; one of the hub at the commit that the folder was begun with, as its record has it. What its author pushes
    later changes no run, unless a `revision` asks for it."""
    is_of_hub = settings.engine.kind == "vllm" and not settings.revision and not Path(settings.model).expanduser().is_dir()
    if is_of_hub and isinstance(before, list) and before[0] == settings.model and COMMIT.fullmatch(before[1]):
        return ModelName(*before)
    return resolve(settings, said_at)


def reopen(out: Folder) -> Job:
    """The job that a folder was last made with, for what is done to a folder afterwards.

    Names of shelf files, images and models may be relative to the folder that its run was started in, so this process goes
    there where it exists. Raises if the files that shaped the tables are others now.
    """
    record = frozen.made(out)
    home = record["started_in"]
    if Path(home).is_dir():
        os.chdir(home)
        sys.path.insert(0, home)
    job = open_job(out, frozen.pipeline(out))
    if found := differences(record["shape"], {group: one for group, one in job.shape.items() if group in record["shape"]}):
        raise SettingsChanged(
            f"{out.url}: was made with other files: {_some(found)}. It was started in {home}; "
            "run this where they are as they were, or after a `synth run --update` with these"
        )
    return job


def check_folder(job: Job, first: str, last: str, update: bool, replan: bool) -> bool:
    """Whether the output folder is new; raises if it is not this job's: another tool's, or of other settings and not to be updated.

    What shapes tables behind the stage `last` does not matter yet; what shapes those before `first` must be as it was.
    """
    before = frozen.record(job.out)
    if before is None:
        if not job.out.is_empty():
            raise UserMistake(f"{job.out.url}: is not empty and holds no synth run; give a new folder")
        return True
    behind = _behind(last)
    shape = {group: one for group, one in before.get("shape", {}).items() if group not in behind}  # {}: killed before it stored anything
    found = differences(shape, {group: one for group, one in job.shape.items() if group in shape})
    redraws = [one for one in found if one.startswith("planned.settings.seed ")]
    if redraws and not replan:
        raise SettingsChanged(f"{job.out.url}: {_some(redraws)}: every question would be drawn anew; run with --replan if that is wanted")
    moved = [one for one in found if one.startswith("listed.image_column ")]
    if moved and _holds_rows(job.out):
        raise SettingsChanged(f"{job.out.url}: {_some(moved)}: the rows that are listed are read by the old one; use another --out")
    skipped = [stage for stage in STAGES[: STAGES.index(first)] if any(one.partition(".")[0] in GROUPS.get(stage, ()) for one in found)]
    if skipped:
        raise SettingsChanged(
            f"{job.out.url}: was made with other settings: {_some(found)}. --from {first} would leave out what that touches; "
            f"run it --from {skipped[0]} with --update"
        )
    if found and not (update or replan):
        is_moved = any(one.startswith("listed.uri ") for one in found)
        then = "add the images of this source to those of the other" if is_moved else "recompute what that touches"
        raise SettingsChanged(
            f"{job.out.url}: was made with other settings: {_some(found)}. Run with --update to {then}, or use another --out"
        )
    return False


def _holds_rows(out: Folder) -> bool:
    """Whether rows of Parquet files are listed, and not files alone."""
    stage = Stage(out, "0-listed")
    log = stage.log()
    tables = (table for name in log.partitions for table in stage.read(log, name, "objects", ["row"]))
    return any(table.column("row").null_count < table.num_rows for table in tables)


def settle(job: Job, first: str, last: str, replan: bool) -> dict[str, str]:
    """Stores the pipeline and what shapes its rows, if the folder does not know them yet; returns the updates to be finished.

    Tables behind the stage `last` stay as they were, and so does what is known of them, if they were made at all: the next run
    that reaches them sees whether they are of other settings. An update that is cut short is on record until its stages are
    done (stage → "edit", or "redraw" of the plan), because from here on nothing else tells old rows from new ones.
    """
    before, behind = frozen.record(job.out) or {}, _behind(last)
    known = before.get("shape", {})
    kept = {group: shape for group, shape in known.items() if group in behind}
    made = {group: shape for group, shape in job.shape.items() if group not in behind}
    unfinished = dict(before.get("unfinished", {}))
    for stage, groups in GROUPS.items():
        if any(group in made and known.get(group, made[group]) != made[group] for group in groups):
            unfinished.setdefault(stage, "edit")
    if replan and STAGES.index(first) <= STAGES.index("plan") <= STAGES.index(last):
        unfinished["plan"] = "redraw"
    pipeline = job.pipeline.model_dump(mode="json")
    if before:
        pipeline |= {section: before["pipeline"][section] for section in _sections_behind(last)}
    tagging = {one.name: one.model for one in job.texts.taggers if one.model and COMMIT.fullmatch(one.model.revision)}
    record = {
        "shape": {**made, **kept}, "pipeline": pipeline, "started_in": str(Path.cwd()), "unfinished": unfinished,
        "tagger_models": {name: [model.model, model.revision] for name, model in tagging.items()},
    }  # fmt: skip
    if before != record:
        job.out.create("run.json", json.dumps({"format": frozen.FORMAT, "made": datetime.now(UTC).isoformat(timespec="seconds")}).encode())
        frozen.write(job.out, record)
    return unfinished


def _some(found: list[str]) -> str:
    """Differences in the user's words, as many as fit."""
    found = list(dict.fromkeys(map(_in_words, found)))
    return "; ".join(found[:12] + ([f"and {len(found) - 12} more"] if len(found) > 12 else []))


def _in_words(difference: str) -> str:
    return next(
        (found.expand(words) + difference[found.end() :] for place, words in WORDS if (found := re.match(place, difference))), difference
    )


def _behind(last: str) -> set[str]:
    """The groups of tables that the stages after `last` make."""
    return {group for stage in STAGES[STAGES.index(last) + 1 :] for group in GROUPS.get(stage, ())}


def _sections_behind(last: str) -> tuple[str, ...]:
    """The sections of a pipeline that speak of the stages after `last`."""
    return (*STAGES[STAGES.index(last) + 1 :], *(("train",) if last != STAGES[-1] else ()))


def changed(job: Job, group: str) -> bool:
    """Whether the folder's tables of a group are of other settings than the job's."""
    before = frozen.record(job.out)
    return bool(before) and before["shape"].get(group, job.shape[group]) != job.shape[group]


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """What differs, in words, a phrase for each place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for key in sorted({*before, *after}):
            place = f"{where}.{key}" if where else key
            if key not in before:
                found.append(f"{place} is new")
            elif key not in after:
                found.append(f"{place} is gone")
            else:
                found += differences(before[key], after[key], place)
        return found
    if before == after:
        return []
    is_text = where != "listed.uri" and any(isinstance(value, str) and len(value) > 40 for value in (before, after))
    if is_text or isinstance(before, list):
        return [f"{where} changed"]
    return [f"{where} was {before!r} and is {after!r}"]


def _shape(pipeline: Pipeline, texts: Texts, model: ModelName) -> dict[str, Any]:
    source, pack = frozen.in_full(pipeline.source, Path.cwd()), texts.prompts.pack
    return {
        "listed": source.model_dump(mode="json"),
        # The other limits say what is quarantined, and `synth retry` judges that again; they change no image that is tagged.
        "images": {"model_pixels": pipeline.images.model_pixels, "embedding": embedding_of(texts.taggers)},
        "tags": {one.name: one.fingerprint for one in texts.taggers},
        "planned": {
            "settings": pipeline.plan.model_dump(mode="json"),
            "mapping": mapping.texts(pipeline.plan.mapping),
            "types": {path: [list(kind.forms), kind.most] for path, kind in texts.prompts.types.items()},
        },
        "generated": {
            "model": model.revision if model.revision.startswith("files:") else [model.model, model.revision],
            "engine": pipeline.generate.engine.shaping,
            "system": pack.system,
            "ask": pack.ask.model_dump(mode="json"),
            "ask_choice": pack.ask_choice.model_dump(mode="json") if pack.ask_choice else None,
            "answer": {form: answer.model_dump(mode="json") for form, answer in pack.answer.items()},
            "types": {path: [kind.about, kind.needs, kind.ask_as, list(kind.examples)] for path, kind in texts.prompts.types.items()},
            "sampling": pipeline.generate.sampling.model_dump(mode="json", exclude={"agree_temperature", "agree_samples"}),
            "seed": pipeline.plan.seed,
        },
        "scores": {name: shaping(name, pack, pipeline.generate.sampling) for name in pipeline.generate.scores},
    }
