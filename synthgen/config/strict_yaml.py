"""A strict YAML reader that keeps the line of every key.

PyYAML is lenient where it costs data: a repeated key wins silently, and `no` is read as False. Here a repeated key is
an error, every key is text, and only `true` and `false` are booleans. Aliases, type tags and very deep nesting are
refused: no definition file needs them, and a few lines of them can keep a parser busy for ever.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from synthgen.errors import UserMistake

QUOTES = 'needs quotes, as in "**" or "**/scene"'  # without them YAML reads * as an alias
MISALIGNED = "is not indented like the lines around it"
NEEDS_QUOTES_OR_INDENT = f"in text, which then needs quotes, or a line that {MISALIGNED}"
EXPLANATIONS = (  # PyYAML's message -> the mistake that most often causes it
    (r"expected (<block end>|'<document start>'), but found '(<block|\?|-)", f"the line {MISALIGNED}"),
    (r"mapping values are not allowed", f"a ': ' {NEEDS_QUOTES_OR_INDENT}"),
    (r"sequence entries are not allowed", f"a '- ' {NEEDS_QUOTES_OR_INDENT}"),
    (r"could not find expected ':'", f"the line has no ': ' after a key, or {MISALIGNED}"),
    (r"found character '\\t'", "a tab; indent with spaces"),
    (r"found character '(.)'", r"text that begins with \1 needs quotes"),
    (r"expected ',' or '(.)', but got '<stream end>'", r"a bracket is never closed; \1 is missing"),
    (
        r"expected ',' or '(.)', but got '(.*)'",
        r"\2 in place of , or \1; text with punctuation needs quotes inside brackets",
    ),
)
MOST_DIGITS = 100  # of a whole number; Python reads no thousands of them
DEEPEST = 60  # levels of nesting; the deepest shipped file has 9

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A YAML file as read: its values, and the line of each key for error messages.

    Attributes:
        lines: The line of each key; text for a value that did not come from the file.
        faults: Mistakes in the YAML itself, reported with those that `library.check` finds.
        home: The folder that the names and relative paths in it start from, wherever the file itself is.
    """

    path: Path
    values: Any
    lines: Mapping[KeyPath, int | str] = field(repr=False)
    faults: tuple[str, ...] = ()
    home: Path = Path()

    def where(self, place: KeyPath) -> str:
        """Return `file:line` of a key, or of the nearest key that encloses it."""
        while place not in self.lines and place:
            place = place[:-1]
        line = self.lines.get(place, 1)
        return line if isinstance(line, str) else f"{self.path}:{line}"

    def at(self, place: KeyPath) -> Any:
        """Return the value at a place, or None; mistakes elsewhere in the file do not matter."""
        value = self.values
        for part in place:
            if isinstance(value, Mapping):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part in range(len(value)):
                value = value[part]
            else:
                return None
        return value

    def names_at(self, place: KeyPath) -> dict[KeyPath, str]:
        """Return the names at a place, each by its own place: a text, the texts of a list, or the keys of a mapping."""
        value = self.at(place)
        if isinstance(value, list):
            return {(*place, number): item for number, item in enumerate(value) if isinstance(item, str)}
        if isinstance(value, Mapping):
            return {(*place, key): key for key in value}
        return {place: value} if isinstance(value, str) else {}


def parse(path: Path, text: str, home: Path = Path()) -> Document:
    """Read YAML text as a Document; `path` is only used in messages, and `home` only kept.

    Raises:
        UserMistake: The text is not YAML. Repeated keys do not raise; they are among the document's faults.
    """
    try:
        try:
            return _document(_FastLoader(text), path, home)
        except (yaml.YAMLError, UnicodeError):  # the other one says what is wrong
            return _document(_StrictLoader(text), path, home)
    except yaml.YAMLError as error:
        raise UserMistake(f"{path}:{_line_of(error, text)}: invalid YAML: {_explain(error)}") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserMistake(f"{path}: invalid YAML: {error}") from error


