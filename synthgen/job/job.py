"""Opening a job: a pipeline with everything that it names, resolved and fingerprinted before anything runs.

`_shape` gathers everything that shapes the rows of each table. It is stored in the output folder, and the next start
compares its own with it (`job.changes`).
"""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from synthgen import taggers as tagging
from synthgen.config import families
from synthgen.config.families import InstructionType
from synthgen.config.generation import GenerateConfig
from synthgen.config.library import Section
from synthgen.config.mapping import RuleSet
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_file import JudgePrompt
from synthgen.config.prompt_pack import Prompts
from synthgen.config.source import SourceConfig
from synthgen.console import note
from synthgen.engines import ModelName
from synthgen.engines.kinds import kind_of, reply_options, resolve_model
from synthgen.engines.revision import local_path
from synthgen.errors import Mistakes, ModelUnavailable, SettingsChanged, SynthError, UserMistake
from synthgen.ingest.images import DECODING
from synthgen.ingest.sources import kind_of_source
from synthgen.job import run_record
from synthgen.job.diff import Difference, describe, differences
from synthgen.job.resolve import load_definitions
from synthgen.stages.contract import Definitions, Job, ScoringPass
from synthgen.stages.generate.scoring import find_scorer, score_settings
from synthgen.stages.score.context import shape_of
from synthgen.store import Folder, Record, RunFolder
from synthgen.tables import GENERATE, SCORE
from synthgen.taggers import TaggerSpec, stored_embedding_model

COMMIT = re.compile("[0-9a-f]{40}")  # of a model's repository
NEWER = ("group_by", "group_most", "max_pages", "named", "rows", "use_reserved")  # settings of `source` that came later
NO_MODEL = "none"  # that asked or answered: the source has the pairs
WITH_MODELS = (GENERATE.typed, SCORE.typed)  # the stages that call models of the sections `generate` and `score`


def open_job(
    out: Folder,
    pipeline: Pipeline,
    definitions: Definitions | None = None,
    record: Record | None = None,
    home: Path = Path(),
    *,
    needed: Container[str] = WITH_MODELS,
) -> Job:
    """Return the job of a pipeline, ready to run.

    Args:
        out: The output folder.
        pipeline: A checked pipeline.
        definitions: Its definition files, if they are loaded already.
        record: Of the folder, if it has one; hub models keep the commits that it names.
        home: The folder that relative names start from.
        needed: The stages, of WITH_MODELS, for which a model that cannot be found is an error. For the others the one
            of the record stands in, or the name alone.

    Raises:
        UserMistake: A model or a definition file cannot be found; several models are Mistakes, one a line.
        ModelUnavailable: The hub of a model cannot be reached.
    """
    definitions = definitions or load_definitions(pipeline, home)
    record = record or {}
    faults: list[SynthError] = []  # nobody should learn of one model after the other
    resolved = (_resolve_tagger(spec, record, home, faults) for spec in definitions.taggers)
    definitions = replace(definitions, taggers=tagging.in_order(list(resolved)))
    known = _Known(record, home, faults)
    has_pairs = kind_of_source(pipeline.source.uri).has_pairs
    generating = None if has_pairs else _generating_models(known, pipeline.generate, GENERATE.typed in needed)
    asking, model = generating or (None, ModelName(NO_MODEL, ""))
    passes = tuple(_scoring_passes(known, pipeline, definitions, SCORE.typed in needed))
    _raise_all(faults)
    shape = _shape(pipeline, definitions, (asking, model), home)
    if pipeline.plan.semantic_duplicates is not None and not shape["images"]["embedding"]:
        raise UserMistake(
            "plan.semantic_duplicates: no tagger of this pipeline stores embeddings of images; "
            "use one of the kind open_clip, or leave the setting out"
        )
    shape["passes"] = {judge.name: shape_of(judge) for judge in passes}
    return Job(out, pipeline, definitions, model, shape, home.absolute(), asking, passes)


def reopen(folder: RunFolder, *, needed: Container[str] = WITH_MODELS) -> Job:
    """Return the job that a folder was last made with, for commands on what a run has made; see `open_job`.

    Names of definition files and models start from the folder that the run was started in; where that is gone, from
    the working folder of this process.

    Raises:
        SettingsChanged: The files that shaped the tables are others now.
    """
    record = run_record.record_of(folder)
    started_in = Path(record["started_in"])
    is_elsewhere = started_in != Path.cwd() and started_in.is_dir()
    home = started_in if is_elsewhere else Path()
    job = open_job(folder.out, run_record.pipeline_of(folder), record=record, home=home, needed=needed)
    now = {group: shape for group, shape in job.shape.items() if group in record["shape"]}
    if changed := list(differences(record["shape"], now)):
        raise _made_otherwise(folder.out.url, changed, started_in)
    return job


