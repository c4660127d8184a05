"""`synth status --reason`: the rows that were dropped for a reason.

Commits say which partitions hold any, so only these are read, one after the other, and only as far as somebody asks.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.retry import REASONS
from synthgen.errors import UserMistake, did_you_mean, nearest
from synthgen.job.funnel import funnels, score_counts
from synthgen.store import RunFolder
from synthgen.tables import (
    ASK,
    GENERATE,
    LEFT_OUT,
    LIST,
    PACK,
    PLAN,
    PLAN_OUTCOMES,
    SCORE,
    SELECT,
    STAGES,
    TAG,
    UNSCORED,
    StageSpec,
    count_scored,
    count_tagged,
    score_failure,
    split_partition,
)

LONGEST_REPLY = 200  # characters in a line
ALL_LEFT_OUT = "left_out"  # the reason of every image of which tags were left out; it is tagged all the same
SELECT_KINDS = (
    "rule",
    "where",
    "language",
    "user",
    "unscored",
    "score",
    "rank",
    "duplicate",
    "contaminated",
    "balance",
    "quota",
)
REASON_KINDS = ("quarantined", "failed", *SELECT_KINDS, ALL_LEFT_OUT)
BY_SCORE = ("score:", "rank:")  # begin reasons that name a score, whose value is shown
REPLACED = "its pair was replaced since; select has not run again"

Row = dict[str, Any]


@dataclass(frozen=True)
class Dropped:
    """A row that was dropped, and why.

    Attributes:
        uri: None once it was purged.
        row: Of a Parquet file.
        type: Of a question, and so are `question` and `reply`.
        reply: The model's whole reply to the call that failed or could not be read.
    """

    stage: str
    reason: str
    object_id: str | None
    uri: str | None
    row: int | None
    type: str | None
    question: str | None
    detail: str | None
    reply: str | None = None


@dataclass(frozen=True)
class DroppedRows:
    """The rows of a reason, and their number."""

    count: int
    rows: Iterator[Dropped]


def find_dropped(folder: RunFolder, reason: str) -> DroppedRows:
    """Return the rows that were dropped for a reason, or the images of which tags were left out for it.

    Args:
        folder: The output folder.
        reason: As `synth status` prints it, whole, its kind or its end (`failed.declined`, `failed`, `declined`).

    Raises:
        UserMistake: There is no such reason.
    """
    dropped = {funnel.stage: {name for name, count in funnel.dropped.items() if count} for funnel in funnels(folder)}
    dropped[TAG.name] |= {name for name, count in folder.log(TAG).counts().items() if count and _is_left_out(name)}
    dropped[GENERATE.name] |= {
        name for name, count in folder.log(GENERATE).counts().items() if count and name in UNSCORED
    }
    dropped[SCORE.name] = {f"{counts.name}.{name}" for counts in score_counts(folder) for name in counts.without}
    matches = {stage: {name for name in names if reason in _aliases(name)} for stage, names in dropped.items()}
    if not any(matches.values()):
        known = {alias for names in dropped.values() for name in names for alias in _aliases(name)}
        every = {*REASONS, *LEFT_OUT, *PLAN_OUTCOMES, *REASON_KINDS}
        if reason not in every:
            near = did_you_mean(reason, {*known, *every}).rstrip() or nearest(reason, known)
            raise UserMistake(f"--reason {reason}: nothing was dropped for that here; {near}")
        return DroppedRows(0, iter(()))
    specs = {spec: matches[spec.name] for spec in STAGES if matches.get(spec.name)}
    unpacked = list(_unpacked(folder, specs[PACK])) if PACK in specs else []
    readers = READERS | {PACK: partial(_not_packed, unpacked)}
    count = sum(len(unpacked) if spec is PACK else _count(folder, spec, names) for spec, names in specs.items())
    found = (readers.get(spec, partial(_any_rows, spec))(folder, names) for spec, names in specs.items())
    return DroppedRows(count, (row for rows in found for row in rows))


def text(row: Dropped, shown: Callable[[str], str]) -> str:
    """Return a row as a line with its reply shortened; `shown` returns what samples show of a uri."""
    place = shown(row.uri) if row.uri else f"object {row.object_id or 'unknown'}"
    asked = [f"{row.type}: {row.question}" if row.question else row.type] if row.type else []
    reply = [f"reply: {_shorten(row.reply)}"] if row.reply else []
    parts = [
        place if row.row is None else f"{place} row {row.row}",
        *asked,
        row.reason,
        *filter(None, [row.detail]),
        *reply,
    ]
    return "  ".join(" ".join(str(part).split()) for part in parts)


def _shorten(reply: str) -> str:
    words = " ".join(reply.split())
    return (
        words
        if len(words) <= LONGEST_REPLY
        else f"{words[:LONGEST_REPLY]}… ({len(reply):,} characters, whole with --json)"
    )


def _aliases(reason: str) -> set[str]:
    """Return what a reason may be called: whole, its kind, and its end where the kind is one of ours.

    An image may have several reasons of the kind `left_out`, which is therefore counted by itself. `unscored` alone
    is a reason of select.
    """
    if reason.count(".") == 2:  # of a score of a pass, PASS.SCORE.REASON
        return {reason, reason.rpartition(".")[2]}
    kind = re.split(r"[.:]", reason, maxsplit=1)[0]
    return {reason, reason.removeprefix(f"{kind}.")} | (set() if kind == ALL_LEFT_OUT or reason in UNSCORED else {kind})


def _is_left_out(name: str) -> bool:
    return name.partition(".")[0] == ALL_LEFT_OUT


def _count(folder: RunFolder, spec: StageSpec, names: Set[str]) -> int:
    counts = folder.log(spec).counts(list(_holding(folder, spec, names)))
    return sum(count for name, count in counts.items() if name in names)


def _holding(folder: RunFolder, spec: StageSpec, reasons: Set[str]) -> Iterator[str]:
    """Yield the partitions of a stage that have such rows; those whose questions were answered have them as pairs."""
    log = folder.log(spec)
    answered = folder.log(GENERATE).partitions if spec is ASK else {}
    return (name for name in log.partitions if name not in answered and reasons & log.counts([name]).keys())


def _places(folder: RunFolder, partition: str) -> dict[str, Row]:
    """Return object_id, uri and row of the objects of a partition; the first four stages share their partitions."""
    rows = folder.table(LIST, partition, "objects", ["object_id", "uri", "row"])
    return {row["object_id"]: row for row in rows.to_pylist()}


# --- a reader for each stage ------------------------------------------------------------------------------------------


def _any_rows(spec: StageSpec, folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    """Yield the rows of a stage that has no reader of its own, by their outcome and reason."""
    for table in spec.tables:
        columns = [
            name for name in table.schema.names if name in ("outcome", "reason", "detail", "object_id", table.key)
        ]
        for partition in _holding(folder, spec, names) if "outcome" in columns else ():
            for row in folder.table(spec, partition, table.name, columns).to_pylist():
                reason = row["outcome"] if row.get("reason") is None else f"{row['outcome']}.{row['reason']}"
                if reason in names:
                    yield _dropped(spec, reason, row, detail=row.get("detail"))


def _quarantined(folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    """Yield images that were quarantined, and tagged ones of which tags were left out."""
    columns = ["object_id", "outcome", "reason", "detail"]
    for partition in _holding(folder, TAG, names):
        places = _places(folder, partition)
        for row in folder.table(TAG, partition, "images", columns).to_pylist():
            for reason in sorted(names & count_tagged([row]).keys()):
                yield _dropped(TAG, reason, places.get(row["object_id"], row), detail=row["detail"])


def _unplanned(folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    columns = ["object_id", "outcome", "reason", "same_as", "uri", "row"]
    for partition in _holding(folder, PLAN, names):
        for row in folder.table(PLAN, partition, "images", columns).to_pylist():
            reason = f"{row['outcome']}.{row['reason']}" if row["reason"] else row["outcome"]
            if reason in names:
                detail = f"object {row['same_as']} stands for it" if row["same_as"] else None
                yield _dropped(PLAN, reason, row, detail=detail)


def _unanswered(folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    columns = ["assignment_id", "object_id", "type", "outcome", "reason", "question", "detail"]
    columns += ["raw_question", "raw_answer"]
    for partition in _holding(folder, GENERATE, names):
        places = _places(folder, partition)
        rows = folder.table(GENERATE, partition, "pairs", columns)
        for row in rows.to_pylist():
            if (reason := f"{row['outcome']}.{row['reason']}") in names:
                yield _dropped(GENERATE, reason, places.get(row["object_id"], row), row, row["detail"])
        if "retired" in names:
            for row in _never_asked(folder, partition, rows.column("assignment_id")):
                yield _dropped(
                    GENERATE, "retired", places.get(row["object_id"], row), row, "retired before it was asked"
                )


def _unmeasured(folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    """Yield pairs without a value of a score of `generate`, because of a failure; they are not dropped for it."""
    columns = ["assignment_id", "pair_id", "object_id", "type", "question"]
    scores = sorted(name.partition("/")[2] for name in folder.log(GENERATE).tables() if name.startswith("scores/"))
    for partition in _holding(folder, GENERATE, names & set(UNSCORED)):
        places = _places(folder, partition)
        pairs = {row["pair_id"]: row for row in folder.table(GENERATE, partition, "pairs", columns).to_pylist()}
        for score in scores:
            for row in folder.scores(partition, score, ["pair_id", "reason"]).to_pylist():
                reason = f"unscored.{score_failure(row['reason'])}"
                if reason in names and (pair := pairs.get(row["pair_id"])):
                    place = places.get(pair["object_id"], pair)
                    yield _dropped(GENERATE, reason, place, pair, f"{score}: {row['reason']}")


def _never_asked(folder: RunFolder, partition: str, asked: pa.ChunkedArray) -> list[Row]:
    rows = folder.table(PLAN, partition, "assignments", ["assignment_id", "object_id", "type", "retired"])
    is_asked = pc.is_in(rows.column("assignment_id"), asked.combine_chunks())
    listed: list[Row] = rows.filter(pc.and_(rows.column("retired"), pc.invert(is_asked))).to_pylist()
    return listed


def _unscored(folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    """Yield pairs that a pass has not scored; they are not dropped for it."""
    columns = ["assignment_id", "pair_id", "object_id", "type", "question"]
    for own in _holding(folder, SCORE, names):
        partition, _ = split_partition(own)
        places = _places(folder, partition)
        pairs = {row["pair_id"]: row for row in folder.table(GENERATE, partition, "pairs", columns).to_pylist()}
        for score in sorted({name.rpartition(".")[0] for name in names & folder.log(SCORE).counts([own]).keys()}):
            for row in folder.scores(partition, score, ["pair_id", "reason"]).to_pylist():
                reason = next(iter(count_scored(score, [row["reason"]])))
                if reason in names and (pair := pairs.get(row["pair_id"])):
                    yield _dropped(SCORE, reason, places.get(pair["object_id"], pair), pair, row["reason"])


def _unselected(folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    """Yield dropped pairs.

    Between `generate` and `select` some decisions are of pairs that others have replaced; then only the type is known.
    """
    columns = ["assignment_id", "pair_id", "object_id", "type", "question", "answer"]
    for partition in _holding(folder, SELECT, names):
        places = _places(folder, partition)
        pairs = {row["assignment_id"]: row for row in folder.table(GENERATE, partition, "pairs", columns).to_pylist()}
        by_score = [name for name in names if name.startswith(BY_SCORE)]
        values = {name: _values(folder, partition, name.partition(":")[2]) for name in by_score}
        decisions = folder.table(SELECT, partition, "decisions", ["pair_id", "assignment_id", "reason"])
        for row in decisions.to_pylist():
            if (reason := row["reason"]) not in names:
                continue
            pair = pairs.get(row["assignment_id"], {})
            place = places.get(pair.get("object_id"), pair)
            if pair.get("pair_id") != row["pair_id"]:
                yield _dropped(SELECT, reason, place, {"type": pair.get("type")}, REPLACED)
                continue
            value = values[reason].get(row["pair_id"]) if reason in values else None
            detail = pair["answer"] if value is None else f"{value:.3g}: {pair['answer']}"
            yield _dropped(SELECT, reason, place, pair, detail)


def _values(folder: RunFolder, partition: str, score: str) -> dict[str, float | None]:
    rows = folder.scores(partition, score, ["pair_id", "value"])
    return dict(zip(rows.column("pair_id").to_pylist(), rows.column("value").to_pylist(), strict=True))


def _unpacked(folder: RunFolder, names: Set[str]) -> Iterator[Row]:
    """Yield the rows of unpacked samples, which are counted by reading them: the commits of pack count turns."""
    for partition in _holding(folder, PACK, names):
        rows = folder.table(PACK, partition, "unpacked", ["image_id", "sample_id", "reason", "detail"])
        yield from (row for row in rows.to_pylist() if row["reason"] in names)


def _not_packed(unpacked: Sequence[Row], folder: RunFolder, names: Set[str]) -> Iterator[Dropped]:
    """Yield unpacked samples. They know their image and not its object, which is looked up once for all of them."""
    ids = pa.array(sorted({row["image_id"] for row in unpacked}))
    known: dict[str, Row] = {}
    for partition in folder.log(PLAN).partitions if len(ids) else ():
        rows = folder.table(PLAN, partition, "images", ["object_id", "image_id", "uri", "row"])
        known = {
            row["image_id"]: row for row in rows.filter(pc.is_in(rows.column("image_id"), ids)).to_pylist()
        } | known
    for row in unpacked:
        yield _dropped(PACK, row["reason"], known.get(row["image_id"], {}), detail=row["detail"])


def _dropped(
    spec: StageSpec,
    reason: str,
    place: Mapping[str, Any],
    asked: Mapping[str, Any] | None = None,
    detail: str | None = None,
) -> Dropped:
    question = asked or {}
    where = place.get("object_id"), place.get("uri") or None, place.get("row")
    reply = question.get("raw_question") if question.get("raw_answer") is None else question["raw_answer"]
    return Dropped(spec.name, reason, *where, question.get("type"), question.get("question"), detail, reply)


READERS: dict[StageSpec, Callable[[RunFolder, Set[str]], Iterator[Dropped]]] = {  # besides that of pack
    TAG: _quarantined,
    PLAN: _unplanned,
    GENERATE: lambda folder, names: chain(_unanswered(folder, names), _unmeasured(folder, names)),
    SCORE: _unscored,
    SELECT: _unselected,
}
