"""What of a run's own names goes into shards and card, which are made to be given away.

Comes in: uris, models and shelf files as the run knows them. Goes out: the same without the folders of the machine that it ran
on, which tell of persons and say nothing to anybody else. Uris of stores and URLs mean the same everywhere and stay whole.
Nothing is lost by it: the output folder has the whole uri of every object, under the `object_id` that samples carry.
"""

import os
from pathlib import PurePath
from urllib.parse import quote

from synthgen.errors import UserMistake
from synthgen.ingest.sources.location import PROTOCOL, parse_location, split_uri


def root_of(source: str | None) -> str:
    """The local folder that a source's objects lie below; empty where there is none, or none any more."""
    try:
        place = parse_location(source)
    except UserMistake:  # a list of URLs; or the run was made from another working folder
        return ""
    if place.protocol != "file":
        return ""
    return os.path.dirname(place.root) if os.path.isfile(place.root) else place.root  # noqa: PTH113, PTH120 - paths are text here


def uri(whole: str, root: str) -> str:
    """Of a local file what lies below the source's root, else its own name."""
    if PROTOCOL.match(whole) and not whole.startswith("file://"):
        return whole
    path, above = split_uri(whole)[1], f"{root.rstrip('/')}/"
    inside = path.removeprefix(above) if root and path.startswith(above) else path.rpartition("/")[2]
    return quote(os.fsencode(inside)) if whole.startswith("file://") else inside


def model(name: str) -> str:
    """Of a model folder its own name; an endpoint too may call its model by a path."""
    return PurePath(name).name if name.startswith(("/", "~", ".")) else name


def shelf_name(name: str) -> str:
    """Of a shelf file that was named by its path its own name."""
    return PurePath(name).stem if name.endswith(".yaml") else name
