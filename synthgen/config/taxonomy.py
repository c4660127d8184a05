"""Trees of names: the tags of an image taxonomy, and the instruction types of a family.

A node is known by its path ("animal/bird/owl") and implies every node above it. Names are unique in their tree, so a
node can move without changing the meaning of its name. `matches` is the one pattern language of mappings, caps and
thresholds.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from synthgen.config import library
from synthgen.config.library import Section
from synthgen.config.phrasings import Article, phrasings
from synthgen.config.strict_yaml import Document
from synthgen.errors import Mistakes, attempt, did_you_mean, nearest

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclass(frozen=True)
class Node:
    """A tag or an instruction type, or a group of them."""

    path: str
    means: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the keys of the node in its file
    children: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """The path above; "" for a root."""
        return self.path.rpartition("/")[0]

    @property
    def words(self) -> str:
        """The name with spaces for underscores."""
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
        """The paths of the nodes without a parent."""
        return tuple(path for path in self.nodes if "/" not in path)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The paths of the nodes without children."""
        return tuple(path for path, node in self.nodes.items() if not node.children)


def _check_template(template: str) -> str:
    if "{}" not in template:
        raise ValueError(f"'{template}' has no {{}} for the tag's name; write it as in 'a photo of a {{}}.'")
    return template


Template = Annotated[str, AfterValidator(_check_template)]


class TagEntry(Section):
    """A tag in a taxonomy file; one without further keys may be written as its meaning alone."""

    means: str = Field(min_length=1)
    also: tuple[str, ...] = ()
    templates: tuple[Template, ...] = ()
    text: str | tuple[str, ...] = ()  # sentences in place of the name in its templates; without it a group has no texts
    article: Article | None = None  # of the name, where the rule in phrasings.py finds another
    clip: bool = True  # false: no texts, for this tag and those below it; a VLM and sidecar files still give it
    tags: dict[str, "TagEntry"] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _expand_meaning(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"means": value}
        if not isinstance(value, Mapping | TagEntry):
            raise PydanticCustomError("tag", "must be text that says what the tag means, or keys with values")
        return value


