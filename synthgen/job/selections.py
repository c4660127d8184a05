"""Checks of the section `select` of a pipeline and of its views against the types, tags and scores that there are.

Each yields messages with the file and line of a mistake. Names are looked up in the files as read, so that a mistake
elsewhere hides none of these.
"""

from collections.abc import Iterator, Mapping, Sequence

from synthgen.config.families import InstructionType
from synthgen.config.pipeline import Pipeline
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Tree, matching, nearest_pattern
from synthgen.config.where import fits_one
from synthgen.errors import nearest

GATE: KeyPath = ("generate", "gate")


def selections(document: Document) -> list[KeyPath]:
    """Return the places of all settings of selection: the section `select`, and each view."""
    return [("select",), *document.names_at(("views",))]


def scores_named(document: Document) -> dict[KeyPath, str]:
    """Return the scores that selections name, each by its place."""
    found: dict[KeyPath, str] = {}
    for section in selections(document):
        found |= document.names_at((*section, "keep")) | document.names_at((*section, "survivor"))
        for place in (*_rules(document, (*section, "balance")), *_quotas(document, section)):
            found |= document.names_at((*place, "by"))
    return found


def dotted(place: KeyPath) -> str:
    """Return a place as messages name it: of a threshold without the score, which they quote."""
    return ".".join(map(str, place[:-1] if place[-2:-1] == ("keep",) else place))


def pattern_faults(document: Document, types: Sequence[str] | None, tree: Tree | None) -> Iterator[str]:
    """Yield the patterns that fit no instruction type, or no tag; those that are not known are None."""
    thresholds = [*_rules(document, GATE)]
    of_types: dict[KeyPath, str] = {}
    of_tags: dict[KeyPath, str] = {}
    for section in selections(document):
        thresholds += _rules(document, (*section, "keep"))
        of_types |= document.names_at((*section, "balance")) | document.names_at((*section, "quotas", "types"))
        of_tags |= document.names_at((*section, "quotas", "tags"))
    for place in thresholds:
        of_types |= document.names_at((*place, "types"))
    yield from _unmatched(document, of_types, types, "instruction type")
    yield from _unmatched(document, of_tags, list(tree.nodes) if tree else None, "tag")


def source_faults(document: Document) -> Iterator[str]:
    """Yield the patterns of sources, of the plan and of selections, that fit none of the named ones."""
    known = list(document.names_at(("source", "named")).values())
    for section in (("plan",), *selections(document)):
        for place, pattern in document.names_at((*section, "where", "source")).items():
            if not any(fits_one((pattern,), name) for name in known):
                keys = ".".join(map(str, (*section, "where", "source")))
                yield f"{document.where(place)}: {keys}: no source is called '{pattern}': {nearest(pattern, known)}"


def balance_faults(document: Document, types: Mapping[str, InstructionType]) -> Iterator[str]:
    """Yield the patterns that are balanced type by type where every answer of a type is planned to be the same."""
    planned = [path for path, kind in types.items() if kind.truth]
    for section in selections(document):
        for place, pattern in document.names_at((*section, "balance")).items():
            within = document.at((*place, "within"))
            fixed = matching([pattern], planned)
            if fixed and (within is None or "type" in within):
                yield (
                    f"{document.where(place)}: {dotted(place)}: every answer of {fixed[0]} is planned to be "
                    f"{types[fixed[0]].truth}, so by itself none of it would be kept; give `within: []`, which "
                    "balances all types of the pattern together"
                )


def language_notes(pipeline: Pipeline) -> Iterator[str]:
    """Yield a line for each language that selections name and the plan does not."""
    planned = [name for name, share in pipeline.plan.languages.items() if share > 0]
    for name in (None, *pipeline.views):
        settings = pipeline.selection_of(name)
        where = "select" if name is None else f"views.{name}"
        for language in dict.fromkeys((*settings.languages, *settings.quotas.languages)):
            if language not in planned:
                yield f"note: {where}: no question is planned in '{language}': {nearest(language, planned)}"


def _rules(document: Document, place: KeyPath) -> list[KeyPath]:
    return list(document.names_at(place))


def _quotas(document: Document, section: KeyPath) -> list[KeyPath]:
    kinds = document.names_at((*section, "quotas"))
    return [place for kind in kinds for place in document.names_at(kind)]


def _unmatched(
    document: Document, patterns: Mapping[KeyPath, str], known: Sequence[str] | None, what: str
) -> Iterator[str]:
    for place, pattern in patterns.items() if known is not None else ():
        if known is not None and pattern != "**" and not matching([pattern], known):
            keys = place[:-1] if isinstance(place[-1], int) or place[-1] == pattern else place
            where = f"{document.where(place)}: {'.'.join(map(str, keys))}"
            yield f"{where}: no {what} matches '{pattern}': {nearest_pattern(pattern, known)}"
