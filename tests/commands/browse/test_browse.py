"""The pages of a run: what they find, what they say of a pair, who may see them, and that texts in them are texts."""

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from starlette.testclient import TestClient

from synthgen.commands.browse import command, views
from synthgen.commands.browse import search as searching
from synthgen.commands.browse.server import Desk, app_of
from synthgen.commands.browse.snapshot import CachedFolder
from synthgen.commands.local_page import check_installed, listen
from synthgen.errors import UserMistake
from synthgen.store import Folder, RunFolder
from synthgen.store.denylist import Denylist, extend_denylist
from synthgen.tables import GENERATE, LIST, PLAN, SELECT
from tests.fixtures.browser import EVIL
from tests.fixtures.reports import PARTITIONS, QUESTIONS, write_run

LOCAL = "http://127.0.0.1:8000"


class Reader:
    """Somebody who reads the pages of a run."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.client = TestClient(app_of(desk), base_url=LOCAL, follow_redirects=False)

    def reply(self, place: str) -> Any:
        return self.client.get(f"/{self.desk.token}/{place}")

    def page(self, place: str, status: int = 200) -> str:
        reply = self.reply(place)
        assert reply.status_code == status, reply.text
        return str(reply.text)

    def links(self, place: str) -> list[str]:
        """Return the places that the cards of a list lead to."""
        found = re.findall(rf'class="whole" href="/{self.desk.token}/([^"]+)"', self.page(place))
        return [link.replace("&amp;", "&") for link in found]

    def link(self, place: str, name: str) -> str:
        """Return the place that a link with this id leads to; empty without one."""
        found = re.findall(rf'id="{name}"[^>]* href="/{self.desk.token}/([^"]*)"', self.page(place))
        return found[0].replace("&amp;", "&") if found else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run whose numbers are known."""
    place = tmp_path_factory.mktemp("run")
    return write_run(Folder(str(place / "out")), place / "photos")


@pytest.fixture(scope="module")
def reader(folder: RunFolder) -> Iterator[Reader]:
    """Return a reader of the run."""
    desk = Desk(folder.out)
    desk.snapshot.tally.finish()
    yield Reader(desk)
    desk.close()


def texts(reader: Reader, place: str) -> str:
    """Return the words of a page."""
    parts: list[str] = []

    class Words(HTMLParser):
        def handle_data(self, data: str) -> None:
            parts.append(data)

    Words().feed(re.sub(r"<(style|script)>.*?</\1>", "", reader.page(place), flags=re.DOTALL))
    return " ".join(" ".join(parts).split())


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("pairs?outcome=kept", 6),
        ("pairs?outcome=failed", 6),
        ("pairs?type=fine", 18),
        ("pairs?type=fine/reading&form=choice", 6),
        ("pairs?reason=score", 12),
        ("pairs?reason=score:answer", 6),
        ("pairs?tag=animal", 20),
        ("pairs?tag=animal/cat", 10),
        ("pairs?tag=anim", 0),
        ("pairs?score=answer&least=4", 12),
        ("pairs?score=answer&least=4&most=4.2", 6),
        ("pairs?score=nothing", 0),
        ("pairs?q=NUMBER+2", 6),
        ("pairs?q=blue", 6),
        ("pairs?q=.*", 0),
        ("images?tag=animal", 4),
        ("images?outcome=quarantined", 2),
        ("images?outcome=quarantined.corrupt", 2),
        ("images?q=PHOTO.png", 6),
        ("images", 8),
    ],
)
def test_a_search_finds_what_the_tables_hold(reader: Reader, place: str, count: int) -> None:
    assert len(reader.links(place)) == count


def test_an_id_is_found_whatever_it_is_of(reader: Reader, folder: RunFolder) -> None:
    row = folder.table(GENERATE, PARTITIONS[1], "pairs").to_pylist()[7]
    for name in ("pair_id", "assignment_id"):
        assert reader.links(f"pairs?q={row[name]}") == [f"pairs/{PARTITIONS[1]}/{row['assignment_id']}?q={row[name]}"]
    for name in ("image_id", "object_id"):
        assert len(reader.links(f"pairs?q={row[name].upper()}")) == len(QUESTIONS)
        assert reader.links(f"images?q={row[name]}") == [f"images/{PARTITIONS[1]}/{row['object_id']}"]


