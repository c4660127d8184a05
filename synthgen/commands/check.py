"""What is not wrong with a pipeline's texts, but hardly meant: `synth check` notes it.

Comes in: a taxonomy, a mapping and instruction types that passed every check. Goes out: lines: tags that no rule serves, types
that no image can be asked, weights and thresholds without effect, twins. Twins are told by their words (Jaccard similarity of the
words that say something), so two names for one thing are found where their texts were copied, and kinds that are worded alike on
purpose may be named too.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from synthgen.config.families import InstructionType
from synthgen.config.mapping import RuleSet
from synthgen.config.pipeline import Threshold
from synthgen.config.prompt_pack import PackFile
from synthgen.config.taxonomy import Tree, with_ancestors
from synthgen.console import counted

ALIKE = 0.75  # of the words of two texts, from which on they are twins
SHOWN = 12  # names in a line; the rest are counted
PLAIN = "a an and are as ask at by for from how in is it its of on one or that the this to what which whose with"
SAYS_NOTHING = frozenset(PLAIN.split())


def notes(
    tree: Tree, rules: RuleSet, types: Mapping[str, InstructionType], forms: Mapping[str, float]
) -> Iterator[str]:
    """A line for each kind of thing that was found; `forms` are the shares of the answer forms."""
    if found := unserved(tree, rules):
        yield f"note: {_counted(found, 'tag')} no rule of mapping '{rules.name}' names: {_shown(found)}"
    if found := unreached(rules, types):
        yield f"note: {_counted(found, 'type')} no rule of mapping '{rules.name}' asks: {_shown(found)}"
    if found := formless(rules, types, forms):
        yield f"note: {_counted(found, 'type')} cannot be asked, as plan.forms gives no share to any of their forms: {_shown(found)}"
    if found := weightless(rules):
        yield f"note: {counted(len(found), 'weight')} of 0 in mapping '{rules.name}', without effect (`never` forbids): {_shown(found)}"
    for kind, texts in (
        ("tags", {node.path: node.means for node in tree}),
        ("types", {path: one.about for path, one in types.items()}),
    ):
        yield from (
            f"note: {kind} that mean nearly the same: {one} and {other}: {texts[other]}" for one, other in twins(texts)
        )


def unserved(tree: Tree, rules: RuleSet) -> list[str]:
    """Leaf tags that no rule names, by themselves or by an ancestor; rules for every image do not count."""
    named = {tag for line in rules.rules if any(line.ask.values()) and not line.is_for_all for tag in line.tags}
    return [leaf for leaf in tree.leaves if named.isdisjoint(with_ancestors([leaf]))]


def unreached(rules: RuleSet, types: Mapping[str, InstructionType]) -> list[str]:
    """Types that no rule gives a weight."""
    asked = {path for line in rules.rules for path, weight in line.ask.items() if weight > 0}
    return [path for path in types if path not in asked]


def formless(rules: RuleSet, types: Mapping[str, InstructionType], forms: Mapping[str, float]) -> list[str]:
    """Types that a rule asks and that have no form with a share."""
    missing = set(unreached(rules, types))
    return [
        path
        for path, kind in types.items()
        if path not in missing and not any(forms.get(form, 0) > 0 for form in kind.forms)
    ]


def weightless(rules: RuleSet) -> list[str]:
    """Patterns that a rule asks with a weight of 0, each with its rule's line."""
    return [
        f"{pattern} ({line.where})" for line in rules.rules for pattern, weight in line.rule.ask.items() if not weight
    ]


def misplaced(keep: Mapping[str, Threshold], pack: PackFile) -> Iterator[str]:
    """A line for each bound of a threshold that is not among the values its score can have."""
    for name, threshold in keep.items():
        low, high = _values(name, pack)
        for which, bound in (("min", threshold.min), ("max", threshold.max)):
            if bound is not None and not low <= bound <= high:
                effect = (
                    "drops every pair that it applies to" if (bound > high) == (which == "min") else "drops nothing"
                )
                yield f"note: select.keep.{name}: {which} {bound:g} {effect}: the score goes from {low:g} to {high:g}"


def _values(score: str, pack: PackFile) -> tuple[float, float]:
    """The least and the greatest value of a score, as docs/scores.md has them; a judge's are its labels, counted from 1."""
    if score == "image_gain":
        return -math.inf, math.inf
    judge = pack.judge.get(score)  # type: ignore[call-overload]
    return (1, len(judge.labels)) if judge else (0, 1)


def twins(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of names whose texts have nearly the same words, in the order of the texts."""
    found, users = [], dict[str, list[str]]()
    words = {name: frozenset(re.findall(r"\w+", text.lower())) - SAYS_NOTHING for name, text in texts.items()}
    for name, mine in words.items():
        shared = Counter(other for word in mine for other in users.get(word, ()))
        found += [(other, name) for other, count in shared.items() if count >= ALIKE * len(mine | words[other])]
        for word in mine:
            users.setdefault(word, []).append(name)
    return found


def _counted(names: Sequence[str], noun: str) -> str:
    return f"{counted(len(names), noun)} that"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
