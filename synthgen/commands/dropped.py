"""Which rows fell out for a reason: what `synth status --reason` lists.

Comes in: an output folder, and a reason as `synth status` prints it, whole or its beginning or end (`failed.declined`, `failed`,
`declined`, `score:answer`, `score`). Goes out: how many rows that are, and the rows one by one. Commits say which partitions hold
any, so only these are read, one after the other, and only as far as somebody asks.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.tables import stage_at
from synthgen.commands.retry import REASONS
from synthgen.errors import UserMistake, close, nearest
from synthgen.job.funnel import FOLDERS, funnels
from synthgen.store import CommitLog, Folder, StageFolder
from synthgen.tables import (
    ASSIGNMENTS,
    DECISIONS,
    IMAGES,
    OBJECTS,
    PAIRS,
    PLAN_OUTCOMES,
    PLANNED_IMAGES,
    SCORES,
    UNPACKED,
)

SHOWN = 200  # characters of a reply in a line
KINDS = ("quarantined", "failed", "rule", "score", "unscored", "duplicate")
REPLACED = "its pair was replaced since; select has not run again"
TABLES = dict(zip(("tag", "plan", "generate", "select", "pack"), FOLDERS[1:], strict=True))


@dataclass(frozen=True)
class Dropped:
    """A row that fell out; what it is of, and why."""

    stage: str
    reason: str
    object_id: str | None
    uri: str | None  # None once it was purged
    row: int | None  # of a Parquet file
    type: str | None  # of a question, and so is what follows
    question: str | None
    detail: str | None
    reply: str | None = None  # the model's whole, to the call that failed or that nothing could be made of


@dataclass(frozen=True)
class DroppedRows:
    """Rows of a reason."""

    count: int
    rows: Iterator[Dropped]


def find_dropped(out: Folder, reason: str) -> DroppedRows:
    """The rows that fell out for a reason; a UserMistake if there is no such reason."""
    fell = {one.stage: {name for name, count in one.fell.items() if count} for one in funnels(out)}
    meant = {stage: {name for name in names if reason in _names(name)} for stage, names in fell.items()}
    if not any(meant.values()):
        known = {part for names in fell.values() for name in names for part in _names(name)}
        if reason not in {*REASONS, *PLAN_OUTCOMES, *KINDS}:
            near = close(reason, {*known, *REASONS, *PLAN_OUTCOMES, *KINDS}).rstrip() or nearest(reason, known)
            raise UserMistake(f"--reason {reason}: nothing fell out for that here; {near}")
        return DroppedRows(0, iter(()))
    book = _Book(out)
    count = sum(_count(book, stage, names) for stage, names in meant.items() if names)
    return DroppedRows(count, (row for stage, names in meant.items() for row in READERS[stage](book, names)))


def text(row: Dropped, below: Callable[[str], str]) -> str:
    """A row as a line, its reply shortened; `below` gives what samples show of a uri."""
    place = below(row.uri) if row.uri else f"object {row.object_id or 'unknown'}"
    asked = [f"{row.type}: {row.question}" if row.question else row.type] if row.type else []
    replied = [f"reply: {_shortened(row.reply)}"] if row.reply else []
    parts = [
        place if row.row is None else f"{place} row {row.row}",
        *asked,
        row.reason,
        *filter(None, [row.detail]),
        *replied,
    ]
    return "  ".join(" ".join(str(part).split()) for part in parts)


def _shortened(reply: str) -> str:
    words = " ".join(reply.split())
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}… ({len(reply):,} characters, whole with --json)"


def _names(reason: str) -> set[str]:
    """What a reason may be called by: whole, its kind, and without its kind where that is one of ours."""
    kind = re.split(r"[.:]", reason, maxsplit=1)[0]
    return {reason, kind, reason.removeprefix(f"{kind}.")}


def _count(book: "_Book", stage: str, names: Set[str]) -> int:
    if stage == "pack":  # its commits count turns
        return sum(1 for _ in _unpacked(book, names))
    return sum(count for name, count in book.logs[TABLES[stage]].counts().items() if name in names)


@dataclass(frozen=True)
class _Book:
    """The folder's commits, read once."""

    out: Folder

    @cached_property
    def logs(self) -> Mapping[str, CommitLog]:
        return {name: StageFolder(self.out, stage_at(name)).log() for name in FOLDERS}

    def table(self, name: str, partition: str, table: str, key: str, schema: pa.Schema) -> pa.Table:
        return StageFolder(self.out, stage_at(name)).current(self.logs[name], partition, table, schema.names)

    def holding(self, name: str, reasons: Set[str]) -> Iterator[str]:
        """The partitions of a stage that have such rows."""
        log = self.logs[name]
        return (one for one in log.partitions if reasons & log.counts([one]).keys())

    def places(self, partition: str) -> dict[str, dict[str, Any]]:
        """Uri and row of the objects of a partition; all stages cut the job into the same ones."""
        rows = self.table("0-listed", partition, "objects", "object_id", _some(OBJECTS, "object_id", "uri", "row"))
        return {row["object_id"]: row for row in rows.to_pylist()}


def _some(schema: pa.Schema, *names: str) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


def _quarantined(book: _Book, names: Set[str]) -> Iterator[Dropped]:
    schema = _some(IMAGES, "object_id", "outcome", "reason", "detail")
    for partition in book.holding("1-tagged", names):
        places = book.places(partition)
        for row in book.table("1-tagged", partition, "images", "object_id", schema).to_pylist():
            if (reason := f"{row['outcome']}.{row['reason']}") in names:
                yield _of("tag", reason, places.get(row["object_id"], row), detail=row["detail"])


