"""Rows set aside on local disk by bucket, so that memory holds one bucket at a time.

Comes in: tables with a column `bucket`, in any order and as many as there are. Goes out: the rows of one bucket, in the order in
which they came. Whatever must be compared across all partitions of a job (the ids of a listing, the questions of an image) is
put into buckets by a hash of what it is compared by; then what is equal lies together, and a bucket has all that it needs.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

ROWS_AT_ONCE = 50_000  # that wait to be written: a file is opened for each bucket that they fall into


class Spill:
    """A file a bucket; no file stays open, and of the rows no more stay in memory than wait to be written together."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._waiting: list[pa.Table] = []
        self.rows = 0

    def add(self, rows: pa.Table) -> None:
        """Sets rows aside by their bucket."""
        self._waiting.append(rows)
        if sum(one.num_rows for one in self._waiting) >= ROWS_AT_ONCE:
            self._write()

    def append(self, bucket: int, rows: pa.Table) -> None:
        """Sets aside rows of one bucket, behind those that are there."""
        if rows.num_rows:
            with (self._folder / str(bucket)).open("ab") as file, pa.ipc.new_stream(file, rows.schema) as writer:
                writer.write_table(rows)
            self.rows += rows.num_rows

    def read(self, bucket: int, schema: pa.Schema) -> pa.Table:
        """The rows of a bucket."""
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
