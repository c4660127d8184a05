"""The text files of a pipeline: its taggers, taxonomy, prompts and mapping, loaded and checked against each other.

Comes in: a pipeline file as it was read. Goes out: the checked Pipeline and its Texts, or every mistake of every file at once.
So that one mistake does not hide another, what a wrong file names is still followed, and what is said in several files is
compared as far as each can be known: a file that cannot be read hides only what depends on it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from synthgen import taggers as tagging
from synthgen.config import library, mapping, prompt_pack
from synthgen.config.mapping import RuleSet
from synthgen.config.pipeline import Pipeline
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import Tree, matching, nearest_pattern
from synthgen.engines.section import engine_faults
from synthgen.errors import Mistakes, attempt
from synthgen.job import scores
from synthgen.stages.contract import Definitions


def load(document: Document) -> tuple[Pipeline, Definitions]:
    """A pipeline with its shelf files, or every mistake of all of them."""
    faults: list[str] = []
    pipeline = attempt(faults, lambda: library.check(document, Pipeline))
    names = list(dict.fromkeys(library.known_names("tagger", document, ("tag", "tagger"), faults)))
    taggers = attempt(faults, lambda: tagging.load_all(names))
    tree = taggers[0].taxonomy.tree if taggers else _tree(names)
    prompts = types = rules = None
    packs = library.known_names("prompts", document, ("generate", "prompts"), faults)
    for name in packs:
        prompts = attempt(faults, partial(prompt_pack.load, name))
        faults += scores.judge_faults(name)
        types = list(prompts.types) if prompts else attempt([], partial(prompt_pack.types_of, name))
    for name in library.known_names("mapping", document, ("plan", "mapping"), faults):
        rules = attempt(faults, partial(_rules, name, tree, types))
        later = (
            ("tags", "taxonomy", names and tree is None),
            ("instruction types", "families", packs and types is None),
        )
        faults += [
            f"mapping '{name}': its {what} are looked at once the {where} can be read without mistakes"
            for what, where, is_later in later
            if is_later
        ]
    faults += [
        *engine_faults(document, scores.ENGINE),
        *scores.name_faults(document),
        *(scores.serve_faults(document, prompts) if prompts else ()),
        *_cap_faults(document, types),
    ]
    if faults:
        raise Mistakes(list(dict.fromkeys(faults)))
    assert pipeline and taggers and prompts and rules
    return pipeline, Definitions(taggers, prompts, rules)


def load_definitions(pipeline: Pipeline) -> Definitions:
    """The shelf files of a pipeline that is no file any more: one that an output folder was made with, or that code has made."""
    return load(Document(Path(), pipeline.model_dump(mode="json"), {(): "pipeline"}))[1]


def notices(name: str, pipeline: Pipeline, texts: Definitions) -> list[str]:
    """What the user should know before it runs: the pipeline's own words, and where the user's file stands in for ours."""
    named = [("pipeline", name), *(("tagger", one) for one in pipeline.tag.taggers), ("taxonomy", texts.taxonomy.name)]
    named += [("mapping", one) for one in mapping.names(pipeline.plan.mapping)]
    named += [("prompts", pipeline.generate.prompts), *(("family", one) for one in texts.prompts.pack.families)]
    found = [
        f"note: {kind} '{name}': yours is used, not {ours}"
        for kind, name in named
        if (ours := library.shadowed_file(kind, name))
    ]
    return [f"note: {pipeline.notice}", *found] if pipeline.notice else found


def _tree(taggers: Sequence[str]) -> Tree | None:
    """The tags that the mapping speaks of, where a tagger is wrong and its taxonomy is not; the taggers have told their mistakes."""
    for name in taggers:
        if tree := attempt([], partial(tagging.tree_of, name)):
            return tree
    return None


def _rules(name: str, tree: Tree | None, types: Sequence[str] | None) -> RuleSet | None:
    """The mapping; where tags or types are not known, it is checked without them."""
    if tree is not None and types is not None:
        return mapping.load(name, tree, types)
    mapping.files(name, tree, types)
    return None


def _cap_faults(document: Document, types: Sequence[str] | None) -> list[str]:
    """Caps on types that there are not."""
    return [
        f"{document.where(place)}: plan.caps: no instruction type matches '{pattern}': {nearest_pattern(pattern, types)}"
        for place, pattern in document.names_at(("plan", "caps")).items()
        if types is not None and not matching([pattern], types)
    ]
