"""Draws a tree of the shelves in a terminal: a taxonomy's tags or a family's instruction types, each with its line.

Comes in: a kind and a name. Goes out: text, a line a node.
"""

from collections.abc import Iterator
from typing import Literal

from synthgen import shelves, taxonomy
from synthgen.prompt import family
from synthgen.taxonomy import Tree


def drawn(kind: Literal["taxonomy", "family"], name: str) -> str:
    """The tree of a taxonomy or of a family of instruction types."""
    tree = taxonomy.load(name).tree if kind == "taxonomy" else family(shelves.load(kind, name))
    return "\n".join(_lines(tree, tree.roots, ""))


def _lines(tree: Tree, paths: tuple[str, ...], indent: str) -> Iterator[str]:
    for path in paths:
        node, is_last = tree.nodes[path], path == paths[-1]
        branch = "" if "/" not in path else "└─ " if is_last else "├─ "
        yield f"{indent}{branch}{node.name}: {node.means}"
        deeper = "" if "/" not in path else "   " if is_last else "│  "
        yield from _lines(tree, node.children, indent + deeper)
