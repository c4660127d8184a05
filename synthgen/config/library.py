"""Finds the text files that users edit, by name, and checks what they say.

Comes in: a kind of file ("mapping") and a bare name ("everyday"). Goes out: a Document (strict_yaml.py reads it), and from it a checked
pydantic model, or every mistake in the file at once, each with its line and the nearest valid name. The user's working folder
is looked through first, then the shelves that ship with synthgen. A bare name is a file on a shelf; `module:attribute` is code
and is resolved only where it runs.
"""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from synthgen.config.strict_yaml import Document, KeyPath, parse
from synthgen.errors import Mistakes, UserMistake, guess, nearest

KINDS: Mapping[str, str] = {
    "pipeline": "pipelines",
    "mapping": "pipelines/mappings",
    "tagger": "taggers",
    "taxonomy": "taggers/taxonomies",
    "prompts": "prompts",
    "family": "prompts/families",
}

Checked = TypeVar("Checked", bound="Section")


class Section(BaseModel):
    """Part of a shelf file: unknown keys are refused, values are frozen, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def shipped() -> Path:
    """The folder that holds our shelves: inside the wheel, or the repository when installed from it."""
    package = Path(__file__).parents[1]
    library = package / "library"
    return library if library.is_dir() else package.parent


def folders(kind: str) -> list[Path]:
    """Where files of a kind are looked for, the user's working folder first."""
    return [Path.cwd() / KINDS[kind], shipped() / KINDS[kind]]


def names(kind: str) -> dict[str, Path]:
    """Every name of a kind and the file that it stands for; the user's file wins over ours."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def shadowed(kind: str, name: str) -> Path | None:
    """Our file that the user's file of the same name stands in for, if that is so."""
    mine, ours = (folder / f"{name}.yaml" for folder in folders(kind))
    return ours if mine.is_file() and ours.is_file() and not mine.samefile(ours) else None


def find(kind: str, name: str) -> Path:
    """The file of a name; a path that ends in .yaml is taken as it is."""
    if name.endswith(".yaml"):
        if Path(name).is_file():
            return Path(name)
        raise UserMistake(f"{kind} {name}: no such file")
    known = names(kind)
    if name not in known:
        raise UserMistake(f"{kind} '{name}' is unknown: {nearest(name, known)} (`synth list {kind}` shows all)")
    return known[name]


def named(kind: str, document: Document, place: KeyPath, faults: list[str]) -> list[str]:
    """The names of files that a document says at a place; those that no shelf has join the faults, with their lines."""
    found = []
    said = {} if isinstance(document.at(place), Mapping) else document.words(place)  # keys with values name no file
    for where, name in said.items():
        try:
            find(kind, name)
        except UserMistake as mistake:
            faults.append(f"{document.where(where)}: {mistake}")
        else:
            found.append(name)
    return found


def vacant(kind: str, name: str) -> Path:
    """Where a new file of the user's goes; a name that is none, or that is taken on the user's shelf, is a mistake."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserMistake(f"{name}: is not a name for a file; use letters, digits, - and _")
    path = Path(KINDS[kind]) / f"{name}.yaml"
    if path.exists():
        raise UserMistake(f"{path}: exists already; choose another name")
    return path


def write_new(path: Path, text: str) -> None:
    """Writes a file where none is, whoever else is trying to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserMistake(f"{path}: exists already; choose another name") from None


def load(kind: str, name: str) -> Document:
    """Reads a shelf file; every fault of its YAML is one line with file and line number."""
    path = find(kind, name)
    return parse(path, read(path))


def read(path: Path) -> str:
    """The text of a shelf file; one that cannot be read or is no text is told in one line."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserMistake(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UserMistake(f"{path}: cannot be read: {error.strerror}") from error


def about(kind: str, path: Path) -> str:
    """What a file says it is about, or what is wrong with it."""
    try:
        document = load(kind, str(path))
    except UserMistake as error:
        return str(error).splitlines()[0]
    return document.faults[0] if document.faults else str(document.at(("about",)) or "")


def check(document: Document, model: type[Checked]) -> Checked:
    """The document as a `model`, or all that is wrong with it, a line each."""
    try:
        found = model.model_validate(document.values)
    except ValidationError as error:
        raise Mistakes([*document.faults, *_lines_of(document, model, error)]) from error
    if document.faults:
        raise Mistakes(document.faults)
    return found


def code(name: str) -> Any:
    """What `module:attribute` names. Imports the user's code, so only `run` and `preview` call it, and on a worker."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UserMistake(
            f"{name}: cannot import {module} ({error}); is its folder the working folder, or installed?"
        ) from error
    except AttributeError as error:
        raise UserMistake(f"{name}: module {module} has no '{attribute}'") from error


