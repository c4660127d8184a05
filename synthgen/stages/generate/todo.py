"""What is left to ask and to score.

Comes in: the commits of the plan and of what was generated. Goes out, for the driver: the partitions with something left,
told from commits alone. Goes out, for a worker: the assignments of a partition that have no outcome by today's recipe, and
the pairs that lack a score. A score added later is worked out over the pairs that are there; it never touches them, and neither
does one that is tried again because a call failed.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from synthgen.stages.generate.context import GENERATED, PLANNED, GenerateContext
from synthgen.stages.generate.conversation import Assignment
from synthgen.store import CommitLog, Folder, Stage
from synthgen.store.commits import EMPTIED
from synthgen.tables import ASSIGNMENTS, PAIRS, PLANNED_IMAGES, UNSCORED, score_failure
from synthgen.workers import Task

Row = dict[str, Any]
NO_OUTCOMES = ("retired", *UNSCORED)  # counted beside the outcomes of assignments


@dataclass(frozen=True)
class Pending:
    """What is left of a partition."""

    tasks: dict[str, "ImageTask"]  # by the object that stands for the image
    never_asked: int  # assignments that were taken back before they had an outcome
    live: frozenset[str] = frozenset()  # assignments that are to have an outcome


@dataclass
class ImageTask:
    """What is left to do with one image."""

    image: Row  # its planned images row
    assignments: list[Assignment] = field(default_factory=list)
    unscored: list[tuple[Row, list[str]]] = field(default_factory=list)  # pairs rows, and the scores that they lack


def todo(planned: CommitLog, generated: CommitLog, terms: GenerateContext, update: bool) -> list[Task]:
    """The partitions with something left; with `update`, those made by other recipes or scored otherwise too."""
    wanted = terms.fingerprints()
    works = []
    for partition, revisions in planned.partitions.items():
        if not planned.holds(partition):  # it is to be planned again first
            continue
        latest = generated.latest(partition)
        is_asked = latest is not None and latest.receipt.reads == planned.digests(PLANNED, [partition])
        counts = generated.counts([partition])
        is_wanted = any(counts.get(f"{kind}.{reason}") for kind in ("failed", "unscored") for reason in terms.retry)
        if not is_asked or is_wanted or (update and _is_stale(generated, partition, wanted)):
            inputs = {
                PLANNED: CommitLog({partition: revisions}),
                GENERATED: CommitLog({partition: generated.partitions.get(partition, ())}),
            }
            works.append(Task(partition, generated.next_revision(partition), inputs))
    return works


def _is_stale(generated: CommitLog, partition: str, wanted: Mapping[str, str]) -> bool:
    """Whether a partition was asked by other recipes or scored otherwise."""
    return any(generated.fingerprint(partition, table) != made for table, made in wanted.items())


def size(terms: GenerateContext, works: Iterable[Task]) -> tuple[int, bool]:
    """How many assignments are left, told from commits alone, and whether it may turn out to be fewer."""
    wanted = terms.fingerprints()
    sizes = [_size(terms, work, wanted) for work in works]
    return sum(count for count, _ in sizes), any(is_bound for _, is_bound in sizes)


def _size(terms: GenerateContext, work: Task, wanted: Mapping[str, str]) -> tuple[int, bool]:
    generated = work.inputs[GENERATED]
    planned, done, latest = work.inputs[PLANNED].counts(), generated.counts(), generated.latest(work.partition)
    live, retired = planned.get("assigned", 0), planned.get("retired", 0)
    if latest is None:
        return live, False
    again = sum(done.get(f"failed.{reason}", 0) for reason in terms.retry)
    # Only the rows tell how many of those taken back have an outcome.
    left = live + retired - sum(count for name, count in done.items() if name not in NO_OUTCOMES) + again
    if _is_stale(generated, work.partition, wanted) or (left <= 0 and not latest.receipt.reads):
        return live, True  # by other recipes, or given back when scores alone were to do
    return max(0, min(live, left)), left > 0 and bool(retired or again)


def object_ids(terms: GenerateContext, work: Task) -> tuple[str, ...]:
    """The images of a piece of work that have something left."""
    return tuple(sorted(look(terms, work).tasks))


def look(terms: GenerateContext, work: Task) -> Pending:
    """What is left of a partition."""
    stage, recipes = Stage(terms.out, PLANNED), terms.recipes()
    images = stage.current(work.inputs[PLANNED], work.partition, "images", "object_id", PLANNED_IMAGES).to_pylist()
    planned = stage.current(
        work.inputs[PLANNED], work.partition, "assignments", "assignment_id", ASSIGNMENTS
    ).to_pylist()
    done = {row["assignment_id"]: row for row in current_pairs(terms.out, work).to_pylist()}
    found = {row["object_id"]: ImageTask(row) for row in images}
    scored = scored_pairs(terms, work.inputs[GENERATED], work.partition)
    never_asked, unused, live = 0, _unused_attempt(work), set[str]()
    for row in planned:
        before = done.get(row["assignment_id"])
        recipe = recipes.get((row["type"], row["form"]))
        if (
            row["retired"] or recipe is None
        ):  # without a recipe its type is gone, and the plan's next update takes it back
            never_asked += before is None
            continue
        live.add(row["assignment_id"])
        if before is None or is_to_ask(terms, before, recipe):
            attempt = max(before["attempt"] + 1 if before else 0, unused)
            found[row["object_id"]].assignments.append(_assignment(row, recipe, attempt))
        elif missing := lacking(before, scored):
            found[row["object_id"]].unscored.append((before, missing))
    wanted = set(found if work.only is None else work.only)
    tasks = {key: task for key, task in found.items() if key in wanted and (task.assignments or task.unscored)}
    return Pending(tasks, never_asked, frozenset(live))


def current_pairs(out: Folder, work: Task) -> pa.Table:
    """The outcomes that a partition has."""
    return Stage(out, GENERATED).current(work.inputs[GENERATED], work.partition, "pairs", "assignment_id", PAIRS)


def is_to_ask(terms: GenerateContext, before: Mapping[str, Any], recipe: str) -> bool:
    """Whether an assignment with this outcome is asked again: it is of another recipe than today's, or to be tried again."""
    return before["recipe"] != recipe or before["reason"] in terms.retry


