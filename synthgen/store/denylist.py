"""The ids that were purged from an output folder, so that a later run does not bring them back.

`purged/<n>.json` holds the ids of objects and of image contents. Listing skips these objects, and tagging quarantines
these contents as `purged` wherever they appear. Ids are hashes, so the list reveals nothing about the images.
"""

import json
from dataclasses import asdict, dataclass

from synthgen.store import Folder

PURGED = "purged"


@dataclass(frozen=True)
class Denylist:
    """The ids of purged objects and contents."""

    object_ids: frozenset[str] = frozenset()
    image_ids: frozenset[str] = frozenset()


def read_denylist(out: Folder) -> Denylist:
    """Return everything that was ever purged from an output folder."""
    folder = out.child(PURGED)
    repair = "restore it from a copy: without it, the images that it names would come back"
    records = folder.read_every_json(repair).values()
    object_ids = frozenset(key for record in records for key in record["object_ids"])
    image_ids = frozenset(key for record in records for key in record["image_ids"])
    return Denylist(object_ids, image_ids)


def extend_denylist(out: Folder, more: Denylist) -> None:
    """Add ids to the list; only the driver does so, under its lease."""
    data = json.dumps({name: sorted(ids) for name, ids in asdict(more).items()}).encode()
    out.child(PURGED).append(data)
