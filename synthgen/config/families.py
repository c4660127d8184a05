"""Families of instruction types: the kinds of questions that a prompt pack can ask.

A family is a tree whose inner nodes are groups and whose leaves are the types. The name of its file is not part of a
type's path, so a type can move to another file.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from synthgen.config import library
from synthgen.config.constraints import Constraint
from synthgen.config.library import Section
from synthgen.config.taxonomy import Tree, build_tree
from synthgen.errors import Mistakes, attempt

Form = Literal["short", "brief", "detailed", "choice", "long", "text", "points", "boxes"]
Truth = Literal["yes", "no"]
Sensitive = Literal["personal", "medical"]
Presence = Literal["present", "absent"]
Subject = Literal["image", "set"]
UNANSWERABLE = "unanswerable/"  # begins the types of negatives
SWAPPED_FORMS = ("short", "brief", "detailed")  # of negatives: in the others an answer has no room to say so


class ConstrainedRequest(Constraint):
    """A request that says what form its answer must have, in words and so that it can be checked."""

    ask: str


def _kind_of_request(value: Any) -> str:
    return "with" if isinstance(value, Mapping | ConstrainedRequest) else "without"


AnyRequest = Annotated[
    Annotated[str, Tag("without")] | Annotated[ConstrainedRequest, Tag("with")], Discriminator(_kind_of_request)
]


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
    requests: dict[str, tuple[AnyRequest, ...]] = Field(default_factory=dict)  # language -> whole requests, asked so
    truth: Truth | None = None  # the answer that every question of the type must have
    thing: Presence | None = None  # the plan names a tag that the image has, or one that it lacks
    follows: bool = False  # the question goes on from an earlier pair of the image
    ends: bool = False  # no question goes on from its pairs
    sensitive: Sensitive | None = None  # asked only where `plan.allow` names it
    swap: bool = False  # asked of another image than it was written for, its question has no answer there
    of: Subject = "image"  # what it is asked about; of a set, all its images are seen

    @model_validator(mode="after")
    def _check_swap(self) -> "InstructionLeaf":
        barred = ("open", "requests", "truth", "thing", "follows")
        if self.swap and self.of == "set":
            raise ValueError("swap: a question about a set is put to no other image; leave out `swap` or `of: set`")
        if self.swap and (found := [name for name in barred if getattr(self, name)]):
            raise ValueError(f"swap: such a type has no `{found[0]}`: its questions can be answered of other images")
        if self.swap and not set(self.forms) & set(SWAPPED_FORMS):
            raise ValueError(f"swap: such a type has one of the forms {', '.join(SWAPPED_FORMS)}")
        return self

    @model_validator(mode="after")
    def _check_requests(self) -> "InstructionLeaf":
        if empty := [language for language, texts in self.requests.items() if not texts]:
            raise ValueError(f"requests: no request for {', '.join(empty)}")
        for text in (text for texts in self.request_texts().values() for text in texts):
            if ("{thing}" in text) != (self.thing is not None):
                raise ValueError(f"requests: {text!r}: {{thing}} belongs into the requests of types with `thing`")
        return self

    def request_texts(self) -> dict[str, tuple[str, ...]]:
        """Return the words of the requests by language."""
        return {
            language: tuple(item if isinstance(item, str) else item.ask for item in items)
            for language, items in self.requests.items()
        }

    def constraints(self) -> dict[str, Constraint]:
        """Return what requests ask of the form of their answer, by their words."""
        items = (item for items in self.requests.values() for item in items if not isinstance(item, str))
        return {item.ask: Constraint(**item.model_dump(exclude={"ask"})) for item in items}


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
    constraints: Mapping[str, Constraint] = field(default_factory=dict)  # request -> the form of its answer
    truth: Truth | None = None
    thing: Presence | None = None
    follows: bool = False
    ends: bool = False
    sensitive: Sensitive | None = None
    swap: bool = False
    of: Subject = "image"

    @property
    def name(self) -> str:
        """The last part of the path, with spaces for underscores."""
        return self.path.rpartition("/")[2].replace("_", " ")

    @property
    def family(self) -> str:
        """The first part of the path."""
        return self.path.partition("/")[0]


def is_unanswerable(path: str) -> bool:
    """Return whether a type is that of negatives: questions of another type that were written for another image."""
    return path.startswith(UNANSWERABLE)


def unanswerable(kind: InstructionType) -> InstructionType:
    """Return the type of the negatives whose questions are of this type."""
    forms = tuple(form for form in kind.forms if form in SWAPPED_FORMS)
    return replace(kind, path=UNANSWERABLE + kind.path, forms=forms)


def asked_as(path: str) -> str:
    """Return the type as which the questions of a type are written: of negatives that which they are drawn from."""
    return path.removeprefix(UNANSWERABLE)


def with_unanswerable(types: Mapping[str, InstructionType]) -> dict[str, InstructionType]:
    """Return types, and those of the negatives that can be made of them."""
    made = [unanswerable(kind) for kind in types.values() if kind.swap]
    return {**types, **{kind.path: kind for kind in made}}


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
    if document.at(("types", UNANSWERABLE[:-1])) is not None:
        where = document.where(("types", UNANSWERABLE[:-1]))
        faults.append(f"{where}: '{UNANSWERABLE[:-1]}' is the group of negatives; give this one another name")
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
        texts = {"requests": leaf.request_texts(), "constraints": leaf.constraints()}
        types[path] = InstructionType(path, **{**values, **texts, "ask_as": leaf.ask_as or tree.nodes[path].words})
    return types


def traits(kind: InstructionType) -> dict[str, Any]:
    """Return what is special about a type beside its texts, as JSON values; empty for most types."""
    names = ("open", "reasons", "truth", "thing", "follows")  # not `swap`, which changes no pair of the type itself
    special = {name: value for name in names if (value := getattr(kind, name))}
    requests = {language: list(texts) for language, texts in kind.requests.items()}
    return {**special, **({"requests": requests} if requests else {})}
