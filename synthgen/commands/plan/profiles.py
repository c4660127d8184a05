"""Profiles of an engine, measured on a few planned images and kept in the output folder.

A profile's file is named by everything that it depends on, which is the recipe of pairs and scores and the settings of
the engine. So the profile of another model or of other prompts is not found, instead of being used by mistake.
"""

import heapq
import json
from dataclasses import asdict
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.console import pluralize
from synthgen.errors import Damaged, UserMistake
from synthgen.stages import generate, plan
from synthgen.stages.contract import Job
from synthgen.stages.generate import Profile, ProfileSample, ProfileTask, QuestionCost, measure
from synthgen.stages.plan import Inputs, dry_run
from synthgen.store import RunFolder
from synthgen.tables import draw, make_id
from synthgen.workers import leave_ray, run_in_actor

PROFILES = "profiles"
REMEASURE = "remove it, and measure it again with `synth plan --profile`"


class DrawnImage(NamedTuple):
    """A planned image with the random number by which samples are drawn."""

    key: float
    object_id: str
    partition: str
    assignments: list[dict[str, Any]]


class Measured(NamedTuple):
    """What was measured: the profiles, the images, and the rows of PAIRS that were made on the way."""

    profiles: "Profiles"
    images: list[ProfileSample]
    pairs: list[dict[str, Any]]


class Profiles(NamedTuple):
    """The profiles of the engines of a job."""

    answering: Profile  # and asking, where one model does both
    asking: Profile | None = None


def measure_profiles(folder: RunFolder, job: Job, images: int) -> Measured:
    """Ask about some of the planned images, in an actor for each engine as in a run, and return what it took."""
    samples = _samples(folder, job, images + 1)  # the first warms up
    if not samples:
        raise UserMistake("--profile: no image is planned, so there is nothing to ask")
    try:
        context = generate.context_of(job)
        if context.asker is None:
            profile, pairs = _measure(job, ProfileTask(context, samples))
            return Measured(Profiles(profile), samples, pairs)
        asking, questions = _measure(job, ProfileTask(context.first_pass(), samples))
        profile, pairs = _measure(job, ProfileTask(context, samples, questions))
        return Measured(Profiles(profile, asking), samples, pairs)
    finally:
        leave_ray()


def _measure(job: Job, task: ProfileTask) -> tuple[Profile, list[Any]]:
    context, images = task.context, pluralize(len(task.samples), "image")
    doing = f"measuring model {context.model.model} on {images}"
    measured: tuple[Profile, list[Any]] = run_in_actor(measure, task, context.engine, job.home, doing)
    return measured


def store(job: Job, profiles: Profiles) -> None:
    """Keep profiles, in place of earlier ones of the same settings."""
    for part, profile in zip(Profiles._fields, profiles, strict=True):
        if profile:
            write(job, _shape(job, part), profile)


def write(job: Job, shape: list[Any], profile: Profile) -> None:
    """Keep a profile, in place of an earlier one of the same shape, which is everything that it depends on."""
    job.out.child(PROFILES).write(_file_name(shape), json.dumps(asdict(profile), indent=1).encode())


def load(job: Job) -> Profiles | None:
    """Return the profiles of this job's engines and prompts, if they were measured."""
    answering = read(job, _shape(job, "answering"))
    asking = read(job, _shape(job, "asking")) if job.asking else None
    return Profiles(answering, asking) if answering and (asking or not job.asking) else None


def read(job: Job, shape: list[Any]) -> Profile | None:
    """Return the profile of a shape; None if there is none."""
    folder, name = job.out.child(PROFILES), _file_name(shape)
    if name not in folder.names(".json"):
        return None
    record = folder.read_json(name, REMEASURE)
    try:
        questions = tuple(QuestionCost(**question) for question in record.pop("questions"))
        return Profile(**record, questions=questions)
    except (TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder.url}/{name}: is not a profile ({error}); {REMEASURE}") from error


def _samples(folder: RunFolder, job: Job, most: int) -> list[ProfileSample]:
    """Return planned images drawn evenly from all, each with its questions."""
    inputs = Inputs.from_folder(folder, job.pipeline.tag.taggers)
    drawn = _draw_images(folder, job, most)
    images: dict[str, dict[str, Any]] = {}
    partners: dict[str, dict[str, Any]] = {}
    wanted = pa.array([row["partner"] for image in drawn for row in image.assignments if row["partner"]], pa.string())
    for name in {image.partition for image in drawn}:
        objects = inputs.objects(name)
        ids = pa.array([image.object_id for image in drawn if image.partition == name])
        rows = objects.filter(pc.is_in(objects.column("object_id"), ids)).to_pylist()
        images |= {row["object_id"]: row for row in rows}
        rows = objects.filter(pc.is_in(objects.column("image_id"), wanted)).to_pylist()
        partners |= {row["image_id"]: row for row in rows}
    return [
        ProfileSample(
            images[image.object_id],
            image.assignments,
            {row["partner"]: partners[row["partner"]] for row in image.assignments if row["partner"]},
        )
        for image in drawn
    ]


def _draw_images(folder: RunFolder, job: Job, most: int) -> list[DrawnImage]:
    context, drawn = plan.context_of(job), list[DrawnImage]()
    for part in dry_run.partition_diffs(folder, context):
        assignments: dict[str, list[dict[str, Any]]] = {}
        for row in pa.concat_tables([part.kept, part.added]).to_pylist():
            assignments.setdefault(row["object_id"], []).append(row)
        images = [
            DrawnImage(draw(context.settings.seed, "profile", object_id), object_id, part.name, rows)
            for object_id, rows in assignments.items()
        ]
        drawn = heapq.nsmallest(most, [*drawn, *images], key=lambda image: image.key)
    return drawn


def _shape(job: Job, part: str) -> list[Any]:
    """Return what the profile of a part depends on; that of a model which does both is like one that answers."""
    generate = job.pipeline.generate
    engine = (generate.asker if part == "asking" else generate.answerer).engine
    shape: list[Any] = [job.shape["generated"], job.shape["scores"]]
    shape += [engine.model_dump(mode="json", exclude={"environment", "replicas"}), *([part] * (part == "asking"))]
    return shape


def _file_name(shape: list[Any]) -> str:
    return f"{make_id('profile', json.dumps(shape, sort_keys=True))}.json"
