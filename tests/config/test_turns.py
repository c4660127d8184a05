"""The user's words in training samples."""

from collections import Counter
from pathlib import Path

import pytest

from synthgen.config import prompt_pack
from synthgen.config.turns import missing_wordings, turn_text
from synthgen.errors import UserMistake
from tests.config.test_prompt_pack import shipped

LETTERED = ("red", "blue", "green", "white")


def test_every_wording_is_used_about_equally_often_and_always_for_the_same_pairs() -> None:
    prompts = shipped("everyday")
    wordings = prompts.pack.answer["short"].wordings["English"]
    turns = [turn_text(prompts, "short", "Where?", [], "English", f"pair {number}") for number in range(800)]
    assert turns == [turn_text(prompts, "short", "Where?", [], "English", f"pair {number}") for number in range(800)]
    counts = Counter(text.removeprefix("Where? ") for text in turns)
    assert set(counts) == set(wordings) and min(counts.values()) > 60


def test_the_wording_is_in_the_language_of_the_question() -> None:
    prompts = shipped("everyday")
    for language, wordings in prompts.pack.answer["choice"].wordings.items():
        text = turn_text(prompts, "choice", "?", LETTERED, language, "pair")
        assert text.splitlines()[-1] in wordings and text.splitlines()[1:5] == [
            "A. red",
            "B. blue",
            "C. green",
            "D. white",
        ]


def test_a_wording_stands_on_a_line_of_its_own_where_the_question_ends_without_a_mark() -> None:
    prompts = shipped("everyday")
    asked = ("how many kids in the pool", "How many?", "你看见了几个。", "कितने हैं।")
    ends = [turn_text(prompts, "points", text, (), "English", "pair").removeprefix(text)[0] for text in asked]
    assert ends == ["\n", " ", " ", " "]


def test_every_form_of_the_shipped_pack_has_the_same_languages() -> None:
    spoken = {form: set(answer.wordings) for form, answer in shipped("everyday").pack.answer.items() if answer.wordings}
    assert set(spoken) == {"short", "detailed", "choice", "points", "boxes"}
    assert len(set(map(frozenset, spoken.values()))) == 1 and len(spoken["short"]) == 18


def test_a_language_without_wording_is_a_mistake_that_names_the_form() -> None:
    prompts = shipped("everyday")
    [fault] = missing_wordings(prompts.pack, ["short", "brief"], ["English", "Klingon"])
    assert fault.startswith("answer.short.wordings: nothing for Klingon; it has English, Chinese")
    with pytest.raises(UserMistake, match=r"answer\.short.wordings has nothing for Klingon"):
        turn_text(prompts, "short", "Where?", [], "Klingon", "pair")


def test_a_pack_without_wordings_needs_none(workspace: Path) -> None:
    assert missing_wordings(prompt_pack.load("small").pack, ["short"], ["Klingon"]) == []
