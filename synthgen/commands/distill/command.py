"""`synth distill`: fit a small judge to the grades that a large one gave the pairs of a run.

The grades of a fifth of the images are left out of the fit, and what the report says is measured on them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthgen.commands.distill.metrics import calibration_error, f1, rank_correlation
from synthgen.commands.open import open_run
from synthgen.commands.usable import UseCounts
from synthgen.config.prompt_pack import Prompts
from synthgen.console import note
from synthgen.engines.distilled import DistilledModel, Embedder, Head, features_of, fit, save
from synthgen.engines.revision import folder_digest
from synthgen.errors import UserMistake, nearest
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Job
from synthgen.stages.generate.answering import pair_of
from synthgen.stages.generate.measures import Scorer, prompt_for
from synthgen.stages.generate.scoring import find_scorer, scorer_names
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, TAG, draw, pass_of_score, score_place
from synthgen.taggers import ClipTaggerFile

Floats = npt.NDArray[np.float32]
HELD_OUT = 0.2  # of the images
FEWEST = 50  # graded pairs


@dataclass(frozen=True)
class DistillRequest:
    """What is to be distilled.

    Attributes:
        run: The output folder of a run.
        score: A score whose judge prompt has its name.
        out: The new folder of the judge.
        threshold: Of the score; the report says how well pairs on either side of it are told apart. None is the median.
        sure: Share of the pairs whose grade is to count as sure.
    """

    run: str
    score: str
    out: Path
    threshold: float | None = None
    sure: float = 0.8


@dataclass(frozen=True)
class Graded:
    """Pairs with the grades of the large judge.

    Attributes:
        texts: The judge prompt of each.
        images: Embeddings of their images, (pairs, width) float32.
        values: The score, (pairs,) float32.
        held_out: Whether a pair is left out of the fit, (pairs,) bool; all pairs of an image are or none is.
    """

    texts: list[str]
    images: Floats
    values: Floats
    held_out: npt.NDArray[np.bool_]


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
    scorer, prompts = _scorer(request.score, folder), _prompts(job, request.score)
    low, high = scorer.bounds(prompts.pack)
    _check_threshold(request, low, high)
    names, digest = _embedder_of(job)
    graded = _read(folder, prompts, request.score, scorer)
    note(f"{len(graded.texts):,} graded pairs; embedding their judge prompts")
    features = features_of(graded.images, Embedder(*names).texts(graded.texts), graded.texts)
    grades = ((graded.values - low) / (high - low)).astype(np.float32)
    unseen = features[graded.held_out]
    head = fit(features[~graded.held_out], grades[~graded.held_out], unseen, request.sure)
    measured = _measure(head, unseen, grades[graded.held_out], _cut(request, grades, low, high))
    model = DistilledModel(scorer.name, prompt_labels(prompts, scorer), *names, digest, measured)
    save(request.out, model, head)
    return Distilled(measured, prompts.name if prompts.name != job.definitions.prompts.name else None)


def prompt_labels(prompts: Prompts, scorer: Scorer) -> tuple[str, ...]:
    """Return the labels of a score's judge prompt."""
    return tuple(getattr(prompts.pack.score_prompt(scorer.prompts[0]), "labels", ()))


def report(request: DistillRequest, made: Distilled) -> str:
    """Return what a judge reached, in lines, and how it is used."""
    rows = "\n".join(f"  {name:<22} {value}" for name, value in made.measured.items())
    own = {"prompts": made.prompts} if made.prompts else {}
    section = {"model": str(request.out), "engine": {"kind": "distilled"}, "scores": [_alone(request.score)], **own}
    return f"on images that were left out:\n{rows}\nuse it: --set 'score.small={json.dumps(section)}'"


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


def _scorer(name: str, folder: RunFolder) -> Scorer:
    """Return the score, if it is one that a small judge can serve and the run has it; PASS.SCORE is one of a pass."""
    able = [each for each in scorer_names() if find_scorer(each).prompts == (f"judge.{each}",)]
    alone = _alone(name)
    if alone not in able:
        raise UserMistake(f"--score {name}: only scores with one judge prompt can be distilled: {nearest(alone, able)}")
    if f"scores/{name}" not in folder.log(score_place("", name).spec).tables():
        section = f"score.{place}.scores" if (place := pass_of_score(name)) else "generate.scores"
        raise UserMistake(f"{folder.out.url}: no pair has the score '{name}'; add it to {section} and run again")
    return find_scorer(alone)


