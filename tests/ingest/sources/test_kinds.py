"""The table of source kinds: a uri alone leads to its kind, one of the table or one that another package adds."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen import tables
from synthgen.config import pipeline as pipelines
from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, SynthError, UserMistake
from synthgen.ingest.sources import (
    ObjectRef,
    fetch,
    is_inside_source,
    kind_of_object,
    kind_of_source,
    kinds,
    open_listing,
    spell_out_uri,
)
from synthgen.ingest.sources.kinds import FILES, UNKNOWN, URLS
from synthgen.stages import memory
from synthgen.stages.pack import redact
from synthgen.store import remote
from tests.fixtures.packages import InstallPackage
from tests.fixtures.sources import LIMITS, listed, mistake, read, read_refs, refs, tree

HOME = Path("/data")
TOY = """
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import Listed, SourceKind, one_by_one
from synthgen.store.remote import PermanentError

calls = []

def list_objects(source):
    for name in source.uri.removeprefix("toy:").split(","):
        yield LISTED

def read(ref, max_bytes):
    calls.append(ref.uri)
    name = ref.uri.removeprefix("toy:")
    READ
    return name.encode()

KIND = SourceKind("toy", list_objects, one_by_one(read))
"""

Install = Callable[..., None]


@pytest.fixture
def install(install_package: InstallPackage, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package with the source `toy`, or with other entry points."""
    monkeypatch.setattr(remote, "PAUSE", 0.01)

    def install_toy(
        listed: str = 'Listed(f"toy:{name}", "1")', read: str = "pass", points: str = "toy = toy_source:KIND"
    ) -> None:
        sys.modules.pop("toy_source", None)
        text = TOY.replace("LISTED", listed).replace("READ", read)
        install_package("toy-source", "toy_source", text, points, kinds.ENTRY_POINTS)

    return install_toy


def calls() -> list[str]:
    """Return the uris of the reads that the toy package was asked for."""
    asked: list[str] = sys.modules["toy_source"].calls
    return asked


# --- the table -------------------------------------------------------------------------------------------------------

URIS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ["", "urls:", "http://", "https://", "s3://", "s3a://", "gs://", "gcs://", "file://", "toy:", "tar:", "/"]
        ),
        st.text(max_size=12) | st.text("ab:/.~*[", max_size=12),
    ),
)


@given(URIS)
def test_any_uri_goes_to_exactly_one_kind(uri: str) -> None:
    of_source, of_object = kind_of_source(uri), kind_of_object(uri)
    assert of_source is (URLS if uri.startswith("urls:") else FILES)
    for kind, starts in ((URLS, ("http://", "https://")), (FILES, ("/", "file://", "s3://", "gs://"))):
        if uri.startswith(starts):
            assert of_object is kind
    assert of_object in (URLS, FILES, UNKNOWN)
    assert kind_of_source(None) is FILES


@given(URIS, st.sampled_from(["/data", "/data/me/photos", "/"]))
def test_a_uri_that_is_spelled_out_stays_as_it_is_in_any_folder(uri: str, home: str) -> None:
    try:
        whole = spell_out_uri(uri, Path(home))
    except SynthError:  # the home of a user who does not exist
        assert "~" in uri
        return
    assert spell_out_uri(whole, Path(home)) == whole
    assert kind_of_source(whole) is kind_of_source(uri)
    assert spell_out_uri(whole, Path("/elsewhere")) == whole


@pytest.mark.parametrize(
    ("uri", "whole"),
    [
        ("photos/", "/data/photos"),
        ("a/../b.parquet", "/data/b.parquet"),
        ("/data/photos", "/data/photos"),
        ("s3://bucket/photos/", "s3://bucket/photos"),
        ("urls:links.txt", "urls:/data/links.txt"),
        ("urls:/links.txt", "urls:/links.txt"),
        ("urls:", "urls:"),
        ("gone:photos", "gone:photos"),
    ],
)
def test_a_uri_is_spelled_out_by_its_kind(uri: str, whole: str) -> None:
    assert spell_out_uri(uri, HOME) == whole


def test_a_folder_whose_name_looks_like_a_scheme_is_spelled_out(tmp_path: Path) -> None:
    tree(tmp_path, "photos:2024/a.jpg")
    for path in ("photos:2024", "photos:2024/*.jpg"):
        assert spell_out_uri(path, tmp_path) == f"{tmp_path}/{path}"


