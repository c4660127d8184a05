"""What is said to a model.

Comes in: a prompt pack (prompts/NAME.yaml) and the families of instruction types that it lists (prompts/families/).
Goes out: a Prompts, whose templates render to the text of a call. Templates are sandboxed, strict Jinja: a missing variable
is an error, and nothing in a text file can reach Python.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal

from jinja2 import StrictUndefined, Template
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Discriminator, Field, Tag, model_validator

from synthgen.config import library
from synthgen.config.library import Section
from synthgen.config.replies import LETTERS, Question, Style
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import Node, Tree, grow
from synthgen.errors import Mistakes, attempted, nearest
from synthgen.tables import ANSWER_FORMS

Form = Literal["short", "brief", "detailed", "choice"]


class InstructionLeaf(Section):
    """An instruction type."""

    about: str
    needs: str
    ask_as: str | None = None  # the words for this type, where a model was trained on fixed ones
    forms: tuple[Form, ...] = Field(min_length=1)
    examples: tuple[str, ...] = Field(min_length=2)
    most: int | None = Field(default=None, gt=0)  # questions of one image, where an image has only so many of this type


def _kind_of(value: Any) -> str:
    """Which kind of node is meant, so that a mistake in one is told as a mistake in that one alone; only a group has keys below it."""
    if not isinstance(value, Mapping):
        return "InstructionLeaf"
    is_bare = value.keys() & InstructionLeaf.model_fields.keys() <= {"about"}
    has_below = "types" in value or (is_bare and any(isinstance(one, Mapping) for one in value.values()))
    return "InstructionGroup" if has_below else "InstructionLeaf"


class InstructionGroup(Section):
    """An inner node of a family."""

    about: str
    types: dict[
        str,
        Annotated[
            Annotated["InstructionGroup", Tag("InstructionGroup")] | Annotated[InstructionLeaf, Tag("InstructionLeaf")],
            Discriminator(_kind_of),
        ],
    ] = Field(min_length=1)


class FamilyFile(Section):
    """prompts/families/NAME.yaml"""

    about: str
    types: dict[str, InstructionGroup] = Field(min_length=1)


class AskPrompt(Section):
    """How questions of a type are asked for."""

    text: str
    parse: Style
    none: str | None = None  # lines: the reply that declines; json declines by an empty list
    max_tokens: int = Field(default=512, gt=0)

    @model_validator(mode="after")
    def _none_of_lines(self) -> "AskPrompt":
        if self.none is not None and self.parse == "json":
            raise ValueError("`none` is of `parse: lines`; with json a model declines by an empty list")
        return self


class AnswerPrompt(Section):
    """How a question is answered in one form."""

    text: str
    max_tokens: int = Field(gt=0)
    turn: str | None = None  # the user's words in the training sample, by default the question and its options


class PlainPrompt(Section):
    """A call that is neither."""

    text: str
    max_tokens: int = Field(default=128, gt=0)


class JudgePrompt(Section):
    """A call whose reply is read as the probabilities of labels, worst first, each one token."""

    text: str
    labels: tuple[str, ...] = Field(min_length=2)


def kind_of_judge(value: Any) -> str:
    """Return which prompt an entry of `judge` is: with labels, or one whose reply is read as text."""
    is_plain = isinstance(value, PlainPrompt) or (
        isinstance(value, Mapping) and "max_tokens" in value and "labels" not in value
    )
    return "PlainPrompt" if is_plain else "JudgePrompt"


class PackFile(Section):
    """prompts/NAME.yaml"""

    about: str
    families: tuple[str, ...] = Field(min_length=1)
    system: str | None = None
    ask: AskPrompt
    ask_choice: AskPrompt | None = None
    answer: dict[Form, AnswerPrompt]
    paraphrase: PlainPrompt | None = None
    judge: dict[
        str,
        Annotated[
            Annotated[JudgePrompt, Tag("JudgePrompt")] | Annotated[PlainPrompt, Tag("PlainPrompt")],
            Discriminator(kind_of_judge),
        ],
    ] = Field(default_factory=dict)  # by names that scores use; job/scores.py refuses others
    blind: PlainPrompt | None = None

    def score_prompt(self, key: str) -> JudgePrompt | PlainPrompt | None:
        """Return the prompt at `paraphrase`, `blind` or `judge.NAME`; None if the pack does not have it."""
        section, _, name = key.partition(".")
        if section == "judge":
            return self.judge.get(name)
        return {"paraphrase": self.paraphrase, "blind": self.blind}[key]


@dataclass(frozen=True)
class InstructionType:
    """A kind of question: a leaf of the instruction tree, as templates see it (`type.about`)."""

    path: str
    about: str
    needs: str
    ask_as: str
    forms: tuple[Form, ...]
    examples: tuple[str, ...]
    most: int | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2].replace("_", " ")

    @property
    def family(self) -> str:
        return self.path.partition("/")[0]


@dataclass(frozen=True)
class Prompts:
    """A pack with the instruction types that it asks."""

    name: str
    pack: PackFile
    tree: Tree
    types: Mapping[str, InstructionType]

    def ask(self, form: str) -> AskPrompt:
        """The asking prompt for an answer form; multiple choice has its own."""
        return self.pack.ask_choice if form == "choice" and self.pack.ask_choice else self.pack.ask


def load(name: str) -> Prompts:
    """The pack of that name with its families, every template compiled once, or all that is wrong with them."""
    document = library.load("prompts", name)
    faults: list[str] = []
    pack = attempted(faults, lambda: library.check(document, PackFile))
    tree = _families(document, faults)
    types = {path: _instruction_type(path, tree) for path in tree.leaves}
    answered = document.at(("answer",))
    if isinstance(answered, Mapping):
        missing = [form for form in _forms(types) if form not in answered]
        faults += [f"{document.where(('answer',))}: no answer prompt for the form '{form}'" for form in missing]
    judges = document.at(("judge",))
    names = list(judges) if isinstance(judges, Mapping) else []
    for place, values in _templates(list(types.values()) or [_ANY_TYPE], names):
        text = document.at(place)
        if isinstance(text, str) and (fault := _template_fault(text, values)):
            faults.append(f"{document.where(place)}: {'.'.join(place)}: {fault}")
    if faults:
        raise Mistakes(faults)
    assert pack
    return Prompts(name, pack, tree, types)


def types_of(name: str) -> list[str]:
    """The instruction types of a pack, whatever is wrong with its prompts; all that is wrong with its families, if anything is."""
    faults: list[str] = []
    tree = _families(library.load("prompts", name), faults)
    if faults:
        raise Mistakes(faults)
    return list(tree.leaves)


def family(document: Document) -> Tree:
    """The tree of instruction types of a family, or all that is wrong with it."""
    faults: list[str] = []
    attempted(faults, lambda: library.check(document, FamilyFile))
    tree = attempted(faults, lambda: grow(document, "types", "types", "about"))
    if faults:
        raise Mistakes(faults)
    assert tree
    return tree


def _families(document: Document, faults: list[str]) -> Tree:
    """The trees of all families of a pack as one; of a family with mistakes only these."""
    nodes: dict[str, Node] = {}
    for name in library.named("family", document, ("families",), faults):
        tree = attempted(faults, partial(_family, name))
        if tree and (twice := set(tree.nodes) & set(nodes)):
            faults.append(
                f"{library.find('family', name)}: {', '.join(sorted(twice)[:3])}: also in another family of pack '{document.path.stem}'"
            )
        nodes.update(tree.nodes if tree else {})
    return Tree(nodes)


def _family(name: str) -> Tree:
    return family(library.load("family", name))


def render(text: str, **values: Any) -> str:
    """A template with its variables filled in; surrounding blank space is dropped, so that prompts have one spelling."""
    return _compiled(text).render(**values).strip()


@cache
def asks_many(prompt: AskPrompt) -> bool:
    """Whether one call can ask for several questions: whether the template says how many."""
    return "n" in variables_of(prompt.text)


def variables_of(text: str) -> set[str]:
    """Return the variables that a template uses."""
    return find_undeclared_variables(_ENVIRONMENT.parse(text))


def recipe_texts(prompts: Prompts, instruction_type: str, form: str) -> dict[str, Any]:
    """Everything in the pack that shapes pairs of one type and form; part of the recipe that names a pair."""
    kind = prompts.types[instruction_type]
    return {
        "system": prompts.pack.system,
        "ask": prompts.ask(form).model_dump(mode="json"),
        "answer": prompts.pack.answer[form].model_dump(mode="json", exclude={"turn"}),  # type: ignore[index]
        "type": [kind.path, kind.about, kind.needs, kind.ask_as, list(kind.examples)],
    }


def turn_text(prompts: Prompts, form: str, question: str, options: Sequence[str]) -> str:
    """The user's words in a training sample."""
    template = prompts.pack.answer[form].turn  # type: ignore[index]
    if template is not None:
        return render(template, question=question, options=list(options))
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


