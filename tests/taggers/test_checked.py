"""What any tagger returns for an image becomes tags that a table can hold, or the failure of that image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.errors import Failure
from synthgen.tables import IMAGES, OBJECT_TAGS, QUARANTINE_REASONS, table
from synthgen.taggers.checked import checked_result
from synthgen.taggers.protocol import Tagged
from tests.fixtures.mutations import JSON_VALUES, SCALARS

GOOD = {"path": "animal/cat", "score": 0.5, "tagger": "mine"}
KNOWN = {"animal/cat", "x"}
SCORES = SCALARS | st.sampled_from([np.float32(0.5), np.float64("nan"), np.int64(1), np.array([0.5]), np.bool_(True)])
TAGS = st.fixed_dictionaries({}, optional={"path": SCALARS | st.just("animal/cat"), "score": SCORES, "tagger": SCALARS})
EMBEDDINGS = st.sampled_from(
    [None, np.ones(4, np.float32), np.array([1e9, 0.0]), np.array([np.nan]), np.ones((2, 2)), np.array(["a"]),
     np.array([object()]), [0.5, 0.5], 7, np.zeros(0), np.float32(1), np.array([1, 2], np.int32)]
)  # fmt: skip
RESULTS = st.one_of(
    st.builds(Tagged, st.lists(TAGS | st.just(GOOD), max_size=3) | JSON_VALUES, EMBEDDINGS, st.just(("odd \ud83d",))),
    st.builds(Failure, SCALARS, SCALARS),
    JSON_VALUES,
)


@settings(max_examples=150)
@given(RESULTS)
def test_any_result_can_be_stored_or_is_a_failure_with_a_known_reason(result: Any) -> None:
    checked = checked_result(result, "mine", KNOWN)
    if isinstance(checked, Failure):
        assert checked.reason in QUARANTINE_REASONS
        checked.detail.encode()
        return
    table([{"object_id": "a", "tags": checked.tags}], OBJECT_TAGS)
    embedding = None if checked.embedding is None else checked.embedding.astype("float16")
    rows = table([{"object_id": "a", "detail": "; ".join(checked.left_out), "embedding": embedding}], IMAGES)
    assert all(np.isfinite(value) for value in rows.column("embedding")[0].as_py() or ())
    assert all(0 <= tag["score"] <= 1 and tag["tagger"] == "mine" for tag in checked.tags)


@pytest.mark.parametrize(
    ("result", "detail"),
    [
        (None, "tagger 'mine' returned NoneType for an image, not Tagged"),
        (
            Tagged([GOOD, {"path": "x", "score": float("nan")}]),
            "tagger 'mine': no path with a score from 0 to 1: {'path'",
        ),
        (
            Tagged([], np.ones((2, 2), np.float32)),
            "tagger 'mine': its embedding is no array of numbers in one dim",
        ),
        (Tagged([], np.array([np.inf])), "tagger 'mine': its embedding holds inf"),
        (Tagged([{**GOOD, "path": "animal/cta"}]), "tagger 'mine': the taxonomy has no tag 'animal/cta'"),
        (Failure("bad_luck", "today"), "bad_luck: today"),
    ],
)
def test_what_is_wrong_with_a_result_is_told(result: Any, detail: str) -> None:
    checked = checked_result(result, "mine", KNOWN)
    assert isinstance(checked, Failure) and checked.reason == "tagger_failed" and checked.detail.startswith(detail)


def test_a_tag_under_another_name_is_not_lost() -> None:
    checked = checked_result(Tagged([{**GOOD, "tagger": "other"}]), "mine", KNOWN)
    assert checked == Tagged([GOOD])
