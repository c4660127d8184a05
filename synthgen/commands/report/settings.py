"""What a run was made with, from its record alone, without the folders of the machine."""

from collections.abc import Iterator
from typing import Any

import yaml

from synthgen import __version__
from synthgen.config.pipeline import Pipeline
from synthgen.engines.kinds import kind_of
from synthgen.ingest.sources import kind_of_source
from synthgen.ingest.sources.instructions import name_of_set
from synthgen.job import run_record
from synthgen.stages.pack import redact
from synthgen.stages.pack.command import plain
from synthgen.store import Record, RunFolder
from synthgen.tables import STAGES


def facts_of(folder: RunFolder, pipeline: Pipeline) -> list[tuple[str, str]]:
    """Return what a run was made with, as (name, text)."""
    return [(name, text) for name, text in _facts(folder, run_record.record_of(folder), pipeline) if text]


def _facts(folder: RunFolder, record: Record, pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    generate = pipeline.generate
    if kind_of_source(pipeline.source.uri).has_pairs:
        rows = pipeline.source.rows
        yield "Set", name_of_set(pipeline.source)
        yield "Form", (rows and rows.form) or ""
        yield from _made_with(folder, record, pipeline)
        return
    yield "Model", _model(generate.answerer.model, run_record.stored_model(record))
    yield "Engine", kind_of(generate.answerer.engine).name
    if generate.is_split:
        yield "Asked by", _model(generate.asker.model, run_record.stored_asking_model(record))
        yield "Engine that asked", kind_of(generate.asker.engine).name
    yield "Prompts", redact.shelf_name(generate.prompts)
    yield "Mapping", redact.shelf_name(pipeline.plan.mapping)
    yield from _made_with(folder, record, pipeline)


def _made_with(folder: RunFolder, record: Record, pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    models = run_record.stored_pass_models(record)
    for name, settings in pipeline.passes.items():
        yield f"Scored by {name}", _model(settings.model, models.get(name))
    yield "Tagger", ", ".join(map(redact.shelf_name, pipeline.tag.taggers))
    yield "View", pipeline.view or ""
    times = sorted(commit.at for spec in STAGES for each in folder.log(spec).partitions.values() for commit in each)
    if times:
        yield "Made from", f"{_moment(times[0])} to {_moment(times[-1])}"
    yield "Report by", f"synthgen {__version__}"


def _model(name: str, stored: Any) -> str:
    revision = stored[1] if isinstance(stored, list) else stored
    return redact.model(name) + (f" at {revision}" if revision else "")


def _moment(at: str) -> str:
    return f"{at[:16].replace('T', ' ')} UTC"


def settings_text(record: Record) -> str:
    """Return the pipeline of the last run as YAML."""
    return yaml.safe_dump(plain(record.get("pipeline", {})), sort_keys=False, allow_unicode=True, width=100)
