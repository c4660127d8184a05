"""Notes of `synth check` on definition files that are valid, but hardly as intended.

It notes tags that no rule serves, types that no image can be asked, weights and thresholds without effect, and twins.
Twins are found by the Jaccard similarity of their words, so types that are worded alike on purpose may be named too.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from synthgen.config.families import InstructionType, Sensitive, withheld
from synthgen.config.mapping import RuleSet
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_file import PackFile
from synthgen.config.prompt_pack import Prompts
from synthgen.config.selection import Threshold
from synthgen.config.taxonomy import Tree, with_ancestors
from synthgen.console import pluralize
from synthgen.engines.kinds import kind_of
from synthgen.errors import listed
from synthgen.stages.generate.scoring import find_scorer
from synthgen.tables import pass_of_score

TWIN_SIMILARITY = 0.75  # Jaccard similarity of their words from which on two texts are twins
NAMES = 12  # in a line; the rest are counted
STOP_TEXT = "a an and are as ask at by for from how in is it its of on one or that the this to what which whose with"
STOP_WORDS = frozenset(STOP_TEXT.split())


def notes(
    tree: Tree, rules: RuleSet, types: Mapping[str, InstructionType], forms: Mapping[str, float]
) -> Iterator[str]:
    """Yield a line for each kind of fault.

    Args:
        tree: The taxonomy of image tags.
        rules: The mapping.
        types: The instruction types of the pipeline.
        forms: The share of each answer form.
    """
    mapping = f"mapping '{rules.name}'"
    if tags := unserved_tags(tree, rules):
        yield f"note: {pluralize(len(tags), 'tag')} that no rule of {mapping} names: {listed(tags, NAMES)}"
    if paths := unasked_types(rules, types):
        yield f"note: {pluralize(len(paths), 'type')} that no rule of {mapping} asks: {listed(paths, NAMES)}"
    if paths := formless_types(rules, types, forms):
        yield (
            f"note: {pluralize(len(paths), 'type')} that cannot be asked, "
            f"as plan.forms gives no share to any of their forms: {listed(paths, NAMES)}"
        )
    if weights := zero_weights(rules):
        yield (
            f"note: {pluralize(len(weights), 'weight')} of 0 in {mapping}, "
            f"without effect (`never` forbids): {listed(weights, NAMES)}"
        )
    yield from _twin_notes("tags", {node.path: node.means for node in tree})
    yield from _twin_notes("types", {path: kind.about for path, kind in types.items()})


def withheld_notes(types: Mapping[str, InstructionType], allowed: Collection[Sensitive]) -> Iterator[str]:
    """Yield a line on the sensitive types of each kind that `plan.allow` does not name."""
    for kind, paths in withheld(types, allowed).items():
        are = "is" if len(paths) == 1 else "are"
        yield (
            f"{pluralize(len(paths), 'type')} with `sensitive: {kind}` {are} never asked, "
            f"as plan.allow does not name {kind}: {listed(paths, NAMES)}"
        )


def room_notes(pipeline: Pipeline) -> Iterator[str]:
    """Yield a line for each model whose context is too short for the images that it may get."""
    for section, part in pipeline.parts.items():
        engine = part.engine
        context, most = engine.options.get("max_model_len"), engine.image_tokens
        if kind_of(engine).bounds_images and most and isinstance(context, int) and most >= context:
            yield (
                f"note: {section}: an image may take {most:,} tokens (engine.image_tokens), and the context holds "
                f"{context:,} (engine.options.max_model_len); lower the first, or raise the second"
            )


def unserved_tags(tree: Tree, rules: RuleSet) -> list[str]:
    """Return leaf tags that no rule names, itself or by an ancestor; rules for every image do not count."""
    named = {tag for line in rules.rules if any(line.ask.values()) and not line.is_for_all for tag in line.tags}
    return [leaf for leaf in tree.leaves if named.isdisjoint(with_ancestors([leaf]))]


def unasked_types(rules: RuleSet, types: Mapping[str, InstructionType]) -> list[str]:
    """Return types that no rule gives a weight."""
    asked = {path for line in rules.rules for path, weight in line.ask.items() if weight > 0}
    return [path for path in types if path not in asked]


def formless_types(rules: RuleSet, types: Mapping[str, InstructionType], forms: Mapping[str, float]) -> list[str]:
    """Return types that a rule asks and that have no answer form with a share."""
    unasked = set(unasked_types(rules, types))
    return [
        path
        for path, kind in types.items()
        if path not in unasked and not any(forms.get(form, 0) > 0 for form in kind.forms)
    ]


def zero_weights(rules: RuleSet) -> list[str]:
    """Return the patterns that a rule asks with a weight of 0, each with its place."""
    return [
        f"{pattern} ({line.where})" for line in rules.rules for pattern, weight in line.rule.ask.items() if not weight
    ]


def threshold_notes(
    keep: Mapping[str, Threshold], pack: PackFile, passes: Mapping[str, Prompts], section: str = "select"
) -> Iterator[str]:
    """Yield a line for each bound of a threshold that the values of its score do not reach.

    Args:
        keep: The thresholds by score.
        pack: The prompts of `generate`, whose labels bound the values of judges.
        passes: Those of scoring passes, by name.
        section: Where the thresholds are: `select`, or a view.
    """
    for name, threshold in keep.items():
        judge = pass_of_score(name)
        low, high = find_scorer(name.rpartition(".")[2]).bounds(passes[judge].pack if judge else pack)
        for side, bound in (("min", threshold.min), ("max", threshold.max)):
            if bound is None or low <= bound <= high:
                continue
            drops_all = bound > high if side == "min" else bound < low
            effect = "drops every pair that it applies to" if drops_all else "drops nothing"
            yield f"note: {section}.keep.{name}: {side} {bound:g} {effect}: the score goes from {low:g} to {high:g}"


def after_notes(pipeline: Pipeline, pack: PackFile, passes: Mapping[str, Prompts]) -> Iterator[str]:
    """Yield a line for each pass that waits for a score whose values leave it no pair open, or every one."""
    for name, settings in pipeline.score.items():
        after = settings.after
        if after is None or (after.min, after.max) == (None, None):
            continue
        judge = pass_of_score(after.score)
        low, high = find_scorer(after.score.rpartition(".")[2]).bounds(passes[judge].pack if judge else pack)
        least, most = low if after.min is None else after.min, high if after.max is None else after.max
        if least <= low and most >= high:
            effect = "leaves every pair open"
        elif least > high or most < low:
            effect = "leaves only pairs without a value open"
        else:
            continue
        yield f"note: score.{name}.after: {effect}: {after.score} goes from {low:g} to {high:g}"


def find_twins(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of names whose texts have nearly the same words, in the order of the texts."""
    pairs: list[tuple[str, str]] = []
    names_of_word: dict[str, list[str]] = {}
    words = {name: frozenset(re.findall(r"\w+", text.lower())) - STOP_WORDS for name, text in texts.items()}
    for name, own in words.items():
        shared = Counter(other for word in own for other in names_of_word.get(word, ()))
        pairs += [
            (other, name) for other, count in shared.items() if count >= TWIN_SIMILARITY * len(own | words[other])
        ]
        for word in own:
            names_of_word.setdefault(word, []).append(name)
    return pairs


def _twin_notes(kind: str, texts: Mapping[str, str]) -> Iterator[str]:
    for first, second in find_twins(texts):
        yield f"note: {kind} that mean nearly the same: {first} and {second}: {texts[second]}"