def _unplanned(book: _Book, names: Set[str]) -> Iterator[Dropped]:
    schema = _some(PLANNED_IMAGES, "object_id", "outcome", "same_as", "uri", "row")
    for partition in book.holding("2-planned", names):
        for row in book.table("2-planned", partition, "images", "object_id", schema).to_pylist():
            if row["outcome"] in names:
                yield _of(
                    "plan",
                    row["outcome"],
                    row,
                    detail=f"object {row['same_as']} stands for it" if row["same_as"] else None,
                )


def _unanswered(book: _Book, names: Set[str]) -> Iterator[Dropped]:
    schema = _some(
        PAIRS,
        "assignment_id",
        "object_id",
        "type",
        "outcome",
        "reason",
        "question",
        "detail",
        "raw_question",
        "raw_answer",
    )
    for partition in book.holding("3-generated", names):
        places = book.places(partition)
        rows = book.table("3-generated", partition, "pairs", "assignment_id", schema)
        for row in rows.to_pylist():
            if (reason := f"{row['outcome']}.{row['reason']}") in names:
                yield _of("generate", reason, places.get(row["object_id"], row), row, row["detail"])
        if "retired" in names:
            for row in _never_asked(book, partition, rows.column("assignment_id")):
                yield _of(
                    "generate", "retired", places.get(row["object_id"], row), row, "taken back before it was asked"
                )


def _never_asked(book: _Book, partition: str, asked: pa.ChunkedArray) -> list[dict[str, Any]]:
    schema = _some(ASSIGNMENTS, "assignment_id", "object_id", "type", "retired")
    rows = book.table("2-planned", partition, "assignments", "assignment_id", schema)
    rows = rows.filter(
        pc.and_(rows.column("retired"), pc.invert(pc.is_in(rows.column("assignment_id"), asked.combine_chunks())))
    )
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def _unselected(book: _Book, names: Set[str]) -> Iterator[Dropped]:
    """Between `generate` and `select` some decisions are still of pairs that others have replaced: then the question is all there is."""
    schema = _some(PAIRS, "assignment_id", "pair_id", "object_id", "type", "question", "answer")
    decided = _some(DECISIONS, "pair_id", "assignment_id", "reason")
    for partition in book.holding("4-selected", names):
        places = book.places(partition)
        pairs = {
            row["assignment_id"]: row
            for row in book.table("3-generated", partition, "pairs", "assignment_id", schema).to_pylist()
        }
        values = {
            name: _values(book, partition, name.removeprefix("score:")) for name in names if name.startswith("score:")
        }
        for row in book.table("4-selected", partition, "decisions", "pair_id", decided).to_pylist():
            if (reason := row["reason"]) not in names:
                continue
            pair = pairs.get(row["assignment_id"], {})
            place = places.get(pair.get("object_id"), pair)
            if pair.get("pair_id") != row["pair_id"]:
                yield _of("select", reason, place, {"type": pair.get("type")}, REPLACED)
                continue
            value = values[reason].get(row["pair_id"]) if reason in values else None
            yield _of(
                "select", reason, place, pair, pair["answer"] if value is None else f"{value:.3g}: {pair['answer']}"
            )


def _values(book: _Book, partition: str, score: str) -> dict[str, float | None]:
    rows = book.table("3-generated", partition, f"scores/{score}", "pair_id", _some(SCORES, "pair_id", "value"))
    return dict(zip(rows.column("pair_id").to_pylist(), rows.column("value").to_pylist(), strict=True))


def _unpacked(book: _Book, names: Set[str]) -> Iterator[dict[str, Any]]:
    for partition in book.holding("5-shards", names):
        rows = book.table(
            "5-shards", partition, "unpacked", "sample_id", _some(UNPACKED, "image_id", "sample_id", "reason", "detail")
        )
        yield from (row for row in rows.to_pylist() if row["reason"] in names)


def _not_packed(book: _Book, names: Set[str]) -> Iterator[Dropped]:
    """Samples know their image and not its object: that is looked for, once for all of them."""
    wanted = {row["image_id"] for row in _unpacked(book, names)}
    schema, ids, known = (
        _some(PLANNED_IMAGES, "object_id", "image_id", "uri", "row"),
        pa.array(sorted(wanted)),
        dict[str, dict[str, Any]](),
    )
    for partition in book.logs["2-planned"].partitions if wanted else ():
        rows = book.table("2-planned", partition, "images", "object_id", schema)
        known = {
            row["image_id"]: row for row in rows.filter(pc.is_in(rows.column("image_id"), ids)).to_pylist()
        } | known
    for row in _unpacked(book, names):
        yield _of("pack", row["reason"], known.get(row["image_id"], {}), detail=row["detail"])


def _of(
    stage: str, reason: str, place: Mapping[str, Any], asked: Mapping[str, Any] | None = None, detail: str | None = None
) -> Dropped:
    said = asked or {}
    where = place.get("object_id"), place.get("uri") or None, place.get("row")
    reply = said.get("raw_question") if said.get("raw_answer") is None else said["raw_answer"]
    return Dropped(stage, reason, *where, said.get("type"), said.get("question"), detail, reply)


READERS: Mapping[str, Callable[[_Book, Set[str]], Iterator[Dropped]]] = {
    "tag": _quarantined,
    "plan": _unplanned,
    "generate": _unanswered,
    "select": _unselected,
    "pack": _not_packed,
}
