"""Reads the YAML of a text file strictly, with the line of every key.

Comes in: text. Goes out: a Document. YAML is read strictly because its leniency costs data: PyYAML lets a repeated key win
silently and reads `no` as False. Here a repeated key is an error, keys are text, only `true` and `false` are booleans. Aliases,
explicit tags and very deep nesting are refused: no shelf file needs them, and a few lines of them can keep a reader busy for ever.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from synthgen.errors import UserMistake

QUOTES = 'wants quotes, as "**" and "**/scene"'  # else YAML takes it for the name of another place
NOT_IN_LINE = "is not indented as its neighbours are"
PLAIN = (  # what a problem of PyYAML's most often comes of
    (r"expected (<block end>|'<document start>'), but found '(<block|\?|-)", f"the line {NOT_IN_LINE}"),
    (r"mapping values are not allowed", f"a ': ' inside a text, which wants quotes then, or a line that {NOT_IN_LINE}"),
    (
        r"sequence entries are not allowed",
        f"a '- ' inside a text, which wants quotes then, or a line that {NOT_IN_LINE}",
    ),
    (r"could not find expected ':'", f"the line has no ': ' behind a key, or {NOT_IN_LINE}"),
    (r"found character '\\t'", "a tab; indent with blanks"),
    (r"found character '(.)'", r"a text that begins with \1 wants quotes"),
    (r"expected ',' or '(.)', but got '<stream end>'", r"a bracket is never closed; \1 is missing"),
    (
        r"expected ',' or '(.)', but got '(.*)'",
        r"\2 where , or \1 should be; a text with signs in it wants quotes inside brackets",
    ),
)
DEEPEST = 60  # levels of a file; the deepest of ours has 9

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A YAML file as read: its values, and the line of each key for messages."""

    path: Path
    values: Any
    lines: Mapping[KeyPath, int | str] = field(repr=False)  # a text where the value did not come from the file
    faults: tuple[str, ...] = ()  # what is wrong with how it is written; told with all that `check` finds

    def where(self, place: KeyPath) -> str:
        """`file:line` of a key, or of the nearest one that encloses it."""
        while place not in self.lines and place:
            place = place[:-1]
        line = self.lines.get(place, 1)
        return line if isinstance(line, str) else f"{self.path}:{line}"

    def at(self, place: KeyPath) -> Any:
        """The value at a place, whatever is wrong elsewhere; None if there is none."""
        value = self.values
        for part in place:
            is_there = (
                part in value if isinstance(value, Mapping) else isinstance(value, list) and part in range(len(value))
            )
            value = value[part] if is_there else None
        return value

    def words(self, place: KeyPath) -> dict[KeyPath, str]:
        """The names that are said at a place, each with its own: a text, the texts of a list, or the keys."""
        value = self.at(place)
        if isinstance(value, list):
            return {(*place, number): one for number, one in enumerate(value) if isinstance(one, str)}
        if isinstance(value, Mapping):
            return {(*place, key): key for key in value}
        return {place: value} if isinstance(value, str) else {}


def parse(path: Path, text: str) -> Document:
    """YAML text as a Document; `path` is for messages."""
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        lines: dict[KeyPath, int | str] = {}
        repeats = [f"{path}:{line}: key '{key}' is given twice" for key, line in _walk(node, (), lines)] if node else []
        return Document(path, loader.construct_document(node) if node else {}, lines, tuple(repeats))
    except yaml.YAMLError as error:
        raise UserMistake(f"{path}:{_line_of_fault(error, text)}: is not YAML: {_problem(error)}") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserMistake(f"{path}: is not YAML: {error}") from error


def _line_of_fault(error: yaml.YAMLError, text: str) -> int:
    if isinstance(error, ReaderError):
        return text.count("\n", 0, error.position) + 1
    is_before = (
        getattr(error, "context", None) == "while scanning a simple key"
    )  # the problem is seen on the line after
    mark = getattr(error, "context_mark" if is_before else "problem_mark", None)
    return mark.line + 1 if mark else 1


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, ReaderError):
        return f"the character U+{error.character:04X} may not stand in a text file"
    told = str(getattr(error, "problem", None) or error)
    if getattr(error, "context", None) == "while scanning an alias":
        return f"a word that begins with * {QUOTES}"
    return next((found.expand(words) for pattern, words in PLAIN if (found := re.match(pattern, told))), told)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader whose plain scalars are what they look like: `no`, `on` and `12:30` stay text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; what a shelf file has no use for is refused here, before it can cost anything."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"aliases (*name) are not used in shelf files; a pattern that begins with * {QUOTES}", event)
        if getattr(event, "tag", None) is not None:
            raise _refused(
                f"tags such as {event.tag.replace('tag:yaml.org,2002:', '!!')} are not used in shelf files", event
            )
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        if is_key and not isinstance(event, yaml.ScalarEvent):
            raise _refused("a key must be a word", event)
        if self.depth >= DEEPEST:
            raise _refused(f"nested more than {DEEPEST} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_key and node is not None:
            node.tag = "tag:yaml.org,2002:str"
        return node


def _refused(problem: str, event: Any) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, problem, event.start_mark)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+(?:\.[0-9]+)?[eE][-+]?[0-9]+$",
        "-+.0123456789",
    ),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _walk(node: yaml.Node, place: KeyPath, lines: dict[KeyPath, int | str]) -> list[tuple[str, int]]:
    """Notes the line of every key below a node; returns the keys that are given twice."""
    lines[place] = node.start_mark.line + 1
    repeats: list[tuple[str, int]] = []
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            repeats += _walk(item, (*place, index), lines)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                repeats.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
            repeats += _walk(value, (*place, key.value), lines)
            lines[(*place, key.value)] = key.start_mark.line + 1
    return repeats