def test_a_scheme_that_nobody_knows_is_reported_with_the_nearest_one(install: Install) -> None:
    install()
    missing, no_source = "no such file or folder", "is not a source of images; give a folder, a glob"
    assert mistake("toi:a") == f"toi:a: {missing}; did you mean 'toy:'?"
    assert mistake("url:links.txt") == f"url:links.txt: {missing}; did you mean 'urls:'?"
    assert mistake("toys://a").startswith(f"toys://a: toys:// {no_source}")
    assert mistake("toys://a").endswith("; did you mean 'toy:'?")
    assert mistake("photos:2024") == f"photos:2024: {missing}"
    assert mistake("http://example.org/a.jpg").endswith("az://… or hf://datasets/…")
    assert mistake("/toi:a") == f"/toi:a: {missing}"


# --- a kind that another package adds --------------------------------------------------------------------------------


def test_another_package_can_add_a_kind(install: Install) -> None:
    install()
    kind = kind_of_source("toy:a,b")
    assert kind is kind_of_object("toy:a") and kind.name == "toy"
    assert [item.uri for item in listed("toy:a,b")] == ["toy:a", "toy:b"]
    assert sorted(map(str, read("toy:a,b").values())) == ["b'a'", "b'b'"]
    assert spell_out_uri("toy:a", HOME) == "toy:a" and not is_inside_source("/data", SourceConfig(uri="toy:a"))
    assert redact.uri("toy:/data/me/a", "/data/me") == "a" and redact.root_of(SourceConfig(uri="toy:/data/me/a")) == ""


def test_objects_of_all_kinds_are_read_whatever_the_source_is(install: Install, tmp_path: Path) -> None:
    install()
    wanted = [*refs(listed(tree(tmp_path / "photos", "a.jpg"))), *refs(listed("toy:a,b"))]
    wanted += [ObjectRef("url", "http://127.0.0.1:1/a.jpg", "url"), ObjectRef("gone", "gone:a", "1")]
    for uri in ("toy:c", "urls:links.txt", str(tmp_path)):
        results = list(read_refs(wanted, uri=uri).values())
        assert {b"a.jpg", b"a", b"b"} < set(results)
        failures = [result for result in results if isinstance(result, Failure)]
        assert sorted(failure.reason for failure in failures) == ["unreadable", "url_refused"]
        assert Failure("unreadable", "no package installed here has the source 'gone:'") in failures


def test_the_threads_of_a_kind_that_knows_no_sizes_are_in_the_memory_of_a_worker(
    install: Install, workspace: Path
) -> None:
    install()
    files, toys = (pipelines.load("small", ["select.keep={}", f"source.uri={uri}"]) for uri in ("photos", "'toy:a'"))
    assert memory.tag_bytes(toys) - memory.tag_bytes(files) == fetch.THREADS * toys.images.max_bytes


def test_what_waits_for_the_caller_is_bounded_for_a_kind_that_knows_no_sizes(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(read="return bytes(900)")
    monkeypatch.setattr(fetch, "BUFFER_BYTES", 2000)
    most: list[int] = []
    reserve = fetch._Outlet.reserve

    def watched(self: fetch._Outlet, size: int) -> None:
        reserve(self, size)
        most.append(self._used)

    monkeypatch.setattr(fetch._Outlet, "reserve", watched)
    assert len(read("toy:" + ",".join(map(str, range(40))))) == 40
    assert len(most) == 40 and max(most) <= 2000


@pytest.mark.parametrize(
    ("code", "reason", "detail", "attempts"),
    [
        ("raise ValueError('no\\nidea')", "unreadable", "ValueError: no idea", remote.ATTEMPTS),
        ("raise ValueError('\\udcff')", "unreadable", "ValueError: \\udcff", remote.ATTEMPTS),
        ("raise PermanentError('gone for good')", "unreadable", "gone for good", 1),
        ("raise FileNotFoundError", "unreadable", fetch.GONE, 1),
        ("raise SystemExit(3)", "unreadable", "SystemExit: 3", 1),
        ("return None", "unreadable", "its source gave NoneType in place of bytes", 1),
        ("return 'text'", "unreadable", "its source gave str in place of bytes", 1),
        ("return bytes(1001)", "too_many_bytes", "1,001 bytes; the limit is 1,000", 1),
        ("return Failure('no_bytes', 'none\\nhere')", "no_bytes", "none here", 1),
        ("return Failure('bad_luck', 'x')", "unreadable", "bad_luck: x", 1),
    ],
)
def test_an_object_that_a_kind_cannot_read_costs_itself_only(
    install: Install, code: str, reason: str, detail: str, attempts: int
) -> None:
    install(read=f"if name == 'bad': {code}")
    results = read("toy:a,bad,c")
    assert results == {
        "toy:a#None": b"a",
        "toy:bad#None": Failure(reason, detail),
        "toy:c#None": b"c",
    }
    assert calls().count("toy:bad") == attempts


def test_a_read_that_fails_once_is_tried_again(install: Install) -> None:
    install(read="if len(calls) == 1: raise OSError('busy')")
    assert read("toy:a") == {"toy:a#None": b"a"} and len(calls()) == 2


# --- what a package does wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("1", SynthError, "the source 'toy' lists int, which is no Listed; fix the package"),
        ("Listed('/etc/a.jpg', '1')", SynthError, "lists /etc/a.jpg, which does not begin with 'toy:'; fix the"),
        ("Listed('https://a.org/a.jpg', '1')", SynthError, "lists https://a.org/a.jpg, which does not begin with"),
        ("Listed('toy:a', 3)", SynthError, "lists 'toy:a' without a uri and a version that are text"),
        ("1 / 0", SynthError, "listing failed: ZeroDivisionError: division by zero"),
        ("exit(3)", SynthError, "listing failed: SystemExit: 3"),
        ("open('/no/such/file')", UserMistake, "cannot be read (FileNotFoundError: [Errno 2] No such file"),
    ],
)
def test_a_listing_that_fails_is_one_line(install: Install, code: str, kind: type[SynthError], message: str) -> None:
    install(listed=code)
    with pytest.raises(SynthError) as caught:
        open_listing(SourceConfig(uri="toy:a"))
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    assert str(caught.value).startswith("toy:a: ") and message in str(caught.value)


