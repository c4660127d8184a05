"""The objects of an output folder, and those among them that are copies of the same bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.ingest.sources.sets import members_of_set
from synthgen.store import RunFolder
from synthgen.tables import LIST, SET_SCHEME, TAG, object_id

PLACES = pa.schema(
    [
        ("object_id", pa.string()),
        ("uri", pa.string()),
        ("row", pa.int64()),
        ("image_id", pa.string()),
        ("set_object", pa.string()),
        ("set_image", pa.string()),
    ]
)


@dataclass(frozen=True)
class Copies:
    """Some objects with all others of their bytes.

    Attributes:
        image_of: Object id → image id, of the objects that were asked for; those that are not tagged are left out.
        objects_of: Image id → the ids of all its objects.
        sets_of: Object id of an image in a set → the ids of the sets that it is in, each with its image id.
        partitions: The partitions that hold any of them; the stages that `purge` rewrites share their partitions.
    """

    image_of: Mapping[str, str]
    objects_of: Mapping[str, frozenset[str]]
    partitions: tuple[str, ...]
    sets_of: Mapping[str, frozenset[tuple[str, str | None]]] = field(default_factory=dict)

    def of(self, object_ids: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return objects with their copies and the sets that any of these is in, and the ids of their images."""
        images = frozenset(self.image_of[key] for key in object_ids if key in self.image_of)
        found = object_ids.union(*(self.objects_of[image] for image in images))
        sets = frozenset[tuple[str, str | None]]().union(*(self.sets_of.get(key, ()) for key in found))
        return found | {key for key, _ in sets}, images | {image for _, image in sets if image}


def objects(folder: RunFolder) -> Iterable[tuple[str, pa.Table]]:
    """Yield each partition with object_id, uri, row and image_id (null until it is tagged) of its objects.

    The images of a set follow it as the objects that they would be by themselves, with its ids as set_object and
    set_image.
    """
    for name in folder.log(LIST).partitions:
        rows = folder.table(LIST, name, "objects", ["object_id", "uri", "version", "row"])
        seen = folder.table(TAG, name, "images", ["object_id", "image_id", "members"])
        place = pc.index_in(rows.column("object_id"), seen.column("object_id").combine_chunks())
        whole = rows.append_column("image_id", seen.column("image_id").take(place))
        members = seen.column("members").take(place)
        is_set = pc.starts_with(pc.fill_null(rows.column("uri"), ""), f"{SET_SCHEME}:")
        sets = whole.append_column("members", members).filter(is_set).to_pylist()
        own = pa.Table.from_pylist([member for row in sets for member in _members(row)], schema=PLACES)
        yield name, pa.concat_tables([whole.select(PLACES.names[:4]), own], promote_options="default")


def _members(row: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield the images of a set with the columns of PLACES."""
    members = members_of_set(row["version"])
    images = row["members"] or [None] * len(members)
    of_set = {"set_object": row["object_id"], "set_image": row["image_id"]}
    for (uri, version, number), image in zip(members, images, strict=True):
        known = object_id(uri, version, number)
        yield {"object_id": known, "uri": uri, "row": number, "image_id": image, **of_set}


def find_copies(folder: RunFolder, named: frozenset[str], gone: frozenset[str] = frozenset()) -> Copies:
    """Return objects with all others of their bytes.

    Args:
        folder: The output folder.
        named: The ids of the objects.
        gone: The ids of objects whose partitions are wanted too.
    """
    image_of, objects_of, partitions = dict[str, str](), dict[str, set[str]](), list[str]()
    sets_of = dict[str, set[tuple[str, str | None]]]()
    for _, rows in objects(folder):
        own = rows.filter(pc.and_(_is_in(rows, "object_id", named), pc.is_valid(rows.column("image_id"))))
        image_of.update(_pairs(own))
    for name, rows in objects(folder):
        is_same = _is_in(rows, "image_id", image_of.values())
        for key, image in _pairs(rows.filter(is_same)):
            objects_of.setdefault(image, set()).add(key)
        in_set = pc.and_(pc.or_(is_same, _is_in(rows, "object_id", named)), pc.is_valid(rows.column("set_object")))
        for row in rows.filter(in_set).to_pylist():
            sets_of.setdefault(row["object_id"], set()).add((row["set_object"], row["set_image"]))
        if pc.any(pc.or_(is_same, _is_in(rows, "object_id", named | gone))).as_py():
            partitions.append(name)
    copies = {image: frozenset(ids) for image, ids in objects_of.items()}
    return Copies(image_of, copies, tuple(partitions), {key: frozenset(sets) for key, sets in sets_of.items()})


def _is_in(rows: pa.Table, column: str, values: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(rows.column(column), pa.array(sorted(set(values)), pa.string()))


def _pairs(rows: pa.Table) -> Iterable[tuple[str, str]]:
    """Return the object id and the image id of each row."""
    return zip(rows.column("object_id").to_pylist(), rows.column("image_id").to_pylist(), strict=True)
