"""Which instruction types an image gets, and how much of each: rules over its tags.

Comes in: a mapping file (pipelines/mappings/NAME.yaml), the taxonomy that it speaks of and the instruction types that it
hands out. Goes out: a Mapping that gives, for an image's tags and facts, the rules that fire; what weights these come to is
worked out where questions are drawn (stages/plan/assign.py). Rules are found by tag, so that an image costs a few table look-ups.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Annotated

from pydantic import Field, model_validator

from synthgen.config import library
from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Tree, alike, matches, matching, with_ancestors
from synthgen.errors import Mistakes, attempted

Amount = Annotated[float, Field(ge=0, strict=True)]  # a number in quotes is text


class Conditions(Section):
    """What an image must be like for a rule to fire; sides in pixels, aspect is width over height."""

    min_side: int | None = None
    max_side: int | None = None
    min_aspect: float | None = None
    max_aspect: float | None = None
    has_text: bool | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Conditions":
        for what, least, most in (("side", self.min_side, self.max_side), ("aspect", self.min_aspect, self.max_aspect)):
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{what} {least:g} is above max_{what} {most:g}, so the rule could never fire")
        return self


class Rule(Section):
    """One line of a mapping: images with any of these tags are asked these types."""

    tags: str | tuple[str, ...]
    when: Conditions | None = None
    ask: dict[str, Amount] = Field(default_factory=dict)  # type pattern -> weight, shared by the leaves that it matches
    boost: dict[str, Amount] = Field(default_factory=dict)  # type pattern -> factor
    never: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _does_something(self) -> "Rule":
        if not (self.ask or self.boost or self.never):
            raise ValueError("does nothing; give it ask, boost or never")
        if not self.patterns:
            raise ValueError("names no tags, so the rule could never fire; '**' fits every image")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.tags,) if isinstance(self.tags, str) else self.tags


class MappingFile(Section):
    """pipelines/mappings/NAME.yaml"""

    about: str
    extends: str | None = None
    text_tags: tuple[str, ...] = ()  # tag patterns that mean "there is text in the image", for has_text
    rules: list[Rule]


@dataclass(frozen=True)
class ImageSize:
    """What conditions look at."""

    width: int
    height: int
    has_text: bool = False


@dataclass(frozen=True)
class CompiledRule:
    """A rule with its patterns worked out."""

    number: int
    where: str
    rule: Rule
    tags: frozenset[str]
    is_for_all: bool  # `**`: for images without a tag too
    ask: Mapping[str, float]
    boost: Mapping[str, float]
    never: frozenset[str]


@dataclass(frozen=True)
class RuleSet:
    """Rules ready to be asked."""

    name: str
    lines: tuple[CompiledRule, ...]
    text_tags: frozenset[str]

    @cached_property
    def _by_tag(self) -> dict[str, frozenset[int]]:
        """For each tag, the rules that name it; those for all images are apart, under ""."""
        found: dict[str, set[int]] = {"": {line.number for line in self.lines if line.is_for_all}}
        for line in self.lines:
            for tag in () if line.is_for_all else line.tags:
                found.setdefault(tag, set()).add(line.number)
        return {tag: frozenset(numbers) for tag, numbers in found.items()}

    def fired(self, tags: Sequence[str], facts: ImageSize) -> tuple[int, ...]:
        """The numbers of the rules that fire; a tag implies its ancestors."""
        present = _implied(tuple(tags))
        seen = ImageSize(facts.width, facts.height, not self.text_tags.isdisjoint(present))
        numbers = set(self._by_tag[""]).union(*(self._by_tag[tag] for tag in present if tag in self._by_tag))
        return tuple(number for number in sorted(numbers) if _holds(self.lines[number].rule.when, seen))

    def causes(self, fired: tuple[int, ...], tags: Sequence[str], instruction_type: str) -> list[str]:
        """The tags for which a type was given."""
        asking = {number for number in fired if instruction_type in self.lines[number].ask}
        return [tag for tag in _implied(tuple(tags)) if not asking.isdisjoint(self._by_tag.get(tag, ()))]


def load(name: str, tags: Tree, types: Sequence[str]) -> RuleSet:
    """The mapping of that name over a taxonomy and instruction types, or all that is wrong with it."""
    lines: list[CompiledRule] = []
    text_tags: set[str] = set()
    for document, file in files(name, tags, types):
        text_tags |= set(matching(file.text_tags, list(tags.nodes)))
        for place, rule in enumerate(file.rules):
            lines.append(_line(len(lines), document.where(("rules", place)), rule, tags, types))
    return RuleSet(name, tuple(lines), frozenset(text_tags))


def files(
    name: str, tags: Tree | None = None, types: Sequence[str] | None = None
) -> list[tuple[Document, MappingFile]]:
    """A mapping and those that it extends as they are written, the farthest first, or all that is wrong with them.

    Of patterns that can be told only with the tags and the types that there are.
    """
    faults: list[str] = []
    found = []
    for document in _chain(name, faults):
        file = attempted(faults, partial(library.check, document, MappingFile))
        faults += _unknown(document, tags, types)
        found += [(document, file)] if file else []
    if faults:
        raise Mistakes(faults)
    return found


def texts(name: str) -> list[str]:
    """What a mapping and those it extends say, for its fingerprint; comments, layout and `about` are not part of it."""
    said = [{key: value for key, value in document.values.items() if key != "about"} for document, _ in files(name)]
    return [json.dumps(one, ensure_ascii=False) for one in said]


def names(name: str) -> list[str]:
    """The names of a mapping and of those it extends, the farthest first."""
    return [document.path.stem for document, _ in files(name)]


@lru_cache(maxsize=64)
def _implied(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags of an image and their ancestors; asked several times in a row for one image."""
    return tuple(with_ancestors(tags))


