"""The results of an audit: precision by type, agreement, and for each score its ROC area and a threshold to paste."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from synthgen.commands.audit.labels import RIGHT, UNSURE, WRONG, Label, by_pair
from synthgen.commands.audit.measures import Share, alpha, is_telling, roc_area, share_of, threshold_for
from synthgen.commands.report.outcomes import KEPT, read_rows
from synthgen.console import pluralize
from synthgen.stages.select.selection import scores_in
from synthgen.store import RunFolder
from synthgen.tables import GENERATE

UNTELLING = "none: these labels do not show that it tells right from wrong"


@dataclass(frozen=True)
class Labelled:
    """A kept pair that has labels: what most people say, its type, and its scores."""

    pair_id: str
    type: str
    verdict: str
    scores: Mapping[str, float]


@dataclass
class Audited:
    """The kept pairs of a run as far as they are labelled.

    Attributes:
        kept: Type → kept pairs.
        gone: Labelled pairs that are not kept any more.
    """

    labels: Sequence[Label]
    kept: Counter[str] = field(default_factory=Counter)
    pairs: list[Labelled] = field(default_factory=list)

    @property
    def gone(self) -> int:
        """Labelled pairs that are not among the kept ones now."""
        return len(by_pair(self.labels)) - len(self.pairs)


def verdict_of(labels: Sequence[Label]) -> str:
    """Return what most people say of a pair; UNSURE where as many say another thing."""
    (first, count), *others = Counter(label.label for label in labels).most_common()
    return UNSURE if others and others[0][1] == count else first


def audited(folder: RunFolder, labels: Sequence[Label]) -> Audited:
    """Return the labelled pairs of a run with their types and scores, from one pass over its tables."""
    found, of_pair = Audited(labels), by_pair(labels)
    wanted, names = pa.array(sorted(of_pair), pa.string()), scores_in(folder)
    for partition in folder.log(GENERATE).partitions:
        rows = read_rows(folder, partition)
        rows = rows.filter(pc.equal(rows.column("outcome"), KEPT))
        found.kept.update(name or "none" for name in rows.column("type").to_pylist())
        rows = rows.filter(pc.is_in(rows.column("pair_id"), wanted))
        values = _values(folder, partition, names, rows.column("pair_id")) if rows.num_rows else {}
        for row in rows.select(["pair_id", "type"]).to_pylist():
            each = row["pair_id"]
            found.pairs.append(Labelled(each, row["type"] or "none", verdict_of(of_pair[each]), values.get(each, {})))
    return found


def _values(
    folder: RunFolder, partition: str, names: Sequence[str], pair_ids: pa.ChunkedArray
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in names:
        rows = folder.scores(partition, name, ["pair_id", "value"])
        rows = rows.filter(pc.is_in(rows.column("pair_id"), pair_ids.combine_chunks()))
        for row in rows.to_pylist():
            if row["value"] is not None and np.isfinite(row["value"]):
                found.setdefault(row["pair_id"], {})[name] = row["value"]
    return found


def precision(found: Audited) -> Share | None:
    """Return the share of right pairs among all kept ones: each type counts by how many of its pairs are kept."""
    sure = [pair for pair in found.pairs if pair.verdict != UNSURE]
    labelled = Counter(pair.type for pair in sure)
    return share_of(
        [pair.verdict == RIGHT for pair in sure], [found.kept[pair.type] / labelled[pair.type] for pair in sure]
    )


def text(found: Audited, wished: float) -> Iterator[str]:
    """Yield the results as lines; `wished` is the precision that thresholds should reach."""
    people = sorted({label.who for label in found.labels})
    if not found.pairs:
        yield "no kept pair is labelled yet"
        return
    yield f"{pluralize(len(found.pairs), 'kept pair')} labelled by {', '.join(people)}"
    if found.gone:
        yield f"{pluralize(found.gone, 'labelled pair')} not kept any more, and left out here"
    yield ""
    yield from _by_type(found)
    yield ""
    yield from _agreement(found, people)
    yield from _whys(found)
    yield ""
    yield from _scores(found, wished)


def _by_type(found: Audited) -> Iterator[str]:
    yield f"{'type':<44} {'kept':>9} {'right':>6} {'wrong':>6} {'unsure':>7} {'precision':>10}  95 % interval"
    for name in sorted({pair.type for pair in found.pairs}):
        pairs = [pair for pair in found.pairs if pair.type == name]
        share = share_of([pair.verdict == RIGHT for pair in pairs if pair.verdict != UNSURE])
        yield _row(name, found.kept[name], pairs, share)
    yield _row("all, by how many pairs are kept", sum(found.kept.values()), found.pairs, precision(found))


def _row(name: str, kept: int, pairs: Sequence[Labelled], share: Share | None) -> str:
    counts = Counter(pair.verdict for pair in pairs)
    numbers = f"{kept:>9,} {counts[RIGHT]:>6} {counts[WRONG]:>6} {counts[UNSURE]:>7}"
    return f"{name:<44} {numbers} {'' if share is None else _share(share)}".rstrip()


def _share(share: Share) -> str:
    low, high = share.interval
    return f"{share.value:>10.1%}  {low:.1%} to {high:.1%}"


def _agreement(found: Audited, people: Sequence[str]) -> Iterator[str]:
    several = [[label.label for label in labels] for labels in by_pair(found.labels).values() if len(labels) > 1]
    if not several:
        yield "agreement: unknown, no pair has the labels of two people"
        return
    value = alpha(several)
    shown = "not defined, all labels are the same" if value is None else f"{value:.2f}"
    both = pluralize(len(several), "pair")
    yield f"agreement of {len(people)} people on {both}: Krippendorff's alpha {shown}"


def _whys(found: Audited) -> Iterator[str]:
    whys = Counter(label.why for label in found.labels if label.label == WRONG and label.why)
    if whys:
        yield "wrong because: " + ", ".join(f"{why} ({count})" for why, count in whys.most_common())


def _scores(found: Audited, wished: float) -> Iterator[str]:
    sure = [pair for pair in found.pairs if pair.verdict != UNSURE]
    yield f"{'score':<28} {'pairs':>6} {'ROC area':>9}  threshold for a precision of {wished:.3g}"
    proposed: list[tuple[str, float, float]] = []
    for name in sorted({name for pair in sure for name in pair.scores}):
        pairs = [pair for pair in sure if name in pair.scores]
        values, is_right = [pair.scores[name] for pair in pairs], [pair.verdict == RIGHT for pair in pairs]
        area, right = roc_area(values, is_right), sum(is_right)
        reached = threshold_for(values, is_right, wished)
        is_useful = area is not None and is_telling(area, right, len(pairs) - right)
        shown = _threshold(reached, len(pairs)) if is_useful or right == len(pairs) else UNTELLING
        yield f"{name:<28} {len(pairs):>6} {'none' if area is None else format(area, '.2f'):>9}  {shown}"
        if is_useful and reached is not None and reached[1].count < len(pairs):
            proposed.append((name, _rounded(reached[0]), reached[1].count))
    yield ""
    yield from _lines({name: least for name, least, _ in sorted(proposed, key=lambda each: -each[2])})


def _threshold(reached: tuple[float, Share] | None, count: int) -> str:
    if reached is None:
        return "none reaches it"
    value, share = reached
    if share.count == count:
        return "reached without one"
    low, high = share.interval
    kept = f"keeps {share.count:g} of {count}"
    return f"{_rounded(value):g} {kept}, {share.value:.1%} of them right ({low:.1%} to {high:.1%})"


def _rounded(value: float) -> float:
    """Return a threshold with four decimals that the value reaches."""
    return float(np.floor(value * 10_000 + 1e-3) / 10_000)


def _lines(proposed: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of a pipeline; the first threshold keeps most pairs."""
    if not proposed:
        yield "no threshold to propose"
        return
    yield "# in select.keep of the pipeline; each reaches the precision by itself, so one of them is enough"
    keep = {name: {"min": value} for name, value in proposed.items()}
    yield from yaml.safe_dump(keep, sort_keys=False, default_flow_style=None).rstrip().splitlines()
