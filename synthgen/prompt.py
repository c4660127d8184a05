"""What is said to a model.

Comes in: a prompt pack (prompts/NAME.yaml) and the families of instruction types that it lists (prompts/families/).
Goes out: a Prompts, whose templates render to the text of a call. Templates are sandboxed, strict Jinja: a missing variable
is an error, and nothing in a text file can reach Python.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from jinja2 import StrictUndefined, Template
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Discriminator, Field, Tag

from synthgen import shelves
from synthgen.errors import Mistakes, nearest
from synthgen.reply import LETTERS, Question, Style
from synthgen.rows import ANSWER_FORMS
from synthgen.shelves import Document, Section
from synthgen.taxonomy import Node, Tree, grow

Form = Literal["short", "brief", "detailed", "choice"]


def _kind_of(value: Any) -> str:
    """Which kind of node is meant, so that a mistake in one is not also reported as a mistake in the other."""
    return "group" if isinstance(value, Mapping) and "types" in value else "leaf"


class InstructionGroup(Section):
    """An inner node of a family."""

    about: str
    types: dict[
        str,
        Annotated["Annotated[InstructionGroup, Tag('group')] | Annotated[InstructionLeaf, Tag('leaf')]", Discriminator(_kind_of)],
    ] = Field(min_length=1)


class InstructionLeaf(Section):
    """An instruction type."""

    about: str
    needs: str
    ask_as: str | None = None  # the words for this type, where a model was trained on fixed ones
    forms: tuple[Form, ...] = Field(min_length=1)
    examples: tuple[str, ...] = Field(min_length=2)
    most: int | None = Field(default=None, gt=0)  # questions of one image, where an image has only so many of this type


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


class PackFile(Section):
    """prompts/NAME.yaml"""

    about: str
    families: tuple[str, ...] = Field(min_length=1)
    system: str | None = None
    ask: AskPrompt
    ask_choice: AskPrompt | None = None
    answer: dict[Form, AnswerPrompt]
    paraphrase: PlainPrompt | None = None
    judge: dict[Literal["question", "answer"], JudgePrompt] = Field(default_factory=dict)
    blind: PlainPrompt | None = None


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
    document = shelves.load("prompts", name)
    pack = shelves.check(document, PackFile)
    faults: list[str] = []
    nodes: dict[str, Node] = {}
    types: dict[str, InstructionType] = {}
    for one in pack.families:
        source = shelves.load("family", one)
        tree = family(source)
        if twice := set(tree.nodes) & set(nodes):
            faults.append(f"{source.path}: {', '.join(sorted(twice)[:3])}: also in another family of pack '{name}'")
        nodes.update(tree.nodes)
        types.update({path: _instruction_type(path, tree) for path in tree.leaves})
    faults += [
        f"{document.where(('answer',))}: no answer prompt for the form '{form}'" for form in _forms(types) if form not in pack.answer
    ]
    for place, text, values in _templates(pack, types):
        if fault := _template_fault(text, values):
            faults.append(f"{document.where(place)}: {'.'.join(place)}: {fault}")
    if faults:
        raise Mistakes(faults)
    return Prompts(name, pack, Tree(nodes), types)


def family(document: Document) -> Tree:
    """The tree of instruction types of a family, or all that is wrong with it."""
    shelves.check(document, FamilyFile)
    return grow(document, "types", "types", "about")


def render(text: str, **values: Any) -> str:
    """A template with its variables filled in; surrounding blank space is dropped, so that prompts have one spelling."""
    return _compiled(text).render(**values).strip()


@cache
def asks_many(prompt: AskPrompt) -> bool:
    """Whether one call can ask for several questions: whether the template says how many."""
    return "n" in find_undeclared_variables(_ENVIRONMENT.parse(prompt.text))


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
Values = dict[str, Any]


def _templates(pack: PackFile, types: Mapping[str, InstructionType]) -> Iterator[tuple[tuple[str, ...], str, list[Values]]]:
    """Every template of a pack with values for all variables that it may use."""
    asked: list[Values] = [
        {"type": kind, "n": n, "language": "English", "tags": ["dog"][: n - 1]} for kind in types.values() for n in (1, 2)
    ]
    told: Values = {"question": _SAMPLE.text, "language": "English"}
    yield ("ask", "text"), pack.ask.text, asked
    if pack.ask_choice:
        yield ("ask_choice", "text"), pack.ask_choice.text, asked
    for form, answer in pack.answer.items():
        turn: Values = {"question": _SAMPLE.text, "options": list(_SAMPLE.options) if form == "choice" else []}
        yield ("answer", form, "text"), answer.text, [{**turn, "language": "English"}]
        yield ("answer", form, "turn"), answer.turn or "", [turn]
    for name, judge in pack.judge.items():
        judged: Values = {"question": _SAMPLE.text} if name == "question" else {"question": _SAMPLE.text, "answer": "two"}
        yield ("judge", name, "text"), judge.text, [{**judged, "type": kind} for kind in types.values()]
    yield ("paraphrase", "text"), pack.paraphrase.text if pack.paraphrase else "", [told]
    yield ("blind", "text"), pack.blind.text if pack.blind else "", [told]


def _template_fault(text: str, samples: list[Values]) -> str | None:
    """What is wrong with a template: found by filling it in once for every type, so that no run finds it later."""
    try:
        unknown = find_undeclared_variables(_ENVIRONMENT.parse(text)) - set(samples[0] if samples else ())
        if unknown and samples:
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
