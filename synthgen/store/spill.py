"""Rows in buckets on local disk, so that memory holds one bucket at a time.

Some work compares rows across all partitions of a job, such as the ids of a listing or the questions of an image. Their
bucket is a hash of the compared value: equal rows then share a bucket, and each bucket can be processed alone.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

ROWS_AT_ONCE = 50_000  # rows in memory before they are written: each write opens a file for every bucket among them


class Spill:
    """A folder with a file for each bucket; rows of a bucket stay in the order in which they were added."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._waiting: list[pa.Table] = []
        self.rows = 0

    def add(self, rows: pa.Table) -> None:
        """Add rows by their column `bucket`."""
        self._waiting.append(rows)
        if sum(table.num_rows for table in self._waiting) >= ROWS_AT_ONCE:
            self._write()

    def append(self, bucket: int, rows: pa.Table) -> None:
        """Write rows to the end of a bucket at once."""
        if rows.num_rows:
            with (self._folder / str(bucket)).open("ab") as file, pa.ipc.new_stream(file, rows.schema) as writer:
                writer.write_table(rows)
            self.rows += rows.num_rows

    def read(self, bucket: int, schema: pa.Schema) -> pa.Table:
        """Return the rows of a bucket; `schema` is theirs, and that of the empty table of an unused bucket."""
        self._write()
        path, parts = self._folder / str(bucket), [schema.empty_table()]
        if path.exists():
            with pa.OSFile(str(path)) as file:
                while file.tell() < file.size():
                    parts.append(pa.ipc.open_stream(file).read_all())
        return pa.concat_tables(parts)

    def _write(self) -> None:
        if not self._waiting:
            return
        rows, self._waiting = pa.concat_tables(self._waiting), []
        buckets = rows.column("bucket").to_numpy()
        order = np.argsort(buckets, kind="stable")
        rows, buckets = rows.take(order), buckets[order]
        for bucket in np.unique(buckets):
            start, end = (np.searchsorted(buckets, bucket, side=side) for side in ("left", "right"))
            self.append(int(bucket), rows.slice(start, end - start))


def with_buckets(rows: pa.Table, key: str, count: int, schema: pa.Schema) -> pa.Table:
    """Return rows with their `bucket`, one of `count` by the hash of the column `key`, as a table of this schema."""
    hashes = pd.util.hash_array(np.asarray(rows.column(key).to_pylist(), dtype=object), categorize=False)
    return rows.append_column("bucket", pa.array(hashes % count)).select(schema.names).cast(schema)
