"""Images that belong together are one object: listed, read, verified and decoded as an image is."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.images.sets import SetFile, members_of
from synthgen.ingest.load import LoadedImage, fetch_images, load_images
from synthgen.ingest.rights import rights_of
from synthgen.ingest.sources import Listed
from synthgen.ingest.sources.listing import list_source
from synthgen.ingest.sources.objects import LeftOut
from synthgen.ingest.sources.sets import members_of_set
from synthgen.tables import image_id
from tests.fixtures.images import LIMITS, drawn, encoded
from tests.fixtures.sources import refs

PAGES = r"(?P<set>[^/]+)_p\d+\.png$"


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool[str]]:
    with DecoderPool[str](LIMITS, 1) as decoders:
        yield decoders


def picture(shade: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a PNG of one colour."""
    return encoded(drawn().resize(size).point(lambda value: (value + shade) % 256), "PNG")


def written(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(number * 9))
    return folder


def source(folder: Path, **settings: object) -> SourceConfig:
    return SourceConfig.model_validate({"uri": str(folder), "group_by": PAGES, **settings})


def sets_in(of: SourceConfig) -> dict[str, Listed]:
    return {item.uri.partition("#")[2] or Path(item.uri).name: item for item in list_source(of) if type(item) is Listed}


def load(of: SourceConfig, pool: DecoderPool[str]) -> list[LoadedImage]:
    return list(load_images(refs(list(sets_in(of).values())), of, pool))


def test_images_of_a_pattern_are_one_object_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = sets_in(source(written(tmp_path, "a_p10.png", "a_p2.png", "b_p1.png", "other.png", "c_p1.png", "c_p2.png")))
    assert set(found) == {"a", "c", "b_p1.png", "other.png"}, "an image without others stays an image"
    names = [Path(uri).name for uri, _, _ in members_of_set(found["a"].version)]
    assert names == ["a_p2.png", "a_p10.png"]
    assert found["a"].uri == f"set:{tmp_path}#a"
    assert found["a"].bytes == sum((tmp_path / name).stat().st_size for name in names)


def test_a_set_that_gains_a_member_is_another_version_of_the_same_object(tmp_path: Path) -> None:
    before = sets_in(source(written(tmp_path, "a_p1.png", "a_p2.png")))["a"]
    after = sets_in(source(written(tmp_path, "a_p1.png", "a_p2.png", "a_p3.png")))["a"]
    assert before.uri == after.uri and before.version != after.version


def test_a_set_of_too_many_images_is_counted_as_left_out(tmp_path: Path) -> None:
    written(tmp_path, *(f"a_p{number}.png" for number in range(5)), "b_p1.png", "b_p2.png")
    items = list(list_source(source(tmp_path, group_most=4)))
    assert [item for item in items if isinstance(item, LeftOut)] == [
        LeftOut("image of a set of more than 4 (source.group_most)", 5)
    ]
    assert [item.uri for item in items if isinstance(item, Listed)] == [f"set:{tmp_path}#b"]


def test_a_column_makes_sets_in_the_order_of_the_rows(tmp_path: Path) -> None:
    written(tmp_path, "x.png", "y.png", "z.png")
    rows = ("z.png,trip,Ann", "x.png,home,Ann", "y.png,trip,Bob")
    (tmp_path / "list.csv").write_text("\n".join(["path,album,by", *rows]))
    manifest = source(tmp_path, uri=f"manifest:{tmp_path}/list.csv", group_by="album")
    found = sets_in(manifest)
    assert [Path(uri).name for uri, _, _ in members_of_set(found["trip"].version)] == ["z.png", "y.png"]
    meta = json.loads(found["trip"].source_meta or "")
    assert meta["album"] == "trip" and "by" not in meta and [each["by"] for each in meta["members"]] == ["Ann", "Bob"]


def test_rows_of_a_parquet_file_make_sets(tmp_path: Path, pool: DecoderPool[str]) -> None:
    images = [picture(number) for number in range(4)]
    pq.write_table(pa.table({"image": images, "burst": ["a", "b", "a", "b"]}), tmp_path / "rows.parquet")
    of = source(tmp_path / "rows.parquet", group_by="burst")
    loaded = {item.members: item for item in load(of, pool)}
    assert set(loaded) == {tuple(map(image_id, images[0::2])), tuple(map(image_id, images[1::2]))}


def test_a_group_by_that_brings_nothing_together_is_one_line(tmp_path: Path) -> None:
    written(tmp_path, "a.png", "b.png")
    with pytest.raises(UserMistake, match="brings no two images together"):
        list(list_source(source(tmp_path)))
    with pytest.raises(UserMistake, match="is 'album' a column"):
        list(list_source(source(tmp_path, group_by="album")))


@pytest.mark.parametrize("pattern", ["(a", r"(\d+)"])
def test_a_pattern_without_a_set_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"regular expression|names no set"):
        SourceConfig(uri="photos", group_by=pattern)


def test_members_share_the_pixels_and_a_sheet_shows_all(tmp_path: Path, pool: DecoderPool[str]) -> None:
    for name in ("a_p1.png", "a_p2.png", "a_p3.png"):
        (tmp_path / name).write_bytes(encoded(drawn().resize((1600, 1200)), "PNG"))
    [loaded] = load(source(tmp_path), pool)
    assert isinstance(loaded.image, Decoded)
    members = loaded.image.images
    assert len(members) == 3 and loaded.image.format == "PNG"
    pixels = [image.width * image.height for image in members]
    assert max(pixels) <= LIMITS.model_pixels // 3
    assert loaded.image.image.width * loaded.image.image.height <= LIMITS.model_pixels


