"""Prompt packs: the templates of every call to a model, and the instruction types that they ask.

Templates are strict, sandboxed Jinja: a missing variable is an error, and no definition file can reach Python. Loading
a pack fills in every template for every instruction type, so that a template that fails is found before a run starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from jinja2 import StrictUndefined, Template
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Discriminator, Field, Tag, model_validator

from synthgen.config import families, library
from synthgen.config.families import Form, InstructionType
from synthgen.config.library import Section
from synthgen.config.replies import LETTERS, Question, Style
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import Node, Tree
from synthgen.errors import Mistakes, attempt, nearest
from synthgen.tables import ANSWER_FORMS


class AskPrompt(Section):
    """The call that asks for questions of one type."""

    text: str
    parse: Style
    none: str | None = None  # with `lines`: the reply by which the model declines; with `json` it is an empty list
    max_tokens: int = Field(default=512, gt=0)

    @model_validator(mode="after")
    def _check_none(self) -> "AskPrompt":
        if self.none is not None and self.parse == "json":
            raise ValueError("`none` needs `parse: lines`; with json the model declines by an empty list")
        return self


class AnswerPrompt(Section):
    """The call that asks for the answer to a question, in one answer form."""

    text: str
    max_tokens: int = Field(gt=0)
    turn: str | None = None  # the user's words in the training sample; by default the question and its options


class PlainPrompt(Section):
    """A call for a score whose reply is plain text."""

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
    """The contents of prompts/NAME.yaml."""

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
class Prompts:
    """A prompt pack with the instruction types that it asks."""

    name: str
    pack: PackFile
    tree: Tree
    types: Mapping[str, InstructionType]

    def ask(self, form: str) -> AskPrompt:
        """Return the asking prompt for an answer form; multiple choice may have a different one."""
        return self.pack.ask_choice if form == "choice" and self.pack.ask_choice else self.pack.ask


def load(name: str, home: Path = Path()) -> Prompts:
    """Load a prompt pack with its families; their names start from `home`.

    Raises:
        Mistakes: Every mistake in its file and in those of its families.
    """
    document = library.load("prompts", name, home)
    faults: list[str] = []
    pack = attempt(faults, lambda: library.check(document, PackFile))
    tree = _merged_tree(document, faults)
    types = families.instruction_types(tree)
    faults += _unanswered_forms(document, types)
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


def types_of(name: str, home: Path = Path()) -> list[str]:
    """Return the instruction types of a pack, even if its prompts have mistakes.

    Raises:
        Mistakes: Every mistake in its families.
    """
    faults: list[str] = []
    tree = _merged_tree(library.load("prompts", name, home), faults)
    if faults:
        raise Mistakes(faults)
    return list(tree.leaves)


def _merged_tree(document: Document, faults: list[str]) -> Tree:
    """Return the trees of a pack's families as one; a family with mistakes only adds to the faults."""
    nodes: dict[str, Node] = {}
    for name in library.known_names("family", document, ("families",), faults):
        tree = attempt(faults, partial(families.load, name, document.home))
        if tree is None:
            continue
        if shared := sorted(tree.nodes.keys() & nodes.keys()):
            file, pack = library.find("family", name, document.home), document.path.stem
            faults.append(f"{file}: {', '.join(shared[:3])}: also in another family of pack '{pack}'")
        nodes.update(tree.nodes)
    return Tree(nodes)


def _unanswered_forms(document: Document, types: Mapping[str, InstructionType]) -> list[str]:
    """Return a fault for each answer form that a type has and the pack has no prompt for."""
    answers = document.at(("answer",))
    if not isinstance(answers, Mapping):
        return []
    used = {form for kind in types.values() for form in kind.forms}
    missing = [form for form in ANSWER_FORMS if form in used and form not in answers]
    return [f"{document.where(('answer',))}: no answer prompt for the form '{form}'" for form in missing]


def render(text: str, **values: Any) -> str:
    """Fill in a template; surrounding white space is dropped, so that it cannot change a prompt."""
    return _compile(text).render(**values).strip()


@cache
def asks_many(prompt: AskPrompt) -> bool:
    """Return whether one call can ask for several questions, because the template says how many."""
    return "n" in variables_of(prompt.text)


def variables_of(text: str) -> set[str]:
    """Return the variables that a template uses."""
    return find_undeclared_variables(_ENVIRONMENT.parse(text))


def recipe_texts(prompts: Prompts, instruction_type: str, form: str) -> dict[str, Any]:
    """Return everything in the pack that shapes pairs of one type and form, for the recipe of these pairs."""
    kind = prompts.types[instruction_type]
    return {
        "system": prompts.pack.system,
        "ask": prompts.ask(form).model_dump(mode="json"),
        "answer": prompts.pack.answer[form].model_dump(mode="json", exclude={"turn"}),  # type: ignore[index]
        "type": [kind.path, kind.about, kind.needs, kind.ask_as, list(kind.examples)],
    }


def turn_text(prompts: Prompts, form: str, question: str, options: Sequence[str]) -> str:
    """Return the user's words in a training sample."""
    template = prompts.pack.answer[form].turn  # type: ignore[index]
    if template is not None:
        return render(template, question=question, options=list(options))
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


_SAMPLE = Question("How many dogs are there?", ("one", "two", "three", "four"))
_ANY_TYPE = InstructionType(
    "any/type", "anything", "anything", "type", ("short",), ("What?", "Which?")
)  # where every family has mistakes
SCORE_VARIABLES = ("question", "answer", "type", "language")  # of the templates below `judge`
Values = dict[str, Any]


def _templates(
    types: Sequence[InstructionType], judges: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], list[Values]]]:
    """Yield the place of every template in a pack, with sample values for all variables that it may use.

    Args:
        types: The instruction types that templates are tried with.
        judges: The keys of the pack's `judge`.
    """
    asked: list[Values] = [
        {"type": kind, "n": n, "language": "English", "tags": ["dog"][: n - 1]} for kind in types for n in (1, 2)
    ]
    question: Values = {"question": _SAMPLE.text, "language": "English"}
    yield ("ask", "text"), asked
    yield ("ask_choice", "text"), asked
    for form in ANSWER_FORMS:
        turn: Values = {"question": _SAMPLE.text, "options": list(_SAMPLE.options) if form == "choice" else []}
        yield ("answer", form, "text"), [{**turn, "language": "English"}]
        yield ("answer", form, "turn"), [turn]
    for name in judges:
        yield ("judge", name, "text"), [{**question, "answer": "two", "type": kind} for kind in types]
    yield ("paraphrase", "text"), [question]
    yield ("blind", "text"), [question]


def _template_fault(text: str, samples: list[Values]) -> str | None:
    """Return the fault of a template, found by filling it in once for every type, or None."""
    try:
        if unknown := variables_of(text) - set(samples[0]):
            return "; ".join(f"unknown variable '{name}': {nearest(name, samples[0])}" for name in sorted(unknown))
        for values in samples:
            render(text, **values)
    except Exception as error:  # a template can compute, so it can fail in any way
        return f"the template fails: {error}"
    return None


@cache
def _compile(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
