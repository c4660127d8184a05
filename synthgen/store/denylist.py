"""What was purged from an output folder, so that it does not come back.

Comes in: an output folder. Goes out: the ids of the objects and of the image contents that a purge took out, from
`purged/<n>.json`. Listing adds no such object again, and tagging puts such bytes on record as `purged`, wherever they are
found. Ids are hashes: the list itself says nothing of what was in the images.
"""

import json
from dataclasses import asdict, dataclass

from synthgen.store import Folder

PURGED = "purged"


@dataclass(frozen=True)
class Denylist:
    """Ids of objects and of contents."""

    object_ids: frozenset[str] = frozenset()
    image_ids: frozenset[str] = frozenset()


def read_denylist(out: Folder) -> Denylist:
    """Everything that was ever purged here."""
    folder = out.child(PURGED)
    records = [json.loads(data) for data in folder.read_many(folder.names(".json")).values()]
    found = (frozenset(one for record in records for one in record[name]) for name in ("object_ids", "image_ids"))
    return Denylist(*found)


def extend_denylist(out: Folder, more: Denylist) -> None:
    """Adds to the list; the driver alone writes here, under its lease."""
    folder = out.child(PURGED)
    number = len(folder.names(".json")) + 1
    data = json.dumps({name: sorted(ids) for name, ids in asdict(more).items()}).encode()
    while not folder.create(f"{number:06d}.json", data):  # the name is a late word of a driver that has lost its lease
        number += 1