class TaxonomyFile(Section):
    """The contents of taggers/taxonomies/NAME.yaml."""

    about: str
    templates: list[Template] = Field(min_length=1)
    tags: dict[str, TagEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Taxonomy:
    """The tags that an image can have.

    Attributes:
        name: Of its file.
        tree: The tags.
        phrasings: Of each, the texts that can be compared with an image.
        compared: The tags whose texts a CLIP compares; it scores a group without a `text` from what is below it alone.
    """

    name: str
    tree: Tree
    phrasings: Mapping[str, tuple[str, ...]]
    compared: frozenset[str]


def load(name: str, home: Path = Path()) -> Taxonomy:
    """Load a taxonomy; its name starts from `home`.

    Raises:
        Mistakes: Every mistake in its file.
    """
    document = library.load("taxonomy", name, home)
    faults: list[str] = []
    file = attempt(faults, lambda: library.check(document, TaxonomyFile))
    tree = attempt(faults, lambda: build_tree(document, root="tags", below="tags", meaning="means"))
    if faults:
        raise Mistakes(faults)
    assert file and tree
    texts = {node.path: phrasings(node, _templates_for(tree, node, file.templates)) for node in tree}
    return Taxonomy(name, tree, texts, _compared(tree))


def build_tree(document: Document, root: str, below: str, meaning: str) -> Tree:
    """Build the tree of a definition file. Only its names are checked; `library.check` reports nodes of another shape.

    Args:
        document: The file as read.
        root: The key at the top of the file that holds the roots of the tree.
        below: The key of a node that holds its children.
        meaning: The key of a node that holds its meaning.

    Raises:
        Mistakes: A name is not valid, or is used twice.
    """
    nodes: dict[str, Node] = {}
    faults: list[str] = []
    first_use: dict[str, str] = {}  # name -> file:line
    roots = _children(document.values, root)
    # (path of the parent, name, value, place in the file), the next one last
    stack: list[tuple[str, str, Any, tuple[str, ...]]] = [
        ("", name, roots[name], (root, name)) for name in reversed(list(roots))
    ]
    while stack:
        parent, name, value, place = stack.pop()
        where = document.where(place)
        if not NAME.fullmatch(name):
            faults.append(f"{where}: '{name}' is not a valid name; use lower-case letters, digits and _")
        if name in first_use:
            faults.append(f"{where}: '{name}' is already used at {first_use[name]}; a name must be unique in its tree")
        first_use.setdefault(name, where)
        path = f"{parent}/{name}" if parent else name
        values = value if isinstance(value, Mapping) else {meaning: value}
        children = _children(values, below)
        own_values = {key: item for key, item in values.items() if key != below}
        nodes[path] = Node(path, values.get(meaning, ""), own_values, tuple(f"{path}/{child}" for child in children))
        stack += [(path, child, children[child], (*place, below, child)) for child in reversed(list(children))]
    if faults:
        raise Mistakes(faults)
    return Tree(nodes)


def _children(values: Any, below: str) -> Mapping[str, Any]:
    children = values.get(below) if isinstance(values, Mapping) else None
    return children if isinstance(children, Mapping) else {}


def matches(pattern: str, path: str) -> bool:
    """Return whether a path fits a pattern.

    `*` stands for part of one level and `**` for any number of levels, so `document/**` fits `document` too.
    """
    return _test(pattern)(path)


def matching(patterns: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return those of some different paths that fit any of the patterns, in the order of the paths."""
    simple, found = _by_simple_pattern(tuple(paths)), set[str]()
    for pattern in patterns:
        is_simple = "*" not in pattern.removesuffix("/**") or "*" not in pattern.removeprefix("**/")
        found.update(simple.get(pattern, ()) if is_simple else filter(_test(pattern), paths))
    return [path for path in paths if path in found] if len(found) > 1 else list(found)


@lru_cache(maxsize=8)
def _by_simple_pattern(paths: tuple[str, ...]) -> dict[str, list[str]]:
    """Return pattern → the paths that fit it, for all patterns `path`, `path/**` and `**/path` that some path fits."""
    found = defaultdict[str, list[str]](list)
    for path in paths:
        parts = path.split("/")
        found[path].append(path)
        for depth in range(len(parts)):
            found["/".join(["**", *parts[depth:]])].append(path)
            found["/".join([*parts[: depth + 1], "**"])].append(path)
    return dict(found)


def with_ancestors(paths: Iterable[str]) -> list[str]:
    """Return the paths and all paths above them, parents first, each once."""
    expanded: dict[str, None] = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            expanded.setdefault("/".join(parts[:depth]))
    return list(expanded)


def nearest_pattern(pattern: str, known: Sequence[str]) -> str:
    """Return the end of a message about a pattern that matches no known path.

    A pattern with `**/` in front or `/**` behind gets a suggestion of the same form.
    """
    before = "**/" if pattern.startswith("**/") else ""
    after = "/**" if pattern.endswith("/**") else ""
    if before or after:
        paths = with_ancestors(known)
        names = [path.rpartition("/")[2] for path in paths] if before else paths
        if suggestion := did_you_mean(pattern, {f"{before}{name}{after}" for name in names}):
            return suggestion.rstrip()
    root, has_more, _ = pattern.partition("/")
    roots = sorted({path.partition("/")[0] for path in known})
    if has_more and "*" not in root and root not in roots and not did_you_mean(pattern, known):
        return f"none is below '{root}': {nearest(root, roots)}"
    return nearest(pattern, known)


@cache
def _test(pattern: str) -> Callable[[str], bool]:
    """Return the test of a pattern. A mapping has a thousand of them, and nearly all need no regular expression."""
    head, tail = pattern.removesuffix("/**"), pattern.removeprefix("**/")
    if "*" not in pattern:
        return lambda path: path == pattern
    if "*" not in head:
        return lambda path: f"{path}/".startswith(f"{head}/")
    if "*" not in tail:
        return lambda path: f"/{path}".endswith(f"/{tail}")
    compiled = _compile(pattern)
    return lambda path: compiled.fullmatch(f"/{path}") is not None


def _compile(pattern: str) -> re.Pattern[str]:
    parts = []
    for part in pattern.split("/"):
        parts.append(r"(?:/[^/]+)*" if part == "**" else "/" + "[^/]*".join(map(re.escape, part.split("*"))))
    return re.compile("".join(parts))


def _templates_for(tree: Tree, node: Node, default: Sequence[str]) -> Sequence[str]:
    """Return the templates of a node, or those of its nearest ancestor that has some, or the default."""
    while True:
        if own := node.values.get("templates"):
            return list(own)
        if not node.parent:
            return default
        node = tree.nodes[node.parent]


def _compared(tree: Tree) -> frozenset[str]:
    """Return the nodes that a CLIP compares with images: leaves, and groups with a `text`, without `clip: false`."""
    compared: set[str] = set()
    unseen: set[str] = set()
    for node in tree:  # parents come before their children
        if node.values.get("clip") is False or node.parent in unseen:
            unseen.add(node.path)
        elif not node.children or node.values.get("text"):
            compared.add(node.path)
    return frozenset(compared)
