"""A small table, committed and read back: what tests of the store put into an output folder."""

from typing import Any

import pyarrow as pa

from synthgen.store import Log, Receipt, Stage, TablePart

ROWS = pa.schema([("key", pa.string()), ("value", pa.int64())])
RACERS = 16
PARTITION = "e001-00000"


def rows(values: dict[str, int]) -> pa.Table:
    return pa.table([list(values), list(values.values())], schema=ROWS)


def receipt(stage: Stage, values: dict[str, int], partition: str = PARTITION, revision: int = 1, **how: Any) -> Receipt:
    """A receipt for a table `things`, its file written."""
    replaces, counts = how.get("replaces", False), how.get("counts", {"things": len(values)})
    file = stage.write("things", partition, revision, rows(values))
    return Receipt(partition, revision, {"things": TablePart((file,), "f", replaces)}, counts)


def current(stage: Stage, log: Log | None = None, partition: str = PARTITION) -> dict[str, int]:
    table = stage.current(log or stage.log(), partition, "things", "key", ROWS)
    keys = table.column("key").to_pylist()
    assert len(set(keys)) == len(keys), "a key has one current row"
    return dict(zip(keys, table.column("value").to_pylist(), strict=True))