ODD_OBJECTS = """
import numpy as np
from synthgen.ingest.sources import Listed
ODD = {
    "half": Listed("toy:half \\ud83d", "1"),
    "version": Listed("toy:version", "\\udcff"),
    "row": Listed("toy:row", "1", row=-1),
    "rows": Listed("toy:rows", "1", row=2.5),
    "numpy": Listed("toy:numpy", "1", row=np.int64(3), bytes=np.int32(7)),
    "negative": Listed("toy:negative", "1", bytes=-1),
    "nan": Listed("toy:nan", "1", bytes=float("nan"), source_meta='{"a": NaN}'),
    "huge": Listed("toy:huge", "1", bytes=10**30, source_meta="{" ),
    "dict": Listed("toy:dict", "1", source_meta={"a": 1}),
    "surrogate": Listed("toy:surrogate", "1", source_meta='{"a": "\\ud83d"}'),
    "good": Listed("toy:good", "1", source_meta='{"a": 1}'),
    "twice": Listed("toy:good", "1"),
}
"""


def test_an_odd_object_of_a_kind_costs_itself_or_what_is_odd_and_a_warning_names_it(
    install: Install, install_package: InstallPackage, caplog: pytest.LogCaptureFixture
) -> None:
    install(listed="__import__('odd_objects').ODD[name]")
    install_package("odd-objects", "odd_objects", ODD_OBJECTS, "", kinds.ENTRY_POINTS)
    names = "half,version,row,rows,numpy,negative,nan,huge,dict,surrogate,good,twice"
    objects = listed(f"toy:{names}")
    assert [item.uri for item in objects] == [
        f"toy:{name}" for name in ("numpy", "negative", "nan", "huge", "dict", "surrogate", "good", "good")
    ]
    assert [(item.row, item.bytes) for item in objects] == [(3, 7)] + [(None, None)] * 7
    metas = {item.uri: item.source_meta or "" for item in objects[2:6]}
    assert all(meta.startswith('{"sidecar_unreadable":"') for meta in metas.values())
    assert [record.getMessage().partition(f"{names}: ")[2] for record in caplog.records] == [
        "left out, its uri or version holds half of a character: toy:half \\ud83d, toy:version",
        "left out, its row is no number from 0 on: toy:row, toy:rows",
        "its size is no number and counts as unknown: toy:negative, toy:nan, toy:huge",
        "its metadata is no JSON: toy:nan, toy:huge, toy:dict, toy:surrogate",
    ]
    rows = [tables.object_row(**vars(item)) for item in objects]
    assert tables.table(rows, tables.OBJECTS).num_rows == len(rows)