def _made_otherwise(url: str, changed: list[Difference], started_in: Path) -> SettingsChanged:
    update = f"run `synth run --out {url} --update` first"
    if all(difference.path == ("images", "decoding") for difference in changed):
        return SettingsChanged(f"{url}: was made by another version of synth: {describe(changed)}; {update}")
    there = "" if started_in == Path.cwd() else ", in that folder,"
    return SettingsChanged(
        f"{url}: was made with other files: {describe(changed)}. It was started in {started_in}; "
        f"restore these files, or {update}{there} to accept the changes"
    )


def with_plan_settings(job: Job, **settings: object) -> Job:
    """Return a job with other settings of its plan; its models are those that it has."""
    plan = job.pipeline.plan.model_copy(update=settings)
    pipeline = job.pipeline.model_copy(update={"plan": plan})
    shape = _shape(pipeline, job.definitions, (job.asking, job.model), job.home)
    return replace(job, pipeline=pipeline, shape={**shape, "passes": job.shape["passes"]})


def with_mapping(job: Job, name: str, rules: RuleSet) -> Job:
    """Return a job with the rules of another mapping."""
    return with_plan_settings(replace(job, definitions=replace(job.definitions, rules=rules)), mapping=name)


@dataclass(frozen=True)
class _Known:
    """What models are resolved with: the record of the folder, the home of relative paths, and the faults so far."""

    record: Record
    home: Path
    faults: list[SynthError]


def _raise_all(faults: Sequence[SynthError]) -> None:
    if len(faults) > 1:
        raise Mistakes(list(dict.fromkeys(str(fault) for fault in faults)))
    if faults:
        raise faults[0]


def _resolve_tagger(spec: TaggerSpec, record: Record, home: Path, faults: list[SynthError]) -> TaggerSpec:
    """Return a tagger with its exact model, if it asks one; where that is not found, add a fault."""
    before = record.get("tagger_models", {}).get(spec.name)
    try:
        resolved = tagging.resolve_model(spec, partial(_resolve, before, home))
    except (UserMistake, ModelUnavailable) as error:
        faults.append(error)
        return spec
    if resolved.model:
        # Engines of the user's own were once recorded as scripted; such a folder keeps its tags.
        as_scripted = replace(resolved, model=ModelName(resolved.model.model, "scripted"))
        if as_scripted.fingerprint == record.get("shape", {}).get("tags", {}).get(spec.name):
            return as_scripted
    return resolved


def _generating_models(known: _Known, generate: GenerateConfig, is_needed: bool) -> tuple[ModelName | None, ModelName]:
    """Return the exact model that asks, where it is not the one that answers, and the one that answers."""
    stored = run_record.stored_model(known.record), run_record.stored_asking_model(known.record)
    answerer, place = generate.answerer, "generate.answer.model" if generate.answer else "generate.model"
    model = _generating_model(_of_name(answerer.model, *stored), known, answerer, is_needed, place)
    if not generate.is_split:
        return None, model
    asker, place = generate.asker, "generate.ask.model" if generate.ask else "generate.model"
    return _generating_model(_of_name(asker.model, *reversed(stored)), known, asker, is_needed, place), model


def _scoring_passes(
    known: _Known, pipeline: Pipeline, definitions: Definitions, is_needed: bool
) -> Iterator[ScoringPass]:
    """Yield the scoring passes of a pipeline, each with its exact model."""
    generating = run_record.stored_model(known.record), run_record.stored_asking_model(known.record)
    stored = run_record.stored_pass_models(known.record)
    for name, settings in pipeline.passes.items():
        before = _of_name(settings.model, stored.get(name), *generating, *stored.values())
        model = _generating_model(before, known, settings, is_needed, f"score.{name}.model")
        if is_needed:
            known.faults.extend(_score_faults(name, settings, model, definitions.passes[name]))
        yield ScoringPass(name, settings, model, definitions.passes[name], pipeline.score[name].after)


def _score_faults(name: str, settings: GenerateConfig, model: ModelName, prompts: Prompts) -> Iterator[UserMistake]:
    """Yield the scores of a pass that its model cannot serve by its prompts."""
    find_fault = kind_of(settings.engine).score_fault
    for score in settings.scores if find_fault else ():
        prompt = next(map(prompts.pack.score_prompt, find_scorer(score).prompts), None)
        fault = find_fault(model, score, prompt if isinstance(prompt, JudgePrompt) else None) if find_fault else None
        if fault:
            yield UserMistake(f"score.{name}.scores: '{score}': {fault}")


def _of_name(name: str, first: Any, *others: Any) -> Any:
    """Return the model on record that has a name: a model that changes its part keeps its commit."""
    return next((known for known in (first, *others) if isinstance(known, list) and known[0] == name), first)


