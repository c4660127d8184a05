"""Replies: any text is read as questions, as declined, or as unparsable with a reason."""

import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from synthgen.config.replies import (
    OPTIONS,
    Place,
    Question,
    Style,
    final_answer,
    letter_of,
    letters,
    parse_places,
    parse_questions,
    places_schema,
    question_schema,
    questions,
    shuffled,
    written,
)
from synthgen.errors import Failure

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
SENTENCES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join).filter(questions._is_question)
CHOICES = st.builds(Question, SENTENCES, st.lists(SENTENCES, min_size=4, max_size=4).map(tuple))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["question", "options", "questions", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def read(reply: str, style: Style, choice: bool) -> list[Question] | Failure:
    """Parse a reply as a pack does whose lines decline by `None.`"""
    return parse_questions(reply, style, "None.", choice)


@given(st.lists(SENTENCES, min_size=1, max_size=5), st.sampled_from(["", "```json\n", "```\n"]))
def test_questions_written_as_json_are_read_back(texts: list[str], fence: str) -> None:
    reply = fence + json.dumps({"questions": texts}) + ("\n```" if fence else "")
    assert read(reply, "json", False) == [Question(text) for text in texts]


@given(st.lists(CHOICES, min_size=1, max_size=4))
def test_choice_questions_written_as_json_are_read_back(asked: list[Question]) -> None:
    assert read(json.dumps({"questions": [as_json(question) for question in asked]}), "json", True) == asked


@given(
    st.lists(SENTENCES, min_size=1, max_size=5),
    st.sampled_from(["{}", "{n}. {}", "({n}) {}", "- {}", "* {}", "• {}", "  {n}: {}"]),
)
def test_questions_written_on_lines_are_read_back(texts: list[str], numbered: str) -> None:
    assume(questions._list_items(texts) == texts)
    assume([questions._normalise(text) for text in texts] != ["none"] and not any("```" in text for text in texts))
    assume(all(len(text.splitlines()) == 1 for text in texts))
    reply = "\n".join(numbered.replace("{n}", str(n)).replace("{}", text) for n, text in enumerate(texts, 1))
    assert read(reply, "lines", False) == [Question(text) for text in texts]


TWO = ["What is on the table?", "How many cups are there?"]


@pytest.mark.parametrize(
    ("reply", "texts"),
    [
        (f"Sure! Here are two questions:\n1. {TWO[0]}\n2. {TWO[1]}\n\nTell me if you want more.", TWO),
        (f"Here they are:\n\n- {TWO[0]}\n- {TWO[1]}", TWO),
        (f"1.{TWO[0]}\n2){TWO[1]}", TWO),
        ("好的\uff1a\n1、这是什么\n2、有几只猫", ["这是什么", "有几只猫"]),
        ("1.这是什么\n(2)有几只猫", ["这是什么", "有几只猫"]),
        ("\uff11\uff0e这是什么\n\uff12\uff0e有几只猫", ["这是什么", "有几只猫"]),
        ("\uff081\uff09这是什么\n\uff082\uff09有几只猫", ["这是什么", "有几只猫"]),
        ("1. 3 dogs or 4 cats?", ["3 dogs or 4 cats?"]),
        ("2.5 metres or more?\n3、4只狗还是猫", ["2.5 metres or more?", "3、4只狗还是猫"]),
        ("12:30 or later, by the clock?", ["12:30 or later, by the clock?"]),
    ],
)
def test_list_items_are_read_without_their_marks_and_without_the_words_around_the_list(
    reply: str, texts: list[str]
) -> None:
    assert read(reply, "lines", False) == [Question(text) for text in texts]


@given(
    st.lists(
        st.lists(st.sampled_from(["what", "is", "red", "a", "old sign"]), min_size=1).map(" ".join),
        min_size=5,
        max_size=5,
    )
)
def test_choice_questions_written_on_a_line_are_read_back(parts: list[str]) -> None:
    line = f"{parts[0]}? A. {parts[1]} B. {parts[2]} C. {parts[3]} D. {parts[4]}"
    assert read(line, "lines", True) == [Question(f"{parts[0]}?", tuple(parts[1:]))]


@given(
    st.text(max_size=80) | VALUES.map(json.dumps) | VALUES.map(lambda value: json.dumps({"questions": value})),
    st.booleans(),
    st.booleans(),
)
def test_any_reply_is_read_or_fails_with_a_reason(reply: str, is_json: bool, choice: bool) -> None:
    result = read(reply, "json" if is_json else "lines", choice)
    if isinstance(result, Failure):
        assert result == Failure("declined") or (result.reason == "unparsable" and result.detail)
        return
    assert result and all(question.text == question.text.strip() and question.text for question in result)
    assert all(len(question.options) == (OPTIONS if choice else 0) and all(question.options) for question in result)


def is_unparsable(result: list[Question] | Failure) -> bool:
    return isinstance(result, Failure) and result.reason == "unparsable"


def as_json(question: Question) -> dict[str, Any]:
    return {"question": question.text, "options": list(question.options)}


ITEMS = st.lists(VALUES | WORDS | CHOICES.map(as_json), max_size=3)


@given(VALUES | ITEMS.map(lambda items: {"questions": items}), st.booleans())
@example({"questions": [{"questions": []}, "a lost \x1f character"]}, False)
def test_the_parser_accepts_what_the_schema_allows_and_only_harmless_additions(value: Any, choice: bool) -> None:
    is_valid = jsonschema.Draft202012Validator(question_schema(choice, 3)).is_valid(value)
    try:
        reply = json.dumps(value, allow_nan=False)
    except ValueError:
        assume(False)
    is_read = not is_unparsable(read(reply, "json", choice))
    if is_read and not is_valid:  # more questions, or further keys, which the parser lets pass
        items = value["questions"]
        bare = [{key: item[key] for key in ("question", "options")} if choice else item for item in items[:3]]
        assert jsonschema.Draft202012Validator(question_schema(choice, 3)).is_valid({"questions": bare})
    if is_valid and not is_read:  # a schema cannot say that a text must be more than blanks and signs
        assert any(not questions._is_question(text) or written._LOST.search(text) for text in texts_in(value))


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in inside for text in texts_in(item)]


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        ('{"questions": ["What', "not JSON"),
        ("Here you are: {}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["What?"]', "without a list of questions"),
        ('{"questions": "What?"}', "without a list of questions"),
        ('{"questions": ["What?", 5]}', "not in the requested format"),
        ('{"questions": ["   "]}', "not in the requested format"),
        ('{"questions": ["half a \\ud83d character"]}', "not in the requested format"),
        ('{"questions": [{"question": "What?"}]}', "not in the requested format"),
    ],
)
def test_an_unparsable_reply_fails_with_a_detail(reply: str, detail: str) -> None:
    result = read(reply, "json", False)
    assert isinstance(result, Failure) and result.reason == "unparsable" and detail in result.detail


