"""One line for each fault that pydantic finds in a definition file: where it is, what is wrong, what was given.

Pydantic describes Python values. These messages describe the file: `file:line`, the dotted key, and for an unknown key
the nearest valid one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.errors import guess, nearest, one_line

_WORDS: Mapping[str, str] = {
    "dict_type": "must be keys with values",
    "mapping_type": "must be keys with values",
    "model_type": "must be keys with values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "string_too_short": "must be non-empty text",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def describe_faults(document: Document, model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """Yield a line for each fault in a document that is not a valid `model`.

    Pydantic reports a value that fits no member of a union once for each member; those become one line. A missing key
    is not reported where an unknown key beside it is probably a misspelling of it.
    """
    wrong: dict[KeyPath, list[Any]] = {}
    missing: list[KeyPath] = []
    misspelt: list[KeyPath] = []
    for fault in error.errors():
        place = _place_of(document, fault)
        if fault["type"] == "extra_forbidden":
            key, sections = str(place[-1]), _sections_at(model, fault)
            known = [name for section in sections for name in section.model_fields]
            misspelt.append((*place[:-1], guess(key, known) or key))
            deeper = [".".join(map(str, (*place[:-1], *found))) for found in _places_of(key, sections)]
            hint = f"did you mean '{deeper[0]}'?" if len(deeper) == 1 else nearest(key, known)
            above = f" in {_dotted(place[:-1])}" if len(place) > 1 else ""
            yield f"{document.where(place)}: unknown key '{one_line(key)}'{above}: {hint}"
        elif fault["type"] == "missing":
            missing.append(place)
        else:
            wrong.setdefault(place, []).append(fault)
    for place in missing:
        if place not in misspelt:
            yield f"{document.where(place)}: {_dotted(place)} is missing"
    for place, faults in wrong.items():
        # Pydantic does not count entries that are wrong, so a list of them also seems too short.
        if faults[0]["type"] == "too_short" and any(_is_below(other, place) for other in wrong):
            continue
        problems = " or ".join(dict.fromkeys(_problem(fault) for fault in faults)).replace(" or must be ", " or ")
        yield f"{document.where(place)}: {_dotted(place)}: {problems}{_value_given(faults[0])}"


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that an annotation mentions, however deep inside it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def _dotted(place: KeyPath) -> str:
    return one_line(".".join(str(part) for part in place)) or "the file"


def _is_below(place: KeyPath, other: KeyPath) -> bool:
    return place != other and place[: len(other)] == other


def _place_of(document: Document, fault: Any) -> KeyPath:
    """Return the keys that lead to a fault, without the union members that pydantic names among them."""
    place: KeyPath = ()
    value = document.values
    for part in fault["loc"]:
        # A list of a fixed length may lack the item at fault.
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_item or (isinstance(value, Mapping) and part in value):
            place, value = (*place, part), value[part]
    return (*place, fault["loc"][-1]) if fault["type"] == "missing" else place


def _problem(fault: Any) -> str:
    """Return pydantic's message in the words of a definition file."""
    message = str(fault["msg"])
    if fault["type"] == "too_short":
        least = fault["ctx"]["min_length"]
        return f"needs at least {least} {'entry' if least == 1 else 'entries'}"
    if fault["type"] == "too_long":
        return f"takes at most {fault['ctx']['max_length']} entries"
    if fault["type"] == "value_error":  # raised by our own validators; it may begin with a name that the user chose
        return message.removeprefix("Value error, ")
    message = message.replace("Input should be", "must be", 1)
    return _WORDS.get(fault["type"], f"{message[:1].lower()}{message[1:]}")


def _value_given(fault: Any) -> str:
    """Return `, not VALUE`; our own validators quote the value themselves."""
    value = fault["input"]
    if fault["type"] == "value_error":
        return ""
    if value is None:
        return ", not left empty"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, str | int | float):
        text = repr(value)
        return f", not {text if len(text) <= 60 else text[:57] + '…'}"
    if fault["type"] in ("too_short", "too_long"):
        return f", not {len(value)}"
    if isinstance(value, list):
        return ", not a list"
    return ", not keys with values" if isinstance(value, Mapping) else ""


def _places_of(key: str, sections: Sequence[type[BaseModel]]) -> list[tuple[str, ...]]:
    """Return where a key stands in the sections inside some sections, however deep."""
    inside = {
        name: field.annotation
        for section in sections
        for name, field in section.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    here = [(name, key) for name, section in inside.items() if key in section.model_fields]
    deeper = [(name, *place) for name, section in inside.items() for place in _places_of(key, [section])]
    return [*here, *deeper]


def _sections_at(model: type[BaseModel], fault: Any) -> list[type[BaseModel]]:
    """Return the sections that may stand where a fault is: several in a union, whose member its place also names."""
    sections: list[type[BaseModel]] = [model]
    for part in fault["loc"][:-1]:
        annotations = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
        sections = [below for annotation in annotations for below in sections_in(annotation)] or sections
        sections = [section for section in sections if section.__name__ == part] or sections
    return sections
