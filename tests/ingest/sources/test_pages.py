"""PDF files in a listing: their pages are objects, read as such, and a file that has none is one object."""

import json
from pathlib import Path

import pytest

from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import documents, plugins
from synthgen.stages.pack import redact
from synthgen.tables import object_row
from tests.fixtures.hub import Hub, hub
from tests.fixtures.pdfs import locked, pdf
from tests.fixtures.sources import listed, mistake, read, read_refs, refs

__all__ = ["hub"]
LIMITS = ImagesConfig()
SUFFIXES = (".jpg", ".pdf")
needs_pdf = pytest.mark.skipif(not plugins.has_package("PDF"), reason="pypdfium2 is not installed")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.PDF").write_bytes(pdf(["", "", ""]))
    (folder / "a.json").write_text('{"license": "CC0"}')
    (folder / "b.jpg").write_bytes(b"b")
    return folder


@needs_pdf
def test_each_page_is_an_object_with_what_came_along_with_its_file(scans: Path) -> None:
    found = listed(scans, suffixes=SUFFIXES, sidecar=".json")
    assert [item.uri for item in found] == [f"{scans}/a.PDF#page={n}" for n in (1, 2, 3)] + [f"{scans}/b.jpg"]
    assert [json.loads(item.source_meta or "null") for item in found] == [{"license": "CC0"}] * 3 + [None]
    assert len({item.version for item in found[:3]}) == 3 and found[0].bytes == len(pdf(["", "", ""]))
    rows = [object_row(**vars(item)) for item in found[:3]]
    assert len({row["object_id"] for row in rows}) == 3
    assert len({row["bucket"] for row in rows}) == 1, "pages of a file stay together"
    assert redact.uri(found[1].uri, str(scans)) == "a.PDF#page=2"


@needs_pdf
def test_a_page_is_read_as_its_file_under_its_number(scans: Path) -> None:
    contents = read(scans, LIMITS, suffixes=SUFFIXES)
    whole = (scans / "a.PDF").read_bytes()
    expected = {f"{scans}/a.PDF#page={n}#None": documents.page_file(whole, n) for n in (1, 2, 3)}
    assert contents == {**expected, f"{scans}/b.jpg#None": b"b"}


@needs_pdf
def test_a_page_of_a_file_that_changed_or_is_too_large_is_not_read(scans: Path) -> None:
    wanted = refs(listed(scans, suffixes=SUFFIXES))[:3]
    small = read_refs(wanted, ImagesConfig(max_bytes=100))
    assert [getattr(content, "reason", None) for content in small.values()] == ["too_many_bytes"] * 3
    (scans / "a.PDF").write_bytes(pdf([""] * 4))
    assert [getattr(content, "reason", None) for content in read_refs(wanted).values()] == ["changed"] * 3
    (scans / "a.PDF").unlink()
    assert [str(content) for content in read_refs(wanted).values()] == ["unreadable: no longer there"] * 3


@needs_pdf
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pdf(count=1_000_000), "has 1,000,000 pages, more than source.max_pages (1,000)"),
        (locked(), "its pages cannot be counted (unsupported: a PDF that opens with a password only)"),
        (b"%PDF nothing", "its pages cannot be counted (corrupt: "),
        (b"", "its pages cannot be counted (corrupt: "),
    ],
)
def test_a_file_whose_pages_are_not_listed_is_one_object_and_a_warning_says_why(
    scans: Path, data: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    (scans / "a.PDF").write_bytes(data)
    found = listed(scans, suffixes=SUFFIXES)
    assert [item.uri for item in found] == [f"{scans}/a.PDF", f"{scans}/b.jpg"]
    assert any(message.startswith(f"{scans}/a.PDF: {why}") for message in caplog.messages)
    contents = read(scans, LIMITS, suffixes=SUFFIXES)
    assert contents[f"{scans}/a.PDF#None"] == data


@needs_pdf
def test_the_most_pages_are_a_setting(scans: Path) -> None:
    assert len(listed(scans, suffixes=SUFFIXES, max_pages=3)) == 4
    assert len(listed(scans, suffixes=SUFFIXES, max_pages=2)) == 2


@needs_pdf
def test_a_manifest_that_names_a_pdf_lists_its_pages_with_the_columns_of_its_row(scans: Path) -> None:
    (scans / "list.csv").write_text("path,author\na.PDF,Ann\nb.jpg,Bob\n")
    found = listed(f"manifest:{scans}/list.csv", suffixes=SUFFIXES)
    assert [item.uri.rpartition("/")[2] for item in found] == ["a.PDF#page=1", "a.PDF#page=2", "a.PDF#page=3", "b.jpg"]
    assert [json.loads(item.source_meta or "") for item in found[2:]] == [{"author": "Ann"}, {"author": "Bob"}]
    assert len(listed(f"manifest:{scans}/list.csv")) == 2, "where no suffix names them, a PDF is one object"


@needs_pdf
def test_a_url_in_a_manifest_is_not_opened_to_count_its_pages(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url\nhttps://example.org/a.pdf\n")
    (item,) = listed(f"manifest:{tmp_path}/list.csv", suffixes=SUFFIXES, hosts=("example.org",))
    assert item.uri == "https://example.org/a.pdf"


@needs_pdf
def test_pages_of_a_file_in_a_store_are_listed_and_read(hub: Hub) -> None:
    whole = pdf(["", ""])
    hub.files["owner/set"] = {"a.pdf": whole}
    settings = {"suffixes": SUFFIXES}
    contents = read("hf://datasets/owner/set", LIMITS, **settings)
    assert sorted(contents.values(), key=str) == [documents.page_file(whole, n) for n in (1, 2)]


def test_without_the_suffix_a_pdf_is_left_out_and_without_the_package_the_suffix_is_a_mistake(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [item.uri for item in listed(scans)] == [f"{scans}/b.jpg"]
    assert len(listed(scans, suffixes=("*",))) == 3, "every file is one object"
    monkeypatch.setattr(plugins, "has_package", lambda name: False)
    assert mistake(scans, suffixes=SUFFIXES) == (
        "source.suffixes names .pdf, and pages are counted with a package that is not installed: pip install pypdfium2"
    )
