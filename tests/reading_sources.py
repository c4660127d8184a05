"""Listing a source and reading what was listed, each object once; small trees and Parquet files to list."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.config import Images, Source
from synthgen.errors import UserMistake
from synthgen.source import Listed, Ref, Unreadable, list_objects, read_objects

LIMITS = Images(max_bytes=1000)


def refs(listed: list[Listed]) -> list[Ref]:
    return [Ref(f"{one.uri}#{one.row}", one.uri, one.version, one.row) for one in listed]


def listed(uri: object, **changed: Any) -> list[Listed]:
    return list(list_objects(Source(uri=str(uri), **changed)))


def read(uri: object, limits: Images = LIMITS, **changed: Any) -> dict[str, bytes | Unreadable]:
    """Object id -> what reading gave, after a check that each came once."""
    wanted = refs(listed(uri, **changed))
    return read_refs(wanted, limits, **changed)


def read_refs(wanted: list[Ref], limits: Images = LIMITS, **changed: Any) -> dict[str, bytes | Unreadable]:
    results = list(read_objects(wanted, Source(**changed), limits))
    assert sorted(ref.object_id for ref, _ in results) == sorted(ref.object_id for ref in wanted)
    return {ref.object_id: result for ref, result in results}


def names(objects: list[Listed], root: object) -> list[str]:
    return [one.uri.removeprefix(f"{root}/") for one in objects]


def mistake(uri: object, **changed: Any) -> str:
    with pytest.raises(UserMistake) as caught:
        listed(uri, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def parquet(path: Path, cells: list[Any], kind: pa.DataType = PICTURE, group: int = 2, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": pa.array(cells, kind), **columns}), path, row_group_size=group)
    return path