def test_the_fault_of_json_is_told_of_the_whole_where_a_text_holds_an_end_of_thoughts() -> None:
    result = read('{"questions": ["Is it \\text or </think>\\n here?"]}', "json", False)
    assert isinstance(result, Failure) and "\\text can be LaTeX" in result.detail


@pytest.mark.parametrize(
    "options", [["a", "b", "c"], ["a", "b", "c", "d", "e"], ["a", "b", "c", ""], ["a", "b", "c", 4], "abcd", None]
)
def test_a_choice_question_without_four_options_is_unparsable(options: Any) -> None:
    reply = json.dumps({"questions": [{"question": "Which?", "options": options}]})
    assert is_unparsable(read(reply, "json", True))
    reply = '{"questions": [{"question": " ", "options": ["a", "b", "c", "d"]}]}'
    assert is_unparsable(read(reply, "json", True))


@pytest.mark.parametrize(
    "spelled", ["{}. {}", "({}) {}", "{}) {}", "{}: {}", "{}.{}", "{}、{}", "\uff08{}\uff09{}", "{}\uff1a{}"]
)
@pytest.mark.parametrize("letters", ["ABCD", "\uff21\uff22\uff23\uff24"])
def test_letters_that_all_options_begin_with_in_order_are_cut(spelled: str, letters: str) -> None:
    options = [
        spelled.format(letter, text) for letter, text in zip(letters, ("red", "蓝色", "B. C.", "7"), strict=True)
    ]
    result = read(json.dumps({"questions": [{"question": "Which?", "options": options}]}), "json", True)
    assert result == [Question("Which?", ("red", "蓝色", "B. C.", "7"))]


@pytest.mark.parametrize(
    "options",
    [
        ["A. red", "B. blue", "C. green", "grey"],
        ["B. red", "A. blue", "C. green", "D. grey"],
        ["A", "B", "C", "D"],
        ["A.", "B.", "C.", "D."],
        ["A cat", "B road", "C sharp", "D day"],
    ],
)
def test_options_that_do_not_all_begin_with_their_letter_stay_as_they_are(options: list[str]) -> None:
    reply = json.dumps({"questions": [{"question": "Which?", "options": options}]})
    assert read(reply, "json", True) == [Question("Which?", tuple(options))]


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "B",
            " B\n",
            "(B)",
            "B.",
            "B. red",
            "B)red",
            "B: a car",
            "**B**",
            "**B.** red",
            "**B. red**",
            "(**B**) red",
            "__B__",
            '"B"',
        ),
        *("B.红色", "B\uff1a红色", "B、红色", "\uff22", "\uff22\uff0e红色", "\uff08B\uff09红色", "B. C", "B.T恤"),
    ],
)
def test_the_letter_of_an_answer_is_read_however_it_is_marked(answer: str) -> None:
    assert letter_of(answer) == "B"


