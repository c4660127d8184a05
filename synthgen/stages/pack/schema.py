"""The columns of a training sample, and the Parquet files that they are written to.

The metadata of the Arrow schema has the columns as features of the Hugging Face datasets library, which decodes
`images` to pictures by them; the dataset card has the same features. Files are cut by bytes, because rows with images
differ too much in size for a fixed number of rows.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.tables import STRINGS, TAGS, score_column

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CONTENT = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", CONTENT)]))
Row = Mapping[str, Any]
DTYPES = {pa.string(): "string", pa.float32(): "float32", pa.int32(): "int32"}


def sample_schema(scores: Sequence[str], more: Sequence[tuple[str, pa.DataType]] = ()) -> pa.Schema:
    """Return the columns of a sample; the lists from `pair_ids` on have one entry for each turn.

    Args:
        scores: Their names.
        more: Further columns.
    """
    fields = [
        ("id", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("messages", MESSAGES),
        ("image_id", pa.string()),
        ("object_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("uris", STRINGS),
        ("tags", TAGS),
        ("license", pa.string()),
        ("author", pa.string()),
        ("copyright", pa.string()),
        ("source_url", pa.string()),
        ("source", pa.string()),
        ("source_meta", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("pair_ids", STRINGS),
        ("types", STRINGS),
        ("forms", STRINGS),
        ("languages", STRINGS),
        *((score_column(name), pa.list_(pa.float32())) for name in scores),
        *more,
    ]
    return with_features(fields)


def with_features(fields: Sequence[tuple[str, pa.DataType]]) -> pa.Schema:
    """Return a schema whose metadata has the columns as features of the datasets library, which decodes images so."""
    features = {name: _feature(kind) for name, kind in fields}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """Return a type as the datasets library writes it into Arrow metadata."""
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": DTYPES[kind], "_type": "Value"}


def card_features(schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the features as the datasets library writes them into a dataset card."""
    return [_card_feature(field.name, field.type) for field in schema]


def _card_feature(name: str, kind: pa.DataType) -> dict[str, Any]:
    if not pa.types.is_list(kind):
        return {"name": name, "dtype": DTYPES[kind]}
    if kind.value_type == IMAGE:
        return {"name": name, "list": "image"}
    if pa.types.is_struct(kind.value_type):
        return {"name": name, "list": card_features(pa.schema(list(kind.value_type)))}
    return {"name": name, "list": DTYPES[kind.value_type]}


class ParquetFiles:
    """A writer of Parquet files of at most `file_bytes`, in row groups of at most `group_bytes`.

    A file or a group is larger only if a single row is. A group is what `datasets` reads at once, and Arrow counts the
    bytes of a column in 32 bits.
    """

    def __init__(
        self, schema: pa.Schema, file_bytes: int, group_bytes: int, size: Callable[[Row], int] | None = None
    ) -> None:
        self._size = size or row_bytes
        self._schema, self._file_bytes, self._group_bytes = schema, file_bytes, min(group_bytes, file_bytes)
        self._rows: list[Row] = []
        self._waiting = 0  # bytes of the rows
        self._sink = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None
        self._written = 0  # rows in the open file

    def add(self, row: Row) -> Iterator[tuple[bytes, int]]:
        """Add a row; yield a file and its number of rows whenever one is full."""
        size = self._size(row)
        if self._rows and self._waiting + size > self._group_bytes:
            yield from self._write_group()
        self._rows.append(row)
        self._waiting += size

    def finish(self) -> Iterator[tuple[bytes, int]]:
        """Yield the last file and its number of rows, if rows remain."""
        if self._rows:
            yield from self._write_group()
        yield from self._close()

    def _write_group(self) -> Iterator[tuple[bytes, int]]:
        if self._writer and self._sink.tell() + self._waiting > self._file_bytes:
            yield from self._close()
        # Images do not compress, which zstd detects fast; text does.
        self._writer = self._writer or pq.ParquetWriter(
            self._sink, self._schema, compression="zstd", use_dictionary=False
        )
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._written += len(self._rows)
        self._rows, self._waiting = [], 0

    def _close(self) -> Iterator[tuple[bytes, int]]:
        if self._writer:
            self._writer.close()
            yield self._sink.getvalue(), self._written
        self._sink, self._writer, self._written = io.BytesIO(), None, 0


def row_bytes(row: Row) -> int:
    """Return about how many bytes a row takes: its images, its text, and an estimate for the other columns."""
    images = sum(len(image["bytes"]) for image in row["images"])
    parts = (part for message in row["messages"] for part in message["content"])
    text = sum(len((part["text"] or "").encode()) for part in parts)
    return images + text + len(row["source_meta"] or "") + 200 * len(row["messages"]) + 120 * len(row["tags"]) + 1000
