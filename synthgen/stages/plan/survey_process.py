"""The survey of many objects in a process of its own, which frees its memory when it ends.

The two processes share a folder on local disk: the task as JSON with the names of the commits, and the arrays as numpy
files, which the caller maps into memory. Errors of the process are raised in the caller.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import numpy as np

from synthgen import errors
from synthgen.errors import SynthError
from synthgen.stages.plan.duplicates import DuplicateSurvey, survey_duplicates
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import CommitLog, Folder, StageFolder
from synthgen.tables import LIST, PLAN, TAG, stage_at

ARRAYS = ("object_ids", "outcome", "representative")
MIN_OBJECTS = 50_000  # for fewer objects, starting a process takes longer than the survey


def survey_in_subprocess(inputs: Inputs, planned: CommitLog, bits: int) -> DuplicateSurvey:
    """Return `survey_duplicates` of the same arguments; it runs in another process if there are many objects."""
    if sum(inputs.tagged.counts().values()) < MIN_OBJECTS:
        return survey_duplicates(inputs, planned, bits)
    folder = Path(tempfile.mkdtemp(prefix="synth-survey-"))
    try:
        _write_task(folder, inputs, planned, bits)
        _run(folder)
        survey = _read_survey(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(survey, shutil.rmtree, folder, ignore_errors=True)
    return survey


def _write_task(folder: Path, inputs: Inputs, planned: CommitLog, bits: int) -> None:
    logs = {
        LIST.folder: _revisions(inputs.listed),
        TAG.folder: _revisions(inputs.tagged),
        PLAN.folder: _revisions(planned),
    }
    task = {"out": inputs.out.url, "taggers": inputs.taggers, "bits": bits, "logs": logs}
    (folder / "task.json").write_text(json.dumps(task))


def _run(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-m", "synthgen.stages.plan.survey_process", str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _error_of(folder, done.stderr)


def _read_survey(folder: Path) -> DuplicateSurvey:
    survey = json.loads((folder / "survey.json").read_text())
    spans = {name: slice(*span) for name, span in survey["spans"].items()}
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return DuplicateSurvey(spans, **arrays, outdated=frozenset(survey["outdated"]))


def _error_of(folder: Path, stderr: str) -> Exception:
    """Return the error that the process ended with."""
    path = folder / "error.json"
    if path.exists():
        name, message = json.loads(path.read_text())
        error: Exception = getattr(errors, name, SynthError)(message)
        return error
    last_line = (stderr.strip().splitlines() or ["it was killed"])[-1]
    return SynthError(f"the survey of duplicates ended without a result: {last_line[:300]}")


def main() -> None:
    """Run the survey of the folder in `sys.argv`, in its own process."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    out = Folder(task["out"])
    listed, tagged, planned = (
        _log_of(StageFolder(out, stage_at(name)), revisions) for name, revisions in task["logs"].items()
    )
    try:
        survey = survey_duplicates(Inputs(out, tuple(task["taggers"]), listed, tagged), planned, task["bits"])
    except SynthError as error:
        (folder / "error.json").write_text(json.dumps([type(error).__name__, str(error)]))
        raise SystemExit(1) from None
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(survey, name))
    spans = {name: [span.start, span.stop] for name, span in survey.spans.items()}
    (folder / "survey.json").write_text(json.dumps({"spans": spans, "outdated": sorted(survey.outdated)}))


def _revisions(log: CommitLog) -> dict[str, list[int]]:
    return {name: [commit.receipt.revision for commit in commits] for name, commits in log.partitions.items()}


def _log_of(stage: StageFolder, revisions: dict[str, list[int]]) -> CommitLog:
    """Return the log with just these commits of a stage."""
    log = stage.log()
    commits = {
        name: tuple(commit for commit in log.partitions[name] if commit.receipt.revision in wanted)
        for name, wanted in revisions.items()
    }
    return CommitLog(commits)


if __name__ == "__main__":
    main()
