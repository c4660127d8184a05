"""Definition files of any bytes, and settings of any text: each is used, or refused in lines that name the place."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.config import library, mapping, prompt_pack, strict_yaml, taxonomy
from synthgen.config import pipeline as pipelines
from synthgen.errors import Mistakes, UserMistake
from tests.fixtures.mutations import JSON_VALUES, mutated
from tests.fixtures.workspace import DEFINITION_FILES, ROOT

pytestmark = pytest.mark.usefixtures("workspace")
PIECES = (
    *("a: ", "- ", "\n", "  ", "*", "&a ", "!!int ", "{", "}", "[", "]", '"', "'", ": ", "#", "\t", "|", ">", "? "),
    *("1e999", ".nan", ".inf", "2030-01-01", "\ud83d", "\x00", "\x85", "%YAML 1.1", "---", "...", "0x1f", "1_0"),
)
YAML = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
LOADERS: dict[str, Any] = {
    "taggers/taxonomies/small.yaml": lambda: taxonomy.load("small"),
    "prompts/small.yaml": lambda: prompt_pack.load("small"),
    "prompts/families/small.yaml": lambda: prompt_pack.load("small"),
    "pipelines/small.yaml": lambda: pipelines.load("small"),
    "pipelines/mappings/small.yaml": lambda: mapping.load(
        "small", taxonomy.load("small").tree, list(prompt_pack.load("small").types)
    ),
}


def lines_of(mistake: UserMistake) -> list[str]:
    return list(mistake.lines) if isinstance(mistake, Mistakes) else [str(mistake)]


@settings(max_examples=150)
@given(YAML)
def test_any_yaml_is_read_or_refused_in_one_line_with_its_place(text: str) -> None:
    try:
        strict_yaml.parse(Path("x.yaml"), text)
    except UserMistake as mistake:
        assert str(mistake).startswith("x.yaml:") and "\n" not in str(mistake)


@settings(max_examples=150)
@given(YAML)
def test_what_both_parsers_of_yaml_read_they_read_alike(text: str) -> None:
    """The one in C is fast, and the other one gives the reasons why a text is refused."""
    read = []
    for loader in (strict_yaml._FastLoader, strict_yaml._StrictLoader):
        with contextlib.suppress(yaml.YAMLError, ValueError):
            document = strict_yaml._document(loader(text), Path("x.yaml"), Path())
            lines = {place: line for place, line in document.lines.items() if place and isinstance(place[-1], str)}
            read.append((repr(document.values), lines, document.faults))  # an item that is empty has no line of its own
    assert len(read) < 2 or read[0] == read[1]


def test_both_parsers_read_the_shipped_files_alike() -> None:
    files = [path for folder in library.KINDS.values() for path in (ROOT / folder).glob("*.yaml")]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        fast, slow = (
            strict_yaml._document(loader(text), path, Path())
            for loader in (strict_yaml._FastLoader, strict_yaml._StrictLoader)
        )
        assert (fast.values, fast.lines, fast.faults) == (slow.values, slow.lines, slow.faults)


def test_a_list_of_questions_in_brackets_needs_no_quotes() -> None:
    assert strict_yaml.parse(Path("x.yaml"), "a: [Where?, What is it?]").values == {"a": ["Where?", "What is it?"]}


@settings(max_examples=40)
@given(st.sampled_from(sorted(LOADERS)), st.binary(max_size=40) | YAML.map(lambda text: text.encode(errors="replace")))
def test_any_bytes_as_a_definition_file_are_lines_with_its_name(workspace: Path, name: str, data: bytes) -> None:
    path = workspace / name
    path.write_bytes(data)
    try:
        LOADERS[name]()
    except UserMistake as mistake:
        assert all("\n" not in line and path.name in line for line in lines_of(mistake))
    finally:
        path.write_text(DEFINITION_FILES[name])


@settings(max_examples=60)
@given(st.sampled_from(sorted(LOADERS)), st.data())
def test_a_definition_file_with_anything_in_any_place_is_used_or_refused(
    workspace: Path, name: str, data: st.DataObject
) -> None:
    path = workspace / name
    values = data.draw(mutated(yaml.safe_load(DEFINITION_FILES[name])))
    path.write_text(yaml.safe_dump(values, allow_unicode=False))
    try:
        LOADERS[name]()
    except UserMistake as mistake:
        assert lines_of(mistake) and all("\n" not in line for line in lines_of(mistake))
    finally:
        path.write_text(DEFINITION_FILES[name])


@settings(max_examples=100)
@given(
    st.sampled_from(["tag.workers", "plan.forms", "generate.engine", "source.hosts", "about", "select.keep"])
    | st.text(max_size=8),
    YAML | JSON_VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)
def test_any_setting_is_applied_or_refused_in_lines(key: str, value: str) -> None:
    try:
        pipelines.load("small", [f"{key}={value}"])
    except UserMistake as mistake:
        assert lines_of(mistake) and all("\n" not in line for line in lines_of(mistake))


def test_the_about_line_of_any_file_can_be_listed(workspace: Path) -> None:
    path = workspace / "pipelines" / "odd.yaml"
    for text in ("[" * 100, "about: [1, 2]\n", "7", "about: {a: 1}\n"):
        path.write_text(text)
        assert "\n" not in library.about("pipeline", path)
