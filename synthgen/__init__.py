"""synthgen: a bucket of images into multimodal instruction data.

The functions here are what a notebook or a script needs; each does what the `synth` command of that name does. To read
the code, start at `synthgen/run.py`.

    import synthgen

    funnel = synthgen.run_pipeline("photos", "data", model="Qwen/Qwen2.5-VL-7B-Instruct", limit=100)
    samples = synthgen.load_samples("data")
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

    from synthgen.commands.plan import Forecast
    from synthgen.config.pipeline import Pipeline
    from synthgen.job.funnel import StageFunnel
    from synthgen.job.request import RunRequest

__version__ = "0.1.0"
__all__ = ["load_pipeline", "load_samples", "plan_pipeline", "preview_image", "run_pipeline", "run_status"]

# A program that imports the package decides where its records go; without this line Python prints warnings.
logging.getLogger(__name__).addHandler(logging.NullHandler())

Settings = Mapping[str, Any]  # `section.key` of a pipeline → value


def __dir__() -> list[str]:
    """Return the public names, for completion in a notebook."""
    return [*__all__, "__version__"]


def load_pipeline(name: str | Path = "everyday", settings: Settings | None = None) -> "Pipeline":
    """Load and check a pipeline with every file that it names.

    Args:
        name: A pipeline by name, or a path to a .yaml file.
        settings: Values that replace those of the file, as `{"plan.per_image": 3}`.

    Raises:
        synthgen.errors.Mistakes: Any of its files is wrong; all mistakes are reported together.
    """
    from synthgen.commands import arguments
    from synthgen.config import pipeline as pipelines
    from synthgen.job import resolve

    typed = arguments.typed_settings(settings)
    return resolve.load(pipelines.read(arguments.path_text("name", name), typed))[0]


def run_pipeline(
    source: str | Path | None,
    out: str | Path,
    *,
    pipeline: str | Path | None = None,
    model: str | Path | None = None,
    settings: Settings | None = None,
    limit: int | None = None,
    until: str | None = None,
    update: bool = False,
) -> "list[StageFunnel]":
    """Run a pipeline from images to shards, or continue or extend a run.

    Args:
        source: A folder, a glob, s3://…, gs://…, Parquet files or urls:FILE; None for that of the folder `out`.
        out: The output folder, a path, s3://… or gs://…
        pipeline: By name or path; None for that of the folder, or `everyday` in a new one.
        model: A hub name or a folder, in place of `generate.model`.
        settings: Values that replace those of the pipeline.
        limit: The number of objects to list at most, 1 or more.
        until: The last stage to run; None for all.
        update: Whether rows that changed settings touch are done again.

    Returns:
        The counts of each stage.

    Raises:
        synthgen.errors.UserMistake: Something that the user can fix, in one line.
        synthgen.errors.SynthError: The run failed; what is committed stays, and the same call continues.
    """
    from dataclasses import replace

    from synthgen import run as runner
    from synthgen.commands import arguments
    from synthgen.commands.open import open_run
    from synthgen.job.funnel import funnels
    from synthgen.tables import stage_names

    place = arguments.path_text("out", out)
    arguments.check_count("limit", limit)
    arguments.check_optional_text("until", until)
    arguments.check_flag("update", update)
    names = stage_names()
    stages = runner.StageRange(names[0], until or names[-1], "edit" if update else "growth")
    request = replace(_request(source, pipeline, model, settings), limit=limit)
    opened = open_run("run", request, place, lists=True, needed=stages.with_models, is_update=update)
    runner.run(opened.folder, opened.job, opened.request, stages, opened.objects)
    return funnels(opened.folder)


def plan_pipeline(
    out: str | Path,
    *,
    pipeline: str | Path | None = None,
    model: str | Path | None = None,
    settings: Settings | None = None,
    profile: int | None = None,
) -> "Forecast":
    """Count and price what a run would ask, without asking; the images of `out` must be tagged.

    Args:
        out: The output folder.
        pipeline: As for `run_pipeline`.
        model: As for `run_pipeline`.
        settings: As for `run_pipeline`.
        profile: The number of images on which to measure the engine first, 1 or more.
    """
    from synthgen.commands import arguments
    from synthgen.commands.open import open_run
    from synthgen.commands.plan import EstimateRequest, forecast
    from synthgen.run import StageRange

    place = arguments.path_text("out", out)
    arguments.check_count("profile", profile)
    request = _request(None, pipeline, model, settings)
    needed = () if profile is None else StageRange().with_models
    opened = open_run("plan", request, place, lists=False, needed=needed)
    return forecast(opened.folder, opened.job, EstimateRequest(profile))


def preview_image(
    image: str | Path,
    *,
    out: str | Path | None = None,
    pipeline: str | Path | None = None,
    model: str | Path | None = None,
    settings: Settings | None = None,
) -> str:
    """Take one image through every stage and return a report on each; nothing is stored.

    Args:
        image: An image file: a path, s3://… or gs://…
        out: The output folder of a run whose pipeline and settings are taken.
        pipeline: By name or path; None for that of the run, or else `everyday`.
        model: In place of `generate.model`.
        settings: Values that replace those of the pipeline.
    """
    from synthgen.commands import arguments, preview
    from synthgen.commands.open import pipeline_with_run

    place, run = arguments.path_text("image", image), arguments.optional_path("out", out)
    return preview.preview_image(place, pipeline_with_run(_request(None, pipeline, model, settings), run))


def run_status(out: str | Path) -> dict[str, Any]:
    """Return how far a run is, as `synth status --json` prints it."""
    from synthgen.commands import arguments
    from synthgen.commands.open import open_run_folder
    from synthgen.commands.status import as_json

    return as_json(open_run_folder(arguments.path_text("out", out)))


def load_samples(out: str | Path, *, streaming: bool = False) -> "Dataset":
    """Load the samples of a run with the `datasets` library: images decoded, conversations as TRL takes them.

    Args:
        out: The output folder of a run.
        streaming: Whether samples are read as they are used; the result is an IterableDataset then.

    Raises:
        synthgen.errors.UserMistake: The folder holds no run, or the run has no shards yet or kept no pair, or the
            library cannot read files at such a path.
        synthgen.errors.Damaged: A shard is missing or was changed.
    """
    import glob

    from datasets import load_dataset

    from synthgen.commands import arguments
    from synthgen.commands.open import open_run_folder
    from synthgen.errors import UserMistake
    from synthgen.job.funnel import funnels, nothing_kept
    from synthgen.store.run_folder import NO_SHARDS
    from synthgen.tables import PACK

    arguments.check_flag("streaming", streaming)
    folder = open_run_folder(arguments.path_text("out", out))
    counts = funnels(folder)
    is_pending = not counts[0].received or not all(funnel.is_settled for funnel in counts)
    data = folder.stage(PACK).folder.child("data")
    if "::" in data.url:
        raise UserMistake(
            f"{out}: the datasets library cannot read a path with '::' in it; rename the folder, or link it"
        )
    # The library takes paths for patterns.
    files = [f"{glob.escape(data.url)}/{file.name}" for file in folder.whole_shards()]
    if not files:
        raise UserMistake(NO_SHARDS.format(out) if is_pending else f"{out}: {nothing_kept(folder)}")
    samples: Dataset = load_dataset("parquet", data_files=files, split="train", streaming=streaming)
    return samples


def _request(
    source: str | Path | None, pipeline: str | Path | None, model: str | Path | None, settings: Settings | None
) -> "RunRequest":
    from synthgen.commands import arguments
    from synthgen.job.request import RunRequest

    source, pipeline, model = (
        arguments.optional_path(name, value)
        for name, value in (("source", source), ("pipeline", pipeline), ("model", model))
    )
    return RunRequest.typed(pipeline, source, model, arguments.typed_settings(settings))
