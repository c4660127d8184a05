"""The ids that were purged from an output folder, so that a later run does not bring them back.

`purged/<n>.json` holds the ids of objects and of image contents. Listing skips these objects, and tagging quarantines
these contents as `purged` wherever they appear. Ids are hashes, so the list reveals nothing about the images.
"""

import json
from dataclasses import asdict, dataclass

from synthgen.store import Folder
from synthgen.store.records import checked_record, is_text, list_of
from synthgen.store.remote import display_uri

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
    ids = list_of(is_text)
    kinds = {"object_ids": ids, "image_ids": ids}
    records = [
        checked_record(value, kinds, f"{display_uri(folder.url)}/{name}", repair)
        for name, value in folder.read_every_json(repair).items()
    ]
    object_ids = frozenset(key for record in records for key in record["object_ids"])
    image_ids = frozenset(key for record in records for key in record["image_ids"])
    return Denylist(object_ids, image_ids)


def extend_denylist(out: Folder, more: Denylist) -> None:
    """Add ids to the list; only the driver does so, under its lease."""
    data = json.dumps({name: sorted(ids) for name, ids in asdict(more).items()}).encode()
    out.child(PURGED).append(data)
