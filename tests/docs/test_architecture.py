"""The page of the architecture follows one image through functions that exist."""

import importlib
import re
from typing import Any

import pytest

from tests.fixtures.workspace import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## One image")[2]
NAMES = re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", PAGE)


def find(name: str) -> Any:
    """Return what a dotted name below the package means."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["synthgen", *parts[:cut]]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name}: no such module")


def test_the_page_follows_an_image_from_the_request_to_the_training_step() -> None:
    assert len(NAMES) >= 30 and (NAMES[0], NAMES[-1]) == ("cli.runs.run", "train.loop.step")


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_each_function_on_the_way_exists(name: str) -> None:
    assert callable(find(name)), name
