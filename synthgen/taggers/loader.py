"""Loads tagger files with their taxonomies, and reports all mistakes in them at once. No model is loaded."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from synthgen.config import library, taxonomy
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import Taxonomy, Tree
from synthgen.engines.section import engine_faults
from synthgen.errors import Mistakes, attempt, nearest
from synthgen.taggers.kinds import kind_of
from synthgen.taggers.spec import TaggerFile, TaggerSpec, in_order


def load(name: str, home: Path = Path()) -> TaggerSpec:
    """Return the tagger of that name; no model is loaded. Names and relative paths start from `home`.

    Raises:
        Mistakes: All mistakes in the file and in its taxonomy.
    """
    document = library.load("tagger", name, home)
    faults: list[str] = []
    kind = attempt(faults, lambda: kind_of(document))
    file = attempt(faults, partial(library.check, document, kind)) if kind else None
    tags = attempt(faults, lambda: _taxonomy(document))
    if kind and tags:
        faults += _unknown_tags(kind, document, tags)
    if kind and "serve" in kind.model_fields:
        faults += engine_faults(document, ("serve",))
    folder = file.local_model(home) if file else None
    if file and (fault := file.model_fault(folder)):
        faults.append(f"{document.where(('model',))}: {fault}")
    if faults:
        raise Mistakes(list(dict.fromkeys(faults)))
    assert file and tags
    weights = file.local_weights(home)
    return TaggerSpec(name, file, tags, str(folder) if folder else None, str(weights) if weights else None)


def load_all(names: Sequence[str], home: Path = Path()) -> tuple[TaggerSpec, ...]:
    """Return the taggers of a pipeline, which must share a taxonomy because the mapping knows only one.

    Raises:
        Mistakes: All mistakes in all of them.
    """
    faults: list[str] = []
    specs = [spec for name in names if (spec := attempt(faults, partial(load, name, home)))]
    for spec in specs[1:]:
        if spec.taxonomy.name != specs[0].taxonomy.name:
            faults.append(
                f"tag.tagger: '{spec.name}' tags with taxonomy '{spec.taxonomy.name}' and '{specs[0].name}' with "
                f"'{specs[0].taxonomy.name}'; the taggers of a pipeline share one"
            )
    if specs and specs[0].file.refines() and not faults:
        faults.append(
            f"tag.tagger: '{specs[0].name}' looks closer at what another tagger found (`only`), and no tagger stands "
            f"before it; write `tagger: [another, {specs[0].name}]`"
        )
    if faults:
        raise Mistakes(list(dict.fromkeys(faults)))  # each tagger reports the mistakes in the taxonomy that they share
    return in_order(specs)


def tree_of(name: str, home: Path = Path()) -> Tree | None:
    """Return the tree of a tagger's taxonomy, whatever else is wrong with the tagger; None if it names none."""
    tags = _taxonomy(library.load("tagger", name, home))
    return tags.tree if tags else None


def _taxonomy(document: Document) -> Taxonomy | None:
    faults: list[str] = []
    names = library.known_names("taxonomy", document, ("taxonomy",), faults)
    if faults:
        raise Mistakes(faults)
    return taxonomy.load(names[0], document.home) if names else None


def _unknown_tags(kind: type[TaggerFile], document: Document, tags: Taxonomy) -> list[str]:
    return [
        f"{document.where(place)}: no tag of '{tags.name}' is '{name}': {nearest(name, tags.tree.nodes)}"
        for place, name in kind.unknown_tags(document, tags.tree)
    ]
