"""Similarity of answers: what counts, what does not, and in which scripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.stages.generate.similarity import decisive_part, normalize, similarity


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["short", "brief", "detailed", "choice"]))
def test_similarity_is_symmetric_bounded_and_1_for_equal_texts(text: str, other: str, form: str) -> None:
    assert similarity(text, other, form) == similarity(other, text, form)
    assert 0.0 <= similarity(text, other, form) <= 1.0
    assert similarity(text, text, form) == 1.0


@given(st.text(max_size=40))
def test_normalizing_twice_changes_nothing_more(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)
    assert normalize(f"  {text}\n") == normalize(text)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("The cat.", "cat"),
        ("a red-haired man", "A red haired man!"),
        ("3.", "3"),
        ("1,234,567 people", "1234567 people"),
        ("\u22123 °C", "-3 C"),
        ("３匹", "3 匹"),
        ("Straße", "STRASSE"),
        ("“Café”", "cafe\u0301"),
        ("A", "a."),
        ("$ 5.20", "$5.20"),
        ("5€", "€5"),
        ("x<5", "x < 5"),
        ("✅ Yes", "yes"),
        ("#5", "5"),
        ("$x = 5$", "x = 5"),
    ],
)
def test_case_articles_punctuation_and_unicode_spelling_do_not_count(text: str, other: str) -> None:
    assert similarity(text, other) == 1.0


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("-3", "3"),
        ("+3", "-3"),
        ("3.5", "35"),
        ("3.5", "3"),
        ("50%", "50"),
        ("10", "100"),
        ("1,23", "123"),
        ("A", "B"),
        ("A", ""),
        ("yes", "no"),
        ("→", "←"),
        ("✓", "✗"),
        ("?", "!"),
        ("+", "-"),
        ("C++", "C"),
        ("C#", "C"),
        ("A+", "A-"),
        ("कि", "की"),
        ("", "cat"),
    ],
)
def test_numbers_signs_and_letters_count(text: str, other: str) -> None:
    assert similarity(text, other) == 0.0


@pytest.mark.parametrize(
    ("text", "other"),
    [("$5", "€5"), ("$5 or $6", "€5 or €6"), ("x < 5", "x > 5"), ("Is x < y here?", "Is x > y here?")],
)
def test_signs_that_say_something_are_words(text: str, other: str) -> None:
    assert similarity(text, other) < 1.0 and normalize(text) != normalize(other)


def test_a_shared_part_of_the_answers_is_a_part_of_the_similarity() -> None:
    assert similarity("red car", "blue car") == pytest.approx(0.5)
    assert similarity("a red car", "car") == pytest.approx(2 / 3)
    assert similarity("red red car", "red") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "other", "least", "most"),
    [
        ("左边有一只黑猫", "左边有一只白猫", 0.8, 0.9),
        ("黒い猫", "黒い犬", 0.6, 0.7),
        ("แมวสีดำ", "แมวสีขาว", 0.5, 0.9),
        ("고양이 두 마리", "고양이 세 마리", 0.6, 0.7),
        ("猫", "犬", 0.0, 0.0),
    ],
)
def test_scripts_without_spaces_are_compared_by_character(text: str, other: str, least: float, most: float) -> None:
    assert least <= similarity(text, other) <= most
    assert similarity(text, f"{text}。") == 1.0


@pytest.mark.parametrize(
    ("reply", "form", "part"),
    [
        ("B", "choice", "B"),
        ("(b) blue", "choice", "B"),
        ("B) blue", "choice", "B"),
        ("**C.** A cat", "choice", "C"),
        ("B、红色", "choice", "B"),
        ("A、B", "choice", "A、B"),
        ("A cat", "choice", "A cat"),
        ("Because.\n\nTwo\n", "brief", "Two"),
        ("Because.\n**Two**", "detailed", "**Two**"),
        ("Because.\nTwo", "short", "Because.\nTwo"),
        ("One line", "detailed", "One line"),
        ("Things:\n- a cat\n- a dog", "detailed", "Things:\n- a cat\n- a dog"),
        ("1. first\n2. second", "detailed", "1. first\n2. second"),
        ("| a | b |\n| 1 | 2 |", "brief", "| a | b |\n| 1 | 2 |"),
        ("", "brief", ""),
    ],
)
def test_the_decisive_part_of_a_reply(reply: str, form: str, part: str) -> None:
    assert decisive_part(reply, form) == part