@pytest.mark.parametrize(
    ("tasks", "detail"),
    [
        ("raise ZeroDivisionError('in tasks')", "ZeroDivisionError: in tasks (toy_tasks.py:"),
        ("return []", "its source does not read it"),
        ("return [ReadTask(list(refs), lambda refs, reserve: [])]", "its source gave nothing for it"),
        ("return [ReadTask(list(refs), lambda refs, reserve: [(r, 7) for r in refs])]", "its source gave int in place"),
        ("return [ReadTask(list(refs), lambda refs, reserve: None)]", "TypeError: 'NoneType' object is not iterable"),
        ("return [ReadTask(list(refs), lambda refs, reserve: exit(3))]", "SystemExit: 3"),
        ("return [ReadTask(list(refs), lambda refs, reserve: [(r, b'x') for r in refs * 2])]", b"x"),
    ],
)
def test_each_object_has_one_result_however_a_kind_reads(
    install_package: InstallPackage, monkeypatch: pytest.MonkeyPatch, tasks: str, detail: str | bytes
) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    text = (
        "from synthgen.ingest.sources import Listed, SourceKind\n"
        "from synthgen.ingest.sources.objects import ReadTask\n\n"
        "def list_objects(source):\n    return [Listed('toy:a', '1'), Listed('toy:b', '1')]\n\n"
        f"def tasks(refs, source, max_bytes):\n    {tasks}\n\n"
        "KIND = SourceKind('toy', list_objects, tasks)\n"
    )
    sys.modules.pop("toy_tasks", None)
    install_package("toy-tasks", "toy_tasks", text, "toy = toy_tasks:KIND", kinds.ENTRY_POINTS)
    results = read("toy:a")
    assert list(results) == ["toy:a#None", "toy:b#None"]
    for result in results.values():
        if isinstance(detail, bytes):
            assert result == detail
        else:
            assert isinstance(result, Failure) and result.reason == "unreadable" and result.detail.startswith(detail)


def test_a_mistake_that_a_kind_reports_is_reported_as_it_is(install: Install) -> None:
    install(listed="(_ for _ in ()).throw(UserMistake('toy:a: no such toy'))")
    with pytest.raises(UserMistake, match=r"^toy:a: no such toy$"):
        open_listing(SourceConfig(uri="toy:a"))


@pytest.mark.parametrize(
    ("point", "fault"),
    [
        ("no_such_module:KIND", "does not load: ModuleNotFoundError: No module named 'no_such_module'"),
        ("toy_source:GONE", "does not load: AttributeError: module 'toy_source' has no attribute 'GONE'"),
        ("toy_source:read", "is not a SourceKind named 'toy'"),
    ],
)
def test_a_package_whose_kind_does_not_load_is_one_line(install: Install, point: str, fault: str) -> None:
    install(points=f"toy = {point}")
    line = f"source 'toy' of package toy-source ({point}) {fault}; fix or uninstall the package"
    assert mistake("toy:a") == line
    for use in (
        lambda: list(fetch.read_objects([ObjectRef("a", "toy:a", "1")], SourceConfig(), LIMITS)),
        lambda: spell_out_uri("toy:a", HOME),
        lambda: is_inside_source("/data", SourceConfig(uri="toy:a")),
    ):
        with pytest.raises(UserMistake) as caught:
            use()
        assert str(caught.value) == line


def test_the_name_of_a_kind_is_that_of_its_entry_point(install: Install) -> None:
    install(points="plaything = toy_source:KIND")
    assert "is not a SourceKind named 'plaything'; fix" in mistake("plaything:a")


@pytest.mark.parametrize("scheme", sorted({*kinds.SOURCES, *kinds.OBJECTS} - {""}))
def test_a_package_cannot_replace_a_kind_of_the_table(install: Install, scheme: str) -> None:
    before = kind_of_object(f"{scheme}:a")
    install(points=f"{scheme} = toy_source:KIND")
    assert kind_of_object(f"{scheme}:a") == before
    with pytest.raises(UserMistake, match=f"source '{scheme}' is offered by synthgen itself and by package toy-source"):
        kind_of_source(f"{scheme}:a")


def test_a_package_that_is_not_asked_for_is_not_loaded(install: Install, tmp_path: Path) -> None:
    install(points="toy = no_such_module:KIND")
    assert list(read(tree(tmp_path / "photos", "a.jpg")).values()) == [b"a.jpg"]
    assert "did you mean 'toy:'" in mistake("toi:a")


def test_an_error_in_spelling_out_is_one_line(install_package: InstallPackage) -> None:
    text = TOY.replace("LISTED", "1").replace("READ", "pass").replace("read))", "read), spell_out=lambda uri: uri)")
    install_package("toy-source", "toy_source", text, "toy = toy_source:KIND", kinds.ENTRY_POINTS)
    with pytest.raises(SynthError, match=r"^toy:a: spelling it out failed: TypeError: .*positional argument"):
        spell_out_uri("toy:a", HOME)
