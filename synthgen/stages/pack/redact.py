"""Names of a run as they may appear in shards and card, which are made to be given away.

Folders of the machine are removed from uris, models and definition files: they reveal persons and mean nothing to
others. Uris of stores and URLs mean the same everywhere and are not changed. Nothing is lost: the output folder has the
whole uri of every object under the `object_id` that samples have.
"""

import os
from pathlib import PurePath

from synthgen.config.source import SourceConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import kind_of_object, kind_of_source
from synthgen.ingest.sources.location import parse_location, split_uri
from synthgen.tables import archive_of

Root = str | tuple[str, ...]


def root_of(source: SourceConfig) -> Root:
    """Return the local folder that holds the objects of a source; empty if there is none, or if it no longer exists.

    Of several places it is the folder of each.
    """
    roots = tuple(map(_root_of_place, source.places.values()))
    return roots if source.named else roots[0]


def _root_of_place(source: SourceConfig) -> str:
    try:
        place = parse_location(kind_of_source(source.uri).place(source))
    except UserMistake:  # another kind of source, or a path relative to another working folder
        return ""
    if place.protocol != "file":
        return ""
    is_file = os.path.isfile(place.root)  # noqa: PTH113 - paths are text here
    return os.path.dirname(place.root) if is_file else place.root  # noqa: PTH120 - paths are text here


def uri(whole: str, root: Root) -> str:
    """Return the uri of an object as its kind shows it; of a local file the path below `root`, or else the name."""
    roots = (root,) if isinstance(root, str) else root
    path = split_uri(archive_of(whole))[1]
    around = (folder for folder in roots if folder and path.startswith(f"{folder.rstrip('/')}/"))
    return kind_of_object(whole).shown(whole, max(around, key=len, default=roots[0]))


def model(name: str) -> str:
    """Return the name of a model folder without its path; an endpoint may name its model by a path too."""
    return PurePath(name).name if name.startswith(("/", "~", ".")) else name


def shelf_name(name: str) -> str:
    """Return the name of a definition file without its path."""
    return PurePath(name).stem if name.endswith(".yaml") else name
