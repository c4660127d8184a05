"""Arguments of the Python API: a value of a wrong type is one line that names it, before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import synthgen
from synthgen.errors import UserMistake
from tests.fixtures.workspace import make_images

API: Any = synthgen  # as a notebook sees it, without types


def run(**given: Any) -> Any:
    return API.run_pipeline(**{"source": "photos", "out": "out", "pipeline": "small", **given})


def load(key: Any, value: Any) -> Any:
    return API.load_pipeline("small", {key: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run(limit=1.5), "limit is 1.5, of type float; give a whole number or None"),
        (lambda: run(limit=True), "limit is True, of type bool; give a whole number or None"),
        (lambda: run(limit="3"), "limit is '3', of type str; give a whole number or None"),
        (lambda: run(limit=10**5000), "limit is too large; give 1 or more, or None"),
        (lambda: run(out=None), "out is None, of type NoneType; give text or a path"),
        (lambda: run(out=""), "out is empty; give text or a path"),
        (lambda: run(source=b"photos"), "source is b'photos', of type bytes; give text or a path"),
        (lambda: run(model=3), "model is 3, of type int; give text or a path"),
        (lambda: run(pipeline=3), "pipeline is 3, of type int; give text or a path"),
        (lambda: run(until=3), "until is 3, of type int; give text or None"),
        (lambda: run(update="yes"), "update is 'yes', of type str; give True or False"),
        (lambda: run(settings=["a.b=1"]), "settings is ['a.b=1'], of type list; give keys with values, as {"),
        (lambda: API.plan_pipeline("out", profile=2.5), "profile is 2.5, of type float; give a whole number or None"),
        (lambda: API.plan_pipeline(None), "out is None, of type NoneType; give text or a path"),
        (lambda: API.load_pipeline(None), "name is None, of type NoneType; give text or a path"),
        (lambda: API.preview_image(3), "image is 3, of type int; give text or a path"),
        (lambda: API.run_status(3), "out is 3, of type int; give text or a path"),
        (lambda: API.load_samples(None), "out is None, of type NoneType; give text or a path"),
        (lambda: API.load_samples("out", streaming=1), "streaming is 1, of type int; give True or False"),
        (lambda: load(3, 2), "settings: the key 3 is not text; write it as section.key"),
        (lambda: load("plan.seed=3,x", 2), "settings: 'plan.seed=3,x' contains '='; write keys as section.key"),
        (lambda: load("plan.seed", {1, 2}), "settings: plan.seed: Object of type set is not JSON serializable; give"),
        (lambda: load("plan.share", float("nan")), "settings: plan.share: Out of range float values are not JSON"),
        (lambda: load("plan.seed", 10**5000), "settings: plan.seed: Exceeds the limit"),
    ],
)
def test_a_value_of_a_wrong_type_is_one_line_before_anything_is_written(
    workspace: Path, call: Callable[[], Any], message: str
) -> None:
    make_images(workspace / "photos", 1)
    before = sorted(workspace.rglob("*"))
    with pytest.raises(UserMistake) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert sorted(workspace.rglob("*")) == before


def test_a_path_is_taken_wherever_text_names_a_file_or_a_folder(workspace: Path) -> None:
    path = workspace / "pipelines" / "small.yaml"
    assert synthgen.load_pipeline(path) == synthgen.load_pipeline(str(path))
    assert synthgen.load_pipeline(Path("small")) == synthgen.load_pipeline("small")
    for call in (
        lambda: synthgen.run_pipeline(workspace / "gone", workspace / "out", pipeline=path, model=Path("m")),
        lambda: synthgen.preview_image(workspace / "gone", pipeline=path, model=Path("m")),
    ):
        with pytest.raises(UserMistake, match=r"gone: no such (file or folder|image file)"):
            call()
