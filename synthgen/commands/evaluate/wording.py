"""The words in which a question is put to a model: as its shard has them, or with an ending that asks for a form.

The same model differs by ten points and more between the wordings of two harnesses, so the wording is a setting, and
every reply is stored with its prompt. The endings of lmms-eval and VLMEvalKit are theirs to the letter; neither has one
for multiple response, which has ours.
"""

from collections.abc import Mapping, Sequence

from synthgen.commands.evaluate.question import CHOICE, FILL, LETTERS, NUMBER, RESPONSE, TEXT, WITH_OPTIONS, Question
from synthgen.config.replies.options import speaks_of_others
from synthgen.stages.generate.measures.further_answers import rotated

OWN, PLAIN, LMMS_EVAL, VLMEVALKIT, BARE = WORDINGS = ("own", "plain", "lmms-eval", "vlmevalkit", "bare")
ENDINGS: Mapping[str, str] = {
    CHOICE: "Answer with the letter of the right option alone.",
    RESPONSE: "More than one option may be right. Answer with the letters of all right options alone.",
    TEXT: "Answer with a word or a short phrase.",
    NUMBER: "Answer with a number alone.",
    FILL: "Answer with the missing words alone.",
}
LMMS_CHOICE = "Answer with the option's letter from the given choices directly."
KIT_CHOICE = "Please select the correct answer from the options above. \n"
SHORT = "Answer the question using a single word or phrase."  # of both harnesses


def is_rotated(question: Question) -> bool:
    """Return whether the options of a question are asked in every rotation: none speaks of the others by its place."""
    return question.kind == CHOICE and not any(map(speaks_of_others, question.options))


def options_at(question: Question, rotation: int) -> tuple[str, ...]:
    """Return the options in the order of a rotation; 0 is their own."""
    return rotated(question.options)[rotation] if question.options else ()


def right_at(question: Question, rotation: int) -> tuple[str, ...]:
    """Return the right answers where the options are rotated: of multiple choice, the letters there."""
    if question.kind not in WITH_OPTIONS:
        return question.answers
    count = len(question.options)
    return tuple(LETTERS[(LETTERS.index(letter) - rotation) % count] for letter in question.answers)


def prompt_of(question: Question, wording: str, rotation: int = 0) -> str:
    """Return the words of a question.

    Args:
        question: The question.
        wording: One of WORDINGS.
        rotation: Of its options.
    """
    options = options_at(question, rotation)
    if wording == OWN and question.prompt:
        return question.prompt.replace(lettered(question.options), lettered(options), 1) if options else question.prompt
    if wording == VLMEVALKIT and question.kind == CHOICE:
        return f"Question: {question.question}\nOptions:\n{lettered(options)}\n{KIT_CHOICE}"
    lines = [question.question, *([lettered(options)] if options else []), _ending(question.kind, wording)]
    return "\n".join(line for line in lines if line)


def lettered(options: Sequence[str]) -> str:
    """Return options as lines with letters."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def _ending(kind: str, wording: str) -> str:
    if wording == BARE:
        return ""
    if wording in (OWN, PLAIN) or kind == RESPONSE:
        return ENDINGS[kind]
    return LMMS_CHOICE if kind == CHOICE else SHORT
