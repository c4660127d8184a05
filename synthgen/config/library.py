"""The definition files that users edit: found by name, read, and checked against a pydantic model.

A bare name such as `everyday` is a file in the folder of its kind, first below the user's home, then among the files
that ship with synthgen. Home is the working folder that a run was started in. It is passed as a value, so that a
command on a run works in any folder; the default, `Path()`, is the working folder of this process, and leaves a path as
it was typed. A check reports every mistake in a file at once, each with its line and the nearest valid name.
`module:attribute` names code and is imported only where it runs.
"""

import importlib
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from synthgen.config.messages import describe_faults
from synthgen.config.strict_yaml import Document, KeyPath, parse
from synthgen.errors import Mistakes, SynthError, UserMistake, nearest, one_line

KINDS: Mapping[str, str] = {  # kind -> its folder, at home and among the shipped files
    "pipeline": "pipelines",
    "mapping": "pipelines/mappings",
    "mixture": "pipelines/mixtures",
    "recipe": "pipelines/recipes",
    "tagger": "taggers",
    "taxonomy": "taggers/taxonomies",
    "prompts": "prompts",
    "family": "prompts/families",
}

LARGEST = 10**15  # of whole numbers; 64 bits hold sums and products of them with what is counted

Checked = TypeVar("Checked", bound="Section")


def _make_strict(schema: Any) -> None:
    """Bound the whole numbers of a pydantic schema, and leave out conversions between numbers, text and booleans."""
    # Pydantic's own `strict` would also refuse a YAML list where a tuple is expected.
    if isinstance(schema, dict):
        if schema.get("type") in ("bool", "int", "float"):
            schema["strict"] = True
        if schema.get("type") == "int":
            schema.setdefault("le", LARGEST)
            schema.setdefault("ge", -LARGEST)
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list | tuple) else ()
    for part in parts:
        _make_strict(part)


class Section(BaseModel):
    """Part of a definition file: unknown keys are refused, values are frozen, numbers are finite.

    A value has the type of its key as it is written: `true` and "3" are no numbers, and 1 is not `true`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return what pydantic checks, with its conversions between numbers, text and booleans left out."""
        schema = handler(source)
        _make_strict(schema)
        return schema


def shipped_folder() -> Path:
    """Return the folder of the shipped files: inside the wheel, or the repository when installed from it."""
    package = Path(__file__).parents[1]
    library = package / "library"
    return library if library.is_dir() else package.parent


def folders(kind: str, home: Path = Path()) -> list[Path]:
    """Return the folders that are searched for files of a kind, the user's first."""
    return [home.absolute() / KINDS[kind], shipped_folder() / KINDS[kind]]


def names(kind: str, home: Path = Path()) -> dict[str, Path]:
    """Return every name of a kind with its file; the user's file wins over the shipped one."""
    files: dict[str, Path] = {}
    for folder in folders(kind, home):
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def shadowed_file(kind: str, name: str) -> Path | None:
    """Return the shipped file that the user's file of the same name replaces, if there is one."""
    own, shipped = (folder / f"{name}.yaml" for folder in folders(kind))
    return shipped if own.is_file() and shipped.is_file() and not own.samefile(shipped) else None


def find(kind: str, name: str, home: Path = Path()) -> Path:
    """Return the file of a name; one that ends in .yaml is a path."""
    if name.endswith(".yaml"):
        if (home / name).is_file():
            return home / name
        raise UserMistake(f"{kind} {name}: no such file")
    known = names(kind, home)
    if name not in known:
        raise UserMistake(f"{kind} '{name}' is unknown: {nearest(name, known)} (`synth list {kind}` shows all)")
    return known[name]


def known_names(kind: str, document: Document, place: KeyPath, faults: list[str]) -> list[str]:
    """Return the names at a place of a document that have a file of this kind; add a fault for each other name."""
    known = []
    for name_place, name in document.names_at(place).items():
        try:
            find(kind, name, document.home)
        except UserMistake as mistake:
            faults.append(f"{document.where(name_place)}: {mistake}")
        else:
            known.append(name)
    return known