def _document(loader: Any, path: Path, home: Path) -> Document:
    node = loader.get_single_node()
    if node is None:
        return Document(path, {}, {}, home=home)
    lines: dict[KeyPath, int | str] = {}
    repeats = _collect_lines(node, (), lines)
    faults = tuple(f"{path}:{line}: key '{key}' is given twice" for key, line in repeats)
    return Document(path, loader.construct_document(node), lines, faults, home)


def _line_of(error: yaml.YAMLError, text: str) -> int:
    if isinstance(error, ReaderError):
        return text.count("\n", 0, error.position) + 1
    # A key without a colon is only noticed on the line after it.
    is_on_line_before = getattr(error, "context", None) == "while scanning a simple key"
    mark = getattr(error, "context_mark" if is_on_line_before else "problem_mark", None)
    return mark.line + 1 if mark else 1


def _explain(error: yaml.YAMLError) -> str:
    if isinstance(error, ReaderError):
        return f"the character U+{error.character:04X} is not allowed"
    if getattr(error, "context", None) == "while scanning an alias":
        return f"text that begins with * {QUOTES}"
    problem = str(getattr(error, "problem", None) or error)
    for pattern, explanation in EXPLANATIONS:
        if match := re.match(pattern, problem):
            return match.expand(explanation)
    return problem


class _Resolver(yaml.resolver.Resolver):
    """What plain text means, without YAML 1.1's surprises: `no`, `on` and `12:30` stay text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol


class _StrictComposer(yaml.composer.Composer):
    """A composer that refuses what a definition file must not have."""

    depth = 0
    peek_event: Any  # of the parser

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; refuse unsupported YAML here, before it can cost time or memory."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(f"aliases (*name) are not allowed; a pattern that begins with * {QUOTES}", event)
        if getattr(event, "tag", None) is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _refusal(f"type tags such as {tag} are not allowed", event)
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        if is_key and not isinstance(event, yaml.ScalarEvent):
            raise _refusal("a key must be plain text", event)
        if self.depth >= DEEPEST:
            raise _refusal(f"nested more than {DEEPEST} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_key and node is not None:
            node.tag = "tag:yaml.org,2002:str"
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node, event)
        return node


class _StrictLoader(_StrictComposer, _Resolver, yaml.SafeLoader):
    """A loader in Python, whose errors name what was found and where."""


_InC: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # where PyYAML was built without libyaml


class _FastLoader(_StrictComposer, _Resolver, _InC):  # type: ignore[misc]
    """A loader that parses in C, and so in a fraction of the time."""

    def __init__(self, text: str) -> None:
        _InC.__init__(self, text)
        _StrictComposer.__init__(self)


def _check_scalar(node: yaml.ScalarNode, event: Any) -> None:
    """Refuse what later steps could not hold or write: a number of very many digits, and half of a surrogate pair."""
    if node.tag.endswith(":int") and len(node.value) > MOST_DIGITS:
        raise _refusal(f"a whole number of {len(node.value):,} digits", event)
    # An escape may stand for a byte of a name that is not UTF-8, as Python writes it.
    if half := re.search("[\ud800-\udc7f\udd00-\udfff]", node.value):
        raise _refusal(f"\\u{ord(half[0]):04x} is half of a character", event)


def _refusal(problem: str, event: Any) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, problem, event.start_mark)


_FLOAT = r"^[-+]?(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+(?:\.[0-9]+)?[eE][-+]?[0-9]+$"
for _tag, _pattern, _first_characters in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
):
    _Resolver.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first_characters))


def _collect_lines(node: yaml.Node, place: KeyPath, lines: dict[KeyPath, int | str]) -> list[tuple[str, int]]:
    """Add the line of every key below a node to `lines`; return each repeated key with its line."""
    lines[place] = node.start_mark.line + 1
    repeats: list[tuple[str, int]] = []
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            repeats += _collect_lines(item, (*place, index), lines)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if key.value in keys:
                repeats.append((key.value, key.start_mark.line + 1))
            keys.add(key.value)
            repeats += _collect_lines(value, (*place, key.value), lines)
            lines[(*place, key.value)] = key.start_mark.line + 1
    return repeats
