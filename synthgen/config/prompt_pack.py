"""Prompt packs: the templates of every call to a model, and the instruction types that they ask.

Loading a pack fills in every template for every instruction type, so that a template that fails is found before a run
starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from synthgen.config import families, library, manners
from synthgen.config.families import InstructionType
from synthgen.config.prompt_file import AskPrompt, PackFile
from synthgen.config.replies import Question
from synthgen.config.strict_yaml import Document
from synthgen.config.taxonomy import Node, Tree
from synthgen.config.templates import render, variables_of
from synthgen.errors import Mistakes, attempt, nearest
from synthgen.tables import ANSWER_FORMS


@dataclass(frozen=True)
class Prompts:
    """A prompt pack with the instruction types that it asks."""

    name: str
    pack: PackFile
    tree: Tree
    types: Mapping[str, InstructionType]

    def type_of(self, path: str) -> InstructionType:
        """Return the type of a row, which may be that of a negative. Raises KeyError if it is gone."""
        kind = self.types[families.asked_as(path)]
        if not families.is_unanswerable(path):
            return kind
        if not kind.swap:
            raise KeyError(path)
        return families.unanswerable(kind)

    def has_type(self, path: str) -> bool:
        """Return whether there is a type, which may be that of negatives."""
        kind = self.types.get(families.asked_as(path))
        return kind is not None and (kind.swap or not families.is_unanswerable(path))

    def ask(self, form: str) -> AskPrompt:
        """Return the asking prompt for an answer form; multiple choice may have a different one."""
        return self.pack.ask_choice if form == "choice" and self.pack.ask_choice else self.pack.ask

    def voices(self, path: str) -> tuple[str, ...]:
        """Return who may ask a question of a type."""
        return manners.suiting(self.pack.voices, families.asked_as(path))

    def levels(self, path: str) -> tuple[str, ...]:
        """Return how hard a question of a type may be."""
        return manners.suiting(self.pack.levels, families.asked_as(path))


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
    faults += [*_unanswered_forms(document, types), *manners.unknown_patterns(document, list(types))]
    if any(kind.reasons for kind in types.values()) and document.at(("reasoning",)) is None:
        faults.append(f"{document.where(())}: no prompt `reasoning`, which types with `reasons: true` need")
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


@cache
def asks_many(prompt: AskPrompt) -> bool:
    """Return whether one call can ask for several questions, because the template says how many."""
    return "n" in variables_of(prompt.text)


def question_texts(prompts: Prompts, instruction_type: str, form: str) -> dict[str, Any]:
    """Return everything in the pack that shapes questions of one type and form, where another model answers them."""
    texts = recipe_texts(prompts, instruction_type, form)
    more = {key: value for key, value in texts.get("more", {}).items() if key not in ("reasoning", "unanswerable")}
    system = {"system": prompts.pack.system_for("ask")}
    return {**{key: texts[key] for key in ("ask", "type")}, **system, **({"more": more} if more else {})}


def recipe_texts(prompts: Prompts, instruction_type: str, form: str) -> dict[str, Any]:
    """Return everything in the pack that shapes pairs of one type and form, for the recipe of these pairs."""
    kind, pack = prompts.type_of(instruction_type), prompts.pack
    ask = prompts.ask(form)
    texts = {
        "system": pack.system if isinstance(pack.system, str | None) else pack.system.model_dump(mode="json"),
        "ask": ask.model_dump(mode="json"),
        "answer": pack.answer[form].model_dump(mode="json", exclude={"turn", "wordings"}),  # type: ignore[index]
        "type": [kind.path, kind.about, kind.needs, kind.ask_as, list(kind.examples)],
    }
    # Keys that few types have are left out where they say nothing: the recipes of all other types stay as they are.
    drawn = {"voice": prompts.voices(instruction_type), "level": prompts.levels(instruction_type)}
    more = {
        **({"form": form} if "form" in variables_of(ask.text) else {}),
        **{name: list(values) for name, values in drawn.items() if values and name in variables_of(ask.text)},
        **families.traits(kind),
        **({"reasoning": pack.reasoning.model_dump(mode="json")} if kind.reasons and pack.reasoning else {}),
        **_unanswerable_texts(pack, kind),
    }
    return {**texts, "more": more} if more else texts


def _unanswerable_texts(pack: PackFile, kind: InstructionType) -> dict[str, Any]:
    """Return what shapes the answers of a type of negatives."""
    if not families.is_unanswerable(kind.path) or not pack.unanswerable:
        return {}
    return {"unanswerable": pack.unanswerable.model_dump(mode="json")}


_SAMPLE = Question("How many dogs are there?", ("one", "two", "three", "four"))
_ANY_TYPE = InstructionType(
    "any/type", "anything", "anything", "type", ("short",), ("What?", "Which?")
)  # where every family has mistakes
# Of the templates below `judge`.
SCORE_VARIABLES = ("question", "answer", "statement", "other", "evidence", "type", "language", "previous")
Values = dict[str, Any]


def _templates(
    types: Sequence[InstructionType], judges: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], list[Values]]]:
    """Yield the place of every template in a pack, with sample values for all variables that it may use.

    Args:
        types: The instruction types that templates are tried with.
        judges: The keys of the pack's `judge`.
    """
    yield ("ask", "text"), [_asked(kind, n) for kind in types for n in (1, 2)]
    yield ("ask_choice", "text"), [_asked(kind, n) for kind in types for n in (1, 2)]
    question: Values = {"question": _SAMPLE.text, "language": "English"}
    earlier: Values = {"question": "Is there a dog?", "answer": "Yes."}
    for form in ANSWER_FORMS:
        options = list(_SAMPLE.options) if form == "choice" else []
        answered = {**question, "options": options}
        yield ("answer", form, "text"), [{**answered, "previous": previous} for previous in (None, earlier)]
        yield ("answer", form, "turn"), [{**answered, "wording": "Answer briefly."}]
    texts: Values = {**question, "previous": None}
    worked = [{**texts, "options": [], "form": "short"}, {**texts, "options": list(_SAMPLE.options), "form": "choice"}]
    yield ("reasoning", "text"), worked
    yield ("unanswerable", "text"), [{**question, "form": form} for form in families.SWAPPED_FORMS]
    judged: Values = {"answer": "two", "statement": "two", "other": "three", "evidence": "two dogs"}
    for name in judges:
        yield (
            ("judge", name, "text"),
            [{**question, **judged, "type": kind, "previous": earlier if kind.follows else None} for kind in types],
        )
    yield ("paraphrase", "text"), [question]
    yield ("blind", "text"), [question]


@dataclass(frozen=True)
class CallSize:
    """The size of a call that shows the image.

    Attributes:
        key: Of its prompt: a section of the pack, as `answer`, or `judge.NAME`.
        characters: Of its longest text, with the system text.
        reply: Most tokens of its reply.
    """

    key: str
    characters: int
    reply: int

    @property
    def is_ask(self) -> bool:
        """Whether it asks for questions."""
        return self.key.startswith("ask")


def call_sizes(prompts: Prompts) -> Iterator[CallSize]:
    """Yield the size of each call that shows the image; its questions and answers are short samples."""
    pack = prompts.pack
    system = max((len(pack.system_for(use) or "") for use in ("ask", "answer", "judge")), default=0)
    for place, samples in _templates(list(prompts.types.values()), list(pack.judge)):
        section: Any = pack
        for key in place[:-1]:
            section = section.get(key) if isinstance(section, Mapping) else getattr(section, key)
        if getattr(section, "text", None) is not None and place[-1] == "text" and place[0] != "blind":
            longest = max((len(render(section.text, **values)) for values in samples), default=0)
            key = ".".join(place[:-1]) if place[0] == "judge" else place[0]
            yield CallSize(key, system + longest, getattr(section, "max_tokens", 1))


def _asked(kind: InstructionType, n: int) -> Values:
    """Return sample values of the variables of an asking prompt; with `n` = 1 as few of them as can be."""
    return {
        "type": kind,
        "n": n,
        "form": kind.forms[0],
        "language": "English",
        "tags": ["dog"][: n - 1],
        "examples": list(kind.examples[:2]),
        "voice": "a student" if n > 1 else "",
        "level": "easy" if n > 1 else "",
        "asked": ["Is there a dog?"][: n - 1],
        "previous": {"question": "Is there a dog?", "answer": "Yes."} if n > 1 else None,
        "thing": "dog" if n > 1 else None,
    }


def _template_fault(text: str, samples: list[Values]) -> str | None:
    """Return the fault of a template, found by filling it in once for every type, or None."""
    try:
        if unknown := variables_of(text) - samples[0].keys():
            return "; ".join(f"unknown variable '{name}': {nearest(name, samples[0])}" for name in sorted(unknown))
        for values in samples:
            render(text, **values)
    except Exception as error:  # a template can compute, so it can fail in any way
        return f"the template fails: {error}"
    return None
