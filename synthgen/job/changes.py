"""Whether an output folder is a job's, and the record of what it is made with.

Comes in: a job, before it runs. Goes out: a refusal that says what differs, if the folder was made otherwise; then the new record, with
which the next start compares its own, and the updates that are to be finished.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthgen.tables import LIST
from synthgen.errors import SettingsChanged, UserMistake
from synthgen.job import run_record
from synthgen.job.diff import differences, in_words
from synthgen.job.job import COMMIT, Job
from synthgen.job.request import RunRequest
from synthgen.store import Folder, StageFolder

STAGES = ("tag", "plan", "generate", "select", "pack")
GROUPS = {
    "tag": ("listed", "images", "tags"),
    "plan": ("planned",),
    "generate": ("generated", "scores"),
}  # of tables, by stage


def check_folder(job: Job, first: str, last: str, update: bool, replan: bool) -> bool:
    """Whether the output folder is new; raises if it is not this job's: another tool's, or of other settings and not to be updated.

    What shapes tables behind the stage `last` does not matter yet; what shapes those before `first` must be as it was.
    """
    before = run_record.record(job.out)
    if before is None:
        if not job.out.is_empty():
            raise UserMistake(f"{job.out.url}: is not empty and holds no synth run; give a new folder")
        return True
    behind = _behind(last)
    shape = {
        group: one for group, one in before.get("shape", {}).items() if group not in behind
    }  # {}: killed before it stored anything
    found = differences(shape, {group: one for group, one in job.shape.items() if group in shape})
    redraws = [one for one in found if one.startswith("planned.settings.seed ")]
    if redraws and not replan:
        raise SettingsChanged(
            f"{job.out.url}: {in_words(redraws)}: every question would be drawn anew; run with --replan if that is wanted"
        )
    moved = [one for one in found if one.startswith("listed.image_column ")]
    if moved and _holds_rows(job.out):
        raise SettingsChanged(
            f"{job.out.url}: {in_words(moved)}: the rows that are listed are read by the old one; use another --out"
        )
    skipped = [
        stage
        for stage in STAGES[: STAGES.index(first)]
        if any(one.partition(".")[0] in GROUPS.get(stage, ()) for one in found)
    ]
    if skipped:
        raise SettingsChanged(
            f"{_made_otherwise(job, before, found)} --from {first} would leave out what that touches; "
            f"run it --from {skipped[0]} with --update"
        )
    if found and not (update or replan):
        is_moved = any(one.startswith("listed.uri ") for one in found)
        then = "add the images of this source to those of the other" if is_moved else "recompute what that touches"
        raise SettingsChanged(
            f"{_made_otherwise(job, before, found)} Run with --update to {then}, or use another --out"
        )
    return False


def _made_otherwise(job: Job, before: Mapping[str, Any], found: list[str]) -> str:
    """What differs, and where it may come from: another pipeline, or another working folder, in which names mean other files."""
    old, new = RunRequest.of(before).pipeline, job.line.in_full(Path.cwd(), is_folder=False).pipeline
    if old and new and old != new:
        return (
            f"{job.out.url}: was made with pipeline '{old}', not '{new}': {in_words(found, 3)}. "
            "Without --pipeline it goes on with its own."
        )
    home = before["started_in"]
    elsewhere = (
        ""
        if home == str(Path.cwd())
        else f" It was started in {home}, where names may mean other files: start it there."
    )
    return f"{job.out.url}: was made with other settings: {in_words(found)}.{elsewhere}"


def _holds_rows(out: Folder) -> bool:
    """Whether rows of Parquet files are listed, and not files alone."""
    stage = StageFolder(out, LIST)
    log = stage.log()
    tables = (table for name in log.partitions for table in stage.read(log, name, "objects", ["row"]))
    return any(table.column("row").null_count < table.num_rows for table in tables)


def settle(job: Job, first: str, last: str, replan: bool) -> dict[str, str]:
    """Stores the pipeline and what shapes its rows, if the folder does not know them yet; returns the updates to be finished.

    Tables behind the stage `last` stay as they were, and so does what is known of them, if they were made at all: the next run
    that reaches them sees whether they are of other settings. An update that is cut short is on record until its stages are
    done (stage → "edit", or "redraw" of the plan), because from here on nothing else tells old rows from new ones.
    """
    before, behind = run_record.record(job.out) or {}, _behind(last)
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
    line = job.line.in_full(Path.cwd(), job.model.revision.startswith("files:"))
    record = {
        "shape": {**made, **kept}, "pipeline": pipeline, "unfinished": unfinished,
        "started_in": str(Path.cwd()), "started_with": line.record(),
        "tagger_models": {name: [model.model, model.revision] for name, model in tagging.items()},
    }  # fmt: skip
    if before != record:
        job.out.create(
            "run.json",
            json.dumps({"format": run_record.FORMAT, "made": datetime.now(UTC).isoformat(timespec="seconds")}).encode(),
        )
        run_record.write(job.out, record)
    return unfinished


def _behind(last: str) -> set[str]:
    """The groups of tables that the stages after `last` make."""
    return {group for stage in STAGES[STAGES.index(last) + 1 :] for group in GROUPS.get(stage, ())}


def _sections_behind(last: str) -> tuple[str, ...]:
    """The sections of a pipeline that speak of the stages after `last`."""
    return (*STAGES[STAGES.index(last) + 1 :], *(("train",) if last != STAGES[-1] else ()))


def changed(job: Job, group: str) -> bool:
    """Whether the folder's tables of a group are of other settings than the job's."""
    before = run_record.record(job.out)
    return bool(before) and before["shape"].get(group, job.shape[group]) != job.shape[group]
