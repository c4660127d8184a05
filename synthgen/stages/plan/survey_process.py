"""The survey of many objects in a process of its own, so that what it holds of each is gone from memory when it is done.

Comes in: what a survey is made from. Goes out: the Survey, its arrays as files that are looked into where they lie. The two
processes share a folder on local disk, with the task as JSON, the commits by their names, and the arrays as numpy writes them.
What goes wrong there is raised here.
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

ARRAYS = ("object_ids", "outcome", "stands_for")
APART = 50_000  # objects, from which on a survey has a process of its own; for fewer the start of one takes longer than the rest


def survey_in_subprocess(inputs: Inputs, planned: CommitLog, bits: int) -> DuplicateSurvey:
    """As survey.surveyed."""
    if sum(inputs.tagged.counts().values()) < APART:
        return survey_duplicates(inputs, planned, bits)
    folder = Path(tempfile.mkdtemp(prefix="synth-survey-"))
    logs = {
        LIST.folder: _revisions(inputs.listed),
        TAG.folder: _revisions(inputs.tagged),
        PLAN.folder: _revisions(planned),
    }
    task = {"out": inputs.out.url, "taggers": inputs.taggers, "bits": bits, "logs": logs}
    (folder / "task.json").write_text(json.dumps(task))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-m", "synthgen.stages.plan.survey_process", str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    try:
        if done.returncode:
            raise _told(folder, done.stderr)
        found = json.loads((folder / "found.json").read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    survey = DuplicateSurvey(
        {name: slice(*span) for name, span in found["places"].items()},
        **arrays,
        overtaken=frozenset(found["overtaken"]),
    )
    weakref.finalize(survey, shutil.rmtree, folder, ignore_errors=True)
    return survey


def main() -> None:
    """The process itself."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    out = Folder(task["out"])
    listed, tagged, planned = (
        _log(StageFolder(out, stage_at(name)), revisions) for name, revisions in task["logs"].items()
    )
    try:
        survey = survey_duplicates(Inputs(out, tuple(task["taggers"]), listed, tagged), planned, task["bits"])
    except SynthError as error:
        (folder / "error.json").write_text(json.dumps([type(error).__name__, str(error)]))
        raise SystemExit(1) from None
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(survey, name))
    places = {name: [span.start, span.stop] for name, span in survey.places.items()}
    (folder / "found.json").write_text(json.dumps({"places": places, "overtaken": sorted(survey.overtaken)}))


def _revisions(log: CommitLog) -> dict[str, list[int]]:
    return {name: [commit.receipt.revision for commit in commits] for name, commits in log.partitions.items()}


def _log(stage: StageFolder, revisions: dict[str, list[int]]) -> CommitLog:
    """The commits that the task was given with."""
    log = stage.log()
    found = {
        name: tuple(one for one in log.partitions[name] if one.receipt.revision in wanted)
        for name, wanted in revisions.items()
    }
    return CommitLog(found)


def _told(folder: Path, stderr: str) -> Exception:
    """What the process ended with."""
    path = folder / "error.json"
    if path.exists():
        name, message = json.loads(path.read_text())
        error: Exception = getattr(errors, name, SynthError)(message)
        return error
    return SynthError(
        f"the survey of duplicates ended without a result: {(stderr.strip().splitlines() or ['it was killed'])[-1][:300]}"
    )


if __name__ == "__main__":
    main()