def new_path(kind: str, name: str) -> Path:
    """Return the path for a new file of the user's; raise if the name is invalid or already taken there."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserMistake(f"{name}: is not a valid file name; use letters, digits, - and _")
    path = Path(KINDS[kind]) / f"{name}.yaml"
    if path.exists():
        raise UserMistake(f"{path}: already exists; choose another name")
    _check_writable(path.parent)
    return path


def _check_writable(folder: Path) -> None:
    """Raise UserMistake if no file can be written in a folder: known now, no hour of work is lost to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        where = f"{folder}/ in {Path.cwd()}"
        raise UserMistake(f"{where}: cannot be written ({error.strerror}); change into a folder of your own") from error


def write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet, even if another process tries the same.

    Raises:
        UserMistake: It exists.
        SynthError: The disk failed. The text is kept in another file, which the message names.
    """
    is_ours = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            is_ours = True
            file.write(text)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            raise UserMistake(f"{path}: already exists; choose another name") from None
        if is_ours:
            path.unlink(missing_ok=True)
        raise _not_written(path, error, text) from error


def _not_written(path: Path, error: OSError, text: str) -> SynthError:
    """Keep the text in a temporary file, and return the error that names it."""
    why = f"{path}: cannot be written ({error.strerror})"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="synth-", suffix=".yaml", delete=False, encoding="utf-8") as kept:
            kept.write(text)
    except OSError:
        return SynthError(f"{why}, and neither can a temporary file; free some space and run the command again")
    return SynthError(f"{why}; its text is kept in {kept.name}: move it here when that is fixed")


def check_loads(text: str, load_file: Callable[[str], object]) -> None:
    """Load the text of a new file as a run will, before it is written; raise the mistakes in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.yaml"
        path.write_text(text, encoding="utf-8")
        load_file(str(path))


def load(kind: str, name: str, home: Path = Path()) -> Document:
    """Read a definition file as YAML, without checking its keys."""
    path = find(kind, name, home)
    return parse(path, read(path), home)


def read(path: Path) -> str:
    """Return the text of a definition file; raise a mistake of one line if it cannot be read as text."""
    if path.is_fifo() or path.is_char_device():
        raise UserMistake(f"{path}: is not a regular file")  # a pipe would wait for its writer for ever
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserMistake(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UserMistake(f"{path}: cannot be read: {error.strerror}") from error


def about(kind: str, path: Path) -> str:
    """Return the `about` line of a file, or the first mistake in its YAML."""
    try:
        document = parse(path, read(path))
    except UserMistake as error:
        return str(error).splitlines()[0]
    return document.faults[0] if document.faults else str(document.at(("about",)) or "")


def check(document: Document, model: type[Checked]) -> Checked:
    """Return the document as a `model`.

    Raises:
        Mistakes: Every mistake in the file, one a line.
    """
    try:
        checked = model.model_validate(document.values)
    except ValidationError as error:
        raise Mistakes([*document.faults, *describe_faults(document, model, error)]) from error
    if document.faults:
        raise Mistakes(document.faults)
    return checked


def import_attribute(name: str, what: str = "") -> Any:
    """Return the object that `module:attribute` names.

    This imports the user's code, so call it only in the process that is to run it.

    Args:
        name: The module and the attribute.
        what: What the object is for, for messages, such as "tagger 'mine'".

    Raises:
        UserMistake: There is no such module or attribute, or the module fails on import; then its place is named.
    """
    module, _, attribute = name.partition(":")
    try:
        imported = importlib.import_module(module)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise UserMistake(f"{what or name}: cannot import {module}{_import_fault(name, error)}") from error
    if not hasattr(imported, attribute):
        raise UserMistake(f"{what or name}: module {module} has no '{attribute}'")
    return getattr(imported, attribute)


def _import_fault(name: str, error: BaseException) -> str:
    """Return the end of a message about a module that does not import: absent, or with a fault of its own."""
    module = name.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return f" ({error}); start from the folder that contains it, or install it"
    return f": {one_line(error)}{place_in_module(error, name)}; fix it there"


def place_in_module(error: BaseException, name: str) -> str:
    """Return the last line of the module of `module:attribute` that the error passed; a SyntaxError names its own."""
    module, ours = name.partition(":")[0].replace(".", "/"), str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    in_module = [frame for frame in frames if module in frame.filename and not frame.filename.startswith(ours)]
    return f" ({Path(in_module[-1].filename).name}:{in_module[-1].lineno})" if in_module else ""
