"""ShiftCheck and BiasRate: the closed forms, both denominators, and the code of the paper."""

from collections.abc import Sequence

import numpy as np
import pytest

from synthgen.commands.evaluate.question import CHOICE, Question
from synthgen.commands.evaluate.shift_check import PositionBias, position_biases
from synthgen.commands.evaluate.wording import is_rotated, options_at, prompt_of, right_at

FOUR = Question("q", "i", CHOICE, "Which?", ("w", "x", "y", "z"), ("C",))


def bias(*said: Sequence[str | None]) -> PositionBias:
    """Return the bias of a model that was never right, with what it said under each rotation of each question."""
    return position_biases([(len(letters), False, letters) for letters in said])[0]


@pytest.mark.parametrize(
    ("said", "rate"),
    [(["AAAA"], 1875.0), (["AABB"], 625.0), (["ABCD"], 0.0), (["AAAA", "BBBB", "CCCC", "DDDD"], 0.0)],
)
def test_the_rate_has_its_closed_forms(said: list[str], rate: float) -> None:
    found = bias(*said)
    assert found.of_all == found.of_parsed == pytest.approx(rate) and not found.unparsed


def test_a_reply_without_a_letter_counts_in_one_denominator_alone() -> None:
    found = bias(("A", "A", None, None))
    assert (found.letters, found.unparsed, found.replies) == ((2, 0, 0, 0), 2, 4)
    assert found.of_all == pytest.approx(np.var([50, 0, 0, 0]))
    assert found.of_parsed == pytest.approx(1875.0)


def test_all_replies_to_a_failed_question_count_and_none_to_a_right_one() -> None:
    biases = position_biases([(4, True, "CBAD"), (4, False, "CBAA"), (3, False, "AAA")])
    assert [(each.options, each.items, each.letters) for each in biases] == [(4, 1, (2, 1, 1, 0)), (3, 1, (3, 0, 0))]


def test_without_a_failed_question_or_a_letter_there_is_no_rate() -> None:
    assert position_biases([(4, True, "CBAD")])[0].of_all is None
    found = bias((None, None, None, None))
    assert (found.of_all, found.of_parsed) == (0.0, None)


def cmmu_rate(said: Sequence[Sequence[str | None]]) -> float:
    """Return BiasRate as CMMU's evaluator computes it: letters that parse, in percent, and numpy's variance."""
    counts = {letter: sum(list(letters).count(letter) for letters in said) for letter in "ABCD"}
    shares = np.array(list(counts.values())) / sum(counts.values()) * 100
    return float(np.var(shares))


def test_it_agrees_with_the_code_of_the_paper() -> None:
    generator = np.random.default_rng(0)
    said = [[["A", "B", "C", "D", None][place] for place in generator.integers(0, 5, 4)] for _ in range(50)]
    assert bias(*said).of_parsed == pytest.approx(cmmu_rate(said))


def test_the_right_option_is_at_its_letter_in_every_rotation_and_at_each_place_once() -> None:
    orders = [options_at(FOUR, rotation) for rotation in range(4)]
    letters = [right_at(FOUR, rotation)[0] for rotation in range(4)]
    assert [order["ABCD".index(letter)] for order, letter in zip(orders, letters, strict=True)] == ["y"] * 4
    assert sorted(letters) == list("ABCD") and len(set(orders)) == 4


def test_options_that_speak_of_each_other_are_not_rotated() -> None:
    assert is_rotated(FOUR)
    assert not is_rotated(Question("q", "i", CHOICE, "Which?", ("w", "x", "All of the above"), ("C",)))


def test_a_shard_s_own_words_are_rotated_in_place() -> None:
    own = "Which?\nA. w\nB. x\nC. y\nD. z\nReply with the letter."
    asked = Question("q", "i", CHOICE, "Which?", FOUR.options, FOUR.answers, prompt=own)
    assert prompt_of(asked, "own", 0) == own
    assert prompt_of(asked, "own", 1) == "Which?\nA. x\nB. y\nC. z\nD. w\nReply with the letter."


def test_the_words_of_other_harnesses_are_theirs() -> None:
    kit = "Please select the correct answer from the options above. \n"
    assert prompt_of(FOUR, "vlmevalkit") == f"Question: Which?\nOptions:\nA. w\nB. x\nC. y\nD. z\n{kit}"
    ending = "Answer with the option's letter from the given choices directly."
    assert prompt_of(FOUR, "lmms-eval") == f"Which?\nA. w\nB. x\nC. y\nD. z\n{ending}"
    assert prompt_of(FOUR, "bare") == "Which?\nA. w\nB. x\nC. y\nD. z"
