"""The job that an output folder was last made with, put together from its record and the definition files alone.

Nothing is asked of a hub or an endpoint: models are those of the record. What the files say now may differ from what
they said then, which a reader of single rows tells by their recipes.
"""

from pathlib import Path
from typing import Any

from synthgen.engines import ModelName
from synthgen.job import run_record
from synthgen.job.resolve import load_definitions
from synthgen.stages.contract import Job, ScoringPass
from synthgen.store import RunFolder


def stored_job(folder: RunFolder) -> Job:
    """Return the job of a folder; names of definition files start from the folder that the run was started in.

    Raises:
        UserMistake: A definition file is gone, or has a mistake now.
    """
    record = run_record.record_of(folder)
    started_in = Path(record["started_in"])
    home = started_in if started_in.is_dir() else Path()
    pipeline = run_record.pipeline_of(folder)
    definitions = load_definitions(pipeline, home)
    generate, stored = pipeline.generate, run_record.stored_pass_models(record)
    model = _model(run_record.stored_model(record), generate.answerer.model)
    asking = _model(run_record.stored_asking_model(record), generate.asker.model) if generate.is_split else None
    passes = tuple(
        ScoringPass(name, settings, _model(stored.get(name), settings.model), definitions.passes[name])
        for name, settings in pipeline.passes.items()
    )
    shape = {"planned": {}, **record["shape"]}  # a folder of an older synth need not have every group
    return Job(folder.out, pipeline, definitions, model, shape, home.absolute(), asking, passes)


def _model(stored: Any, name: str) -> ModelName:
    """Return a model as the record has it: its name and revision, or of local files the digest alone."""
    if isinstance(stored, list):
        return ModelName(*stored)
    return ModelName(name, stored if isinstance(stored, str) else "unresolved")
