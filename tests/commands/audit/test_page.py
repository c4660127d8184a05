"""The page of an audit in a real browser, labelled by keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.audit import command, labels
from synthgen.commands.audit.labels import add_label, read_labels
from synthgen.commands.audit.server import Desk, app_of
from synthgen.store import Folder, RunFolder
from tests.fixtures.browser import EVIL, PHONE, Opened
from tests.fixtures.reports import write_run
from tests.fixtures.served import served


@contextmanager
def audited(folder: RunFolder) -> Iterator[str]:
    """Serve the page of an audit, and give its address."""
    examples, pictures = command.sample_of(folder, 200)
    desk = Desk(examples, pictures, f"ada {EVIL}", {}, lambda label: add_label(folder, label))
    with served(app_of(desk), desk.token) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a run in which every text is hostile."""
    planted = {key: f"{key} {EVIL}" for key in ("question", "answer", "tag", "type")}
    return write_run(Folder(str(tmp_path / "out")), tmp_path / "photos", name="x'><script>y<script>", **planted)


def test_pairs_are_labelled_by_keys_and_labels_are_stored_at_once(browser: Any, folder: RunFolder) -> None:
    with audited(folder) as url:
        opened = Opened(browser, url)
        page, count = opened.page, opened.page.locator("#count")
        opened.until("document.getElementById('count').textContent === 'pair 1 of 6, 0 labelled'")
        assert "<script>" in str(page.locator("#question").text_content())
        for keys, done in (("r", 1), ("w2", 2), ("u", 3)):
            for key in keys:
                page.keyboard.press(key)
            opened.until(f"document.getElementById('count').textContent.includes(' {done} labelled')")
        page.keyboard.press("ArrowLeft")
        opened.until("document.getElementById('count').textContent.startsWith('pair 3 of 6')")
        assert page.locator("[data-label=unsure]").get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name="right").first.click()
        opened.until("document.getElementById('count').textContent.startsWith('pair 4 of 6')")
        for _ in range(3):
            before = str(count.text_content())
            page.keyboard.press("r")
            opened.until(f"document.getElementById('count').textContent !== {before!r}")
        assert str(count.text_content()).startswith("all 6 labelled")
        assert page.evaluate("window.planted") is None and not opened.problems
    given = [(label.label, label.why) for label in sorted(read_labels(folder), key=lambda label: label.pair_id)]
    assert given == [("right", None), ("wrong", labels.WHYS[1]), *[("right", None)] * 4]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_schemes(browser: Any, folder: RunFolder, scheme: str) -> None:
    with audited(folder) as url:
        opened = Opened(browser, url, viewport=PHONE, color_scheme=scheme)
        opened.until("document.getElementById('picture').naturalWidth > 0")
        assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        colours = opened.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(colours) < 200) == (scheme == "dark") and not opened.problems


def test_a_label_that_is_not_stored_is_told_and_not_shown_as_done(browser: Any, folder: RunFolder) -> None:
    with audited(folder) as url:
        opened = Opened(browser, url)
        opened.until("document.getElementById('count').textContent.startsWith('pair 1')")
    opened.page.keyboard.press("r")
    opened.until("document.getElementById('trouble').textContent.startsWith('This was not stored')")
    assert "0 labelled" in str(opened.page.locator("#count").text_content())