def _generating_model(before: Any, known: _Known, settings: GenerateConfig, is_needed: bool, place: str) -> ModelName:
    """Return an exact model that generates, or what stands in for one that is not found; where needed, add a fault."""
    try:
        return _resolve(before, known.home, settings, place)
    except (UserMistake, ModelUnavailable) as error:
        if is_needed:
            known.faults.append(error)
        else:
            note(f"{error}; this command does not need that model, and goes on")
    if isinstance(before, str):
        return ModelName(settings.model, before)
    is_same = isinstance(before, list) and before[0] == settings.model
    return ModelName(*before) if is_same else ModelName(settings.model, "unresolved")


def _resolve(before: Any, home: Path, settings: GenerateConfig, place: str = "generate.model") -> ModelName:
    """Return the exact model. A hub model keeps the commit that the folder was started with (`before`).

    What its author pushes later changes no run, unless a `revision` asks for it.
    """
    if isinstance(before, list) and before[0] == settings.model:
        is_local = local_path(settings.model, home).is_dir()
        is_pinned = kind_of(settings.engine).pins_revision and not settings.revision and not is_local
        # Engines of the user's own were once recorded as scripted; such a folder keeps its pairs.
        was_scripted = bool(settings.engine.script) and before[1] == "scripted"
        if was_scripted or (is_pinned and COMMIT.fullmatch(before[1])):
            return ModelName(*before)
    return resolve_model(settings, place, home)


def _given(section: Section, *names: str, only: bool = False) -> dict[str, Any]:
    """Return a section as JSON values without those of these keys that have no value; with `only`, these keys alone."""
    values = section.model_dump(mode="json", include=set(names) if only else None)
    return {key: value for key, value in values.items() if value or key not in names}


def _listed(source: SourceConfig) -> dict[str, Any]:
    """Return what shapes a listing; what older folders do not have is named where it is not the default."""
    values, usual = source.model_dump(mode="json"), SourceConfig().model_dump(mode="json")
    return {name: value for name, value in values.items() if name not in NEWER or value != usual[name]}


def _texts_of(kind: InstructionType) -> list[Any]:
    traits = families.traits(kind)
    return [kind.about, kind.needs, kind.ask_as, list(kind.examples), *([traits] if traits else [])]


def _asking_shape(asking: ModelName | None, generate: GenerateConfig) -> dict[str, Any]:
    """Return what shapes questions that another model writes; nothing where there is none."""
    return {"ask_model": asking.named, "ask_engine": reply_options(generate.asker.engine)} if asking else {}


def _shape(
    pipeline: Pipeline, definitions: Definitions, models: tuple[ModelName | None, ModelName], home: Path
) -> dict[str, Any]:
    source, pack = run_record.spell_out(pipeline.source, home.absolute()), definitions.prompts.pack
    types = definitions.prompts.types
    sampling = pipeline.generate.sampling
    return {
        "listed": _listed(source),
        # The other limits say what is quarantined, and `synth retry` judges that again; they change no tagged image.
        "images": {
            "decoding": DECODING,
            "model_pixels": pipeline.images.model_pixels,
            "embedding": stored_embedding_model(definitions.taggers),
        },
        "tags": {spec.name: spec.fingerprint for spec in definitions.taggers},
        "planned": {
            "settings": _given(pipeline.plan, "semantic_duplicates", "against", "negatives", "where"),
            "mapping": list(definitions.rules.texts),
            "types": {path: _planned_type(kind, bool(pipeline.plan.negatives)) for path, kind in types.items()},
        },
        "generated": {
            "model": models[1].named,
            "engine": reply_options(pipeline.generate.answerer.engine),
            **_asking_shape(models[0], pipeline.generate),
            "system": pack.model_dump(mode="json")["system"],
            "ask": pack.ask.model_dump(mode="json"),
            "ask_choice": pack.ask_choice.model_dump(mode="json") if pack.ask_choice else None,
            "answer": {form: _given(answer, "wordings") for form, answer in pack.answer.items()},
            "types": {path: _texts_of(kind) for path, kind in types.items()},
            **_given(pack, "voices", "levels", "reasoning", only=True),
            **(_given(pack, "unanswerable", only=True) if pipeline.plan.negatives else {}),
            "sampling": sampling.model_dump(mode="json", exclude={"agree_temperature", "agree_samples", "agree_forms"}),
            "seed": pipeline.plan.seed,
        },
        "scores": {name: score_settings(name, pack, sampling) for name in pipeline.scores},
    }


def _planned_type(kind: InstructionType, has_negatives: bool) -> list[Any]:
    """Return what shapes the plan of an instruction type; traits that few types have are named where one has them."""
    traits: dict[str, Any] = {"thing": kind.thing, "follows": kind.follows, "sensitive": kind.sensitive}
    traits |= {"swap": kind.swap} if has_negatives else {}
    traits |= {"of": kind.of} if kind.of == "set" else {}
    present = {name: value for name, value in traits.items() if value}
    return [list(kind.forms), kind.most, *([present] if present else [])]
