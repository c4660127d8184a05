"""What a reply says and whether it is right, kind by kind."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.commands.evaluate.judging import anls, chosen, chosen_set, judge, read_number
from synthgen.commands.evaluate.question import CHOICE, FILL, NUMBER, RESPONSE, TEXT, Question
from tests.fixtures.evaluating import SETTINGS

OPTIONS = ("a bus", "a car", "a tram", "a bike")


def question(kind: str, *answers: str, options: tuple[str, ...] = (), form: str = "") -> Question:
    return Question("q", "i", kind, "What is it?", options, answers, form=form)


def said(asked: Question, reply: str, rotation: int = 0, is_cut_off: bool = False) -> Any:
    return judge(asked, rotation, reply, is_cut_off, SETTINGS.tolerance)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("**B**", "B"),
        ("B. a car", "B"),
        ("The answer is B.", "B"),
        ("A car", "B"),  # the words of one option, not the letter A
        ("a car.", "B"),
        ("Answer: a tram", "C"),
        ("It is a car or a bus", None),
        ("Based on the image, it has four wheels", None),
        ("E", None),  # no such option
        ("", None),
    ],
)
def test_a_choice_is_a_letter_or_the_words_of_one_option_and_else_nothing(reply: str, letter: str | None) -> None:
    judgement = said(question(CHOICE, "B", options=OPTIONS), reply)
    assert (judgement.parsed, judgement.right) == (letter, letter == "B")


def test_the_letter_is_that_of_the_rotation() -> None:
    asked = question(CHOICE, "B", options=OPTIONS)
    assert [said(asked, "A", rotation).right for rotation in range(4)] == [False, True, False, False]
    assert [said(asked, "a car", rotation).parsed for rotation in range(4)] == ["B", "A", "D", "C"]


def test_a_letter_that_a_cut_off_reply_may_go_on_to_deny_does_not_count() -> None:
    assert chosen("B is clearly not", OPTIONS, is_cut_off=True) is None
    assert chosen("B. a car, since it", OPTIONS, is_cut_off=True) == "B"


@pytest.mark.parametrize(
    ("reply", "letters"),
    [
        ("A, C", "AC"),
        ("CA", "AC"),
        ("A and C", "AC"),
        ("A C C", "AC"),  # a set: a letter said twice is said
        ("A. a bus\nC. a tram", "AC"),
        ("Answer: A, C", "AC"),
        ("B", "B"),
        ("A, C, E", None),
        ("A, because of C", None),
        ("all of them", None),
    ],
)
def test_multiple_response_is_right_as_an_exact_set(reply: str, letters: str | None) -> None:
    judgement = said(question(RESPONSE, "A", "C", options=OPTIONS), reply)
    assert (judgement.parsed, judgement.right) == (letters, letters == "AC")
    assert chosen_set(reply, 4) == letters


@pytest.mark.parametrize(
    ("reply", "right", "relaxed"),
    [
        ("The Park", True, 1.0),
        ("park.", True, 1.0),
        ("Answer: park", True, 1.0),
        ("parc", False, 0.75),
        ("bank", False, 0.5),
        ("sea", False, 0.0),
        ("garden", True, 1.0),  # another accepted answer
        ("<think>the sea</think>park", True, 1.0),
        ("", False, 0.0),
    ],
)
def test_words_are_right_if_equal_and_near_by_anls(reply: str, right: bool, relaxed: float) -> None:
    judgement = said(question(TEXT, "park", "garden"), reply)
    assert (judgement.right, judgement.exact) == (right, right)
    assert judgement.relaxed == pytest.approx(relaxed)
    assert (judgement.parsed is None) == (reply == "")


def test_a_number_among_words_is_equal_as_a_number_and_near_within_the_tolerance() -> None:
    asked = question(TEXT, "100")
    assert said(asked, "100.0").right and not said(asked, "104").right
    assert (said(asked, "104").relaxed, said(asked, "106").relaxed, said(asked, "many").relaxed) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("reply", "parsed", "right"),
    [
        ("20", "20", True),
        ("21", "21", True),  # 5 % off, as ChartQA allows
        ("19", "19", True),
        ("21.1", "21.1", False),
        ("The sum is 20.", "20", True),
        ("1,020", "1020", False),
        ("between 19 and 21", None, False),
        ("twenty", None, False),
        ("2000 %", "20", True),
    ],
)
def test_a_number_is_right_within_the_tolerance(reply: str, parsed: str | None, right: bool) -> None:
    judgement = said(question(NUMBER, "20"), reply)
    assert (judgement.parsed, judgement.right) == (parsed, right)


def test_of_zero_only_zero_is_near() -> None:
    assert said(question(NUMBER, "0"), "0").right and not said(question(NUMBER, "0"), "0.01").right


@pytest.mark.parametrize(
    ("reply", "right"),
    [("photosynthesis", True), ("Because of light:\nphotosynthesys", True), ("respiration", False), ("", False)],
)
def test_a_blank_is_filled_if_a_line_is_near_to_the_answer(reply: str, right: bool) -> None:
    assert said(question(FILL, "photosynthesis"), reply).right is right


def test_the_last_line_of_a_worked_out_answer_counts() -> None:
    reply = "There are two bars.\nThe first is 3, the second 4.\nSeven"
    assert said(question(TEXT, "seven", form="detailed"), reply).right
    assert not said(question(TEXT, "seven", form="short"), reply).right


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("-3.5", -3.5), ("1,234", 1234), ("12 %", 0.12), ("$5", 5), ("12.", 12), ("nan", None), ("a", None)],
)
def test_numbers_are_read_as_chartqa_reads_them(text: str, number: float | None) -> None:
    assert read_number(text) == (None if number is None else pytest.approx(number))


def edits(first: str, second: str) -> int:
    """Return the Levenshtein distance by its definition."""
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, 1):
        cells = [number]
        for place, other in enumerate(second, 1):
            cells.append(min(row[place] + 1, cells[-1] + 1, row[place - 1] + (letter != other)))
        row = cells
    return row[-1]


@given(st.text("ab c", max_size=9), st.text("ab c", max_size=9))
def test_anls_is_the_share_of_letters_that_stay_and_0_below_a_half(first: str, second: str) -> None:
    one, other = (" ".join(text.split()) for text in (first, second))
    longest = max(len(one), len(other))
    near = 1 - edits(one, other) / longest if longest else 1.0
    assert anls(first, second) == pytest.approx(near if near >= 0.5 else 0.0)


def test_a_judgement_is_json() -> None:
    assert json.loads(json.dumps(vars(said(question(TEXT, "1"), "1"))))["right"] is True
