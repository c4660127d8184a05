"""The page of a difference: side by side with pictures, in a real browser, whatever is written in the data."""

from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.diff import DiffRequest, diff
from synthgen.store import Folder
from tests.fixtures.browser import EVIL, PHONE, Opened
from tests.fixtures.reports import write_run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page on two runs in which every text is hostile, and every answer another one."""
    place = tmp_path_factory.mktemp("hostile")
    planted = {key: f"{key} {EVIL}" for key in ("question", "answer", "tag", "type")}
    before = write_run(Folder(str(place / "before")), place / "photos", name="x'><script>y<script>", **planted)
    other = {**planted, "answer": f"other {EVIL}", "reason": "kept", "tag": f"new {EVIL}"}
    after = write_run(Folder(str(place / "after")), place / "photos", name="x'><script>y<script>", **other)
    target = str(place / "diff.html")
    diff(before, after, DiffRequest(html=target))
    assert diff(before, after, DiffRequest(html=target))  # an older page is replaced
    return target


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 900}])
def test_it_opens_without_an_error_or_a_request_and_fits_the_window(
    browser: Any, page: str, scheme: str, size: dict[str, int]
) -> None:
    opened = Opened(browser, f"file://{page}", color_scheme=scheme, viewport=size)
    opened.until("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert opened.page.evaluate("window.planted") is None and not opened.problems
    colours = opened.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(colours) < 200) == (scheme == "dark")


def test_both_answers_stand_side_by_side_with_the_picture_and_keys_go_through_them(browser: Any, page: str) -> None:
    opened = Opened(browser, f"file://{page}")
    change = opened.page.locator("#answered .change").first
    sides = [str(text) for text in change.locator(".side .a").all_text_contents()]
    assert sides == [f"answer {EVIL}", f"other {EVIL}"] and change.locator("img").count() == 1
    assert opened.page.locator("#won .change .side .verdict").nth(1).text_content() == "kept"
    for key in "jjk":
        opened.page.keyboard.press(key)
    assert change.evaluate("item => item === document.activeElement") and not opened.problems
    words = str(opened.page.locator("#types").text_content())
    assert f"type {EVIL}" in words and "+18" in words


def test_without_pictures_the_source_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_run(Folder(str(tmp_path / "before")), tmp_path / "photos")
    after = write_run(Folder(str(tmp_path / "after")), tmp_path / "photos", reason="kept")
    monkeypatch.setattr("synthgen.commands.diff.examples.load_pictures", lambda *_: pytest.fail("the source was read"))
    diff(before, after, DiffRequest(html=str(tmp_path / "x.html"), has_pictures=False))
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "data:image" not in text.replace("img-src data:", "")
    assert str(tmp_path) not in text and "before: before<br>after: after" in text
