"""An instruction set as a listing: an object for each row, with its conversation, or with the reason against it."""

import itertools
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from synthgen.config.rows import RowsConfig
from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake, nearest
from synthgen.ingest.sources.instructions.conversation import read_conversation
from synthgen.ingest.sources.instructions.files import (
    KEPT,
    Entry,
    SetFile,
    fields_of,
    image_column,
    read_entries,
)
from synthgen.ingest.sources.instructions.forms import FORMS, JSON, PARQUET, TAR, SetForm, forms_of
from synthgen.ingest.sources.location import filesystem, parse_location, spell_out_path
from synthgen.ingest.sources.manifest import AT_ONCE, BATCH, MISSING, NO_FILE, NO_TEXT, Root, find_file, open_root
from synthgen.ingest.sources.objects import Item, LeftOut, Listed, meta_json
from synthgen.ingest.sources.parquet import NotParquet
from synthgen.ingest.sources.sets import listed_set
from synthgen.ingest.sources.walk import walk
from synthgen.store.remote import display_uri, store_errors
from synthgen.tables import GivenRow, make_id

SCHEME = "instructions"
USAGE = "give a file of JSON, JSON lines or Parquet, a tar, or a folder of them"
LONGEST_VALUE = 10_000  # characters of a field that comes along
PATH_FAULTS = {MISSING: "unreadable", NO_FILE: "unreadable", NO_TEXT: "not_text"}  # what else is wrong leaves the root


@dataclass(frozen=True)
class InstructionSet:
    """The files of a set, and the form of their rows.

    Attributes:
        others: Files of the same place that are none of it.
        column: Of Parquet, the column with the bytes of the images.
    """

    form: SetForm
    files: tuple[SetFile, ...]
    others: tuple[LeftOut, ...] = ()
    column: str | None = None


def place_of(source: SourceConfig) -> str:
    """Return the file or folder of a set."""
    return (source.uri or "").removeprefix(f"{SCHEME}:")


def place_of_images(source: SourceConfig) -> str:
    """Return the folder or prefix that the paths of images start from."""
    if source.root:
        return spell_out_path(source.root, Path.cwd())
    location = parse_location(place_of(source))
    is_file = posixpath.splitext(location.root.lower())[1] in (*JSON, *PARQUET, *TAR)
    folder = posixpath.dirname(location.root) if is_file else location.root
    return folder or "/" if location.protocol == "file" else f"{location.protocol}://{folder}"


def recognise(source: SourceConfig) -> InstructionSet:
    """Return the files of a set and their form.

    Raises:
        UserMistake: There are no rows there, or they are not of the form that is asked for.
    """
    rows = source.rows or RowsConfig()
    if rows.form is not None and rows.form not in FORMS:
        raise UserMistake(f"form '{rows.form}' is unknown: {nearest(rows.form, FORMS)}")
    location = parse_location(place_of(source))
    fs = None if location.protocol == "file" else filesystem(location.protocol)
    with store_errors(location.uri, "listing"):
        found = [SetFile(location, fs, file) for file in walk(location, fs) if not isinstance(file, LeftOut)]
        for suffixes in (PARQUET, TAR, JSON):
            files = [file for file in found if file.suffix in suffixes]
            fields = {file.uri: _fields(file, source, is_alone=len(found) == 1) for file in files}
            form = _form_of(rows.form, files, fields)
            if form is None:
                continue
            own = tuple(file for file in files if form.lacks(fields[file.uri]) is None)
            data = (file for file in found if file not in own and file.suffix in (*PARQUET, *TAR, *JSON))
            others = tuple(LeftOut(f"{file.suffix} file that is none of the set") for file in data)
            return InstructionSet(form, own, others, image_column(own[0], form))
        raise _unknown_form(location.uri, rows.form, found, source)


def _fields(file: SetFile, source: SourceConfig, *, is_alone: bool) -> frozenset[str]:
    """Return the fields of a file; of one among others that cannot be read, none."""
    try:
        return fields_of(file, source)
    except (UserMistake, NotParquet) as error:
        if is_alone:
            raise (
                error
                if isinstance(error, UserMistake)
                else UserMistake(f"{file.shown}: is not a Parquet file ({error})")
            ) from error
        return frozenset()


def _form_of(name: str | None, files: list[SetFile], fields: Mapping[str, frozenset[str]]) -> SetForm | None:
    """Return the form that is asked for, if a file has it, or that of the first file that has any."""
    if name is not None:
        return next((FORMS[name] for file in files if FORMS[name].lacks(fields[file.uri]) is None), None)
    return next((form for file in files for form in forms_of(fields[file.uri], file.suffix)), None)


