"""Errors for users: each message is one printable line of a bounded length, whatever it quotes."""

import pickle

import pytest

from synthgen.errors import LONGEST_WORD, Mistakes, Stopped, SynthError, UserMistake, one_line


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\t", "\x7f", "\x85", "\u2028", "\u2029", "\ufeff", "\ud800", "\x1b"]
)
def test_a_message_shows_characters_that_would_break_its_line_or_are_invisible(character: str) -> None:
    escaped = repr(character)[1:-1]
    assert str(UserMistake(f"a{character}b: unknown")) == f"a{escaped}b: unknown"
    assert Mistakes([f"a{character}b: unknown", "other"]).lines == [f"a{escaped}b: unknown", "other"]


def test_a_name_of_thousands_of_characters_leaves_the_rest_of_its_message_visible() -> None:
    name = "x" * 5000
    message = str(SynthError(f"{name}: no such file; choose a shorter name than {name}"))
    assert len(message) < 3 * LONGEST_WORD
    assert "x…x" in message and ": no such file; choose a shorter name than x" in message
    assert one_line(f"{name}: too long").endswith("x: too long")
    assert str(UserMistake("x" * LONGEST_WORD)) == "x" * LONGEST_WORD


def test_an_error_is_the_same_in_another_process() -> None:
    for error in (UserMistake("a\nb"), Mistakes(["b.yaml:2: two", "a: one"]), Stopped(15)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.exit_status) == (type(error), str(error), error.exit_status)