def _embedder_of(job: Job) -> tuple[tuple[str, str | None], str]:
    """Return the names of the model that embedded the run's images, and the digest of its files if it is a folder."""
    for spec in job.definitions.taggers:
        if isinstance(spec.file, ClipTaggerFile):
            place = (spec.folder, None) if spec.folder else (spec.file.model, spec.file.pretrained)
            return (str(place[0]), place[1]), folder_digest(Path(spec.folder)) if spec.folder else ""
    raise UserMistake("the run has no embeddings of its images: tag it with an open_clip tagger, first in tag.tagger")


def _read(folder: RunFolder, prompts: Prompts, score: str, scorer: Scorer) -> Graded:
    """Return the graded pairs of a run whose images have embeddings; the others are counted and told."""
    texts, images, values, held, counts = [], [], [], [], UseCounts()
    low, high = scorer.bounds(prompts.pack)
    for row, value, embedding in _rows(folder, score):
        if value is None or embedding is None:
            counts.leave_out("no grade" if value is None else "no embedding", row["pair_id"])
            continue
        if not prompts.has_type(row["type"]) or row["form"] not in scorer.forms:
            counts.leave_out("its type is gone", row["pair_id"])
            continue
        if not low <= value <= high:  # of the labels that the prompt had before an edit
            counts.leave_out("its grade is off the scale of the prompt", row["pair_id"])
            continue
        counts.used += 1
        texts.append(prompt_for(prompts, pair_of(prompts, row, {}), scorer.prompts[0]).text)
        images.append(embedding)
        values.append(value)
        held.append(draw(0, "distill", row["image_id"]) < HELD_OUT)
    if counts.left_out:
        note("\n".join(counts.lines(folder.out.url, "pairs")))
    if len(texts) < FEWEST or all(held) or not any(held):
        raise UserMistake(
            f"{folder.out.url}: has {len(texts)} pairs with the score and an embedding; {FEWEST} are needed"
        )
    if min(values) == max(values):
        raise UserMistake(f"{folder.out.url}: all {len(values)} grades are {values[0]:g}, so there is nothing to learn")
    return Graded(texts, np.stack(images).astype(np.float32), np.array(values, np.float32), np.array(held))


def _rows(folder: RunFolder, score: str) -> Iterator[tuple[dict[str, Any], float | None, Any]]:
    """Yield each pair with its grade and the embedding of its image."""
    for partition in folder.log(GENERATE).partitions:
        values = _by_key(folder.scores(partition, score, ["pair_id", "value"]))
        embedded = _by_key(folder.table(TAG, partition, "images", ["object_id", "embedding"]))
        for row in folder.table(GENERATE, partition, "pairs").to_pylist():
            if row["outcome"] == GENERATE.passes:
                yield row, values.get(row["pair_id"]), embedded.get(row["object_id"])


def _by_key(rows: pa.Table) -> dict[str, Any]:
    """Return the second column by the first."""
    keys, values = (column.to_pylist() for column in rows.columns)
    return dict(zip(keys, values, strict=True))


def _check_threshold(request: DistillRequest, low: float, high: float) -> None:
    if request.threshold is not None and not low <= request.threshold <= high:
        raise UserMistake(f"--threshold {request.threshold:g}: '{request.score}' goes from {low:g} to {high:g}")


def _cut(request: DistillRequest, grades: Floats, low: float, high: float) -> float:
    """Return the threshold between 0 and 1; without one the median."""
    return float(np.median(grades)) if request.threshold is None else (request.threshold - low) / (high - low)


def _measure(head: Head, features: Floats, grades: Floats, cut: float) -> dict[str, Any]:
    """Return how well the head tells what the large judge said."""
    predicted, spread = head.predict(features)
    sure = spread <= head.sure
    found: dict[str, Any] = {
        "pairs": len(grades),
        "rank correlation": round(rank_correlation(predicted, grades), 3),
        "F1": round(f1(predicted >= cut, grades >= cut), 3),
        "F1 of saying yes": round(f1(np.ones(len(grades), bool), grades >= cut), 3),
        "calibration error": round(calibration_error(predicted, grades), 3),
        "sure": round(float(sure.mean()), 3),
    }
    if sure.sum() > 1:
        found["rank correlation, sure"] = round(rank_correlation(predicted[sure], grades[sure]), 3)
        found["F1, sure"] = round(f1(predicted[sure] >= cut, grades[sure] >= cut), 3)
    return found