def test_pages_of_a_list_lead_through_everything_and_back(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PAIRS_A_PAGE", 7)
    every, place = list[str](), "pairs"
    while place:
        every += reader.links(place)
        last, place = place, reader.link(place, "next")
    assert len(every) == len(set(every)) == 30
    back: list[str] = []
    while last:
        back = reader.links(last) + back
        last = reader.link(last, "previous")
    assert back == every


def test_the_next_pair_of_a_search_is_the_next_of_its_list(reader: Reader) -> None:
    listed = reader.links("pairs?outcome=kept")
    place, seen = listed[0], [listed[0]]
    while "pairs/" in (place := _followed(reader, reader.link(place, "next"))):
        seen.append(place)
    assert seen == listed and place == "pairs?outcome=kept"
    assert _followed(reader, reader.link(listed[2], "previous")) == listed[1]
    assert reader.link(listed[2], "up") == "pairs?outcome=kept"


def _followed(reader: Reader, place: str) -> str:
    reply = reader.reply(place)
    assert reply.status_code == 303
    return str(reply.headers["location"]).removeprefix(f"/{reader.desk.token}/")


def test_a_search_that_takes_long_says_how_far_it_came_and_goes_on(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching.search, "__defaults__", (0.0,))
    text = reader.page("pairs?q=nothing+like+it")
    (more,) = re.findall(rf'data-next="/{reader.desk.token}/([^"]+)"', text)
    assert "searched 1 of 2 partitions from here, 0 found so far" in text
    assert "nothing more is found" in reader.page(more.replace("&amp;", "&"))


def test_the_page_of_a_pair_says_what_the_tables_hold(reader: Reader, folder: RunFolder) -> None:
    place = reader.links("pairs?type=fine/reading&form=choice")[0]
    text = texts(reader, place)
    row = folder.table(GENERATE, PARTITIONS[0], "pairs").to_pylist()[3]
    for words in ("What is number 3?", "It is 3.", "A red", "B blue", "duplicate:question", "at least 0.5", "4.5"):
        assert words in text
    assert all(row[name] in text for name in ("pair_id", "assignment_id", "image_id", "object_id"))
    assert "100 tokens in, 80 cached, 10 out, 1.50 s" in text and "50, 40, 1" in text
    assert "it is dropped, similarity 0.90" in text and "Other questions about the image" in text
    bad = texts(reader, reader.links("pairs?reason=score:likelihood")[0])
    assert "at least 0.5: 0.1 is below 0.5" in bad
    failed = texts(reader, reader.links("pairs?outcome=failed")[0])
    assert "No question" in failed and "declined" in failed and "the prompt is not known" in failed


def test_where_the_files_of_the_run_are_gone_a_pair_is_shown_without_its_reasons(reader: Reader) -> None:
    assert "The rules are not known: pipeline: tagger 'nobody-has-it' is unknown" in texts(
        reader, reader.links("pairs")[0]
    )


def test_the_page_of_an_image_says_how_it_was_read_and_what_it_was_asked(reader: Reader) -> None:
    text = texts(reader, reader.links("images?tag=animal/dog")[0])
    assert "animal/dog" in text and "0.90" in text and "Questions 5" in text and "planned" in text
    broken = texts(reader, reader.links("images?outcome=quarantined")[0])
    assert (
        "quarantined.corrupt : bits" in broken.replace("corrupt:", "corrupt :") and "It is not in the plan." in broken
    )


def test_the_overview_and_the_tags_count_as_the_report_does(reader: Reader) -> None:
    text = texts(reader, "")
    assert "6 of 24 questions and answers are kept" in text and "score:answer 6" in text
    assert "coarse/scene" in text and "50.0% of 12" in text and "counted so far" not in text
    tags = texts(reader, "tags")
    assert "Of 6 images" in tags and "cat animal/cat" in tags
    assert "dog" not in texts(reader, "tags?q=CAT") and "No tag has these words" in texts(reader, "tags?q=zebra")


def test_counts_that_are_not_at_their_end_say_so(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.commands.browse.tally.Tally.start", lambda tally: None)
    desk = Desk(folder.out)
    assert "counted so far: 0 of 2 partitions" in texts(Reader(desk), "")
    desk.close()


def test_pictures_are_small_copies_and_what_has_none_says_why(tmp_path: Path) -> None:
    run = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")
    (tmp_path / "photos" / "0 photo.png").unlink()
    image = run.table(GENERATE, PARTITIONS[1], "pairs", ["image_id"]).column("image_id")[0].as_py()
    extend_denylist(run.out, Denylist(frozenset(), frozenset({image})))
    desk = Desk(run.out)
    reader = Reader(desk)
    shown = re.findall(rf'<img src="/{desk.token}/([^"]+)"', reader.page("images"))
    replies = [reader.reply(place.replace("&amp;", "&")) for place in shown]
    kinds = [reply.headers["content-type"] for reply in replies]
    assert kinds.count("image/webp") == 4 and kinds.count("image/svg+xml") == 4
    assert all(reply.status_code == 200 and reply.headers["cache-control"] == "no-store" for reply in replies)
    said = sorted(reply.text.partition("no picture: ")[2].partition("<")[0] for reply in replies if "svg" in reply.text)
    assert said == ["corrupt", "corrupt", "purged", "unreadable"]
    assert replies[1].content[:4] == b"RIFF" and reader.reply(shown[1].replace("&amp;", "&")).content[:4] == b"RIFF"
    for wrong in ("picture/nowhere/x?size=small", f"picture/{PARTITIONS[0]}/x?size=small", shown[1].partition("?")[0]):
        assert "there is no such image" in reader.page(wrong)
    desk.close()


def test_only_this_machine_and_only_who_has_the_address_sees_anything(reader: Reader) -> None:
    client = reader.client
    assert client.get("/").status_code == client.get("/guess/pairs").status_code == 404
    elsewhere = client.get(f"/{reader.desk.token}/", headers={"host": "example.org"})
    assert elsewhere.status_code == 400
    headers = reader.reply("pairs").headers
    assert "unsafe" not in headers["content-security-policy"] and headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
    with pytest.raises(UserMistake, match=r"--port 99999: cannot be used"):
        listen(99999)


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.found}


def test_markup_in_names_tags_types_reasons_texts_and_addresses_is_text(tmp_path: Path, reader: Reader) -> None:
    planted = {key: f"{key} {EVIL}" for key in ("question", "answer", "tag", "type", "reason")}
    run = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos", name="x'\"><script>y<script>", **planted)
    desk = Desk(run.out)
    desk.snapshot.tally.finish()
    hostile, asked = Reader(desk), f"q={EVIL}&type={EVIL}&tag={EVIL}&reason={EVIL}"
    for place in ("", "pairs", "images", "tags", "pairs?outcome=failed", "pairs?outcome=kept"):
        for of_list in ("", "first of it") if "?" in place or place == "images" else ("",):
            own, harmless = (each.links(place)[0] if of_list else place for each in (hostile, reader))
            elements = Elements(hostile.page(own))
            assert elements.tags == Elements(reader.page(harmless)).tags
            assert sum(tag == "script" for tag, _ in elements.found) == 1
            assert not [found for _, found in elements.found if any(name[:2] == "on" for name in found)]
    for place, status in (("pairs", 200), ("images", 200), ("tags", 200), ("step", 303), ("pairs/x/y", 404)):
        found = Elements(hostile.page(f"{place}?{asked}", status)).found
        assert sum(tag == "script" for tag, _ in found) == (status != 303)
        assert not [given for _, given in found if any(name[:2] == "on" for name in given)]
    assert Elements(hostile.page(f"pairs?least={EVIL}", 400)).tags == Elements(reader.page("pairs?least=x", 400)).tags
    desk.close()


def test_what_is_not_there_and_what_is_wrong_is_told_in_a_line(reader: Reader) -> None:
    assert "this run holds no such question now" in reader.page("pairs/e001-00000/none", 404)
    assert "this run holds no such question now" in reader.page("pairs/nowhere/none", 404)
    assert "this run holds no such image now" in reader.page("images/e001-00000/none", 404)
    assert "least: &#39;much&#39; is no number" in reader.page("pairs?least=much", 400)
    assert "most: &#39;much&#39; is no number" in reader.page("step?most=much&after=e001-00000:1", 400)


def test_looking_again_shows_what_was_committed_since_and_goes_back(tmp_path: Path) -> None:
    run = write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")
    desk = Desk(run.out)
    reader = Reader(desk)
    with run.lease() as lease:
        run.empty(SELECT, PARTITIONS[0], lease)
    assert len(reader.links("pairs?outcome=kept")) == 6
    again = reader.reply("again?back=pairs%3Foutcome%3Dkept")
    assert again.headers["location"] == f"/{desk.token}/pairs?outcome=kept"
    assert len(reader.links("pairs?outcome=kept")) == 3 and len(reader.links("pairs?outcome=open")) == 12
    outside = reader.reply("again?back=//example.org/x")
    assert outside.headers["location"].startswith(f"/{desk.token}/")
    desk.close()


def test_tables_are_kept_up_to_a_size_and_the_last_that_were_read_stay(folder: RunFolder) -> None:
    cached = CachedFolder(folder.out, most_bytes=1)
    first = cached.table(PLAN, PARTITIONS[0], "images")
    assert cached.table(PLAN, PARTITIONS[0], "images") is first
    cached.table(LIST, PARTITIONS[0], "objects")
    assert cached.table(PLAN, PARTITIONS[0], "images") is not first
    assert pc.all(pc.equal(first.column("outcome"), "planned")).as_py()


def test_every_page_names_the_command_that_opens_it(reader: Reader) -> None:
    assert f"synth browse {reader.desk.out.url} --at 'pairs?outcome=kept'" in texts(reader, "pairs?outcome=kept")


def test_the_command_serves_the_page_that_was_named_as_soon_as_it_names_it_and_ends_by_ctrl_c(
    folder: RunFolder,
) -> None:
    command = [sys.executable, "-m", "synthgen", "browse", folder.out.url, "--at", "/pairs?outcome=kept"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "open this page, and stop with Ctrl-C:\n"
        url = process.stderr.readline().strip()
        with urllib.request.urlopen(url, timeout=60) as reply:
            assert reply.read().decode().count('class="card"') == 6 and url.endswith("/pairs?outcome=kept")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and process.stderr.read() == ""


def test_a_folder_without_a_run_and_a_missing_server_are_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserMistake, match="holds no synth run"):
        command.browse(RunFolder(Folder(str(tmp_path))), command.BrowseRequest())
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserMistake, match=r"synth browse needs starlette and uvicorn.*\.\[audit\]"):
        check_installed("browse")
