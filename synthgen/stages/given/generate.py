"""The pairs of an imported set: the turns of its rows, each a pair, or a failure where a text is empty."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow.compute as pc

from synthgen.ingest.sources.instructions import Conversation
from synthgen.stages.contract import StageRun
from synthgen.stages.given.labels import split_options
from synthgen.stages.given.partitions import done_here, pending_after
from synthgen.store import Receipt, TablePart
from synthgen.tables import GENERATE, LIST, PAIRS, PLAN, changed_counts, make_id, pair_id, table
from synthgen.workers import Task

VERSION = "1"  # of how a turn becomes a pair; part of the recipe
COPIED = ("assignment_id", "image_id", "object_id", "type", "form", "language", "ordinal")  # of ASSIGNMENTS
Row = dict[str, Any]


def pending(run: StageRun) -> list[Task]:
    """Return the partitions that were planned since their pairs were made; in an update, those made otherwise too."""
    return pending_after(run, PLAN, "pairs", recipe_of(run))


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Make the pairs of the partitions in this process."""
    return done_here(run, tasks, _generate)


def recipe_of(run: StageRun) -> str:
    """Return the hash of what shapes the pairs beside their rows."""
    return make_id("given", VERSION, str(_is_linked(run)))


def _is_linked(run: StageRun) -> bool:
    rows = run.job.pipeline.source.rows
    return rows is None or rows.linked


def _generate(run: StageRun, task: Task) -> Receipt:
    folder, stage, name = run.folder, run.folder.stage(GENERATE), task.partition
    assignments = folder.table(PLAN, name, "assignments")
    live = assignments.filter(pc.invert(assignments.column("retired")))
    given = folder.table(LIST, name, "objects", ["object_id", "given"]).to_pylist()
    texts = {row["object_id"]: row["given"] for row in given}
    rows, recipe = list[Row](), recipe_of(run)
    for object_id, own in groupby(live.to_pylist(), itemgetter("object_id")):
        rows += _pairs_of(Conversation.parse(texts[object_id]), list(own), recipe)
    if not _is_linked(run):
        rows = [{**row, "follows": None} for row in rows]
    made = table(rows, PAIRS)
    part = TablePart((stage.write("pairs", name, task.revision, made),), recipe, replaces=True)
    counts = {**GENERATE.table("pairs").count_rows(made), "retired": assignments.num_rows - live.num_rows}
    changes = changed_counts(folder.log(GENERATE).counts([name]), counts)
    reads = folder.digests(GENERATE.inputs, [name])
    return Receipt(name, task.revision, {"pairs": part}, changes, reads, task.epoch)


def _pairs_of(conversation: Conversation, assignments: Sequence[Mapping[str, Any]], recipe: str) -> Iterator[Row]:
    """Yield the rows of the turns of a conversation in their order; later pairs go on from the first, if linked."""
    first: str | None = None
    for row in assignments:
        turn = conversation.turns[row["ordinal"]]
        asked = conversation.first if row["ordinal"] == 0 and conversation.first is not None else turn.question
        made = {name: row[name] for name in COPIED} | {"recipe": recipe, "attempt": 0}
        made |= {"raw_question": asked, "raw_answer": turn.answer}
        missing = next((name for name in ("question", "answer") if not getattr(turn, name).strip()), None)
        if missing:
            yield {
                **made,
                "outcome": "failed",
                "reason": f"empty_{missing}",
                "detail": f"the {missing} of a turn is empty",
            }
            continue
        question, options = split_options(turn) if row["form"] == "choice" else (turn.question, [])
        own = pair_id(row["assignment_id"], recipe, 0)
        yield {
            **made,
            "pair_id": own,
            "outcome": "pair",
            "question": question,
            "options": options or None,
            "answer": turn.answer,
            "follows": first,
        }
        first = first or own