def _chain(name: str, faults: list[str]) -> list[Document]:
    """The mapping's file behind those that it extends, the farthest first, as far as they can be read."""
    chain: list[Document] = []
    seen: list[str] = []
    following = [name]
    while following and following[0] not in seen:
        seen.append(following[0])
        document = attempted(faults, partial(library.load, "mapping", following[0]))
        if document is None:
            break
        chain.insert(0, document)
        following = library.named("mapping", document, ("extends",), faults)
    else:
        if following:
            faults.append(f"{chain[0].where(('extends',))}: extends itself: {' -> '.join([*seen, following[0]])}")
    return chain


def _line(number: int, where: str, rule: Rule, tags: Tree, types: Sequence[str]) -> CompiledRule:
    ask: dict[str, float] = {}
    for pattern, weight in rule.ask.items():
        matched = matching([pattern], types)
        for path in matched:
            ask[path] = ask.get(path, 0.0) + weight / len(matched)
    boost = {path: factor for pattern, factor in rule.boost.items() for path in matching([pattern], types)}
    named = frozenset(matching(rule.patterns, list(tags.nodes)))
    return CompiledRule(
        number, where, rule, named, "**" in rule.patterns, ask, boost, frozenset(matching(rule.never, types))
    )


def _unknown(document: Document, tags: Tree | None, types: Sequence[str] | None) -> list[str]:
    """Patterns that match nothing, each with its own line: always a typing error, or a name that has gone."""
    rules = document.at(("rules",))
    paths = list(tags.nodes) if tags is not None else None
    kinds = [("tags", "tag", paths), *((key, "instruction type", types) for key in ("ask", "boost", "never"))]
    places: list[tuple[KeyPath, str, Sequence[str] | None]] = [(("text_tags",), "tag", paths)]
    for number in range(len(rules) if isinstance(rules, list) else 0):
        places += [(("rules", number, key), kind, known) for key, kind, known in kinds]
    return [
        f"{document.where(place)}: no {kind} matches '{pattern}': {alike(pattern, known)}"
        for within, kind, known in places
        if known is not None
        for place, pattern in document.words(within).items()
        if not any(matches(pattern, path) for path in known)
    ]


def _holds(when: Conditions | None, facts: ImageSize) -> bool:
    if when is None:
        return True
    side, aspect = min(facts.width, facts.height), facts.width / max(facts.height, 1)
    return not (
        (when.min_side is not None and side < when.min_side)
        or (when.max_side is not None and side > when.max_side)
        or (when.min_aspect is not None and aspect < when.min_aspect)
        or (when.max_aspect is not None and aspect > when.max_aspect)
        or (when.has_text is not None and facts.has_text != when.has_text)
    )
