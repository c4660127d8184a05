"""Drawings of definition files for a terminal: a taxonomy, a family of instruction types, or a mapping as a tree."""

from collections.abc import Iterator
from typing import Any

from synthgen.config import families, mapping, taxonomy
from synthgen.config.mapping import Rule
from synthgen.config.taxonomy import Tree
from synthgen.console import pluralize
from synthgen.errors import UserMistake, did_you_mean, nearest

MANY_LINES = 100


def tree(kind: str, name: str, under: str = "", depth: int | None = None) -> str:
    """Return the drawing of a taxonomy or a family.

    Args:
        kind: "taxonomy" or "family".
        name: Of the file.
        under: The path of the node to draw; all if empty.
        depth: The number of levels to draw; all if None. What is left out is counted.

    Raises:
        UserMistake: There is no such file or node.
    """
    whole = taxonomy.load(name).tree if kind == "taxonomy" else families.load(name)
    if under and under not in whole.nodes:
        known = did_you_mean(under, whole.nodes).rstrip() or nearest(under, whole.roots)
        raise UserMistake(f"--under {under}: {kind} '{name}' has no such path: {known}")
    drawing = _tree_lines(whole, (under,) if under else whole.roots, "", depth or len(whole.nodes))
    return "\n".join([*drawing, *(_sensitive_line(whole) if kind == "family" else ())])


def how_to_narrow(drawing: str, depth: int | None) -> str | None:
    """Return how to see less than a drawing that fills many screens, or None if it is short or was narrowed by depth.

    Args:
        drawing: As `tree` returns it.
        depth: The number of levels that was asked for, if any.
    """
    count = drawing.count("\n") + 1
    if depth or count <= MANY_LINES:
        return None
    return f"{count:,} lines; --depth 2 draws the two highest levels, --under PATH only what is below a path"


def mapping_text(name: str) -> str:
    """Return the rules of a mapping and of those that it extends, each above its effects."""
    return "\n".join(_mapping_lines(name))


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


def _sensitive_line(tree: Tree) -> Iterator[str]:
    """Yield how many types of a family are asked only where a pipeline allows it, if there are any."""
    counts = {kind: len(paths) for kind, paths in families.withheld(families.instruction_types(tree), ()).items()}
    if counts:
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        number = pluralize(sum(counts.values()), "sensitive type")
        yield f"{number}, asked only where plan.allow names the kind: {kinds}"


def _conditions(rule: Rule) -> str:
    conditions = rule.when.model_dump(mode="json", exclude_unset=True, exclude_none=True) if rule.when else {}
    return ", ".join(f"{name} {_condition(value)}" for name, value in conditions.items())


def _condition(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join("none" if each is None else str(each) for each in value)
    return str(value).lower()


def _tree_lines(tree: Tree, paths: tuple[str, ...], indent: str, depth: int, level: int = 0) -> Iterator[str]:
    for path in paths:
        node, is_last = tree.nodes[path], path == paths[-1]
        branch = "" if level == 0 else "└─ " if is_last else "├─ "
        below = 0 if depth > 1 else sum(other.startswith(f"{path}/") for other in tree.nodes)
        kind = f" ({node.values['sensitive']})" if "sensitive" in node.values else ""
        yield f"{indent}{branch}{node.name}: {node.means}{kind}{f' (and {below:,} below)' if below else ''}"
        deeper = "" if level == 0 else "   " if is_last else "│  "
        if depth > 1:
            yield from _tree_lines(tree, node.children, indent + deeper, depth - 1, level + 1)
