"""The report of a run: its numbers are those of the tables, its texts are escaped, and nothing in it asks for more."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from synthgen.commands import report
from synthgen.commands.report import command, costs, draw, outcomes, pictures
from synthgen.commands.report.branches import Branch, Branches, uneven
from synthgen.commands.report.survey import Survey, survey
from synthgen.commands.report.view import Group, groups_of, score_view, stage_bars
from synthgen.config.selection import SelectConfig
from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.job.funnel import funnels
from synthgen.store import Folder, RunFolder
from synthgen.store.denylist import Denylist, extend_denylist
from synthgen.tables import GENERATE, SELECT
from tests.fixtures.reports import PARTITIONS, QUESTIONS, write_run

IMAGES = 6
VOID = {"meta", "img", "input", "br", "link"}
ASKS_FOR = {"src", "href", "srcset", "poster", "action", "data", "xlink:href"}
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}</style></script>&amp;"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a run whose numbers are known."""
    return write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")


def survey_of(folder: RunFolder) -> Survey:
    return survey(folder, run_record.pipeline_of(folder).selection)


def page_of(folder: RunFolder) -> str:
    return Path(report.write_report(folder)).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """The elements of a page with their attributes, the text, and whether every element was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.found if name == tag)


def test_counts_by_kind_are_those_of_the_tables_and_of_the_funnel(folder: RunFolder) -> None:
    found = survey_of(folder)
    for counts in found.counts.values():
        assert outcomes.joined(counts) == {"kept": IMAGES, "dropped": 3 * IMAGES, "failed": IMAGES}
    assert found.counts["type"]["coarse/scene"] == {"kept": IMAGES, "dropped": IMAGES}
    assert found.counts["form"]["short"] == {"kept": IMAGES, "dropped": IMAGES, "failed": IMAGES}
    assert folder.log(SELECT).counts()["kept"] == IMAGES


def test_every_stage_of_the_funnel_adds_up_and_its_bar_is_full(folder: RunFolder) -> None:
    bars = stage_bars(funnels(folder))
    assert [bar.funnel.stage for bar in bars] == ["tag", "plan", "generate", "select", "pack"]
    for bar in bars:
        assert bar.sum == bar.funnel.received
        assert sum(length for _, _, length in bar.parts) == pytest.approx(1)
        assert sum(count for _, count, _ in bar.reasons) == sum(bar.funnel.dropped.values())


def test_the_current_threshold_keeps_what_is_kept_and_a_looser_one_what_it_alone_has_dropped(folder: RunFolder) -> None:
    scores = survey_of(folder).scores
    answer, likelihood = scores["answer"], scores["likelihood"]
    assert answer.kept_at(3.0) == likelihood.kept_at(0.5) == IMAGES
    assert answer.kept_at(2.0) == 2 * IMAGES  # "score:answer" of 2.0, whose likelihood passes
    assert likelihood.kept_at(0.05) == IMAGES  # "score:likelihood" of 0.1 fails the threshold of answer too
    assert likelihood.kept_at(0.95) == answer.kept_at(4.1) == 0
    view = score_view(answer)
    assert (view.threshold, IMAGES) in [(value, kept) for value, kept, _ in view.steps]
    assert [kept for _, kept, _ in view.steps] == sorted((kept for _, kept, _ in view.steps), reverse=True)


def test_pairs_of_other_forms_are_kept_whatever_a_threshold_says(tmp_path: Path) -> None:
    folder = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos", reason="kept")
    scores = survey(folder, SelectConfig.model_validate({"keep": {"answer": {"min": 3.0, "forms": ["choice"]}}})).scores
    assert scores["answer"].untouched == 3 * IMAGES
    assert scores["answer"].kept_at(3.0) == 4 * IMAGES and scores["answer"].kept_at(5.0) == 3 * IMAGES


def test_a_score_without_a_threshold_says_what_one_would_keep_of_the_kept(folder: RunFolder) -> None:
    score = survey(folder, SelectConfig()).scores["likelihood"]
    assert (score.kept_at(0.0), score.kept_at(0.9), score.kept_at(0.91)) == (IMAGES, IMAGES, 0)
    assert score_view(score).threshold is None and score_view(score).words == "no threshold"


def test_branches_count_an_image_once_for_every_tag_above_its_own(folder: RunFolder) -> None:
    branches = survey_of(folder).branches
    assert {name: branch.images for name, branch in branches.tags.items()} == {
        "animal": 4,
        "animal/cat": 2,
        "animal/dog": 2,
        "document": 4,
        "document/letter": 2,
    }
    assert branches.tags["animal"].questions == {"kept": 4, "dropped": 12, "failed": 4, "open": 0}
    assert (branches.total.images, branches.total.kept, branches.untagged) == (IMAGES, IMAGES, 0)


def test_starved_and_drowned_tags_are_far_from_the_mean() -> None:
    def branch(images: int, kept: int) -> Branch:
        return Branch(images, Counter(kept=kept))

    tags = {"few": branch(10, 4), "mean": branch(10, 10), "many": branch(10, 30), "rare": branch(1, 0)}
    assert uneven(Branches(tags, branch(100, 100)), 3) == (["few"], ["many"])


def test_costs_are_the_sums_of_the_tables(folder: RunFolder) -> None:
    found = survey_of(folder).costs
    questions = len(QUESTIONS) * IMAGES
    assert found[costs.PAIRS] == costs.Cost(questions, None, 100 * questions, 80 * questions, 10 * questions, 45.0)
    assert found["score answer"].calls == 4 * IMAGES
    total = costs.total_of(found)
    assert total.prompt_tokens == 100 * questions + 2 * 50 * 4 * IMAGES
    assert total.cached_share == pytest.approx(0.8)


def test_what_is_drawn_does_not_depend_on_the_order_of_partitions(tmp_path: Path, folder: RunFolder) -> None:
    other = write_run(Folder(str(tmp_path / "other")), tmp_path / "photos", tuple(reversed(PARTITIONS)))
    drawn = survey_of(folder).draw.chosen()
    assert drawn == survey_of(other).draw.chosen()
    assert {outcome for outcome, _ in drawn} == {"kept", "dropped", "failed"}
    assert [each.id for _, each in drawn] == sorted(each.id for _, each in drawn)


def test_of_a_large_group_the_lowest_ids_are_drawn(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    every = sorted(each.id for outcome, each in survey_of(folder).draw.chosen() if outcome == "kept")
    assert len(every) == IMAGES
    monkeypatch.setattr(draw, "MOST", {**draw.MOST, "kept": (2, 5)})
    assert [each.id for outcome, each in survey_of(folder).draw.chosen() if outcome == "kept"] == every[:2]


def test_more_groups_than_are_shown_end_in_one_for_all_others() -> None:
    counts = {f"type {number}": Counter(kept=number) for number in range(1, 6)}
    groups = groups_of(counts, 2)
    assert [group.name for group in groups] == ["type 5", "type 4", "3 others"]
    assert sum(group.asked for group in groups) == 15 and groups[2] == Group("3 others", kept=6)


def test_the_page_is_whole_and_asks_for_nothing(folder: RunFolder) -> None:
    text = page_of(folder)
    elements = Elements(text)
    assert not elements.open
    asked = [value for _, found in elements.found for name, value in found.items() if name in ASKS_FOR]
    assert asked and not [value for value in asked if not str(value).startswith(("#", "data:image/webp;base64,"))]
    assert not [found for _, found in elements.found if any(name == "style" or name[:2] == "on" for name in found)]
    assert not re.search(r"url\(|@import|https?:", text)
    assert "out" in "".join(elements.text) and f"{IMAGES} of {4 * IMAGES} questions" in text


def test_only_our_script_and_our_style_may_run(folder: RunFolder) -> None:
    text = page_of(folder)
    (policy,) = (found["content"] for found in Elements(text).all("meta") if "http-equiv" in found)
    assert policy and policy.startswith("default-src 'none'; img-src data:; ") and "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_markup_in_names_tags_types_reasons_and_texts_is_text(tmp_path: Path) -> None:
    planted = {key: f"{key} {EVIL}" for key in ("question", "answer", "tag", "type", "reason")}
    folder = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos", name='a"><script>x<script>', **planted)
    plain = write_run(Folder(str(tmp_path / "plain")), tmp_path / "photos")
    elements, harmless = Elements(page_of(folder)), Elements(page_of(plain))
    assert len(list(elements.all("script"))) == len(list(elements.all("style"))) == 1
    assert {tag for tag, _ in elements.found} == {tag for tag, _ in harmless.found}
    assert not [found for _, found in elements.found if any(name[:2] == "on" for name in found)]
    text = "".join(elements.text)
    assert all(value in text for key, value in planted.items() if key != "tag") and "{{ 7*7 }}" in text


def test_pictures_are_small_copies_of_the_images_with_a_text(folder: RunFolder) -> None:
    shown = list(Elements(page_of(folder)).all("img"))
    assert len(shown) == len(survey_of(folder).draw.chosen())
    assert all(str(picture["src"]).startswith("data:image/webp;base64,UklGR") for picture in shown)
    assert all("photo.png, 6" in str(picture["alt"]) for picture in shown)


def test_a_picture_that_is_gone_or_was_purged_is_a_word_in_its_place(tmp_path: Path, folder: RunFolder) -> None:
    (tmp_path / "photos" / "0 photo.png").unlink()
    (tmp_path / "photos" / "1 photo.png").write_bytes((tmp_path / "photos" / "2 photo.png").read_bytes())
    rows = folder.table(GENERATE, PARTITIONS[1], "pairs", ["image_id"])
    extend_denylist(folder.out, Denylist(frozenset(), frozenset({rows.column("image_id")[0].as_py()})))
    text = page_of(folder)
    for reason in ("unreadable", "changed", "purged"):
        assert f"<p>no picture: {reason}</p>" in text


def test_without_pictures_the_source_is_not_read(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_pictures", lambda *_: pytest.fail("the source was read"))
    path = report.write_report(folder, has_pictures=False)
    assert "data:image" not in Path(path).read_text(encoding="utf-8").replace("img-src data:", "")


def test_no_folder_of_the_machine_is_on_the_page(tmp_path: Path, folder: RunFolder) -> None:
    text = page_of(folder)
    assert str(tmp_path) not in text
    assert "0 photo.png" in text and "generate.model=…/model" in text and "broken-e001-00000.png" in text


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "out"))
    whole = run_record.record_of(write_run(out, tmp_path / "photos"))
    begun = Folder(str(tmp_path / "begun"))
    begun.write("run.json", b'{"format": 1}')
    RunFolder(begun).write_record(whole)
    elements = Elements(page_of(RunFolder(begun)))
    assert not elements.open and "0 images, and no question answered yet." in "".join(elements.text)


def test_the_report_goes_beside_the_card_or_where_it_is_wanted(tmp_path: Path, folder: RunFolder) -> None:
    assert report.write_report(folder) == f"{folder.out.url}/5-shards/report.html"
    target = str(tmp_path / "mine.html")
    assert [report.write_report(folder, target) for _ in range(2)] == [target, target]  # an older one is replaced
    (tmp_path / "other.html").write_text("mine")
    for wrong, words in (
        ("other.html", "is there already, and is no report of synth"),
        ("report.txt", "ends in .html"),
        ("missing/mine.html", "cannot be written"),
        ("s3://bucket/mine.html", "is no file on this machine"),
    ):
        with pytest.raises(UserMistake, match=words):
            report.write_report(folder, wrong if "://" in wrong else str(tmp_path / wrong))
    assert (tmp_path / "other.html").read_text() == "mine"
    with pytest.raises(UserMistake, match="holds no synth run"):
        report.write_report(RunFolder(Folder(str(tmp_path / "nothing"))))


def test_a_report_that_fails_does_not_fail_the_run(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'jinja2'")

    monkeypatch.setattr(command, "render", fail)
    assert report.write_after_run(folder) is None
    assert "the report could not be written (ModuleNotFoundError: No module named 'jinja2'" in capsys.readouterr().err


def test_a_run_that_changed_nothing_leaves_its_report(folder: RunFolder) -> None:
    place = report.write_after_run(folder, is_changed=False)
    assert place and (before := Path(place).read_bytes())
    Path(place).write_bytes(b"kept")
    assert report.write_after_run(folder, is_changed=False) == place and Path(place).read_bytes() == b"kept"
    assert report.write_after_run(folder) == place and len(Path(place).read_bytes()) == len(before)
    report.forget_report(folder)
    assert not Path(place).exists()


def test_pictures_that_would_make_the_page_large_are_left_out(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(pictures.SMALL, together=300)
    monkeypatch.setattr(command, "load_pictures", partial(pictures.load_pictures, size=few))
    text = page_of(folder)
    assert "no picture: left out to keep this page small" in text and "data:image/webp" in text
