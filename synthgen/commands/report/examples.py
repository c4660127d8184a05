"""The questions that were drawn, with everything that the gallery shows of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.report.draw import Drawn
from synthgen.commands.report.outcomes import KEPT
from synthgen.config.replies import LETTERS
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, PLAN

LONGEST = 700  # characters of a text that is shown
TAGS = 12  # of an image, shown
COLUMNS = [
    "assignment_id", "pair_id", "image_id", "type", "form", "language", "detail", "question", "options",
    "answer", "follows", "raw_question", "raw_answer",
]  # fmt: skip

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A question of the gallery.

    Attributes:
        id: Of its pair; empty without one.
        assignment_id: Of its row in its partition.
        why: "kept", or the reason against it.
        place: The name of its image in the source, as samples show it.
        before: The pair that its question goes on from, if there is one.
        options: Each with its letter.
        reply: What the model wrote where there is no answer.
        scores: (name, value, or why there is none) of each.
        tags: The leaves of its image with their scores, the best first.
    """

    id: str
    assignment_id: str
    partition: str
    outcome: str
    why: str
    type: str
    form: str
    language: str
    image_id: str
    place: str
    before: tuple[str, str] | None
    question: str
    options: tuple[tuple[str, str], ...]
    answer: str
    reply: str
    detail: str
    scores: tuple[tuple[str, float | None, str], ...]
    tags: tuple[tuple[str, float | None], ...]


PLACE = ("object_id", "uri", "version", "row", "source")  # columns of the plan


@dataclass(frozen=True)
class ImagePlace:
    """Where an image is read again."""

    object_id: str
    uri: str
    version: str
    row: int | None
    source: str | None = None


def load_examples(
    folder: RunFolder,
    drawn: Sequence[tuple[str, Drawn]],
    scores: Iterable[str],
    shown: Callable[[str], str],
) -> tuple[list[Example], dict[str, ImagePlace]]:
    """Return the questions that were drawn, in their order, and the place of each image by its id.

    Args:
        folder: The run.
        drawn: With their outcomes.
        scores: The names of the scores that are shown.
        shown: Returns what samples show of a uri.
    """
    found: dict[str, Example] = {}
    places: dict[str, ImagePlace] = {}
    names = list(scores)
    for partition in dict.fromkeys(each.partition for _, each in drawn):
        here = {each.assignment_id: (outcome, each) for outcome, each in drawn if each.partition == partition}
        rows, before = _rows(folder, partition, list(here))
        images = _images(folder, partition, [row["image_id"] for row in rows])
        values = _values(folder, partition, names, [row["pair_id"] for row in rows if row["pair_id"]])
        for row in rows:
            outcome, each = here[row["assignment_id"]]
            image = images.get(row["image_id"], {})
            place = shown(image["uri"]) if image.get("uri") else ""
            why = KEPT if outcome == KEPT else each.group
            example = _example((outcome, why), row, place, image, values)
            example = replace(example, partition=partition, before=before.get(row["follows"] or ""))
            found[each.assignment_id] = example
            if image.get("uri"):
                places[row["image_id"]] = ImagePlace(*(image[key] for key in PLACE))
    return [found[each.assignment_id] for _, each in drawn if each.assignment_id in found], places


def _rows(folder: RunFolder, partition: str, assignments: list[str]) -> tuple[list[Row], dict[str, tuple[str, str]]]:
    """Return the rows of some assignments, and the texts of the pairs that they go on from, by their ids."""
    every = folder.table(GENERATE, partition, "pairs", COLUMNS)
    rows = every.filter(pc.is_in(every.column("assignment_id"), pa.array(assignments)))
    wanted = rows.column("follows").drop_null().combine_chunks()
    before = every.filter(pc.is_in(every.column("pair_id"), wanted)).to_pylist() if len(wanted) else []
    return rows.to_pylist(), {row["pair_id"]: (shorten(row["question"]), shorten(row["answer"])) for row in before}


def _images(folder: RunFolder, partition: str, image_ids: list[str]) -> dict[str, Row]:
    rows = folder.table(PLAN, partition, "images", ["image_id", *PLACE, "outcome", "tags"])
    rows = rows.filter(pc.is_in(rows.column("image_id"), pa.array(image_ids, pa.string())))
    # Of several objects with one content the planned one is read, which stands for them.
    return {row["image_id"]: row for row in sorted(rows.to_pylist(), key=lambda row: row["outcome"] == "planned")}


def _values(folder: RunFolder, partition: str, names: list[str], pair_ids: list[str]) -> dict[str, dict[str, Row]]:
    """Return pair id → score → its row."""
    found: dict[str, dict[str, Row]] = {each: {} for each in pair_ids}
    for name in names:
        rows = folder.scores(partition, name, ["pair_id", "value", "reason"])
        rows = rows.filter(pc.is_in(rows.column("pair_id"), pa.array(pair_ids, pa.string())))
        for row in rows.to_pylist():
            found[row["pair_id"]][name] = row
    return found


def _example(
    decision: tuple[str, str], row: Row, place: str, image: Row, values: Mapping[str, Mapping[str, Row]]
) -> Example:
    """Return a question as the gallery shows it; `decision` is its outcome and why."""
    scores = values.get(row["pair_id"] or "", {})
    return Example(
        id=row["pair_id"] or "",
        assignment_id=row["assignment_id"],
        partition="",
        outcome=decision[0],
        why=decision[1],
        type=row["type"] or "none",
        form=row["form"] or "none",
        language=row["language"] or "none",
        image_id=row["image_id"] or "",
        place=place,
        before=None,
        question=shorten(row["question"]),
        options=tuple(zip(LETTERS, (shorten(option) for option in row["options"] or ()), strict=False)),
        answer=shorten(row["answer"]),
        reply=shorten(row["raw_answer"] or row["raw_question"]) if row["answer"] is None else "",
        detail=shorten(row["detail"]),
        scores=tuple((name, score["value"], score["reason"] or "") for name, score in scores.items()),
        tags=leaves_of(image.get("tags") or ()),
    )


def leaves_of(tags: Iterable[Row]) -> tuple[tuple[str, float | None], ...]:
    """Return the lowest tags of an image with their scores, the best first."""
    best: dict[str, float | None] = {}
    for tag in tags:
        best[tag["path"]] = max(filter(None, (best.get(tag["path"]), tag["score"])), default=None)
    leaves = [path for path in best if not any(other.startswith(f"{path}/") for other in best)]
    return tuple((path, best[path]) for path in sorted(leaves, key=lambda path: (-(best[path] or 0), path))[:TAGS])


def shorten(text: str | None) -> str:
    """Return a text, cut where it is too long to be shown."""
    text = (text or "").strip()
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()}… ({len(text):,} characters)"
