"""The user's words in training samples: a question, its options, and a wording that says which form the answer has."""

from collections.abc import Collection, Sequence

from synthgen.config.prompt_file import PackFile
from synthgen.config.prompt_pack import Prompts
from synthgen.config.replies import LETTERS
from synthgen.config.templates import render, variables_of
from synthgen.errors import UserMistake
from synthgen.tables import draw

WORKED_FORM = "detailed"  # in its words a turn asks for an answer with the working


def turn_text(prompts: Prompts, form: str, question: str, options: Sequence[str], language: str, pair: str) -> str:
    """Return the user's words in a training sample.

    Args:
        prompts: The prompt pack.
        form: The answer form.
        question: The question as it was asked.
        options: Of multiple choice.
        language: The language of the question, as the plan spells it.
        pair: The id of the pair, by which one of several wordings is drawn.

    Raises:
        UserMistake: The pack has no wording in this language.
    """
    answer = prompts.pack.answer[form]  # type: ignore[index]
    if answer.turn is None:
        return with_options(question, options)
    wording = _wording(prompts, form, language, pair) if "wording" in variables_of(answer.turn) else ""
    return render(answer.turn, question=question, options=list(options), language=language, wording=wording)


def with_options(question: str, options: Sequence[str]) -> str:
    """Return a question with its options, a lettered line for each."""
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


def missing_wordings(pack: PackFile, forms: Collection[str], languages: Collection[str]) -> list[str]:
    """Return a fault for each of these answer forms whose turns have no wording in one of these languages."""
    faults = []
    for form, answer in pack.answer.items():
        lacking = [language for language in languages if language not in answer.wordings]
        has_wording = form in forms and answer.turn is not None and "wording" in variables_of(answer.turn)
        if has_wording and lacking:
            known = ", ".join(answer.wordings) or "none"
            faults.append(f"answer.{form}.wordings: nothing for {', '.join(lacking)}; it has {known}")
    return faults


def _wording(prompts: Prompts, form: str, language: str, pair: str) -> str:
    wordings = prompts.pack.answer[form].wordings.get(language)  # type: ignore[index]
    if wordings is None:
        fault = f"prompt pack '{prompts.name}': answer.{form}.wordings has nothing for {language}"
        raise UserMistake(f"{fault}; add a list for it")
    return wordings[int(draw(0, "wording", pair) * len(wordings))]
