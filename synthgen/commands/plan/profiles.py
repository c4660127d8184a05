"""Profiles of an engine: measured on a few planned images, kept in the output folder under what they depend on.

Comes in: a job. Goes out: a Profile, new or stored. It stands in `profiles/`, in a file named by what shapes the pairs and the
scores and by the engine's settings; so a profile of another model or other prompts is not found rather than used.
"""

import heapq
import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.errors import UserMistake
from synthgen.stages import generate, plan
from synthgen.stages.contract import Job
from synthgen.stages.generate import Profile, ProfileSample, QuestionCost, measure
from synthgen.stages.plan import Inputs, dry_run
from synthgen.store import RunFolder
from synthgen.tables import draw, make_id
from synthgen.workers import leave_ray, once

PROFILES = "profiles"


def measured(folder: RunFolder, job: Job, images: int) -> Profile:
    """Asks about some of the images that the plan has, in an actor of its own, as a run would."""
    samples = _samples(folder, job, images + 1)  # the first warms up
    if not samples:
        raise UserMistake("--profile: no image is planned, so there is nothing to ask")
    try:
        found: Profile = once(measure, (generate.context_of(job), samples), job.pipeline.generate.engine)
    finally:
        leave_ray()
    return found


def _samples(folder: RunFolder, job: Job, most: int) -> list[ProfileSample]:
    """Planned images drawn evenly from all, each with its questions."""
    terms, chosen = plan.context_of(job), list[tuple[float, str, str, list[dict[str, Any]]]]()
    for part in dry_run.parts(folder, terms):
        asked: dict[str, list[dict[str, Any]]] = {}
        for row in pa.concat_tables([part.kept, part.added]).to_pylist():
            asked.setdefault(row["object_id"], []).append(row)
        found = [(draw(terms.settings.seed, "profile", one), one, part.name, rows) for one, rows in asked.items()]
        chosen = heapq.nsmallest(most, [*chosen, *found], key=lambda one: one[0])
    inputs = Inputs.of(folder, terms.taggers)
    images: dict[str, dict[str, Any]] = {}
    for name in {one[2] for one in chosen}:
        rows = inputs.objects(name)
        ids = pa.array([one[1] for one in chosen if one[2] == name])
        images |= {row["object_id"]: row for row in rows.filter(pc.is_in(rows.column("object_id"), ids)).to_pylist()}
    return [ProfileSample(images[one[1]], one[3]) for one in chosen]


def _name(job: Job) -> str:
    """The file of a profile: what shapes the pairs and the scores, and the engine that serves them."""
    engine = job.pipeline.generate.engine.model_dump(mode="json", exclude={"environment", "replicas"})
    return (
        f"{make_id('profile', json.dumps([job.shape['generated'], job.shape['scores'], engine], sort_keys=True))}.json"
    )


def store(job: Job, profile: Profile) -> None:
    """Keeps a profile, in place of an earlier one of the same settings."""
    job.out.child(PROFILES).write(_name(job), json.dumps(asdict(profile), indent=1).encode())


def stored(job: Job) -> Profile | None:
    """The profile of this job's engine and prompts, if one was measured."""
    folder = job.out.child(PROFILES)
    if _name(job) not in folder.names(".json"):
        return None
    known = json.loads(folder.read(_name(job)))
    return Profile(**{**known, "questions": tuple(QuestionCost(**one) for one in known["questions"])})