def test_the_id_of_a_set_follows_from_content_and_order(tmp_path: Path) -> None:
    def made(*names: str) -> str:
        file = SetFile()
        for name in names:
            file.add((tmp_path / name).read_bytes())
        return image_id(file.file())

    of = source(written(tmp_path, "a_p1.png", "a_p2.png"))
    [fetched] = fetch_images(refs(list(sets_in(of).values())), of, LIMITS)
    assert fetched.image_id == made("a_p1.png", "a_p2.png") != made("a_p2.png", "a_p1.png")
    assert fetched.members == tuple(image_id((tmp_path / name).read_bytes()) for name in ("a_p1.png", "a_p2.png"))


def test_a_broken_or_missing_member_costs_its_set_and_no_other(tmp_path: Path, pool: DecoderPool[str]) -> None:
    of = source(written(tmp_path, "a_p1.png", "a_p2.png", "b_p1.png", "b_p2.png", "c_p1.png", "c_p2.png"))
    (tmp_path / "a_p2.png").write_bytes(b"no image")
    listed = sets_in(of)
    (tmp_path / "c_p1.png").unlink()
    (tmp_path / "b_p1.png").touch()
    loaded = {item.object_id: item.image for item in load_images(refs(list(listed.values())), of, pool)}
    a, b, c = (loaded[ref.object_id] for ref in refs([listed[name] for name in "abc"]))
    assert isinstance(a, Failure) and a.reason == "not_an_image" and "image 2 of the 2 of its set" in a.detail
    assert isinstance(b, Failure) and b.reason == "changed", "a member that changed after the listing changes the set"
    assert isinstance(c, Failure) and c.reason == "unreadable" and "no longer there" in c.detail


def test_a_set_beyond_the_limit_of_bytes_is_refused(tmp_path: Path, pool: DecoderPool[str]) -> None:
    of = source(written(tmp_path, "a_p1.png", "a_p2.png"))
    most = max(path.stat().st_size for path in tmp_path.iterdir())
    limits = LIMITS.model_copy(update={"max_bytes": most})
    [fetched] = fetch_images(refs(list(sets_in(of).values())), of, limits)
    assert isinstance(fetched.file, Failure) and fetched.file.reason == "too_many_bytes"
    assert "together" in fetched.file.detail


def test_a_set_with_a_purged_member_is_refused(tmp_path: Path) -> None:
    of = source(written(tmp_path, "a_p1.png", "a_p2.png"))
    gone = image_id((tmp_path / "a_p2.png").read_bytes())
    [fetched] = fetch_images(refs(list(sets_in(of).values())), of, LIMITS, denied_ids={gone})
    assert fetched.file == Failure("purged", "image 2 of the 2 of its set was purged")


def test_a_file_that_calls_itself_a_set_is_no_image(tmp_path: Path) -> None:
    file = SetFile()
    file.add(picture(1))
    file.add(picture(2))
    (tmp_path / "trick.png").write_bytes(file.file())
    of = SourceConfig(uri=str(tmp_path))
    [fetched] = fetch_images(refs(list(sets_in(of).values())), of, LIMITS)
    assert isinstance(fetched.file, Failure) and fetched.file.reason == "not_an_image"


def test_pages_of_a_document_are_a_set_that_holds_it_once(tmp_path: Path, pool: DecoderPool[str]) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    document = pdfium.PdfDocument.new()
    for _ in range(3):
        document.new_page(200, 300)
    document.save(tmp_path / "report.pdf")
    pages = source(tmp_path, group_by=r"(?P<set>[^/]+\.pdf)#page=\d+$", suffixes=[".pdf"])
    limits = LIMITS.model_copy(update={"formats": ("PDF",)})
    wanted = refs(list(sets_in(pages).values()))
    [fetched] = fetch_images(wanted, pages, limits)
    assert isinstance(fetched.file, bytes)
    assert len(fetched.file) < 2 * (tmp_path / "report.pdf").stat().st_size + 200
    assert [member[:17] for member in members_of(fetched.file)] == [
        b"%%synthgen page %d\n" % page for page in (1, 2, 3)
    ]
    with DecoderPool[str](limits, 1) as decoders:
        [loaded] = load_images(wanted, pages, decoders)
    assert isinstance(loaded.image, Decoded) and len(loaded.image.images) == 3


def test_what_forbids_one_image_forbids_its_set() -> None:
    meta = json.dumps({"members": [{"license": "CC BY 4.0"}, {"license": "CC0", "robots": "noai"}]})
    rights = rights_of(meta, uri="set:photos#a")
    assert rights and rights.license == "CC-BY-4.0; CC0-1.0" and rights.reserved


def test_sets_do_not_depend_on_the_order_of_the_listing(tmp_path: Path) -> None:
    names = [f"{name}_p{page}.png" for name in "abcdef" for page in (1, 2)]
    of = source(written(tmp_path, *names))
    rows = [f"{name},{name[0]}" for name in names]
    random.Random(7).shuffle(rows)
    (tmp_path / "list.csv").write_text("\n".join(["path,album", *rows]))
    shuffled = source(tmp_path, uri=f"manifest:{tmp_path}/list.csv")
    versions = {name: item.version for name, item in sets_in(of).items()}
    assert versions == {name: item.version for name, item in sets_in(shuffled).items()}
