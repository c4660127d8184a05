"""Changes of settings: whether an output folder is a job's, and the record of what it is made with from now on."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from synthgen.console import note
from synthgen.errors import Damaged, SettingsChanged, UserMistake
from synthgen.job import run_record
from synthgen.job.diff import Difference, describe, differences
from synthgen.job.job import COMMIT
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Job
from synthgen.store import Record, RunFolder
from synthgen.store.remote import display_uri
from synthgen.store.run_folder import FORMAT, REPAIR_RECORD
from synthgen.tables import LIST, PLAN, SELECT, STAGES, StageSpec, stage_names, stages_after, stages_between


def check_folder(
    folder: RunFolder, job: Job, request: RunRequest, stages: tuple[str, str], change: str = "growth"
) -> bool:
    """Return whether the output folder is new.

    Args:
        folder: The output folder.
        job: The job that is about to run in it.
        request: Its request.
        stages: The first and the last stage of the run. Settings of later stages do not matter yet; those of earlier
            stages must be as they were.
        change: "edit" and "redraw" accept other settings.

    Raises:
        SettingsChanged: The folder was made with other settings.
        UserMistake: It is of another tool.
    """
    record = folder.record
    if record is None:
        if not job.out.is_empty():
            raise UserMistake(f"{job.out.url}: is not empty and holds no synth run; give a new folder")
        return True
    first, last = stages
    if record:
        run_record.check_whole(folder)
    if change == "growth":
        _check_shape(folder, record, last)
    changed = _differences(record, job, last)
    _check_redraw(job, changed, change)
    _check_column(folder, job, changed)
    skipped = [stage for stage in stage_names() if first in stages_after(stage) and _touches(stage, changed)]
    if skipped:
        raise SettingsChanged(
            f"{_made_otherwise(job, request, record, changed)} --from {first} would leave out what that touches; "
            f"run it --from {skipped[0]} with --update"
        )
    if changed and change != "growth":
        elsewhere = f". {where}." if (where := _elsewhere(job, record)) else ""
        note(f"the update recomputes what these changes touch: {describe(changed)}{elsewhere}")
    if changed and change == "growth":
        is_moved = any(difference.path in (("listed", "uri"), ("listed", "named")) for difference in changed)
        then = "add the images of this source to those of the other" if is_moved else "recompute what that touches"
        raise SettingsChanged(
            f"{_made_otherwise(job, request, record, changed)} Run with --update to {then}, or use another --out"
        )
    return False


def _differences(record: Record, job: Job, last: str) -> list[Difference]:
    """Return the settings that differ, of the stages up to `last`."""
    later = _groups_after(last)
    before = {group: shape for group, shape in record.get("shape", {}).items() if group not in later}
    return list(differences(before, {group: shape for group, shape in job.shape.items() if group in before}))


def _check_shape(folder: RunFolder, record: Record, last: str) -> None:
    """Check that the record has the settings of each stage up to `last` that has commits.

    Raises:
        Damaged: It does not.
    """
    for spec in _unexplained(folder, record):
        if spec.typed not in stages_after(last):
            where = f"{display_uri(folder.out.url)}: the run record has no settings of {spec.folder}"
            raise Damaged(f"{where}, where there are commits, so it was damaged; {REPAIR_RECORD}")


def _unexplained(folder: RunFolder, record: Record) -> list[StageSpec]:
    """Return the stages that have commits, and whose settings the record lacks."""
    known = record.get("shape", {})
    lacking = [spec for spec in STAGES if not all(group in known for group in spec.settings)]
    return [spec for spec in lacking if folder.log(spec).partitions]


def _touches(stage: str, changed: Sequence[Difference]) -> bool:
    return any(difference.group in _groups_of(stage) for difference in changed)


def _check_redraw(job: Job, changed: Sequence[Difference], change: str) -> None:
    seeds = [difference for difference in changed if difference.path == ("planned", "settings", "seed")]
    if seeds and change != "redraw":
        raise SettingsChanged(
            f"{job.out.url}: {describe(seeds)}: every question would be drawn again; "
            "run with --replan if that is wanted"
        )


def _check_column(folder: RunFolder, job: Job, changed: Sequence[Difference]) -> None:
    reread = [each for each in changed if each.path[:2] == ("listed", "rows") and each.path[2:] != ("linked",)]
    if reread and folder.log(LIST).partitions:
        raise SettingsChanged(
            f"{job.out.url}: {describe(reread)}: the rows already listed were read otherwise; use another --out"
        )
    moved = [each for each in changed if each.group == "listed" and each.path[-1] == "image_column"]
    if moved and _has_parquet_rows(folder):
        raise SettingsChanged(
            f"{job.out.url}: {describe(moved)}: the rows already listed are read from the old column; use another --out"
        )


def _made_otherwise(job: Job, request: RunRequest, record: Record, changed: Sequence[Difference]) -> str:
    """Return what differs and the likely cause: another pipeline, or another working folder with other files."""
    old, new = RunRequest.of(record).pipeline, request.spell_out(job.home, is_folder=False).pipeline
    if old and new and old != new:
        return (
            f"{job.out.url}: was made with pipeline '{old}', not '{new}': {describe(changed, 3)}. "
            "Without --pipeline it continues with its own."
        )
    elsewhere = f" {where}: start it there." if (where := _elsewhere(job, record)) else ""
    return f"{job.out.url}: was made with other settings: {describe(changed)}.{elsewhere}"


def _elsewhere(job: Job, record: Record) -> str:
    """Return that the folder was started in another working folder; "" if it was not."""
    home = record["started_in"]
    return "" if home == str(job.home) else f"It was started in {home}, where names may mean other files"


def _has_parquet_rows(folder: RunFolder) -> bool:
    """Return whether rows of Parquet files are listed, and not files alone."""
    log, stage = folder.log(LIST), folder.stage(LIST)
    files = (file for name in log.partitions for file in stage.read(log, name, "objects", ["row"]))
    return any(file.column("row").null_count < file.num_rows for file in files)


def write_settings(
    folder: RunFolder, job: Job, request: RunRequest, stages: tuple[str, str], is_redraw: bool
) -> dict[str, str]:
    """Write the run record, if it says something new, and return the updates still to finish, as stage → change.

    Settings of the stages after the last one keep their recorded values, so the next run that reaches them still sees
    the change. An update that is cut short stays on record until its stages are done, because from here on nothing else
    tells old rows from new ones.
    """
    before, later = folder.record or {}, _groups_after(stages[1])
    known = before.get("shape", {})
    kept = {group: shape for group, shape in known.items() if group in later}
    made = {group: shape for group, shape in job.shape.items() if group not in later}
    unfinished = dict(before.get("unfinished", {}))
    unexplained = {spec.typed for spec in _unexplained(folder, before)}
    for stage in stage_names():
        groups = made.keys() & _groups_of(stage)
        if any(known.get(group, made[group]) != made[group] for group in groups) or (groups and stage in unexplained):
            unfinished.setdefault(stage, "edit")
    if is_redraw and PLAN.typed in stages_between(*stages):
        unfinished[PLAN.typed] = "redraw"
    record = {**_record(before, job, request, stages[1]), "shape": {**made, **kept}, "unfinished": unfinished}
    if before != record:
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        job.out.create("run.json", json.dumps({"format": FORMAT, "made": made_at}).encode())
        folder.write_record(record)
    return unfinished


def _record(before: Record, job: Job, request: RunRequest, last: str) -> dict[str, object]:
    pipeline = job.pipeline.model_dump(mode="json")
    pipeline["source"] = run_record.spell_out(job.pipeline.source, job.home).model_dump(mode="json")
    for section, folder in _model_folders(job).items():
        (pipeline["generate"][section] if section else pipeline["generate"])["model"] = folder
    for judge in job.passes:
        if isinstance(judge.model.named, str):  # of a folder
            pipeline["score"][judge.name]["model"] = judge.model.model
    if before:
        pipeline |= {
            section: before["pipeline"][section] for section in _sections_after(last) if section in before["pipeline"]
        }
    models = {
        spec.name: [spec.model.model, spec.model.revision]
        for spec in job.definitions.taggers
        if spec.model and COMMIT.fullmatch(spec.model.revision)
    }
    return {
        "pipeline": pipeline,
        "started_in": str(job.home),
        "started_with": request.spell_out(job.home, "" in _model_folders(job)).record(),
        "tagger_models": models,
    }


def _model_folders(job: Job) -> dict[str, str]:
    """Return the models that are folders, by the section of `generate` that names them; "" is `generate` itself."""
    generate = job.pipeline.generate
    named = {"answer" if generate.answer else "": job.model}
    if job.asking:
        named["ask" if generate.ask else ""] = job.asking
    return {section: model.model for section, model in named.items() if model.revision.startswith("files:")}


def _groups_of(stage: str) -> set[str]:
    """Return the groups of settings that shape the tables of a stage."""
    return {group for spec in STAGES if spec.typed == stage for group in spec.settings}


def _groups_after(last: str) -> set[str]:
    """Return the groups of settings that shape the tables of the stages after `last`."""
    return {group for stage in stages_after(last) for group in _groups_of(stage)}


def _sections_after(last: str) -> list[str]:
    """Return the sections of a pipeline about the stages after `last`."""
    later = stages_after(last)
    return [*later, *(["views", "view"] if SELECT.name in later else []), *(["train"] if later else [])]


def is_changed(folder: RunFolder, job: Job, group: str) -> bool:
    """Return whether the folder's tables of a group were made with other settings than the job's."""
    shape = (folder.record or {}).get("shape", {})
    return group in shape and bool(shape[group] != job.shape[group])
