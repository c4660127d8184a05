"""`synth distill`: fit a small judge to the grades that a large one, or people, gave the pairs of a run.

What the report says is measured on images that the fit has not seen: a fifth of them, and of a small set each fifth in
turn, after which the judge itself is fitted to all of it.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthgen.commands.distill.graded import FOLDS, Graded, Lesson, read_graded
from synthgen.commands.distill.metrics import measure
from synthgen.commands.open import open_run
from synthgen.config.prompt_file import JudgePrompt
from synthgen.config.prompt_pack import Prompts
from synthgen.console import note
from synthgen.engines.distilled import DistilledModel, Embedder, Head, features_of, fit, prompt_digest, save
from synthgen.engines.distilled.embedder import Floats
from synthgen.engines.revision import folder_digest
from synthgen.errors import UserMistake, nearest
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Job
from synthgen.stages.generate.measures import Scorer
from synthgen.stages.generate.scoring import find_scorer, scorer_names
from synthgen.store import RunFolder
from synthgen.tables import pass_of_score, score_place
from synthgen.taggers import ClipTaggerFile

FEW = 2000  # graded prompts, below which each fifth of the images is left out in turn
RIGHT_FROM = 0.5  # of labels of people, between wrong and right


@dataclass(frozen=True)
class DistillRequest:
    """What is to be distilled.

    Attributes:
        run: The output folder of a run.
        score: A score whose judge prompt has its name.
        out: The new folder of the judge.
        threshold: Of the score; the report says how well pairs on either side of it are told apart. None is the median,
            and of labels the middle between wrong and right.
        sure: Share of the pairs whose grade is to count as sure.
        labels: Whether the labels of people (`synth audit`) are learnt in place of the grades of the score.
    """

    run: str
    score: str
    out: Path
    threshold: float | None = None
    sure: float = 0.8
    labels: bool = False


@dataclass(frozen=True)
class Distilled:
    """A small judge that was made.

    Attributes:
        measured: What it reached on images that were left out.
        prompts: The prompt pack that a pass with it names; None for that of `generate`.
    """

    measured: dict[str, Any]
    prompts: str | None


def distill(request: DistillRequest) -> Distilled:
    """Fit a judge, write it, and return what it reached.

    Raises:
        UserMistake: The run has no such grades, too few of them, or no embeddings; or the folder exists.
    """
    if request.out.exists():
        raise UserMistake(f"{request.out}: exists already; give a new folder")
    opened = open_run("distill", RunRequest.typed(None, None, None, None), request.run, lists=False, needed=())
    folder, job = opened.folder, opened.job
    prompts = _prompts(job, request.score)
    lesson = Lesson(request.score, _scorer(request, folder), prompts, request.labels)
    _check_prompt(lesson)
    low, high = lesson.bounds
    _check_threshold(request, low, high)
    names, digest = _embedder_of(job)
    graded = read_graded(folder, lesson)
    note(f"{len(graded.texts):,} graded prompts; embedding them")
    features = features_of(graded.images, Embedder(*names).texts(graded.texts), graded.texts)
    grades = ((graded.values - low) / (high - low)).astype(np.float32)
    fitted = _fit(features, grades, graded, request.sure)
    measured = measure(fitted.predicted, grades[fitted.unseen], fitted.is_sure, _cut(request, grades, low, high))
    prompt = _prompt_of(lesson)
    model = DistilledModel(lesson.scorer.name, prompt.labels, *names, digest, measured, prompt_digest(prompt))
    save(request.out, model, fitted.head)
    return Distilled(measured, prompts.name if prompts.name != job.definitions.prompts.name else None)


class _Fitted(NamedTuple):
    """A head, and what heads like it say of prompts that they were not fitted to.

    Attributes:
        unseen: The numbers of these prompts, (unseen,) int64.
        predicted: Their grades, (unseen,) float32.
        is_sure: Whether the members agree on them, (unseen,) bool.
    """

    head: Head
    unseen: npt.NDArray[np.int64]
    predicted: Floats
    is_sure: npt.NDArray[np.bool_]


def _fit(features: Floats, grades: Floats, graded: Graded, sure: float) -> _Fitted:
    """Fit a head, and measure what is measured on images that were left out."""
    is_few = len(grades) < FEW
    turns = [fold for fold in range(FOLDS if is_few else 1) if (graded.folds == fold).any()]
    turns = turns or [int(graded.folds.min())]  # of few images the first part may be empty
    unseen, predicted, spreads = list[npt.NDArray[np.int64]](), list[Floats](), list[Floats]()
    for fold in turns:
        is_out = graded.folds == fold
        head = fit(features[~is_out], grades[~is_out], features[is_out], sure)
        values, spread = head.predict(features[is_out])
        unseen.append(np.flatnonzero(is_out))
        predicted.append(values)
        spreads.append(spread)
    spread = np.concatenate(spreads)
    limit = float(np.quantile(spread, sure))
    head = fit(features, grades, features, sure) if is_few else head
    return _Fitted(replace(head, sure=limit), np.concatenate(unseen), np.concatenate(predicted), spread <= limit)


def _prompt_of(lesson: Lesson) -> JudgePrompt:
    prompt = lesson.prompts.pack.score_prompt(lesson.scorer.prompts[0])
    assert isinstance(prompt, JudgePrompt), "a score that reads labels has a prompt with labels"
    return prompt


def report(request: DistillRequest, made: Distilled) -> str:
    """Return what a judge reached, in lines, and how it is used."""
    rows = [f"  {name:<22} {value}" for name, value in made.measured.items() if name != "calibration"]
    rows += [f"  {'calibration':<22} {'predicted':>9} {'graded':>9} {'pairs':>7}"]
    rows += [f"  {'':<22} {part[0]:>9.2f} {part[1]:>9.2f} {part[2]:>7,}" for part in made.measured["calibration"]]
    alone, own = _alone(request.score), {"prompts": made.prompts} if made.prompts else {}
    section = {"model": str(request.out), "engine": {"kind": "distilled"}, "scores": [alone], **own}
    use = f"use it: --set 'score.small={json.dumps(section)}'"
    after = f'"scores": ["{alone}"], "after": {{"score": "small.{alone}"}}'
    large = f"and have a large judge rate what it is unsure of: --set 'score.large={{\"model\": …, {after}}}'"
    return "\n".join(["on images that were left out:", *rows, use, large])


def _alone(score: str) -> str:
    """Return the name of a score without that of its pass."""
    return score.rpartition(".")[2]


def _prompts(job: Job, score: str) -> Prompts:
    """Return the prompts by which a score was measured: those of its pass, or of `generate`."""
    name = pass_of_score(score)
    if name is None:
        return job.definitions.prompts
    if name not in job.definitions.passes:
        known = nearest(name, job.definitions.passes)
        raise UserMistake(f"--score {score}: the pipeline has no scoring pass '{name}' (any more): {known}")
    return job.definitions.passes[name]


def _scorer(request: DistillRequest, folder: RunFolder) -> Scorer:
    """Return the score, if a small judge can serve it and the run has its grades; PASS.SCORE is one of a pass."""
    name = request.score
    able = [each for each in scorer_names() if _is_able(find_scorer(each))]
    alone = _alone(name)
    if alone not in able:
        raise UserMistake(f"--score {name}: only scores with one judge prompt can be distilled: {nearest(alone, able)}")
    if not request.labels and f"scores/{name}" not in folder.log(score_place("", name).spec).tables():
        section = f"score.{place}.scores" if (place := pass_of_score(name)) else "generate.scores"
        raise UserMistake(f"{folder.out.url}: no pair has the score '{name}'; add it to {section} and run again")
    return find_scorer(alone)


def _is_able(scorer: Scorer) -> bool:
    """Return whether a small judge can serve a score: it has one judge prompt, of its own name and with labels."""
    return scorer.prompts == (f"judge.{scorer.name}",) and "labels" in scorer.needs


def _check_prompt(lesson: Lesson) -> None:
    if lesson.scorer.missing_prompts(lesson.prompts.pack):
        missing = f"prompt pack '{lesson.prompts.name}' has no prompt {lesson.scorer.prompts[0]}"
        raise UserMistake(f"--score {lesson.score}: {missing}, by which the small judge is asked")


def _embedder_of(job: Job) -> tuple[tuple[str, str | None], str]:
    """Return the names of the model that embedded the run's images, and the digest of its files if it is a folder."""
    for spec in job.definitions.taggers:
        if isinstance(spec.file, ClipTaggerFile):
            place = (spec.folder, None) if spec.folder else (spec.file.model, spec.file.pretrained)
            return (str(place[0]), place[1]), folder_digest(Path(spec.folder)) if spec.folder else ""
    raise UserMistake("the run has no embeddings of its images: tag it with an open_clip tagger, first in tag.tagger")


def _check_threshold(request: DistillRequest, low: float, high: float) -> None:
    if request.threshold is not None and not low <= request.threshold <= high:
        raise UserMistake(f"--threshold {request.threshold:g}: '{request.score}' goes from {low:g} to {high:g}")


def _cut(request: DistillRequest, grades: Floats, low: float, high: float) -> float:
    """Return the threshold between 0 and 1; without one the median, and of labels the middle."""
    if request.threshold is None:
        return RIGHT_FROM if request.labels else float(np.median(grades))
    return (request.threshold - low) / (high - low)