@pytest.mark.parametrize(
    "answer",
    ["", "blue", "A cat", "BC", "A、B", "A, B", "A.B", "A.M.", "I'm not sure", "The answer is not B", "B blue"],
)
def test_an_answer_without_a_single_letter_gives_none(answer: str) -> None:
    assert letter_of(answer) is None


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        *[
            (answer, "B")
            for answer in (
                "B",
                "(B",
                "B. a red car with",
                "Answer: B. The car",
                "\\boxed{B} is",
                "B, because A is not",
                "B\n\nA is wrong",
                "B. Red. It is not",
            )
        ],
        *[(answer, None) for answer in ("Let me compare. Option A shows a dog", "C: the red car is wrong because")],
        *[(answer, None) for answer in ("The answer is A", "Option B is", "Option B.", "B不是正确答案", "B) is not")],
    ],
)
def test_of_an_answer_that_was_cut_off_only_a_letter_that_nothing_can_deny_counts(
    answer: str, letter: str | None
) -> None:
    assert letter_of(answer, is_cut_off=True) == letter


@pytest.mark.parametrize(
    "line",
    [
        "Which? A. red B. blue",
        "Which?",
        "Which? A. red C. blue B. x D. y",
        "A. a B. b C. c D. d",
        "Which? A. B. C. D.",
        "Plan A. Which? A. a B. b C. c D. d",
    ],
)
def test_a_line_whose_options_are_not_a_to_d_is_unparsable(line: str) -> None:
    assert is_unparsable(read(line, "lines", True))


@pytest.mark.parametrize(
    "reply", ['{"questions": []}', '```json\n{"questions": []}\n```', ' {"questions": [ ] , "why": "too dark"}']
)
def test_json_declines_by_an_empty_list(reply: str) -> None:
    assert read(reply, "json", False) == Failure("declined")


@pytest.mark.parametrize("reply", ["none", "None.", "  NONE \n", "- none.", "1. None"])
def test_lines_decline_by_the_configured_word(reply: str) -> None:
    assert read(reply, "lines", False) == Failure("declined")
    assert parse_questions(reply, "lines", None, False) != Failure("declined")


def test_an_empty_reply_is_unparsable_and_not_declined() -> None:
    assert is_unparsable(read(" \n ", "lines", False))
    assert is_unparsable(read("", "json", False))


RIGHT = Question("Which?", ("red", "blue", "green", "grey"), right="red", evidence="a bus")


@pytest.mark.parametrize(
    ("order", "options", "letter"),
    [
        ([0.1, 0.2, 0.3, 0.4], ("red", "blue", "green", "grey"), "A"),
        ([0.9, 0.2, 0.3, 0.4], ("blue", "green", "grey", "red"), "D"),
        ([0.3, 0.4, 0.1, 0.2], ("green", "grey", "red", "blue"), "C"),
    ],
)
def test_options_come_in_the_order_of_the_draws_with_the_letter_of_the_right_one(
    order: list[float], options: tuple[str, ...], letter: str
) -> None:
    assert shuffled(RIGHT, order) == (Question("Which?", options, "red", "a bus"), letter)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_options_that_are_letters_of_the_image_stand_beside_their_own(order: list[float]) -> None:
    """Otherwise "B" is the letter of one option and the words of another."""
    asked = Question("Which panel?", ("C", "A", "D", "B"), right="C")
    assert shuffled(asked, order) == (Question("Which panel?", ("A", "B", "C", "D"), right="C"), "C")


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_shuffle_keeps_every_option_and_its_letter_is_that_of_the_right_one(order: list[float]) -> None:
    question, letter = shuffled(RIGHT, order)
    assert letter and sorted(question.options) == sorted(RIGHT.options)
    assert question.options["ABCD".index(letter)] == "red"


def test_a_question_without_a_right_option_keeps_its_order_and_has_no_letter() -> None:
    question = Question("Which?", ("red", "blue", "green", "grey"))
    assert shuffled(question, [0.4, 0.3, 0.2, 0.1]) == (question, None)
    assert shuffled(Question("What?"), []) == (Question("What?"), None)


def test_as_many_letters_as_options() -> None:
    assert letters(4) == ("A", "B", "C", "D") and letters(2) == ("A", "B")
    assert all(letter_of(letter) == letter for letter in letters(OPTIONS))


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), WORDS), max_size=5, unique=True),
)
def test_points_that_the_schema_allows_are_read_back(points: list[tuple[int, int, str]]) -> None:
    value = [{"point": [x, y], "label": label} for x, y, label in points]
    assert jsonschema.Draft202012Validator(places_schema("points")).is_valid(value)
    assert parse_places(json.dumps(value), "points") == [Place((x, y), label) for x, y, label in points]


@pytest.mark.parametrize("part", ["{", '{"questions": [', "```json\n", "/*", "\\(", "$", '"', ", ", "<think>"])
def test_a_reply_that_repeats_itself_for_long_is_read_in_linear_time(part: str) -> None:
    start = time.process_time()
    assert is_unparsable(read('{"questions": ["' + part * 5000, "json", False))
    assert is_unparsable(read(part * 5000, "json", False))
    assert time.process_time() - start < 20  # seconds; a tenth of one as a rule


@pytest.mark.parametrize(
    "part", ["<answer>", "\\boxed{", "Answer: ", "the answer is ", "A ", "option ", "a\n", "\n", "** "]
)
def test_an_answer_that_repeats_itself_for_long_is_read_in_linear_time(part: str) -> None:
    start = time.process_time()
    assert letter_of(part * 5000) is None
    final_answer(part * 5000)
    assert time.process_time() - start < 20
