"""Everything that the tables of a run say of one question: its texts, scores, decision, image, and what is near it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.browse.images import place_of
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.commands.report.outcomes import read_rows
from synthgen.config.replies import LETTERS
from synthgen.tables import GENERATE, PLAN, SELECT, pass_of_score

MOST_NEAR = 20  # rows of a cluster, shown

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ScoreLine:
    """A score of a pair: its row, the threshold in words, and what it has against the pair, if anything."""

    name: str
    row: Row
    rule: str
    fault: str | None
    detail: str  # JSON, one value a line

    @property
    def is_of_pass(self) -> bool:
        """Whether another model measured it."""
        return pass_of_score(self.name) is not None


@dataclass(frozen=True)
class Other:
    """Another question, in one line."""

    assignment_id: str
    type: str
    question: str
    answer: str
    outcome: str
    why: str


@dataclass(frozen=True)
class Near:
    """The pairs of this partition in one cluster with a pair, by one comparison."""

    comparison: str
    own: Row
    members: Sequence[tuple[Row, Other]]


@dataclass(frozen=True)
class PairView:
    """What is known of a question.

    Attributes:
        row: Of PAIRS.
        number: Of the row in its partition.
        outcome: As the report names it, with the reason in `why`.
        assignment: Of ASSIGNMENTS; empty if the plan does not have it.
        image: Of PLANNED_IMAGES; empty if the plan does not have it.
        before: The pair that it goes on from.
        after: Those that go on from it.
        others: All other questions about the image.
        contaminated: Rows of CONTAMINATED.
    """

    partition: str
    row: Row
    number: int
    outcome: str
    why: str
    assignment: Row
    image: Row
    place: str
    scores: Sequence[ScoreLine]
    before: Sequence[Other]
    after: Sequence[Other]
    others: Sequence[Other]
    near: Sequence[Near]
    contaminated: Sequence[Row]

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options with their letters."""
        return list(zip(LETTERS, self.row["options"] or (), strict=False))


def find_pair(snapshot: Snapshot, partition: str, assignment_id: str) -> PairView | None:
    """Return what is known of a question; None if there is none of that id in the partition."""
    if partition not in snapshot.partitions:
        return None
    folder = snapshot.folder
    ids = folder.table(GENERATE, partition, "pairs", ["assignment_id"]).column("assignment_id")
    number = pc.index(ids, pa.scalar(assignment_id)).as_py()
    if number < 0:
        return None
    row = folder.table(GENERATE, partition, "pairs").slice(number, 1).to_pylist()[0]
    decided = read_rows(folder, partition).slice(number, 1).to_pylist()[0]
    others = questions_about(snapshot, partition, row["image_id"])
    image = _first(_where(snapshot, PLAN, partition, "images", "object_id", row["object_id"]))
    assignment = _first(_where(snapshot, PLAN, partition, "assignments", "assignment_id", assignment_id))
    of_pair = row["pair_id"] is not None
    follows = _follows(snapshot, partition, row) if of_pair else {}
    return PairView(
        partition,
        row,
        int(number),
        decided["outcome"],
        decided["reason"],
        assignment,
        image,
        place_of(snapshot, image.get("uri"), image.get("row")),
        list(_scores(snapshot, partition, row)) if of_pair else [],
        [each for each in others if each.assignment_id in follows.get("before", ())],
        [each for each in others if each.assignment_id in follows.get("after", ())],
        [each for each in others if each.assignment_id != assignment_id],
        list(_near(snapshot, partition, row["pair_id"])) if of_pair else [],
        _where(snapshot, SELECT, partition, "contaminated", "pair_id", row["pair_id"]) if of_pair else [],
    )


def _first(rows: Sequence[Row]) -> Row:
    return rows[0] if rows else {}


def _where(snapshot: Snapshot, spec: Any, partition: str, table: str, column: str, value: str) -> list[Row]:
    """Return the rows of a table that have a value in a column."""
    rows = snapshot.folder.table(spec, partition, table)
    listed: list[Row] = rows.filter(pc.fill_null(pc.equal(rows.column(column), value), False)).to_pylist()
    return listed


