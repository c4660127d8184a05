"""Settings that replace those of a pipeline's file: `--set section.key=value`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from synthgen.config.selection import KeepRule
from synthgen.config.strict_yaml import Document, parse
from synthgen.errors import UserMistake, is_whole_text, one_line

ENGINES = (("generate", "engine"), ("generate", "ask", "engine"), ("generate", "answer", "engine"))
BOUNDS = tuple(KeepRule.model_fields)  # the keys of a threshold
LONGEST_TYPED = 300  # characters of an override in a message


def with_override(document: Document, override: str) -> Document:
    """Return the document with one key replaced; the value is read as YAML, as in the file.

    Raises:
        UserMistake: The override is not `section.key=value`, or its value is not YAML.
    """
    typed = f"--set {one_line(redact(override), LONGEST_TYPED)}"
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise UserMistake(f"{typed}: write it as section.key=value")
    if not is_whole_text(override):
        raise UserMistake(f"{typed}: is not UTF-8 text")
    try:
        parsed = parse(document.path, text)
    except UserMistake as error:
        reason = str(error).partition("invalid YAML: ")[2]
        raise UserMistake(f"{typed}: the value is not valid YAML ({reason}); put it in quotes if it is text") from error
    if parsed.faults:
        raise UserMistake(f"{typed}: a key of the value is given twice")
    keys = keys_of(dotted, is_bound=bool(text) and not isinstance(parsed.values, Mapping))
    lines = {place: line for place, line in document.lines.items() if place[: len(keys)] != keys}
    for depth in range(1, len(keys) + 1):
        lines.setdefault(keys[:depth], typed)
    value = parsed.values if text else ""
    return replace(document, values=_replace_at(document.values, keys, value, typed), lines=lines)


def keys_of(dotted: str, is_bound: bool = False) -> tuple[str, ...]:
    """Return the keys that lead to a setting; the score of a pass in `select.keep.second.answer.min` is one of them.

    Args:
        dotted: The keys with dots between them.
        is_bound: The value is that of one bound and no section, so that the last key of a threshold names the bound.
    """
    keys = tuple(dotted.split("."))
    start = 3 if keys[:1] == ("views",) else 2  # the keys of a threshold are below `select.keep` or `views.NAME.keep`
    if keys[start - 1 : start] != ("keep",) or keys[0] not in ("select", "views"):
        return keys
    ends = keys[-1:] if keys[-1] in BOUNDS or (is_bound and len(keys) > start + 1) else ()
    name = ".".join(keys[start : len(keys) - len(ends)])
    return (*keys[:start], *filter(None, [name]), *ends)


def check_engine_kind(before: Document, after: Document, default: str) -> None:
    """Check that overrides which name another kind of engine replace its options too.

    Args:
        before: The pipeline as its file has it.
        after: The same with the overrides.
        default: The kind of an engine that names none.

    Raises:
        UserMistake: The options are those of the old kind.
    """
    passes = after.at(("score",))
    of_passes = [("score", name, "engine") for name in passes] if isinstance(passes, Mapping) else []
    for place in (*ENGINES, *of_passes):
        kind, beside = (*place, "kind"), (*place, "options")
        old, new, options = before.at(kind) or default, after.at(kind), after.at(beside)
        if old == new or not options or options != before.at(beside):
            continue
        section = f"'{'.'.join(place)}={{kind: {new}}}'"
        raise UserMistake(
            f"{after.where(kind)}: the options beside it ({', '.join(map(str, options))}) are of kind "
            f"{old}; replace the whole section, as --set {section}"
        )


def check_model_is_used(document: Document, overrides: Sequence[str]) -> None:
    """Check that overrides do not name the main model where others ask and answer.

    Raises:
        UserMistake: They do, and it would do nothing.
    """
    parts = [document.at(("generate", part)) for part in ("ask", "answer")]
    if all(parts) and any(override.startswith("generate.model=") for override in overrides):
        raise UserMistake(
            "--model names generate.model, which does nothing here: generate.ask and generate.answer name the models "
            "that ask and answer; use --set generate.ask.model=… or --set generate.answer.model=…"
        )


def redact(text: str) -> str:
    """Return typed text for a message, without the parts of URIs that can hold passwords and signatures."""
    return re.sub(r"\?[^\s'\"\]]*", "?…", re.sub(r"://[^\s/@]+@", "://…@", text))


def _replace_at(values: Any, keys: tuple[str, ...], value: Any, typed: str, depth: int = 0) -> Any:
    """Return the values with `value` at `keys`, of which the first `depth` lead to `values`."""
    if depth == len(keys):
        return value
    key = keys[depth]
    if not isinstance(values, Mapping):
        above = ".".join(keys[:depth]) or "the file"
        raise UserMistake(f"{typed}: '{key}' cannot be set, because {above} has no keys")
    return {**values, key: _replace_at(values.get(key, {}), keys, value, typed, depth + 1)}