def _lines_of(document: Document, model: type[Section], error: ValidationError) -> Iterator[str]:
    """A line for each fault; where a value could be of several kinds and is of none, pydantic finds a fault with each.

    A key that is missing is not told where an unknown one beside it is told to be meant for it.
    """
    wrong: dict[KeyPath, list[Any]] = {}
    missing: list[KeyPath] = []
    meant: list[KeyPath] = []
    for fault in error.errors():
        place = _place_of(document, fault)
        if fault["type"] == "extra_forbidden":
            key, known = str(place[-1]), _fields_at(model, fault["loc"][:-1])
            meant.append((*place[:-1], guess(key, known) or key))
            yield f"{document.where(place)}: unknown key '{key}' in {_dotted(place[:-1])}: {nearest(key, known)}"
        elif fault["type"] == "missing":
            missing.append(place)
        else:
            wrong.setdefault(place, []).append(fault)
    yield from (f"{document.where(place)}: {_dotted(place)} is missing" for place in missing if place not in meant)
    for place, faults in wrong.items():
        # An entry that is wrong is not counted, so a list of them seems too short.
        if faults[0]["type"] == "too_short" and any(other[: len(place)] == place for other in wrong if other != place):
            continue
        said = " or ".join(dict.fromkeys(_said(fault) for fault in faults))
        yield f"{document.where(place)}: {_dotted(place)}: {said}{_given(faults[0])}"


def _dotted(place: KeyPath) -> str:
    return ".".join(str(part) for part in place) or "the file"


def _place_of(document: Document, fault: Any) -> KeyPath:
    """The keys that lead to a fault. Pydantic names the members of unions on the way too, which are no keys."""
    place: KeyPath = ()
    value = document.values
    for part in fault["loc"]:
        if (isinstance(value, Mapping) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            place, value = (*place, part), value[part]
    return (*place, fault["loc"][-1]) if fault["type"] == "missing" else place


_WORDS: Mapping[str, str] = {
    "dict_type": "must be keys with values",
    "mapping_type": "must be keys with values",
    "model_type": "must be keys with values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "string_too_short": "must say something",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def _said(fault: Any) -> str:
    """Pydantic's message in the words of a text file."""
    if fault["type"] == "too_short":
        return f"needs at least {fault['ctx']['min_length']} entries"
    if fault["type"] == "value_error":  # of a check of ours; it may begin with a name of the user's
        return str(fault["msg"]).removeprefix("Value error, ")
    message = str(fault["msg"]).replace("Input should be", "must be", 1)
    return _WORDS.get(fault["type"], f"{message[:1].lower()}{message[1:]}")


def _given(fault: Any) -> str:
    """What was given instead; a check of ours says it by itself."""
    value = fault["input"]
    if fault["type"] == "value_error":
        return ""
    if value is None:
        return ", not left empty"
    if isinstance(value, str | int | float):
        text = str(value).lower() if isinstance(value, bool) else repr(value)
        return f", not {text if len(text) <= 60 else text[:57] + '…'}"
    if fault["type"] == "too_short":
        return f", not {len(value)}"
    return ", not a list" if isinstance(value, list) else ", not keys with values" if isinstance(value, Mapping) else ""


def _fields_at(model: type[Section], place: KeyPath) -> list[str]:
    """The keys that a section allows, found by walking the annotations down `place`, in which unions name the member that was meant."""
    kinds: list[Any] = [model]
    for part in place:
        below = [kind.model_fields[part].annotation for kind in kinds if part in kind.model_fields]
        kinds = [kind for annotation in below for kind in _sections_in(annotation)] or kinds
        kinds = [kind for kind in kinds if kind.__name__ == part] or kinds
    return [name for kind in kinds for name in kind.model_fields]


def _sections_in(annotation: Any) -> list[Any]:
    """The sections that an annotation speaks of, however deep inside."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _sections_in(part)]
