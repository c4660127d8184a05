"""Taggers of a user's class."""

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen import taggers
from synthgen.errors import Failure, UserMistake
from synthgen.taggers import CustomTaggerFile
from tests.fixtures.tagging import all_tagged, write_custom
from tests.fixtures.workspace import write

pytestmark = pytest.mark.usefixtures("workspace", "own_tagger")
RED, BLUE = Image.new("RGB", (16, 16), (200, 30, 30)), Image.new("RGB", (16, 16), (30, 30, 200))


def test_the_class_gets_the_documented_calls() -> None:
    tagger = taggers.open_tagger(write_custom())
    red, blue = all_tagged(tagger.tag([tagger.prepare(RED, None), tagger.prepare(BLUE, '{"tag": "document"}')]))
    assert red.tags == [
        {"path": "animal", "score": 1.0, "tagger": "mine"},
        {"path": "animal/cat", "score": 0.9, "tagger": "mine"},
    ]
    assert [tag["path"] for tag in blue.tags] == ["document"]


def test_the_module_is_not_imported_before_the_tagger_is_opened() -> None:
    spec = write_custom(engine="no_such_module:Thing")
    assert isinstance(spec.file, CustomTaggerFile)
    with pytest.raises(UserMistake, match="cannot import no_such_module"):
        taggers.open_tagger(spec)


@pytest.mark.parametrize(
    ("returned", "detail"),
    [
        ({"animal/kat": 1.0}, "own_tagger:Reds: no tag of 'small' is 'animal/kat': did you mean 'animal/cat'"),
        ({"odd \n\udc80": 1.0}, r"own_tagger:Reds: no tag of 'small' is 'odd \udc80': known: "),
        ({"animal/cat": 2}, "the score of animal/cat is 2, not a number from 0 to 1"),
        ({"animal/cat": "sure"}, "the score of animal/cat is 'sure'"),
        ({"animal/cat": -0.5}, "the score of animal/cat is -0.5"),
        (["animal/cat"], "returned list for an image, not path -> score"),
    ],
)
def test_a_wrong_result_fails_its_image(returned: Any, detail: str) -> None:
    tagger = taggers.open_tagger(write_custom({"returns": returned}))
    (failure,) = tagger.tag([tagger.prepare(RED, None)])
    assert isinstance(failure, Failure) and failure.reason == "tagger_failed" and detail in failure.detail


def test_a_result_of_the_wrong_length_fails_its_images() -> None:
    tagger = taggers.open_tagger(write_custom({"short": True}))
    results = taggers.tag_images(tagger, [tagger.prepare(RED, None)] * 2)
    assert results == [Failure("tagger_failed", "ValueError: 0 results for 1 images")] * 2


def test_a_class_that_cannot_be_used_is_one_line() -> None:
    broken = r"^tagger 'mine': own_tagger:Reds cannot be constructed: OSError: no model here \(own_tagger\.py:6\)$"
    with pytest.raises(UserMistake, match=broken):
        taggers.open_tagger(write_custom({"broken": True}))
    with pytest.raises(UserMistake, match=r"own_tagger:Reds has no method `tag`; see docs/tagging\.md"):
        taggers.open_tagger(write_custom({"mute": True}))


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("import json\n\nclass Reds\n    pass\n", "SyntaxError: expected ':' (odd_tagger.py, line 3); fix it there"),
        ("import json\nlimits = {}['low']\n", "KeyError: 'low' (odd_tagger.py:2); fix it there"),
        ("import json\njson.lods('1')\n", "(odd_tagger.py:2); fix it there"),
        (
            "import no_such_library\n",
            "ModuleNotFoundError: No module named 'no_such_library' (odd_tagger.py:1); fix it there",
        ),
        ("raise SystemExit('wants arguments')\n", "SystemExit: wants arguments (odd_tagger.py:1); fix it there"),
    ],
)
def test_a_module_that_fails_on_import_is_one_line_with_the_place(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, text: str, end: str
) -> None:
    write(workspace / "odd_tagger.py", text)
    monkeypatch.syspath_prepend(str(workspace))
    sys.modules.pop("odd_tagger", None)
    with pytest.raises(UserMistake) as caught:
        taggers.open_tagger(write_custom(engine="odd_tagger:Reds"))
    message = str(caught.value)
    assert message.startswith("tagger 'mine': cannot import odd_tagger: ") and message.endswith(end)
    assert "\n" not in message


def test_a_new_version_changes_the_fingerprint() -> None:
    assert write_custom().fingerprint == write_custom().fingerprint
    assert write_custom().fingerprint != write_custom(more='version: "2"\n').fingerprint
