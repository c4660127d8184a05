"""A tree of names: the tags of an image taxonomy and the instruction types of a prompt family alike.

Comes in: a `tags:` or `types:` mapping of a shelf file. Goes out: a Tree whose nodes are known by their path
("animal/bird/owl"), and `matches`, the one pattern language of the mappings. A node below another implies it. Node names
are unique in their tree, so that a path can be moved without changing what a name means.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from synthgen.config import library
from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document
from synthgen.errors import Mistakes, attempted, close, nearest

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclass(frozen=True)
class Node:
    """One name of a tree."""

    path: str
    means: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    children: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """The path above; "" at the top."""
        return self.path.rpartition("/")[0]

    @property
    def spoken(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Tree:
    """All nodes by path, parents before their children, in the order of the file."""

    nodes: Mapping[str, Node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(path for path in self.nodes if "/" not in path)

    @property
    def leaves(self) -> tuple[str, ...]:
        return tuple(path for path, node in self.nodes.items() if not node.children)


def _with_a_place(template: str) -> str:
    if "{}" not in template:
        raise ValueError(f"'{template}' has no place for a tag's name; write {{}} there, as in 'a photo of a {{}}.'")
    return template


Template = Annotated[str, AfterValidator(_with_a_place)]


class TagEntry(Section):
    """A node of a taxonomy; a leaf may also be written as its meaning alone."""

    means: str = Field(min_length=1)
    also: tuple[str, ...] = ()
    templates: tuple[Template, ...] = ()
    tags: dict[str, "TagEntry"] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_its_meaning(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"means": value}
        if not isinstance(value, Mapping | TagEntry):
            raise PydanticCustomError("tag", "must be a line of text that says what it means, or keys with values")
        return value


class TaxonomyFile(Section):
    """taggers/taxonomies/NAME.yaml"""

    about: str
    templates: list[Template] = Field(min_length=1)
    tags: dict[str, TagEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Taxonomy:
    """The tags an image can have, each with the phrasings that stand for it before a text encoder."""

    name: str
    about: str
    tree: Tree
    phrasings: Mapping[str, tuple[str, ...]]


def load(name: str) -> Taxonomy:
    """The taxonomy of that name, or all that is wrong with it."""
    document = library.load("taxonomy", name)
    faults: list[str] = []
    file = attempted(faults, lambda: library.check(document, TaxonomyFile))
    tree = attempted(faults, lambda: grow(document, "tags", "tags", "means"))
    if faults:
        raise Mistakes(faults)
    assert file and tree
    phrasings = {node.path: _phrasings(node, _templates_for(tree, node, file.templates)) for node in tree}
    return Taxonomy(name, file.about, tree, phrasings)


def grow(document: Document, root: str, below: str, meaning: str) -> Tree:
    """The tree under the key `root`, whose nodes keep their children under `below` and their line under `meaning`.

    Its names are what is checked here; a node of another shape, which `shelves.check` tells of, counts as a leaf.
    """
    nodes: dict[str, Node] = {}
    faults: list[str] = []
    first_line: dict[str, str] = {}
    top = _children(document.values, root)
    # (path of the parent, name, value, place in the file), the next one last
    stack: list[tuple[str, str, Any, tuple[str, ...]]] = [
        ("", name, top[name], (root, name)) for name in reversed(list(top))
    ]
    while stack:
        parent, name, value, place = stack.pop()
        where = document.where(place)
        if not NAME.fullmatch(name):
            faults.append(f"{where}: '{name}' is not a name; use lower-case letters, digits and _")
        if name in first_line:
            faults.append(f"{where}: '{name}' is also at {first_line[name]}; a name may stand in a tree once")
        first_line.setdefault(name, where)
        path = f"{parent}/{name}" if parent else name
        values = value if isinstance(value, Mapping) else {meaning: value}
        children = _children(values, below)
        own = {key: item for key, item in values.items() if key != below}
        nodes[path] = Node(path, values.get(meaning, ""), own, tuple(f"{path}/{child}" for child in children))
        stack += [(path, child, children[child], (*place, below, child)) for child in reversed(list(children))]
    if faults:
        raise Mistakes(faults)
    return Tree(nodes)


def _children(values: Any, below: str) -> Mapping[str, Any]:
    found = values.get(below) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def matches(pattern: str, path: str) -> bool:
    """Whether a path fits a pattern: `*` is part of one level, `**` any depth; `document/**` fits `document` too."""
    return _compiled(pattern).fullmatch("/" + path) is not None


def matching(patterns: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The paths that fit any of the patterns, in their own order."""
    return [path for path in paths if any(matches(pattern, path) for pattern in patterns)]


def with_ancestors(paths: Sequence[str]) -> list[str]:
    """The paths and everything that they imply, parents first, each once."""
    found: dict[str, None] = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            found.setdefault("/".join(parts[:depth]))
    return list(found)


def alike(pattern: str, known: Sequence[str]) -> str:
    """The end of a message on a pattern that matches nothing: the nearest path, or a pattern of the same make over one."""
    every = with_ancestors(known)
    start, end = ("**/" if pattern.startswith("**/") else ""), ("/**" if pattern.endswith("/**") else "")
    patterns = (
        {f"{start}{path.rpartition('/')[2] if start else path}{end}" for path in every} if start or end else set[str]()
    )
    return close(pattern, patterns).rstrip() or nearest(pattern, known)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for part in pattern.split("/"):
        parts.append(r"(?:/[^/]+)*" if part == "**" else "/" + "[^/]*".join(map(re.escape, part.split("*"))))
    return re.compile("".join(parts))


def _templates_for(tree: Tree, node: Node, default: Sequence[str]) -> Sequence[str]:
    while True:
        if own := node.values.get("templates"):
            return list(own)
        if not node.parent:
            return default
        node = tree.nodes[node.parent]


def _phrasings(node: Node, templates: Sequence[str]) -> tuple[str, ...]:
    names = [node.spoken, *node.values.get("also", [])]
    filled = [template.replace("{}", name) for name in names for template in templates]
    return (*filled, f"{node.spoken}: {node.means}")