def questions_about(snapshot: Snapshot, partition: str, image_id: str) -> list[Other]:
    """Return all questions about an image."""
    rows = read_rows(snapshot.folder, partition)
    numbers = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(rows.column("image_id"), image_id), False)))
    return _others(snapshot, partition, numbers.tolist())


def _others(snapshot: Snapshot, partition: str, numbers: Sequence[int]) -> list[Other]:
    taken = pa.array(numbers, pa.int64())
    decided = read_rows(snapshot.folder, partition).take(taken).to_pylist()
    texts = snapshot.folder.table(GENERATE, partition, "pairs", ["question", "answer"]).take(taken).to_pylist()
    return [
        Other(
            row["assignment_id"],
            row["type"] or "none",
            text["question"] or "",
            text["answer"] or "",
            row["outcome"],
            row["reason"],
        )
        for row, text in zip(decided, texts, strict=True)
    ]


def _follows(snapshot: Snapshot, partition: str, row: Row) -> dict[str, set[str]]:
    """Return the assignments that a pair goes on from, and those that go on from it."""
    rows = snapshot.folder.table(GENERATE, partition, "pairs", ["assignment_id", "pair_id", "follows"])
    is_before = pc.equal(rows.column("pair_id"), row["follows"] or "")
    is_after = pc.equal(rows.column("follows"), row["pair_id"])
    names = rows.column("assignment_id")
    return {
        side: set(names.filter(pc.fill_null(found, False)).to_pylist())
        for side, found in (("before", is_before), ("after", is_after))
    }


def _scores(snapshot: Snapshot, partition: str, row: Row) -> Iterator[ScoreLine]:
    for name in snapshot.scores:
        scores = snapshot.folder.scores(partition, name)
        scores = scores.filter(pc.equal(scores.column("pair_id"), row["pair_id"]))
        rule = snapshot.pipeline.selection.keep.get(name)
        applies = rule is not None and rule.applies_to(row["type"], row["form"])
        for score in scores.to_pylist():
            fault = rule.fault(score["value"]) if rule and applies and score["value"] is not None else None
            yield ScoreLine(name, score, _rule_words(rule) if applies else "", fault, _pretty(score["detail"]))


def _rule_words(rule: Any) -> str:
    ends = [f"at least {rule.min:g}"] if rule.min is not None else []
    ends += [f"at most {rule.max:g}"] if rule.max is not None else []
    ends += [f"not among the lowest {rule.drop:.3g} of its group"] if rule.drop is not None else []
    return " and ".join(ends)


def _pretty(detail: str | None) -> str:
    """Return JSON to be read; what is none stays as it is."""
    try:
        return json.dumps(json.loads(detail), indent=1, ensure_ascii=False) if detail else ""
    except (ValueError, RecursionError):
        return detail or ""


def _near(snapshot: Snapshot, partition: str, pair_id: str) -> Iterator[Near]:
    log = snapshot.folder.log(SELECT)
    for table in sorted(name for name in log.tables() if name.startswith("clusters/")):
        rows = snapshot.folder.table(SELECT, partition, table)
        own = rows.filter(pc.equal(rows.column("pair_id"), pair_id)).to_pylist()
        if not own:
            continue
        is_other = pc.and_(
            pc.equal(rows.column("cluster"), own[0]["cluster"]), pc.not_equal(rows.column("pair_id"), pair_id)
        )
        members = rows.filter(is_other).slice(0, MOST_NEAR).to_pylist()
        yield Near(table.removeprefix("clusters/"), own[0], _members(snapshot, partition, members))


def _members(snapshot: Snapshot, partition: str, members: Sequence[Row]) -> list[tuple[Row, Other]]:
    """Return rows of a cluster with their questions; one whose pair was replaced since is left out."""
    ids = snapshot.folder.table(GENERATE, partition, "pairs", ["pair_id"]).column("pair_id")
    places = pc.index_in(pa.array([row["pair_id"] for row in members], pa.string()), ids.combine_chunks()).to_pylist()
    known = [(row, place) for row, place in zip(members, places, strict=True) if place is not None]
    others = _others(snapshot, partition, [place for _, place in known])
    return [(row, other) for (row, _), other in zip(known, others, strict=True)]
