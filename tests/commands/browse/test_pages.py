"""The pages of a run in a real browser: by keys, on a phone, in both schemes, and without a script from data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.browse import search as searching
from synthgen.commands.browse.server import Desk, app_of
from synthgen.store import Folder
from tests.fixtures.browser import EVIL, PHONE, Opened
from tests.fixtures.reports import write_run
from tests.fixtures.served import served

WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a run in which every text is hostile."""
    place = tmp_path_factory.mktemp("hostile")
    planted = {key: f"{key} {EVIL}" for key in ("question", "answer", "tag", "type", "reason")}
    run = write_run(Folder(str(place / "out")), place / "photos", name="x'\"><script>y<script>", **planted)
    yield from serving(run.out)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a run whose numbers are known."""
    place = tmp_path_factory.mktemp("plain")
    yield from serving(write_run(Folder(str(place / "out")), place / "photos").out)


def serving(out: Folder) -> Iterator[str]:
    desk = Desk(out)
    with served(app_of(desk), desk.token) as url:
        yield url
    desk.close()


def opened(browser: Any, url: str, place: str, **options: Any) -> Opened:
    """Open a page; what it asks for must be below the address of the run."""
    found = Opened(browser, url, **options)
    found.page.goto(url + place)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_every_page_opens_without_an_error_or_a_request_elsewhere_and_fits(
    browser: Any, hostile: str, scheme: str, size: dict[str, int]
) -> None:
    found = opened(browser, hostile, "pairs", color_scheme=scheme, viewport=size)
    page = found.page
    links = [page.locator("#list .whole").first.get_attribute("href")]
    page.goto(f"{hostile}images")
    links.append(page.locator("#list .whole").first.get_attribute("href"))
    root = hostile.split("/", 3)
    for place in ["", "pairs", "images", "tags", f"pairs?q={EVIL}", *links]:
        page.goto(f"{root[0]}//{root[2]}{place}" if str(place).startswith("/") else hostile + str(place))
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.evaluate("for (const each of document.images) each.loading = 'eager'")
        found.until("[...document.images].every(image => image.complete && image.naturalWidth)")
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"], place
        assert page.evaluate("window.planted") is None and not found.problems, place
    colours = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(colours) < 200) == (scheme == "dark")


def test_keys_search_move_open_step_and_go_back(browser: Any, plain: str) -> None:
    found = opened(browser, plain, "")
    page = found.page
    page.keyboard.press("/")
    page.keyboard.type("number 3")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pairs?q=number+3")
    assert page.locator("#list .card").count() == 6 and page.locator("#shown").text_content() == "6 shown"
    for key in "jjkj":
        page.keyboard.press(key)
    second = page.locator("#list .whole").nth(1)
    assert second.evaluate("link => link === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pairs/e001-00000/*?q=number+3")
    assert page.locator("h1").text_content() == "What is number 3?"
    before = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda url: "/pairs/" in url and url != before)
    page.keyboard.press("k")
    page.wait_for_url(before)
    page.keyboard.press("u")
    page.wait_for_url("**/pairs?q=number+3")
    page.go_back()
    page.wait_for_url(before)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible() and not found.problems


def test_a_filter_is_an_address_that_opens_the_same_list(browser: Any, plain: str) -> None:
    found = opened(browser, plain, "pairs")
    page = found.page
    page.select_option("[name=outcome]", "dropped")
    page.fill("[name=type]", "fine")
    page.select_option("[name=score]", "answer")
    page.fill("[name=least]", "4")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**/pairs?outcome=dropped&type=fine&score=answer&least=4")
    count = page.locator("#list .card").count()
    again = opened(browser, plain, page.url.removeprefix(plain)).page
    assert count == again.locator("#list .card").count() == 6
    assert again.input_value("[name=type]") == "fine" and again.input_value("[name=least]") == "4"
    page.get_by_role("link", name="Show all").click()
    page.wait_for_url("**/pairs")
    assert page.locator("#list .card").count() == 24 and not found.problems


def test_a_long_search_goes_on_by_itself_until_everything_was_looked_at(
    browser: Any, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching.search, "__defaults__", (0.0,))
    found = opened(browser, plain, "pairs?q=number+2")
    found.until("document.getElementById('shown').textContent === '6 shown'")
    assert found.page.locator("#list .card").count() == 6
    nothing = opened(browser, plain, "pairs?q=zebra")
    nothing.until("document.getElementById('shown').textContent === 'nothing is found'")
    assert not found.problems and not nothing.problems


def test_counts_grow_while_they_are_made(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.commands.browse.tally.Tally.start", lambda tally: None)
    desk = Desk(write_run(Folder(str(tmp_path / "out")), tmp_path / "photos").out)
    with served(app_of(desk), desk.token) as url:
        found = opened(browser, url, "tags")
        assert "counted so far: 0 of 2" in str(found.page.locator(".live").text_content())
        desk.snapshot.tally._count()
        found.until("!document.querySelector('[data-counting]') && document.querySelectorAll('tbody tr').length === 5")
        assert not found.problems
    desk.close()


def test_lists_and_pages_work_without_a_script(browser: Any, plain: str) -> None:
    page = opened(browser, plain, "pairs?outcome=kept", java_script_enabled=False).page
    page.locator("#list .whole").first.click()
    assert page.locator("h1").text_content() == "What is number 0?"
    page.locator("#next").click()
    assert page.locator("h1").text_content() == "What is number 0?" and "outcome=kept" in page.url
