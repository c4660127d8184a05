"""What a small judge learns from: judge prompts about images, each with a grade of a large judge or of people."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthgen.commands.audit.labels import RIGHT, UNSURE, Label, by_pair, read_labels
from synthgen.commands.audit.results import verdict_of
from synthgen.commands.usable import UseCounts
from synthgen.config.prompt_pack import Prompts
from synthgen.console import note
from synthgen.engines.distilled.embedder import Floats
from synthgen.errors import UserMistake
from synthgen.stages.generate.answering import pair_of
from synthgen.stages.generate.measures import Scorer, prompt_for
from synthgen.stages.generate.measures.judges import IN_SENTENCES, sentences
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, TAG, draw

FOLDS = 5  # parts of the images
FEWEST = 50  # graded pairs
IN_PARTS = "p_true"  # the score that judges long answers sentence by sentence

Row = dict[str, Any]
Parts = dict[str, float]  # what is graded of an answer → its grade


@dataclass(frozen=True)
class Graded:
    """Prompts with grades.

    Attributes:
        texts: The judge prompt of each.
        images: Embeddings of their images, (prompts, width) float32.
        values: The grades on the scale of the score, (prompts,) float32.
        folds: The part of the images that each is of, below FOLDS, (prompts,) int64; an image is in one part.
    """

    texts: list[str]
    images: Floats
    values: Floats
    folds: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lesson:
    """What is to be learnt.

    Attributes:
        score: Whose grades, PASS.SCORE those of a pass.
        scorer: The score without its pass.
        prompts: By which it is asked.
        is_of_people: Whether the grades are labels of people and not those of the score.
    """

    score: str
    scorer: Scorer
    prompts: Prompts
    is_of_people: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest grade."""
        return self.scorer.bounds(self.prompts.pack)


def read_graded(folder: RunFolder, lesson: Lesson) -> Graded:
    """Return the graded pairs of a run whose images have embeddings; the others are counted and reported.

    Raises:
        UserMistake: They are too few, or all have one grade.
    """
    texts, images, values, folds, counts = [], [], [], [], UseCounts()
    labels = by_pair(read_labels(folder)) if lesson.is_of_people else {}
    found = set[str]()
    for row, before, score, embedding in _rows(folder, lesson):
        found.add(row["pair_id"])
        if lesson.is_of_people and row["pair_id"] not in labels:
            continue
        parts = (
            _of_people(lesson, row, labels[row["pair_id"]]) if lesson.is_of_people else _of_judge(lesson, row, score)
        )
        if isinstance(parts, dict) and embedding is None:
            parts = "no embedding"
        if isinstance(parts, str):
            counts.leave_out(parts, row["pair_id"])
            continue
        counts.used += 1
        pair = pair_of(lesson.prompts, row, before)
        for part, grade in parts.items():
            texts.append(prompt_for(lesson.prompts, pair, lesson.scorer.prompts[0], statement=part).text)
            images.append(embedding)
            values.append(grade)
            folds.append(int(draw(0, "distill", row["image_id"]) * FOLDS))
    for gone in sorted(labels.keys() - found):
        counts.leave_out("labelled, and no pair any more", gone)
    if counts.left_out:
        note("\n".join(counts.lines(folder.out.url, "pairs")))
    _check(folder, counts.used, values, folds)
    return Graded(texts, np.stack(images).astype(np.float32), np.array(values, np.float32), np.array(folds))


def _check(folder: RunFolder, pairs: int, values: list[float], folds: list[int]) -> None:
    if pairs < FEWEST or len(set(folds)) < 2:
        raise UserMistake(f"{folder.out.url}: has {pairs} graded pairs with an embedding; {FEWEST} are needed")
    if min(values) == max(values):
        raise UserMistake(f"{folder.out.url}: all {len(values)} grades are {values[0]:g}, so there is nothing to learn")


def _of_judge(lesson: Lesson, row: Row, score: Row | None) -> Parts | str:
    """Return what a large judge says of a pair, or why the pair is left out."""
    low, high = lesson.bounds
    if score is None or score["value"] is None:
        return "no grade"
    if fault := _fault(lesson, row):
        return fault
    if not low <= score["value"] <= high:  # of the labels that the prompt had before an edit
        return "its grade is off the scale of the prompt"
    judged = json.loads(score["detail"] or "{}").get("sentences") if lesson.scorer.name == IN_PARTS else None
    return judged if isinstance(judged, dict) and judged else {row["answer"]: score["value"]}


def _of_people(lesson: Lesson, row: Row, labels: list[Label]) -> Parts | str:
    """Return what people say of a pair, or why the pair is left out."""
    low, high = lesson.bounds
    verdict = verdict_of(labels)
    if verdict == UNSURE:
        return "people are unsure"
    if fault := _fault(lesson, row):
        return fault
    if lesson.scorer.name == IN_PARTS and row["form"] in IN_SENTENCES and len(sentences(row["answer"])) > 1:
        return "people label its sentences together, and the score has each by itself"
    return {row["answer"]: high if verdict == RIGHT else low}


def _fault(lesson: Lesson, row: Row) -> str | None:
    """Return why no judge is asked about a pair, or None."""
    if not lesson.prompts.has_type(row["type"]):
        return "its type is gone"
    return None if row["form"] in lesson.scorer.forms else "the score says nothing of its form"


def _rows(folder: RunFolder, lesson: Lesson) -> Iterator[tuple[Row, Mapping[str, Row], Row | None, Any]]:
    """Yield each pair, the pair that its question goes on from by its id, its row of the score, and the embedding."""
    for partition in folder.log(GENERATE).partitions:
        scores: dict[str, Row] = {}
        if not lesson.is_of_people:
            rows = folder.scores(partition, lesson.score, ["pair_id", "value", "detail"]).to_pylist()
            scores = {row["pair_id"]: row for row in rows}
        embedded = _by_key(folder.table(TAG, partition, "images", ["object_id", "embedding"]))
        rows = folder.table(GENERATE, partition, "pairs").to_pylist()
        pairs = {row["pair_id"]: row for row in rows if row["outcome"] == GENERATE.passes}
        for row in pairs.values():
            before = {row["follows"]: pairs[row["follows"]]} if row["follows"] in pairs else {}
            yield row, before, scores.get(row["pair_id"]), embedded.get(row["object_id"])


def _by_key(rows: pa.Table) -> dict[str, Any]:
    """Return the second column by the first."""
    keys, values = (column.to_pylist() for column in rows.columns)
    return dict(zip(keys, values, strict=True))