def _unknown_form(uri: str, name: str | None, found: list[SetFile], source: SourceConfig) -> UserMistake:
    files = [file for file in found if file.suffix in (*PARQUET, *TAR, *JSON)]
    if not files:
        return UserMistake(f"{uri}: no instruction set here; {USAGE}")
    fields = _fields(files[0], source, is_alone=False)
    has = f"its rows have {', '.join(sorted(fields)[:12])}" if fields else "no row in it can be read"
    if name is None:
        return UserMistake(f"{files[0].shown}: no known form; {has}; the forms are {', '.join(FORMS)}")
    like = next((form.name for form in forms_of(fields, files[0].suffix)), None)
    seems = f"; it looks like the form {like}" if like else ""
    return UserMistake(f"{files[0].shown}: has no field '{FORMS[name].lacks(fields)}' of the form {name}: {has}{seems}")


def list_instructions(source: SourceConfig) -> Iterator[Item]:
    """Return an object for each row of a set.

    Raises:
        UserMistake: At once if there is no such set.
    """
    found = recognise(source)
    if found.column and source.image_column != found.column:
        raise UserMistake(
            f"{display_uri(source.uri or '')}: its images are in the column '{found.column}'; "
            f"set source.image_column={found.column}, as `synth import` does by itself"
        )
    return _listed(found, source)


def _listed(found: InstructionSet, source: SourceConfig) -> Iterator[Item]:
    yield from found.others
    root = open_root(place_of_images(source))
    name = name_of_set(source)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for file in found.files:
            with store_errors(file.shown, "listing"):
                entries = read_entries(file, found.form, source)
                while batch := list(itertools.islice(entries, BATCH)):
                    # On a disk, threads would cost more than the look at a file.
                    see = pool.map if root.fs is not None else map
                    yield from see(partial(_item, file, found.form, root, (source, name)), batch)


def name_of_set(source: SourceConfig) -> str:
    """Return the name of a set: as it is configured, or that of its file or folder."""
    last = place_of(source).rstrip("/").rpartition("/")[2]
    return (source.rows or RowsConfig()).name or posixpath.splitext(last)[0] or last


def _item(file: SetFile, form: SetForm, root: Root, settings: tuple[SourceConfig, str], entry: Entry | LeftOut) -> Item:
    """Return the object of a row."""
    if isinstance(entry, LeftOut):
        return entry
    source, name = settings
    rows, record = source.rows or RowsConfig(), entry.record
    if isinstance(record, Failure):
        return _refused(file, entry.number, record)
    if isinstance(entry.images, Failure):
        return _refused(file, entry.number, entry.images)
    if (count := len(entry.images)) > source.group_most:
        several = f"it has {count:,} images; source.group_most allows {source.group_most}"
        return _refused(file, entry.number, Failure("several_images", several))
    conversation = read_conversation(record, form, rows, count)
    if isinstance(conversation, Failure):
        return _refused(file, entry.number, conversation)
    image = _find_all(root, entry.images, source)
    if isinstance(image, Failure):
        return _refused(file, entry.number, image)
    try:
        meta = meta_json(_meta(record, name, source, rows))
    except (ValueError, RecursionError):
        return _refused(file, entry.number, Failure("not_text", "a field of it is not UTF-8"))
    text = conversation.dump()
    key = json.dumps([image.row, str(record.get("id")), text])
    return replace(image, source_meta=meta, given=GivenRow(key, text))


def _find_all(root: Root, images: Sequence[Listed | str], source: SourceConfig) -> Listed | Failure:
    """Return the image of a row, or its images as a set."""
    found = list[Listed]()
    for image in images:
        place = _find(root, image)
        if isinstance(place, Failure):
            return place
        found.append(place)
    if len(found) == 1:
        return found[0]
    places = [f"{each.uri}#{each.row}" for each in found]
    return listed_set(make_id("images of a row", *places)[:16], found, place_of(source))


def _find(root: Root, image: Listed | str) -> Listed | Failure:
    if isinstance(image, Listed):
        return image
    found = find_file(root, image)
    return found if isinstance(found, Listed) else Failure(PATH_FAULTS.get(found, "path_refused"), found)


def _refused(file: SetFile, number: int, failure: Failure) -> Listed:
    return Listed(
        file.uri, file.file.version, number, given=GivenRow(json.dumps(["refused", number]), refused=str(failure))
    )


def _meta(record: Mapping[str, Any], name: str, source: SourceConfig, rows: RowsConfig) -> dict[str, Any]:
    """Return what comes along with a row: its set, its id, its licence, and the fields that are asked for."""
    wanted = (*KEPT, *source.meta_columns)
    kept = {field: record[field] for field in dict.fromkeys(wanted) if _is_short(record.get(field))}
    if rows.license and not (kept.get("license") or kept.get("licence")):
        kept["license"] = rows.license
    return {"set": name, **kept}


def _is_short(value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, str | list | dict):
        return len(json.dumps(value, default=str)) <= LONGEST_VALUE
    return isinstance(value, int | float)
