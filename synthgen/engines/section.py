"""Checks what a pipeline or a tagger file says of its engine, beyond the types of the values.

Only here are the kinds of engine known, so config/engine.py takes any word as a kind.
"""

from functools import partial
from typing import Any

from pydantic import Field, ValidationError, create_model

from synthgen.config import library
from synthgen.config.engine import EngineConfig
from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.engines.kinds import EngineKind, engine_kind
from synthgen.errors import UserMistake, attempt


class _Lenient(Section, extra="ignore"):
    """A section of which one key is checked."""


def engine_faults(document: Document, place: KeyPath) -> list[str]:
    """Return every mistake in the section of an engine that only its kind can tell, one line each.

    Args:
        document: A pipeline or a tagger file; mistakes elsewhere in it do not matter.
        place: The keys that lead to the section.
    """
    faults: list[str] = []
    kind = attempt(faults, partial(kind_at, document, place))
    if kind is None:
        return faults
    if document.at((*place, "script")) and document.at((*place, "kind")) != "scripted":
        faults.append(f"{_where(document, (*place, 'script'))}: is of kind scripted; write kind: {kind.name} instead")
    if kind.options:
        attempt(faults, partial(library.check, document, _file_with((*place, "options"), kind.options)))
    settings = _settings(document, place)
    if settings and kind.settings_fault and (fault := kind.settings_fault(settings)):
        faults.append(f"{document.where((*place, 'kind'))}: {_dotted(place)}: {fault}")
    return faults


def kind_at(document: Document, place: KeyPath) -> EngineKind:
    """Return the kind of engine that a file names.

    Args:
        document: A pipeline or a tagger file.
        place: The keys that lead to the section of the engine.

    Raises:
        UserMistake: No engine is of that kind; one line with the file and line.
    """
    key = "script" if document.at((*place, "script")) else "kind"
    name = document.at((*place, key))
    if not isinstance(name, str):  # absent, or not text, which the file's own check reports
        name = EngineConfig().kind
    try:
        return engine_kind(name)
    except UserMistake as mistake:
        raise UserMistake(f"{_where(document, (*place, key))}: {mistake}") from mistake


def _where(document: Document, place: KeyPath) -> str:
    return f"{document.where(place)}: {_dotted(place)}"


def _dotted(place: KeyPath) -> str:
    return ".".join(map(str, place))


def _settings(document: Document, place: KeyPath) -> EngineConfig | None:
    """Return the section as settings; None if their types are wrong, which the file's own check reports."""
    try:
        return EngineConfig.model_validate(document.at(place) or {})
    except ValidationError:
        return None


def _file_with(place: KeyPath, section: type[Section]) -> type[Section]:
    """Return the model of a file that has a section at a place, and anything elsewhere."""
    for key in reversed(place):
        field: dict[str, Any] = {str(key): (section, Field(default_factory=dict, validate_default=True))}
        section = create_model(str(key), __base__=_Lenient, **field)
    return section
