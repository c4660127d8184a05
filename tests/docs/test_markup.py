"""Pages are finished: no placeholder stands where a table should, and the option blocks of the API pages are YAML."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_docs import FENCE, PAGES, name_of, read
from tests.fixtures.workspace import ROOT

PLACEHOLDER = re.compile(r"[A-Z_]{3,}")
OPTION_BLOCK = re.compile(r"^::: \S+\n((?:[ \t]+.*\n|\n(?=[ \t]))*)", re.MULTILINE)
API_PAGES = [path for path in PAGES if "\n::: " in read(path)]


def placeholders(text: str) -> list[str]:
    """Return the lines outside of blocks, and the cells of tables, that are one word of capitals and underscores.

    A cell has an underscore: names of formats stand in cells too.
    """
    lines = [line.strip() for line in FENCE.sub("", text).splitlines()]
    cells = [cell.strip() for line in lines if line.startswith("|") for cell in line.split("|") if "_" in cell]
    return [word for word in [*lines, *cells] if PLACEHOLDER.fullmatch(word)]


def option_faults(text: str) -> list[str]:
    """Return what is wrong with the option blocks of a page."""
    faults = []
    for block in map(textwrap.dedent, OPTION_BLOCK.findall(text)):
        try:
            keys = sorted(_keys(yaml.safe_load(block)))
        except yaml.YAMLError as error:
            faults.append(str(error))
            continue
        on_lines = sorted(re.findall(r"^\s*(\w+):(?=\s|$)", block, re.MULTILINE))
        if keys != on_lines:
            faults.append(f"keys {keys}, but on lines of their own {on_lines}")
    return faults


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_page_holds_a_placeholder(path: Path) -> None:
    assert not placeholders(read(path))


def test_a_placeholder_is_a_word_of_capitals_alone_on_its_line_or_in_its_cell() -> None:
    text = "NEAR_TABLE\n\nof NEAR_TABLE\n\n  TWO_WORD_TABLE  \n\nTABLE\n\n| JPEG | A_CELL |\n\n```\nIN_A_BLOCK\n```\n"
    assert placeholders(text) == ["NEAR_TABLE", "TWO_WORD_TABLE", "TABLE", "A_CELL"]


@pytest.mark.parametrize("path", API_PAGES, ids=name_of)
def test_option_blocks_are_yaml_with_one_key_a_line(path: Path) -> None:
    assert not option_faults(read(path))


@pytest.mark.parametrize(
    "block",
    [
        "options:\n  members: [run]\n  show_root_heading: false show_source: true\n",
        "options: {members: [run], show_root_heading: false}\n",
        "options:\n  members: [run\n",
        "options:\n  members: [run]\n  members: [plan]\n",
    ],
)
def test_a_broken_option_block_is_noticed(block: str) -> None:
    page = "# API\n\n::: synthgen\n" + textwrap.indent(block, "    ") + "\nText: of the page\n"
    assert option_faults(page)


def test_pages_with_option_blocks_are_found() -> None:
    assert ROOT / "docs/api.md" in API_PAGES and len(OPTION_BLOCK.findall(read(ROOT / "docs/api.md"))) > 1
