"""The definition files of a pipeline, loaded and checked against each other: taggers, taxonomy, prompts and mapping.

All mistakes of all files are reported together. So that one mistake does not hide another, the files that a wrong file
names are loaded too, and files are compared as far as they are known: an unreadable file hides only the checks that
need it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from synthgen import taggers as tagging
from synthgen.config import library, mapping, prompt_pack
from synthgen.config.families import with_unanswerable
from synthgen.config.mapping import RuleSet
from synthgen.config.pipeline import Pipeline, second_model
from synthgen.config.prompt_pack import Prompts
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import Tree, matching, nearest_pattern
from synthgen.config.turns import WORKED_FORM, missing_wordings
from synthgen.engines.section import engine_faults
from synthgen.errors import Mistakes, attempt
from synthgen.job import given, negatives, scores, selections, sets
from synthgen.stages.contract import Definitions


def load(document: Document) -> tuple[Pipeline, Definitions]:
    """Return a pipeline and its definition files; their names start from the home of the document.

    Raises:
        Mistakes: Every mistake of every file.
    """
    faults: list[str] = []
    home = document.home
    pipeline = attempt(faults, lambda: library.check(document, Pipeline))
    names = list(dict.fromkeys(library.known_names("tagger", document, ("tag", "tagger"), faults)))
    taggers = attempt(faults, lambda: tagging.load_all(names, home))
    tree = taggers[0].taxonomy.tree if taggers else _tree(names, home)
    prompts = types = rules = None
    packs = library.known_names("prompts", document, ("generate", "prompts"), faults)
    for name in packs:
        prompts = attempt(faults, partial(prompt_pack.load, name, home))
        faults += scores.judge_faults(name, home)
        types = list(prompts.types) if prompts else attempt([], partial(prompt_pack.types_of, name, home))
    patterns = list(with_unanswerable(prompts.types)) if prompts else types  # of types that there can be pairs of
    passes = _pass_prompts(document, prompts, faults)
    for name in library.known_names("mapping", document, ("plan", "mapping"), faults):
        rules = attempt(faults, partial(_rules, name, tree, types, home))
        if names and tree is None:
            faults.append(_unchecked(name, "tags", "taxonomy"))
        if packs and types is None:
            faults.append(_unchecked(name, "instruction types", "families"))
    faults += [
        *(fault for place in scores.engine_places(document) for fault in engine_faults(document, place)),
        *scores.name_faults(document),
        *(scores.serve_faults(document, prompts, passes) if prompts else ()),
        *(_wording_faults(document, pipeline, prompts) if pipeline and prompts else ()),
        *(_working_faults(document, pipeline, prompts) if pipeline and prompts else ()),
        *_cap_faults(document, patterns),
        *selections.pattern_faults(document, patterns, tree),
        *selections.source_faults(document),
        *(selections.balance_faults(document, prompts.types) if prompts else ()),
        *(_allow_faults(document, pipeline) if pipeline else ()),
        *(negatives.faults(document, pipeline, prompts) if pipeline and prompts else ()),
        *(given.faults(document, pipeline, prompts) if pipeline and prompts else ()),
        *(sets.faults(document, pipeline, prompts) if pipeline and prompts else ()),
    ]
    if faults:
        raise Mistakes(list(dict.fromkeys(faults)))
    assert pipeline and taggers and prompts and rules
    return pipeline, Definitions(taggers, prompts, rules, passes)


def _pass_prompts(document: Document, prompts: Prompts | None, faults: list[str]) -> dict[str, Prompts]:
    """Return the prompts of each scoring pass, as far as they are known, and add the mistakes of their packs.

    A pass has the instruction types of the pairs, whichever its own pack asks.
    """
    found: dict[str, Prompts] = {}
    for place, name in document.names_at(("score",)).items():
        if document.at((*place, "prompts")) is None:
            found |= {name: prompts} if prompts else {}
            continue
        for pack in library.known_names("prompts", document, (*place, "prompts"), faults):
            own = attempt(faults, partial(prompt_pack.load, pack, document.home))
            faults += scores.judge_faults(pack, document.home)
            if own and prompts:
                found[name] = replace(own, tree=prompts.tree, types=prompts.types)
    return found


def load_definitions(pipeline: Pipeline, home: Path = Path()) -> Definitions:
    """Return the definition files of a pipeline that comes from an output folder or from code, not from a file."""
    return load(Document(Path(), pipeline.model_dump(mode="json"), {(): "pipeline"}, home=home))[1]


def notices(name: str, pipeline: Pipeline, definitions: Definitions) -> list[str]:
    """Return what to tell the user before a run: the notice of the pipeline, and which built-in files are replaced."""
    files = [
        ("pipeline", name),
        *(("tagger", tagger) for tagger in pipeline.tag.taggers),
        ("taxonomy", definitions.taxonomy.name),
        *(("mapping", mapping_name) for mapping_name in definitions.rules.names),
        *(("prompts", pack) for pack in dict.fromkeys(_packs(pipeline))),
        *(("family", family) for family in definitions.prompts.pack.families),
    ]
    replaced = [
        f"note: {kind} '{file}': yours is used, not {ours}"
        for kind, file in files
        if (ours := library.shadowed_file(kind, file))
    ]
    return [f"note: {pipeline.notice}", *replaced] if pipeline.notice else replaced


def _packs(pipeline: Pipeline) -> list[str]:
    """Return the prompt packs of a pipeline: that of `generate`, and those of passes."""
    return [pipeline.generate.prompts, *(judge.prompts for judge in pipeline.passes.values())]


def _tree(taggers: Sequence[str], home: Path) -> Tree | None:
    """Return the tags to check the mapping against where a tagger is wrong but a taxonomy is not.

    The mistakes of the taggers are reported elsewhere.
    """
    for name in taggers:
        if tree := attempt([], partial(tagging.tree_of, name, home)):
            return tree
    return None


def _unchecked(mapping_name: str, names: str, files: str) -> str:
    """Return the note that a mapping could not be checked against files with mistakes."""
    return f"mapping '{mapping_name}': its {names} are checked once the {files} can be read without mistakes"


def _rules(name: str, tree: Tree | None, types: Sequence[str] | None, home: Path) -> RuleSet | None:
    """Return a mapping, or None if it could be checked only in part because tags or types are not known."""
    if tree is not None and types is not None:
        return mapping.load(name, tree, types, home)
    mapping.files(name, tree, types, home)
    return None


def _wording_faults(document: Document, pipeline: Pipeline, prompts: Prompts) -> list[str]:
    """Return the answer forms that the plan uses and whose turns have no wording in one of its languages."""
    languages = [name for name, share in pipeline.plan.languages.items() if share > 0]
    forms = [name for name, share in pipeline.plan.forms.items() if share > 0]
    forms += [WORKED_FORM] if pipeline.pack.worked else []
    where = document.where(("plan", "languages"))
    faults = missing_wordings(prompts.pack, forms, languages)
    return [f"{where}: plan.languages: prompt pack '{prompts.name}': {fault}" for fault in faults]


def _working_faults(document: Document, pipeline: Pipeline, prompts: Prompts) -> list[str]:
    """Return a fault if samples are to show workings and the prompt pack has no words to ask for them."""
    if not pipeline.pack.worked or WORKED_FORM in prompts.pack.answer:
        return []
    where = document.where(("pack", "worked"))
    return [f"{where}: pack.worked: prompt pack '{prompts.name}' has no form '{WORKED_FORM}', which asks for workings"]


def _cap_faults(document: Document, types: Sequence[str] | None) -> list[str]:
    """Return the caps on types that do not exist."""
    if types is None:
        return []
    return [
        f"{document.where(place)}: plan.caps: no instruction type matches '{pattern}': "
        f"{nearest_pattern(pattern, types)}"
        for place, pattern in document.names_at(("plan", "caps")).items()
        if not matching([pattern], types)
    ]


def _allow_faults(document: Document, pipeline: Pipeline) -> list[str]:
    """Return the fault of asking medical questions where no second model looks at the answers."""
    if second_model(pipeline):
        return []
    return [
        f"{document.where(place)}: plan.allow: 'medical' needs a second model that answers "
        "(`generate.ask` or `generate.answer`): a model that only hears itself states findings that an image does "
        "not show; add one, or take 'medical' out"
        for place, kind in document.names_at(("plan", "allow")).items()
        if kind == "medical"
    ]
