"""Families of instruction types: the kinds of questions that a prompt pack can ask.

A family is a tree whose inner nodes are groups and whose leaves are the types. The name of its file is not part of a
type's path, so a type can move to another file.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from synthgen.config import library
from synthgen.config.library import Section
from synthgen.config.taxonomy import Tree, build_tree
from synthgen.errors import Mistakes, attempt

Form = Literal["short", "brief", "detailed", "choice", "long", "text", "points", "boxes"]
Truth = Literal["yes", "no"]
Sensitive = Literal["personal", "medical"]
Presence = Literal["present", "absent"]


class InstructionLeaf(Section):
    """An instruction type."""

    about: str
    needs: str
    ask_as: str | None = None  # the words for this type, where a model was trained on fixed ones
    forms: tuple[Form, ...] = Field(min_length=1)
    examples: tuple[str, ...] = Field(min_length=2)
    most: int | None = Field(default=None, gt=0)  # questions per image, where an image offers only so many
    open: bool = False  # several answers can be right: descriptions, opinions, plans
    reasons: bool = False  # the answer must be worked out, so it is, whatever the form
    requests: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # language -> whole requests, asked as they are
    truth: Truth | None = None  # the answer that every question of the type must have
    thing: Presence | None = None  # the plan names a tag that the image has, or one that it lacks
    follows: bool = False  # the question goes on from an earlier pair of the image
    sensitive: Sensitive | None = None  # asked only where `plan.allow` names it

    @model_validator(mode="after")
    def _check_requests(self) -> "InstructionLeaf":
        if empty := [language for language, texts in self.requests.items() if not texts]:
            raise ValueError(f"requests: no request for {', '.join(empty)}")
        for text in (text for texts in self.requests.values() for text in texts):
            if ("{thing}" in text) != (self.thing is not None):
                raise ValueError(f"requests: {text!r}: {{thing}} belongs into the requests of types with `thing`")
        return self


def _member_of(value: Any) -> str:
    """Return whether a group or a type is meant, so that a mistake in one is not also reported as one in the other.

    Only a group has nodes below it, under a key that may be misspelt.
    """
    if not isinstance(value, Mapping):
        return "InstructionLeaf"
    has_keys_of_a_type = bool(value.keys() & InstructionLeaf.model_fields.keys() - {"about"})
    has_nodes_below = any(isinstance(below, Mapping) for below in value.values())
    is_group = "types" in value or (has_nodes_below and not has_keys_of_a_type)
    return "InstructionGroup" if is_group else "InstructionLeaf"


class InstructionGroup(Section):
    """A group of instruction types or of further groups."""

    about: str
    types: dict[
        str,
        Annotated[
            Annotated["InstructionGroup", Tag("InstructionGroup")] | Annotated[InstructionLeaf, Tag("InstructionLeaf")],
            Discriminator(_member_of),
        ],
    ] = Field(min_length=1)


class FamilyFile(Section):
    """The contents of prompts/families/NAME.yaml."""

    about: str
    types: dict[str, InstructionGroup] = Field(min_length=1)


@dataclass(frozen=True)
class InstructionType:
    """An instruction type as templates see it (`type.about`)."""

    path: str
    about: str
    needs: str
    ask_as: str
    forms: tuple[Form, ...]
    examples: tuple[str, ...]
    most: int | None = None
    open: bool = False
    reasons: bool = False
    requests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    truth: Truth | None = None
    thing: Presence | None = None
    follows: bool = False
    sensitive: Sensitive | None = None

    @property
    def name(self) -> str:
        """The last part of the path, with spaces for underscores."""
        return self.path.rpartition("/")[2].replace("_", " ")

    @property
    def family(self) -> str:
        """The first part of the path."""
        return self.path.partition("/")[0]


def withheld(types: Mapping[str, InstructionType], allowed: Collection[Sensitive]) -> dict[Sensitive, list[str]]:
    """Return the types that are sensitive in a way that is not allowed, by that way."""
    found: dict[Sensitive, list[str]] = {}
    for path, kind in types.items():
        if kind.sensitive is not None and kind.sensitive not in allowed:
            found.setdefault(kind.sensitive, []).append(path)
    return found


def load(name: str, home: Path = Path()) -> Tree:
    """Load the tree of instruction types of a family; its name starts from `home`.

    Raises:
        Mistakes: Every mistake in its file.
    """
    document = library.load("family", name, home)
    faults: list[str] = []
    attempt(faults, lambda: library.check(document, FamilyFile))
    tree = attempt(faults, lambda: build_tree(document, root="types", below="types", meaning="about"))
    if faults:
        raise Mistakes(faults)
    assert tree
    return tree


def instruction_types(tree: Tree) -> dict[str, InstructionType]:
    """Return the leaves of a checked tree as instruction types, by path."""
    types = {}
    for path in tree.leaves:
        leaf = InstructionLeaf.model_validate(tree.nodes[path].values)
        values = {name: getattr(leaf, name) for name in InstructionLeaf.model_fields}
        types[path] = InstructionType(path, **{**values, "ask_as": leaf.ask_as or tree.nodes[path].words})
    return types


def traits(kind: InstructionType) -> dict[str, Any]:
    """Return what is special about a type beside its texts, as JSON values; empty for most types."""
    names = ("open", "reasons", "truth", "thing", "follows")
    special = {name: value for name in names if (value := getattr(kind, name))}
    requests = {language: list(texts) for language, texts in kind.requests.items()}
    return {**special, **({"requests": requests} if requests else {})}
