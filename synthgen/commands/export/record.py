"""The record of an export, by which one that was killed goes on and no other is written over.

`export.json` says of what the export is and whether it is finished; `parts/NUMBER.json` says that a part is whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from synthgen.errors import UserMistake
from synthgen.store import Folder
from synthgen.store.records import checked_record, fields, is_count, is_text, list_of, mapping_of

FORMAT = 1
NAME = "export.json"
REPAIR = "delete the export and make it again"
PART = {
    "samples": is_count,
    "turns": is_count,
    "images": is_count,
    "image_bytes": is_count,
    "rows": mapping_of(is_count),
    "files": mapping_of(is_count),
    "left_out": list_of(list_of(is_text)),
}
EXPORT = {
    "format": is_count,
    "form": is_text,
    "source": is_text,
    "finished": lambda value: isinstance(value, bool),
    "counts": fields(dict.fromkeys(("samples", "turns", "rows", "images"), is_count)),
    "left_out": mapping_of(is_count),
}


@dataclass(frozen=True)
class PartRecord:
    """What a part holds.

    Attributes:
        images: Files beside the text; 0 where images are inside.
        image_bytes: Of these.
        rows: The rows of each file.
        files: Its other files → their bytes.
        left_out: The id of a sample or pair, and the reason.
    """

    samples: int = 0
    turns: int = 0
    images: int = 0
    image_bytes: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ExportRecord:
    """What an export is made of, and what came of it.

    Attributes:
        source: A hash of the shards and of everything else that shapes the files.
        counts: The samples and their turns, the rows made of them, and the images beside those.
        left_out: Reason → samples and turns.
    """

    form: str
    source: str
    finished: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_export(target: Folder) -> ExportRecord | None:
    """Return the record of the export in a folder; None if there is none.

    Raises:
        Damaged: It cannot be read.
    """
    if NAME not in target.names(".json"):
        return None
    found = checked_record(target.read_json(NAME, REPAIR), EXPORT, f"{target.url}/{NAME}", REPAIR)
    if found["format"] != FORMAT:
        raise UserMistake(f"{target.url}: another synth made this export; give a folder that does not exist yet")
    return ExportRecord(**{name: found[name] for name in ("form", "source", "finished", "counts", "left_out")})


def write_export(target: Folder, record: ExportRecord) -> None:
    """Write the record of an export."""
    target.write(NAME, json.dumps({"format": FORMAT, **asdict(record)}, indent=1).encode() + b"\n")


def read_part(target: Folder, number: int) -> PartRecord | None:
    """Return the record of a part that is there with all of its files; None if it is to be written."""
    try:
        found: Any = checked_record(target.read_json(_part(number), REPAIR), PART, _part(number), REPAIR)
    except FileNotFoundError:
        return None
    given = {name: found[name] for name in PART}
    record = PartRecord(**{**given, "left_out": tuple(tuple(entry) for entry in given["left_out"])})
    sizes = target.child(images_folder(number)).sizes("").values() if record.images else ()
    is_whole = len(sizes) == record.images and sum(sizes) == record.image_bytes
    return record if is_whole and all(_size(target, name) == size for name, size in record.files.items()) else None


def write_part(target: Folder, number: int, record: PartRecord) -> None:
    """Write the record of a part, after all of its files."""
    target.write(_part(number), json.dumps(asdict(record)).encode())


def remove_folder(target: Folder, name: str) -> None:
    """Delete a folder of files that a finished export does not need."""
    target.child(name).remove(target.child(name).names())
    if target.is_local and target.fs.isdir(target.full(name)):
        target.fs.rmdir(target.full(name))


def images_folder(number: int) -> str:
    """Return the folder of the images of a part."""
    return f"images/{number:05d}"


def _part(number: int) -> str:
    return f"parts/{number:05d}.json"


def _size(target: Folder, name: str) -> int | None:
    try:
        return int(target.fs.size(target.full(name)))
    except FileNotFoundError:
        return None
