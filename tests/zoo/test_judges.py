"""A judge that would rather say something else has no judgement: a thinking model wants to think first."""

import pytest

from synthgen.engines import Reply
from tests.stages.generate.test_measures import say, scored

pytestmark = pytest.mark.usefixtures("workspace")
THINKS_FIRST = {"1": 1e-5, "2": 1e-5, "3": 3e-5}


@pytest.mark.parametrize("score", ["question", "answer"])
def test_below_a_mass_of_the_labels_there_is_no_value_and_a_reason(score: str) -> None:
    row, _ = scored(score, say("So", labels=THINKS_FIRST), Reply("two"))
    assert row["value"] is None
    assert "label" in row["reason"]


@pytest.mark.parametrize("score", ["question", "answer"])
def test_labels_with_most_of_the_mass_have_a_value(score: str) -> None:
    row, _ = scored(score, say("3", labels={"2": 0.3, "3": 0.6}), Reply("two"))
    assert 2 < row["value"] <= 3
