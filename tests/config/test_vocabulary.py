"""Words of a user's data are found in a tree by any spelling, and printed without steering a terminal."""

from typing import Any

import pytest

from synthgen.config.vocabulary import Lexicon, make_printable, read_words


def test_a_word_means_a_path_by_its_last_name_in_any_spelling() -> None:
    lexicon = Lexicon(["animal", "animal/red_panda", "document/letter"])
    words = ["Red  Panda", "ANIMAL/red-panda", " letter ", "spaceship", "animal"]
    assert lexicon.look_up(words) == (
        ["animal/red_panda", "animal/red_panda", "document/letter", "animal"],
        ["spaceship"],
    )


def test_a_synonym_stands_before_a_name_of_the_tree() -> None:
    lexicon = Lexicon(["animal/cat", "animal/dog"], {"Kitty": "animal/cat", "dog": "animal/cat"})
    assert lexicon.look_up(["kitty", "Dog", "animal/dog"]) == (["animal/cat", "animal/cat", "animal/dog"], [])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, None),
        ("", ()),
        ("cat, dog,", ("cat", "dog")),
        (["cat", ["dog"], None], ("cat", "dog")),
        ([{"path": "animal/cat", "score": 1.0}], ("animal/cat",)),
        ({"path": "animal/cat", "score": 1.0}, ("animal/cat",)),
        ({"cat": 0.9, "dog": 0.1}, ("cat", "dog")),
        (["cat, dog", {"name": "cat"}], ("cat", "dog", "name")),
        (7, ("7",)),
    ],
)
def test_words_are_read_from_lists_texts_and_tags(value: Any, words: tuple[str, ...] | None) -> None:
    assert read_words(value) == words


def test_control_characters_are_replaced() -> None:
    assert make_printable("a\nrules: \x1b[2J é") == "a?rules: ?[2J é"
