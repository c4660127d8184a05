"""Asking again: pairs that `select` dropped get another answer along a stronger path, and are decided on anew.

The path (the section `reask` of a pipeline) is another model, more samples of which the answer that most of them give
is taken, or both. The question stays. The new answer takes the place of the pair in `3-generated/pairs`, with another
id; the row says for which reason it was asked again, which pair was there before, and what that answered. So every
later stage sees one pair of an assignment, as before. A pair is asked again once: what was asked again is not chosen
any more, also where the path had no usable answer and the pair stayed.

Which pairs these are follows from decisions that are there, so a command that was killed goes on with the rest of them.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName
from synthgen.engines.kinds import reply_options
from synthgen.stages.generate.context import GenerateContext
from synthgen.store import Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import (
    GENERATE,
    PAIRS,
    PLAN,
    SCORES,
    SELECT,
    changed_counts,
    count_pairs,
    count_unscored,
    make_id,
    table,
)
from synthgen.workers import Task

Row = dict[str, Any]
COSTS = ("prompt_tokens", "output_tokens")


@dataclass(frozen=True)
class ReaskContext:
    """Everything that a worker needs to know that asks pairs again.

    Attributes:
        pairs: The settings that the pairs were made with.
        model: The model of the path.
        engine: Its engine.
        samples: Answers of which the commonest is taken.
        reasons: Of `select`, for which pairs are asked again.
    """

    pairs: GenerateContext
    model: ModelName
    engine: EngineConfig
    samples: int
    reasons: tuple[str, ...]

    @property
    def path(self) -> str:
        """A hash of everything that shapes an answer of the path beyond the recipe of its pair."""
        return make_id("path", json.dumps([self.model.named, reply_options(self.engine), self.samples], sort_keys=True))

    def asks(self, reason: str) -> bool:
        """Return whether pairs that were dropped for a reason are asked again."""
        return any(reason == name or reason.startswith(f"{name}:") for name in self.reasons)


@dataclass(frozen=True)
class DroppedPair:
    """A pair to be asked again: its row of PAIRS, and the reason for which it was dropped."""

    row: Row
    reason: str


@dataclass
class ImageAgain:
    """An image with pairs to be asked again.

    Attributes:
        row: Of PLANNED_IMAGES.
        pairs: To be asked again.
        known: Rows of PAIRS of all pairs about the image.
    """

    row: Row
    pairs: list[DroppedPair] = field(default_factory=list)
    known: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class AskedAgain:
    """What became of pairs that were asked again: rows of PAIRS, and of SCORES by name."""

    pairs: Sequence[Row]
    scores: Mapping[str, Sequence[Row]]


def todo(folder: RunFolder, context: ReaskContext, epoch: int = 1) -> list[Task]:
    """Return the partitions with a pair that is to be asked again."""
    generated, decided, tasks = folder.log(GENERATE), folder.log(SELECT), []
    specs = (PLAN, GENERATE, SELECT)
    for partition in decided.partitions:
        if not generated.holds(partition) or not any(map(context.asks, decided.counts([partition]))):
            continue
        inputs = folder.logs(specs, partition)
        task = Task(partition, generated.next_revision(partition), inputs, epoch=epoch)
        if dropped_pairs(context, task):
            tasks.append(task)
    return tasks


def dropped_pairs(context: ReaskContext, task: Task) -> list[DroppedPair]:
    """Return the pairs of a partition that are to be asked again, by their id."""
    folder = RunFolder(context.pairs.out, task.inputs)
    decisions = folder.table(SELECT, task.partition, "decisions", ["pair_id", "reason"]).to_pylist()
    reasons = {row["pair_id"]: row["reason"] for row in decisions if context.asks(row["reason"])}
    rows = folder.table(GENERATE, task.partition, "pairs").to_pylist() if reasons else []
    return [
        DroppedPair(row, reasons[row["pair_id"]])
        for row in sorted(rows, key=lambda row: row["assignment_id"])
        if row["pair_id"] in reasons and row["reasked_for"] is None and context.pairs.prompts.has_type(row["type"])
    ]


def images_again(context: ReaskContext, task: Task) -> dict[str, ImageAgain]:
    """Return the images of a task with the pairs that are to be asked again, by the object that stands for each."""
    folder = RunFolder(context.pairs.out, task.inputs)
    images = {row["object_id"]: ImageAgain(row) for row in folder.table(PLAN, task.partition, "images").to_pylist()}
    planned = folder.table(PLAN, task.partition, "assignments", ["assignment_id", "object_id", "retired"]).to_pylist()
    object_of = {row["assignment_id"]: row["object_id"] for row in planned if not row["retired"]}
    for row in folder.table(GENERATE, task.partition, "pairs").to_pylist():
        if row["outcome"] == GENERATE.passes and (image := images.get(object_of.get(row["assignment_id"], ""))):
            image.known.append(row)
    for pair in dropped_pairs(context, task):
        if image := images.get(object_of.get(pair.row["assignment_id"], "")):
            image.pairs.append(pair)
    return {
        name: image for name, image in images.items() if image.pairs and (task.only is None or name in set(task.only))
    }


def object_ids(context: ReaskContext, task: Task) -> tuple[str, ...]:
    """Return the objects of a task."""
    return tuple(sorted(images_again(context, task)))


def count_reasons(folder: RunFolder, context: ReaskContext, tasks: Sequence[Task]) -> tuple[Counter[str], Counter[str]]:
    """Return the reasons of the pairs to be asked again, and the tokens that they took before."""
    reasons, tokens = Counter[str](), Counter[str]()
    for task in tasks:
        for pair in dropped_pairs(context, task):
            reasons[pair.reason] += 1
            tokens.update({name: pair.row[name] or 0 for name in COSTS})
    return reasons, tokens


def make_receipt(context: ReaskContext, task: Task, made: AskedAgain) -> Receipt:
    """Write the rows of a task; what the partition has read stays as it was."""
    stage, pairs = StageFolder(context.pairs.out, GENERATE), context.pairs
    log = task.inputs[GENERATE.folder]
    rows = table(sorted(made.pairs, key=lambda row: str(row["assignment_id"])), PAIRS)
    fingerprint = log.fingerprint(task.partition, "pairs") or ""
    parts = {"pairs": TablePart((stage.write("pairs", task.partition, task.revision, rows),), fingerprint)}
    for name, fingerprint in pairs.score_fingerprints().items():
        scores = table(sorted(made.scores.get(name, ()), key=lambda row: str(row["pair_id"])), SCORES)
        file = stage.write(f"scores/{name}", task.partition, task.revision, scores)
        parts[f"scores/{name}"] = TablePart((file,), fingerprint)
    latest = log.latest(task.partition)
    reads = latest.receipt.reads if latest else {}
    return Receipt(task.partition, task.revision, parts, _count_changes(context, task, made), reads, task.epoch)


def _count_changes(context: ReaskContext, task: Task, made: AskedAgain) -> dict[str, int]:
    """Return by how much the counts of a partition change: pairs take the place of pairs, and scores that of scores."""
    folder = RunFolder(context.pairs.out, task.inputs)
    replaced = {row["assignment_id"] for row in made.pairs}
    columns = ["assignment_id", "pair_id", "outcome", "reason", "reasked_for"]
    rows = folder.table(GENERATE, task.partition, "pairs", columns).to_pylist()
    before = [row for row in rows if row["assignment_id"] in replaced]
    gone = {row["pair_id"] for row in before} - {row["pair_id"] for row in made.pairs}
    old, new = count_pairs(before), count_pairs(made.pairs)
    for name in context.pairs.scores:
        scored = folder.table(GENERATE, task.partition, f"scores/{name}", ["pair_id", "reason"]).to_pylist()
        old += count_unscored(row for row in scored if row["pair_id"] in gone)
        new += count_unscored(made.scores.get(name, ()))
    return changed_counts(old, new)


def of_reason(reasons: Counter[str]) -> Iterator[str]:
    """Yield a line for each reason of the pairs to be asked again, the most frequent first."""
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        yield f"{count:>10,}  {reason}"
