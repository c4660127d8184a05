"""The report in a real browser: it opens without an error or a request, filters, and fits a phone in both schemes."""

from pathlib import Path
from typing import Any

import pytest

from synthgen.commands import report
from synthgen.store import Folder
from tests.fixtures.browser import EVIL, PHONE, Opened
from tests.fixtures.reports import write_run


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of a run in which every text is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    planted = {key: f"{key} {EVIL}" for key in ("question", "answer", "tag", "type", "reason")}
    run = write_run(Folder(str(folder / "out")), folder / "photos", name="x'\"><script>y<script>", **planted)
    return report.write_report(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 900}])
def test_it_opens_without_an_error_or_a_request_and_fits_the_window(
    browser: Any, file: str, scheme: str, size: dict[str, int]
) -> None:
    opened = Opened(browser, f"file://{file}", color_scheme=scheme, viewport=size)
    for details in opened.page.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    opened.page.locator("#more").evaluate("button => { while (!button.hidden) button.click(); }")
    opened.until("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert opened.page.evaluate("window.planted") is None and not opened.problems
    red, green, blue = opened.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red + green + blue < 200) == (scheme == "dark")


def test_pairs_are_filtered_by_outcome_type_reason_and_words_and_shown_again(browser: Any, tmp_path: Path) -> None:
    run = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")
    opened = Opened(browser, f"file://{report.write_report(run)}")
    page, every = opened.page, opened.cards
    assert page.locator("#shown").text_content() == "24 of 28 shown" and every == 24
    page.locator("#more").click()
    assert opened.cards == 28 and not page.locator("#more").is_visible()
    page.select_option("#by-outcome", "kept")
    assert opened.cards == 6 and page.locator("#shown").text_content() == "6 of 6 shown, which fit of 28"
    page.select_option("#by-outcome", "dropped")
    page.select_option("#by-reason", "score:answer")
    assert opened.cards == 6 and set(page.locator(".card:visible .verdict").all_text_contents()) == {"score:answer"}
    page.select_option("#by-type", "fine/reading")
    assert opened.cards == 0
    page.get_by_role("button", name="Show all").click()
    page.fill("#by-words", " BLUE  blue")
    assert opened.cards == 6 and not opened.problems


def test_a_slider_moved_by_a_key_says_what_another_threshold_would_keep(browser: Any, tmp_path: Path) -> None:
    run = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")
    opened = Opened(browser, f"file://{report.write_report(run)}")
    score = opened.page.locator(".score").first
    slider, said = score.locator("input"), score.locator("output")
    assert said.text_content() == "3 keeps 6"
    slider.press("Home")
    assert said.text_content() == "at least 1 keeps 12 (+6)"
    slider.press("End")
    assert said.text_content() == "at least 4.5 keeps 0 (\N{MINUS SIGN}6)" and slider.get_attribute("aria-valuetext")
    line = score.locator(".moved")
    assert (line.get_attribute("visibility"), line.get_attribute("x1")) == ("visible", "100%") and not opened.problems


def test_everything_is_shown_without_a_script(browser: Any, file: str) -> None:
    opened = Opened(browser, f"file://{file}", java_script_enabled=False)
    assert opened.cards == opened.page.locator(".card").count() == 18
