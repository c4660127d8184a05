"""The plan's reasons: which tags and rules ask a question of an image, and how likely its type was.

They come from the definition files as they are now and the numbers of the last epoch of the plan. Where files were
edited since, the draw tells: it does not give the question any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from synthgen.commands.browse.files import Files
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.commands.show import effects
from synthgen.config.families import asked_as, is_unanswerable
from synthgen.stages.plan.images import PlannedImage
from synthgen.tables import TAG

LIKELIEST = 8  # types that are listed with their share

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RuleLine:
    """A rule of the mapping that fires for an image.

    Attributes:
        where: Its file and line.
        factor: On what it asks, where its tags are not the subject of the image.
        asks: Whether it asks the type in question.
    """

    where: str
    patterns: str
    effects: tuple[str, ...]
    factor: float
    asks: bool


@dataclass(frozen=True)
class Reasons:
    """Why an image is asked what it is asked.

    Attributes:
        rules: Those that fire; those that ask the type in question first.
        hidden: Tags that rules do not see.
        types: How many types the image could be asked.
        likeliest: (type, share) of some of them.
        share: Of the type in question among the weights of all; None where it is not one of them.
        drawn: The ids of the questions that are drawn for the image by the files of now.
        seed: Of the draw.
    """

    mapping: str
    rules: tuple[RuleLine, ...]
    hidden: tuple[str, ...]
    types: int
    likeliest: tuple[tuple[str, float], ...]
    share: float | None
    drawn: frozenset[str]
    seed: int
    is_negative: bool = False


def reasons_of(snapshot: Snapshot, files: Files, partition: str, image: Row, kind: str = "") -> Reasons:
    """Return the reasons for the questions of an image.

    Args:
        snapshot: The run.
        files: Its definition files.
        partition: Of the image.
        image: Its row of PLANNED_IMAGES.
        kind: The type in question, if there is one.
    """
    assigner, planned = files.assigner, _planned(snapshot, partition, image)
    weighed, asked = assigner.weigh([planned]), asked_as(kind) if kind else ""
    (fired,) = weighed.matches
    lines = [_rule_line(files, number, share, asked) for number, share in fired.items()]
    amounts = zip(assigner.types, weighed.weights[0].tolist(), strict=True)
    weights = {path: weight for path, weight in amounts if weight > 0}
    total = sum(weights.values()) or 1.0
    ordered = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Reasons(
        files.job.definitions.rules.name,
        tuple(sorted(lines, key=lambda line: not line.asks)),
        tuple(tag for tag in planned.tags if tag not in weighed.seen[0]),
        len(weights),
        tuple((path, weight / total) for path, weight in ordered[:LIKELIEST]),
        weights[asked] / total if asked in weights else None,
        frozenset(assigner.draw_all([planned]).column("assignment_id").to_pylist()),
        files.job.pipeline.plan.seed,
        is_unanswerable(kind) if kind else False,
    )


def _planned(snapshot: Snapshot, partition: str, image: Row) -> PlannedImage:
    """Return an image as the plan saw it: of several taggers the best score of each tag, and its size."""
    tags: dict[str, float] = {}
    for tag in image["tags"] or ():
        tags[tag["path"]] = max(1.0 if tag["score"] is None else tag["score"], tags.get(tag["path"], 0.0))
    rows = snapshot.folder.table(TAG, partition, "images", ["object_id", "width", "height"])
    rows = rows.filter(pc.equal(rows.column("object_id"), image["object_id"])).to_pylist()
    size = rows[0] if rows else {}
    width, height = size.get("width") or 0, size.get("height") or 0
    return PlannedImage(image["object_id"], image["image_id"], tags, width, height)


def _rule_line(files: Files, number: int, share: float, asked: str) -> RuleLine:
    rule = files.job.definitions.rules.rules[number]
    factor = float(files.assigner.weights.factor(np.array(share)))
    return RuleLine(rule.where, ", ".join(rule.rule.patterns), tuple(effects(rule.rule)), factor, asked in rule.ask)
