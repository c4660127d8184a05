"""The survey of many objects in a process of its own, which frees its memory when it ends.

The two processes share a folder on local disk: the task as JSON, with all commits that it reads, and the arrays as
numpy files, which the caller maps into memory. Errors of the process are raised in the caller.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from dataclasses import asdict
from pathlib import Path

import numpy as np

from synthgen import errors
from synthgen.errors import SynthError, one_line
from synthgen.stages.plan.duplicates import DuplicateSurvey, survey_duplicates
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.survey_settings import SurveySettings
from synthgen.store import CommitLog, Folder

ARRAYS = ("object_ids", "outcome", "representative", "run", "other_ids")
MIN_OBJECTS = 50_000  # for fewer objects, starting a process takes longer than the survey


def survey_in_subprocess(inputs: Inputs, planned: CommitLog, settings: SurveySettings) -> DuplicateSurvey:
    """Return `survey_duplicates` of the same arguments; it runs in another process if there are many objects."""
    if sum(inputs.tagged.counts().values()) < MIN_OBJECTS:
        return survey_duplicates(inputs, planned, settings)
    folder = Path(tempfile.mkdtemp(prefix="synth-survey-"))
    try:
        _write_task(folder, inputs, planned, settings)
        _run(folder)
        survey = _read_survey(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(survey, shutil.rmtree, folder, ignore_errors=True)
    return survey


def _write_task(folder: Path, inputs: Inputs, planned: CommitLog, settings: SurveySettings) -> None:
    logs = [log.as_json() for log in (inputs.listed, inputs.tagged, planned)]
    task = {"out": inputs.out.url, "taggers": inputs.taggers, "logs": logs, "settings": asdict(settings)}
    (folder / "task.json").write_text(json.dumps(task))


def _read_task(folder: Path) -> tuple[Inputs, CommitLog, SurveySettings]:
    task = json.loads((folder / "task.json").read_text())
    listed, tagged, planned = (CommitLog.from_json(log) for log in task["logs"])
    inputs = Inputs(Folder(task["out"]), tuple(task["taggers"]), listed, tagged)
    against = tuple((name, url) for name, url in task["settings"]["against"])
    return inputs, planned, SurveySettings(**{**task["settings"], "against": against})


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
    return SynthError(f"the survey of duplicates ended without a result: {one_line(last_line)}")


def main() -> None:
    """Run the survey of the folder in `sys.argv`, in its own process."""
    folder = Path(sys.argv[1])
    try:
        survey = survey_duplicates(*_read_task(folder))
    except SynthError as error:
        (folder / "error.json").write_text(json.dumps([type(error).__name__, str(error)]))
        raise SystemExit(1) from None
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(survey, name))
    spans = {name: [span.start, span.stop] for name, span in survey.spans.items()}
    (folder / "survey.json").write_text(json.dumps({"spans": spans, "outdated": sorted(survey.outdated)}))


if __name__ == "__main__":
    main()