def lacking(before: Mapping[str, Any], scored: Mapping[str, Set[str]]) -> list[str]:
    """The scores that an outcome lacks; what failed has none and needs none."""
    return [name for name, ids in scored.items() if before["pair_id"] not in ids] if before["outcome"] == "pair" else []


def scored_pairs(terms: GenerateContext, log: CommitLog, partition: str) -> dict[str, set[str]]:
    """For each score the pairs that have it as it is made today, or could not have it and are not to be tried again."""
    return {name: _scored(terms, log, partition, name, made) for name, made in terms.score_fingerprints().items()}


def _scored(terms: GenerateContext, log: CommitLog, partition: str, name: str, fingerprint: str) -> set[str]:
    table = f"scores/{name}"
    files = Stage(terms.out, GENERATED).read(log, partition, table, ["pair_id", "reason"])
    prints = [part.fingerprint for part in log.parts(partition, table) for _ in part.files]
    reasons: dict[str, str | None] = {}
    for rows, made in zip(files, prints, strict=True):
        if made == fingerprint:
            reasons.update(zip(rows.column("pair_id").to_pylist(), rows.column("reason").to_pylist(), strict=True))
    return {pair for pair, reason in reasons.items() if score_failure(reason) not in terms.retry}


def _unused_attempt(work: Task) -> int:
    """An attempt that no row can have which was taken back, or two texts would have one id: a revision adds one at most."""
    commits = work.inputs[GENERATED].partitions.get(work.partition, ())
    emptied = [
        one.receipt.revision
        for one in commits
        if (part := one.receipt.tables.get("pairs")) and part.fingerprint == EMPTIED
    ]
    return max(emptied, default=0)


def _assignment(row: Mapping[str, Any], recipe: str, attempt: int) -> Assignment:
    named = {key: row[key] for key in ("assignment_id", "image_id", "object_id", "type", "form", "language", "ordinal")}
    return Assignment(**named, recipe=recipe, attempt=attempt)
