"""Draws a tree of the shelves in a terminal: a taxonomy's tags, a family's instruction types, or a mapping's rules.

Comes in: a kind and a name. Goes out: text, a line a node; of a mapping every rule of it and of those that it extends, with the
tags that it is for above what it does for them.
"""

from collections.abc import Iterator
from typing import Literal

from synthgen.config import families, mapping, taxonomy
from synthgen.config.mapping import Rule
from synthgen.config.taxonomy import Tree


def drawn(kind: Literal["taxonomy", "family", "mapping"], name: str) -> str:
    """The tree of a taxonomy, of a family of instruction types, or of a mapping: its files, their rules, what those do."""
    if kind == "mapping":
        return "\n".join(_rules(name))
    tree = taxonomy.load(name).tree if kind == "taxonomy" else families.load(name)
    return "\n".join(_lines(tree, tree.roots, ""))


def _rules(name: str) -> Iterator[str]:
    for document, file in mapping.files(name):
        yield f"{document.path.stem}: {file.about}"
        for number, rule in enumerate(file.rules):
            is_last = rule is file.rules[-1]
            when = f"  when {_conditions(rule)}" if rule.when else ""
            yield f"{'└─ ' if is_last else '├─ '}{', '.join(rule.patterns)}{when}  ({document.where(('rules', number))})"
            yield from (
                f"{'   ' if is_last else '│  '}{'└─ ' if one == effects(rule)[-1] else '├─ '}{one}"
                for one in effects(rule)
            )


def effects(rule: Rule) -> list[str]:
    """What a rule does, a line each."""
    asks = [f"ask {weight:g}: {pattern}" for pattern, weight in rule.ask.items()]
    return [
        *asks,
        *(f"boost x {factor:g}: {pattern}" for pattern, factor in rule.boost.items()),
        *(f"never: {one}" for one in rule.never),
    ]


def _conditions(rule: Rule) -> str:
    said = rule.when.model_dump(exclude_none=True) if rule.when else {}
    return ", ".join(f"{name} {str(value).lower()}" for name, value in said.items())


def _lines(tree: Tree, paths: tuple[str, ...], indent: str) -> Iterator[str]:
    for path in paths:
        node, is_last = tree.nodes[path], path == paths[-1]
        branch = "" if "/" not in path else "└─ " if is_last else "├─ "
        yield f"{indent}{branch}{node.name}: {node.means}"
        deeper = "" if "/" not in path else "   " if is_last else "│  "
        yield from _lines(tree, node.children, indent + deeper)
