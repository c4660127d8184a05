"""What holds for each family in a real vLLM: `make zoo` for all, a few of them in the usual run of the tests."""

from typing import Any

import pytest

from tests.zoo.checkpoints import FAMILIES

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine


def test_it_loads(found: dict[str, Any]) -> None:
    assert found["kv_tokens"] > 0
    assert found["first"]["failure"] is None and found["first"]["text"]


def test_an_image_takes_the_tokens_of_the_familys_rule(family: str, found: dict[str, Any]) -> None:
    record = FAMILIES[family]
    counted = {tuple(row["seen"]): row["tokens"] for row in found["sizes"] if not row["failure"]}
    assert counted == {seen: record.image_tokens(*seen) + record.marks for seen in counted}
    assert counted