def _instruction_type(path: str, tree: Tree) -> InstructionType:
    values = tree.nodes[path].values
    name = tree.nodes[path].spoken
    texts = (values["about"], values["needs"], values.get("ask_as", name))
    return InstructionType(path, *texts, tuple(values["forms"]), tuple(values["examples"]), values.get("most"))


def _forms(types: Mapping[str, InstructionType]) -> list[str]:
    used = {form for kind in types.values() for form in kind.forms}
    return [form for form in ANSWER_FORMS if form in used]


_SAMPLE = Question("How many dogs are there?", ("one", "two", "three", "four"))
_ANY_TYPE = InstructionType(
    "any/type", "anything", "anything", "type", ("short",), ("What?", "Which?")
)  # where no family is right
SCORE_VARIABLES = ("question", "answer", "type", "language")  # of the templates below `judge`
Values = dict[str, Any]


def _templates(
    types: Sequence[InstructionType], judges: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], list[Values]]]:
    """Yield the places of a pack that hold templates, with values for all variables that each may use.

    Args:
        types: The instruction types that templates are tried with.
        judges: The keys of the pack's `judge`.
    """
    asked: list[Values] = [
        {"type": kind, "n": n, "language": "English", "tags": ["dog"][: n - 1]} for kind in types for n in (1, 2)
    ]
    told: Values = {"question": _SAMPLE.text, "language": "English"}
    yield ("ask", "text"), asked
    yield ("ask_choice", "text"), asked
    for form in ANSWER_FORMS:
        turn: Values = {"question": _SAMPLE.text, "options": list(_SAMPLE.options) if form == "choice" else []}
        yield ("answer", form, "text"), [{**turn, "language": "English"}]
        yield ("answer", form, "turn"), [turn]
    for name in judges:
        yield ("judge", name, "text"), [{**told, "answer": "two", "type": kind} for kind in types]
    yield ("paraphrase", "text"), [told]
    yield ("blind", "text"), [told]


def _template_fault(text: str, samples: list[Values]) -> str | None:
    """What is wrong with a template: found by filling it in once for every type, so that no run finds it later."""
    try:
        if unknown := variables_of(text) - set(samples[0]):
            return "; ".join(f"unknown variable '{name}': {nearest(name, samples[0])}" for name in sorted(unknown))
        for values in samples:
            render(text, **values)
    except Exception as error:  # a template can compute, so it can fail in any way
        return f"is not a template that works: {error}"
    return None


@cache
def _compiled(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
