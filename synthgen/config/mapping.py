"""Mappings: rules over an image's tags that say which instruction types it is asked, and how often.

A rule is found by its tags, so an image costs a few table look-ups however long the mapping is. The weights that the
rules of an image add up to are computed where questions are drawn, in stages/plan/weights.py.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from synthgen.config import library
from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Tree, matching, nearest_pattern, with_ancestors
from synthgen.config.where import Where
from synthgen.errors import Mistakes, attempt

Amount = Annotated[float, Field(ge=0, strict=True)]  # strict: a number in quotes is text
# The number of a rule that fires → the best score among the tags because of which it does, as a share of the best score
# of the image; 1 for a rule for all images.
Match = Mapping[int, float]


class Conditions(Where):
    """Conditions on an image for a rule to fire; sides are in pixels, aspect is width / height."""

    min_side: int | None = None
    max_side: int | None = None
    min_aspect: float | None = None
    max_aspect: float | None = None
    has_text: bool | None = None

    @model_validator(mode="after")
    def _check_order(self) -> "Conditions":
        for name, least, most in (("side", self.min_side, self.max_side), ("aspect", self.min_aspect, self.max_aspect)):
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{name} {least:g} is above max_{name} {most:g}, so the rule never fires")
        return self


class Rule(Section):
    """One rule of a mapping: it fires for images that have any of these tags and meet the conditions."""

    tags: str | tuple[str, ...]
    when: Conditions | None = None
    ask: dict[str, Amount] = Field(default_factory=dict)  # type pattern -> weight, shared by the types it matches
    boost: dict[str, Amount] = Field(default_factory=dict)  # type pattern -> factor
    never: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_effect(self) -> "Rule":
        if not (self.ask or self.boost or self.never):
            raise ValueError("does nothing; give it ask, boost or never")
        if not self.patterns:
            raise ValueError("has no tags, so the rule never fires; '**' matches every image")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """The tag patterns, of which one is enough."""
        return (self.tags,) if isinstance(self.tags, str) else self.tags


class StudentLosses(Section):
    """What a student has learned of an instruction type: its mean loss of a token, and that of its teacher."""

    answers: int
    student: float
    teacher: float


class StudentRecord(Section):
    """Why `synth plan --from-student` boosts types as it does: the training, and what it had learned."""

    training: str
    steps: int
    types: dict[str, StudentLosses]


class MappingFile(Section):
    """The contents of pipelines/mappings/NAME.yaml."""

    about: str
    extends: str | None = None
    student: StudentRecord | None = None  # of a mapping that `synth plan --from-student` wrote
    text_tags: tuple[str, ...] = ()  # patterns of tags that mean that the image contains text, for `has_text`
    thing_tags: tuple[str, ...] = ()  # patterns of tags that a type with `thing` may name; without any, all
    rules: list[Rule]


@dataclass(frozen=True)
class ImageFacts:
    """What conditions look at: the size of an image in pixels, its licence, and the name of its source."""

    width: int
    height: int
    license: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class CompiledRule:
    """A rule whose patterns are expanded to tags and instruction types."""

    number: int
    where: str  # file:line
    rule: Rule
    tags: frozenset[str]
    is_for_all: bool  # has the pattern `**`, which also matches images without tags
    ask: Mapping[str, float]
    boost: Mapping[str, float]
    never: frozenset[str]


@dataclass(frozen=True)
class RuleSet:
    """The rules of a mapping and of those that it extends, by number.

    Attributes:
        thing_tags: Tags that a type with `thing` may name; None for all.
        names: The names of these mappings, the farthest first.
        texts: Their files as JSON, without comments, layout and `about`; a fingerprint is made of them.
    """

    name: str
    rules: tuple[CompiledRule, ...]
    text_tags: frozenset[str]
    thing_tags: frozenset[str] | None = None
    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @cached_property
    def _for_all(self) -> frozenset[int]:
        """The rules for all images."""
        return frozenset(rule.number for rule in self.rules if rule.is_for_all)

    @cached_property
    def _by_tag(self) -> dict[str, frozenset[int]]:
        """The other rules, by each tag that they name."""
        numbers: dict[str, set[int]] = {}
        for rule in self.rules:
            for tag in () if rule.is_for_all else rule.tags:
                numbers.setdefault(tag, set()).add(rule.number)
        return {tag: frozenset(of_tag) for tag, of_tag in numbers.items()}

    @cached_property
    def _conditions(self) -> dict[int, Conditions]:
        """The conditions of the rules that have some."""
        return {rule.number: rule.rule.when for rule in self.rules if rule.rule.when is not None}

    @cached_property
    def _known(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        """The results of `_effect_of` so far."""
        return {}

    def _effect_of(self, tag: str) -> tuple[tuple[int, ...], bool]:
        """Return the rules that a tag or one above it makes fire, conditions aside, and whether it means text."""
        if tag not in self._known:
            paths = with_ancestors([tag])
            numbers = frozenset[int]().union(*(self._by_tag.get(path, ()) for path in paths))
            self._known[tag] = (tuple(numbers), not self.text_tags.isdisjoint(paths))
        return self._known[tag]

    def match(self, tags: Mapping[str, float], facts: ImageFacts) -> Match:
        """Return the rules that fire for an image, by number; a tag implies its ancestors.

        Args:
            tags: Tag → its score.
            facts: Of the image.
        """
        best = max(tags.values(), default=0.0)
        fired, has_text = dict.fromkeys(self._for_all, 1.0), False
        for tag, score in tags.items():
            share = score / best if best > 0 else 1.0
            numbers, is_text = self._effect_of(tag)
            has_text |= is_text
            for number in numbers:
                if fired.get(number, -1.0) < share:
                    fired[number] = share
        return {number: fired[number] for number in sorted(fired) if self._holds(number, facts, has_text)}

    def _holds(self, number: int, facts: ImageFacts, has_text: bool) -> bool:
        """Return whether an image meets the conditions of a rule."""
        when = self._conditions.get(number)
        return when is None or _meets(when, facts, has_text)

    def nameable(self, leaves: Iterable[str]) -> frozenset[str]:
        """Return those of some leaf tags that a type with `thing` may name."""
        return frozenset(leaves) if self.thing_tags is None else self.thing_tags.intersection(leaves)

    def causes(self, fired: Match, tags: Iterable[str], instruction_type: str) -> list[str]:
        """Return the tags, ancestors included, because of which the fired rules ask an instruction type."""
        asking = {number for number in fired if instruction_type in self.rules[number].ask}
        return [tag for tag in _all_tags(tuple(tags)) if not asking.isdisjoint(self._by_tag.get(tag, ()))]


def load(name: str, tags: Tree, types: Sequence[str], home: Path = Path()) -> RuleSet:
    """Load a mapping over a taxonomy and instruction types; the names of mappings start from `home`.

    Raises:
        Mistakes: Every mistake in its file and in those that it extends.
    """
    rules: list[CompiledRule] = []
    text_tags, thing_tags = set[str](), set[str]()
    chain = files(name, tags, types, home)
    for document, file in chain:
        text_tags |= set(matching(file.text_tags, list(tags.nodes)))
        thing_tags |= set(matching(file.thing_tags, list(tags.nodes)))
        for index, rule in enumerate(file.rules):
            rules.append(_compile(len(rules), document.where(("rules", index)), rule, tags, types))
    names, texts = zip(*((document.path.stem, _fingerprint_text(document)) for document, _ in chain), strict=True)
    return RuleSet(name, tuple(rules), frozenset(text_tags), frozenset(thing_tags) or None, names, texts)


def files(
    name: str, tags: Tree | None = None, types: Sequence[str] | None = None, home: Path = Path()
) -> list[tuple[Document, MappingFile]]:
    """Return a mapping and those that it extends as written, the farthest first.

    Patterns are checked as far as the tags and the types are given.

    Raises:
        Mistakes: Every mistake in these files.
    """
    faults: list[str] = []
    checked = []
    for document in _chain(name, home, faults):
        file = attempt(faults, partial(library.check, document, MappingFile))
        faults += _unknown_patterns(document, tags, types)
        checked += [(document, file)] if file else []
    if faults:
        raise Mistakes(faults)
    return checked


def _fingerprint_text(document: Document) -> str:
    return json.dumps({key: value for key, value in document.values.items() if key != "about"}, ensure_ascii=False)


@lru_cache(maxsize=64)
def _all_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags of an image and their ancestors; cached, because the plan asks for each question of an image."""
    return tuple(with_ancestors(tags))


