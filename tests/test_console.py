"""What a waiting user reads on stderr where there is no terminal: counts in good English, and what a wait is for."""

import pytest

from synthgen import console
from synthgen.console import StageProgress, counted, generation_note, tagging_note


def test_one_is_singular_and_everything_else_plural(capsys: pytest.CaptureFixture[str]) -> None:
    assert [counted(count, "image") for count in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    with StageProgress("select", 1, "partition"):
        pass
    with StageProgress("tag", 2, "image"):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "select: 1 partition",
        "select: 1 of 1 partition",
        "tag: 2 images",
        "tag: 2 of 2 images",
    ]


def test_where_the_total_is_a_bound_the_last_line_says_what_was_really_done(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("generate", 287, "assignment", is_bound=True) as bar:
        bar.did(5)
        bar.did(3)
    with StageProgress("generate", 0, "assignment", is_bound=True):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "generate: at most 287 assignments",
        "generate: 8 assignments done of at most 287",
    ]


def test_a_stage_says_that_its_model_is_loading_until_the_first_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY_SECONDS", 0.0)
    with StageProgress("tag", 9, "image") as bar:
        bar.show(0.0, tagging_note({}))
        bar.show(3.0, tagging_note({"images": 3.0}))
    said = capsys.readouterr().err.splitlines()
    assert said[1] == "tag: 0 of 9 images, the tagger is loading"
    assert said[2].startswith("tag: 3 of 9 images") and "loading" not in said[2]
    assert generation_note({}, 1.0) == "the model is loading"
