"""The preferences of all pairs of a run, on local disk by partition, and the count of what became of every pair."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen.commands.preferences.ranking import SOURCES, Preference, details_of, prefer
from synthgen.errors import UserMistake
from synthgen.store import RunFolder
from synthgen.store.spill import Spill
from synthgen.tables import GENERATE, PACK, SELECT

PREFERENCE, NOT_KEPT = "preference", "not_kept"
COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "follows", "rejected", "source")),
        *((name, pa.float64()) for name in ("chosen_share", "rejected_share")),
        ("votes", pa.int32()),
    ]
)
Row = dict[str, Any]


class Candidates:
    """The preferences of a run.

    Attributes:
        scores: Those that kept other answers.
        outcomes: Outcome → pairs.
    """

    def __init__(self, folder: RunFolder, margin: float, disk: Path) -> None:
        """Find the preferences of all pairs.

        Args:
            folder: The run.
            margin: The least difference of the shares.
            disk: A folder on local disk.

        Raises:
            UserMistake: No score kept other answers.
        """
        self._folder, self._margin = folder, margin
        self.scores = [name for name in SOURCES if f"scores/{name}" in folder.log(GENERATE).tables()]
        if not self.scores:
            raise UserMistake(
                f"{folder.out.url}: no score of this run kept other answers; measure agreement or consistency "
                "(`generate.scores`) and run again"
            )
        self.outcomes: Counter[str] = Counter()
        self._spill = Spill(disk / "candidates")
        self._places = {partition: place for place, partition in enumerate(folder.log(SELECT).partitions)}
        for partition, place in self._places.items():
            self._spill.append(place, pa.Table.from_pylist(list(self._find(partition)), schema=COLUMNS))

    def of_shard(self, shard: str) -> dict[str, Row]:
        """Return the preferences of the partitions that a shard was made from, by pair."""
        latest = self._folder.log(PACK).latest(shard)
        read = (key.rpartition(".")[0] for key in (latest.receipt.reads if latest else {}))
        partitions = {key.removeprefix(f"{SELECT.folder}/") for key in read if key.startswith(f"{SELECT.folder}/")}
        places = sorted(self._places[partition] for partition in partitions)
        return {row["pair_id"]: row for place in places for row in self._spill.read(place, COLUMNS).to_pylist()}

    def _find(self, partition: str) -> Iterator[Row]:
        """Yield the preferences of a partition, and count what became of each pair."""
        folder = self._folder
        decisions = folder.table(SELECT, partition, "decisions", ["pair_id", "kept", "follows"]).to_pylist()
        columns = ["assignment_id", "pair_id", "form", "answer"]
        pairs = {row["pair_id"]: row for row in folder.table(GENERATE, partition, "pairs", columns).to_pylist()}
        details = {}
        for name in self.scores:
            rows = folder.table(GENERATE, partition, f"scores/{name}", ["pair_id", "value", "detail"])
            details[name] = {row["pair_id"]: row for row in rows.to_pylist()}
        for row in decisions:
            if not row["kept"]:
                self.outcomes[NOT_KEPT] += 1
                continue
            found = prefer(pairs[row["pair_id"]], dict(details_of(details, row["pair_id"])), self._margin)
            self.outcomes[PREFERENCE if isinstance(found, Preference) else found] += 1
            if isinstance(found, Preference):
                yield {"pair_id": row["pair_id"], "follows": row["follows"], **vars(found)}