def _chain(name: str, home: Path, faults: list[str]) -> list[Document]:
    """Return a mapping's file after those that it extends, the farthest first, as far as they can be read."""
    chain: list[Document] = []
    visited: list[str] = []
    following = [name]
    while following:
        current = following[0]
        if current in visited:
            faults.append(f"{chain[0].where(('extends',))}: extends itself: {' -> '.join([*visited, current])}")
            break
        visited.append(current)
        document = attempt(faults, partial(library.load, "mapping", current, home))
        if document is None:
            break
        chain.insert(0, document)
        following = library.known_names("mapping", document, ("extends",), faults)
    return chain


def _compile(number: int, where: str, rule: Rule, tags: Tree, types: Sequence[str]) -> CompiledRule:
    ask: dict[str, float] = {}
    for pattern, weight in rule.ask.items():
        asked = matching([pattern], types)
        for path in asked:
            ask[path] = ask.get(path, 0.0) + weight / len(asked)
    boost = {path: factor for pattern, factor in rule.boost.items() for path in matching([pattern], types)}
    rule_tags = frozenset(matching(rule.patterns, list(tags.nodes)))
    never = frozenset(matching(rule.never, types))
    return CompiledRule(number, where, rule, rule_tags, "**" in rule.patterns, ask, boost, never)


def _unknown_patterns(document: Document, tags: Tree | None, types: Sequence[str] | None) -> list[str]:
    """Return a fault for each pattern that matches nothing: a typing error, or a name that no longer exists."""
    paths = list(tags.nodes) if tags is not None else None
    rules = document.at(("rules",))
    places: list[tuple[KeyPath, str, Sequence[str] | None]] = [
        ((key,), "tag", paths) for key in ("text_tags", "thing_tags")
    ]
    for number in range(len(rules) if isinstance(rules, list) else 0):
        places.append((("rules", number, "tags"), "tag", paths))
        places += [(("rules", number, key), "instruction type", types) for key in ("ask", "boost", "never")]
    faults = []
    for place, kind, known in places:
        if known is None:
            continue
        for pattern_place, pattern in document.names_at(place).items():
            if not matching([pattern], known):
                where = document.where(pattern_place)
                faults.append(f"{where}: no {kind} matches '{pattern}': {nearest_pattern(pattern, known)}")
    return faults


def _meets(when: Conditions, facts: ImageFacts, has_text: bool) -> bool:
    side, aspect = min(facts.width, facts.height), facts.width / max(facts.height, 1)
    return when.fits(facts.license, facts.source) and not (
        (when.min_side is not None and side < when.min_side)
        or (when.max_side is not None and side > when.max_side)
        or (when.min_aspect is not None and aspect < when.min_aspect)
        or (when.max_aspect is not None and aspect > when.max_aspect)
        or (when.has_text is not None and has_text != when.has_text)
    )
