"""Near duplicates among pairs: how many clusters each comparison has, how large they are, and the largest ones.

Memory holds eight bytes of each pair that is in a cluster.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.store import RunFolder
from synthgen.tables import GENERATE, SELECT

SIZES = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 100), (101, None))
SHOWN = 4  # of the largest clusters of a comparison
MEMBERS = 6  # of a cluster, shown


@dataclass(frozen=True)
class Member:
    """A pair of a cluster that is shown."""

    question: str
    answer: str
    similarity: float | None
    is_survivor: bool


@dataclass
class Comparison:
    """The clusters of a comparison.

    Attributes:
        sizes: (least, most, clusters) of each class of sizes.
        pairs: In clusters.
        dropped: Of them.
        largest: Some members of each, with its size.
    """

    name: str
    pairs: int = 0
    dropped: int = 0
    clusters: int = 0
    sizes: list[tuple[int, int | None, int]] = field(default_factory=list)
    largest: list[tuple[int, list[Member]]] = field(default_factory=list)


def find_clusters(folder: RunFolder) -> list[Comparison]:
    """Return the clusters of each comparison that has any."""
    tables = sorted(name for name in folder.log(SELECT).tables() if name.startswith("clusters/"))
    found = [_compare(folder, table) for table in tables]
    return [each for each in found if each.pairs]


def _compare(folder: RunFolder, table: str) -> Comparison:
    comparison, heads = Comparison(table.removeprefix("clusters/")), [np.empty(0, np.uint64)]
    for partition in folder.log(SELECT).partitions:
        rows = folder.table(SELECT, partition, table, ["cluster", "survivor"])
        comparison.pairs += rows.num_rows
        comparison.dropped += int(pc.sum(pc.invert(rows.column("survivor")), min_count=0).as_py())
        heads.append(_short(rows.column("cluster")))
    names, counts = np.unique(np.concatenate(heads), return_counts=True)
    comparison.clusters = len(names)
    comparison.sizes = [
        (least, most, int(((counts >= least) & (counts <= (most or np.inf))).sum())) for least, most in SIZES
    ]
    largest = np.lexsort((names, -counts))[:SHOWN]
    members = _members(folder, table, {int(names[place]): [] for place in largest})
    comparison.largest = [(int(counts[place]), members[int(names[place])]) for place in largest]
    return comparison


def _short(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of ids."""
    return np.array([int(each[:16], 16) for each in ids.to_pylist()], np.uint64)


def _members(folder: RunFolder, table: str, wanted: dict[int, list[Member]]) -> dict[int, list[Member]]:
    """Return the first members of some clusters, by the first bits of their names; no table is read for none."""
    for partition in folder.log(SELECT).partitions if wanted else ():
        rows = folder.table(SELECT, partition, table, ["pair_id", "cluster", "similarity", "survivor"])
        heads = _short(rows.column("cluster"))
        rows = rows.filter(pa.array(np.isin(heads, list(wanted))))
        open_rows = [row for row in rows.to_pylist() if len(wanted[int(row["cluster"][:16], 16)]) < MEMBERS]
        texts = _texts(folder, partition, [row["pair_id"] for row in open_rows])
        for row in open_rows:
            members = wanted[int(row["cluster"][:16], 16)]
            question, answer = texts.get(row["pair_id"], ("", ""))
            if question and len(members) < MEMBERS:
                members.append(Member(question, answer, row["similarity"], bool(row["survivor"])))
    return wanted


def _texts(folder: RunFolder, partition: str, pair_ids: list[str]) -> dict[str, tuple[str, str]]:
    if not pair_ids:
        return {}
    rows = folder.table(GENERATE, partition, "pairs", ["pair_id", "question", "answer"])
    rows = rows.filter(pc.is_in(rows.column("pair_id"), pa.array(pair_ids)))
    return {row["pair_id"]: (row["question"] or "", row["answer"] or "") for row in rows.to_pylist()}
