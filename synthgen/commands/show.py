"""Drawings of definition files for a terminal: a taxonomy, a family of instruction types, or a mapping as a tree."""

from collections.abc import Iterator

from synthgen.config import families, mapping, taxonomy
from synthgen.config.mapping import Rule
from synthgen.config.taxonomy import Tree


def draw(kind: str, name: str) -> str:
    """Return the tree of a file; of a mapping its rules and those that it extends, each above its effects."""
    if kind == "mapping":
        return "\n".join(_mapping_lines(name))
    tree = taxonomy.load(name).tree if kind == "taxonomy" else families.load(name)
    return "\n".join(_tree_lines(tree, tree.roots, ""))


def effects(rule: Rule) -> list[str]:
    """Return the effects of a rule, one per line."""
    return [
        *(f"ask {weight:g}: {pattern}" for pattern, weight in rule.ask.items()),
        *(f"boost x {factor:g}: {pattern}" for pattern, factor in rule.boost.items()),
        *(f"never: {pattern}" for pattern in rule.never),
    ]


def _mapping_lines(name: str) -> Iterator[str]:
    for document, file in mapping.files(name):
        yield f"{document.path.stem}: {file.about}"
        for number, rule in enumerate(file.rules):
            is_last = rule is file.rules[-1]
            when = f"  when {_conditions(rule)}" if rule.when else ""
            where = document.where(("rules", number))
            yield f"{'└─ ' if is_last else '├─ '}{', '.join(rule.patterns)}{when}  ({where})"
            indent = "   " if is_last else "│  "
            *others, last = effects(rule)
            yield from (f"{indent}├─ {effect}" for effect in others)
            yield f"{indent}└─ {last}"


def _conditions(rule: Rule) -> str:
    conditions = rule.when.model_dump(exclude_none=True) if rule.when else {}
    return ", ".join(f"{name} {str(value).lower()}" for name, value in conditions.items())


def _tree_lines(tree: Tree, paths: tuple[str, ...], indent: str) -> Iterator[str]:
    for path in paths:
        node, is_last, is_root = tree.nodes[path], path == paths[-1], "/" not in path
        branch = "" if is_root else "└─ " if is_last else "├─ "
        yield f"{indent}{branch}{node.name}: {node.means}"
        deeper = "" if is_root else "   " if is_last else "│  "
        yield from _tree_lines(tree, node.children, indent + deeper)
