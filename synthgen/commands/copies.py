"""The objects of an output folder, and those among them that are copies of the same bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.store import RunFolder
from synthgen.tables import LIST, TAG


@dataclass(frozen=True)
class Copies:
    """Some objects with all others of their bytes.

    Attributes:
        image_of: Object id → image id, of the objects that were asked for; those that are not tagged are left out.
        objects_of: Image id → the ids of all its objects.
        partitions: The partitions that hold any of them; the stages that `purge` rewrites share their partitions.
    """

    image_of: Mapping[str, str]
    objects_of: Mapping[str, frozenset[str]]
    partitions: tuple[str, ...]

    def of(self, object_ids: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return objects with their copies, and the ids of their images."""
        images = frozenset(self.image_of[key] for key in object_ids if key in self.image_of)
        return object_ids.union(*(self.objects_of[image] for image in images)), images


def objects(folder: RunFolder) -> Iterable[tuple[str, pa.Table]]:
    """Yield each partition with object_id, uri, row and image_id (null until it is tagged) of its objects."""
    for name in folder.log(LIST).partitions:
        rows = folder.table(LIST, name, "objects", ["object_id", "uri", "row"])
        seen = folder.table(TAG, name, "images", ["object_id", "image_id"])
        place = pc.index_in(rows.column("object_id"), seen.column("object_id").combine_chunks())
        yield name, rows.append_column("image_id", seen.column("image_id").take(place))


def find_copies(folder: RunFolder, named: frozenset[str], gone: frozenset[str] = frozenset()) -> Copies:
    """Return objects with all others of their bytes.

    Args:
        folder: The output folder.
        named: The ids of the objects.
        gone: The ids of objects whose partitions are wanted too.
    """
    image_of, objects_of, partitions = dict[str, str](), dict[str, set[str]](), list[str]()
    for _, rows in objects(folder):
        own = rows.filter(pc.and_(_is_in(rows, "object_id", named), pc.is_valid(rows.column("image_id"))))
        image_of.update(_pairs(own))
    for name, rows in objects(folder):
        is_same = _is_in(rows, "image_id", image_of.values())
        for object_id, image in _pairs(rows.filter(is_same)):
            objects_of.setdefault(image, set()).add(object_id)
        if pc.any(pc.or_(is_same, _is_in(rows, "object_id", named | gone))).as_py():
            partitions.append(name)
    return Copies(image_of, {image: frozenset(ids) for image, ids in objects_of.items()}, tuple(partitions))


def _is_in(rows: pa.Table, column: str, values: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(rows.column(column), pa.array(sorted(set(values)), pa.string()))


def _pairs(rows: pa.Table) -> Iterable[tuple[str, str]]:
    """Return the object id and the image id of each row."""
    return zip(rows.column("object_id").to_pylist(), rows.column("image_id").to_pylist(), strict=True)
