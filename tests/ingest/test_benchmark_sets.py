"""Benchmark sets are read in the forms that users have them in, and what cannot be read is told."""

import base64
import io
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure, Mistakes, UserMistake
from synthgen.ingest import benchmark_prints
from synthgen.ingest.benchmark_prints import CROPS, digest_of, prints_of
from synthgen.ingest.benchmark_sets import BenchmarkSet, open_benchmark_sets, read_items
from synthgen.ingest.benchmark_tables import BenchmarkItem, Columns
from synthgen.store import Folder

COLUMNS = Columns(("image",), ("question",))


def png(colour: int = 0, side: int = 64) -> bytes:
    file = io.BytesIO()
    image = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    image.paste((colour, 255 - colour, 128), (0, 0, side // 2, side // 3))
    image.save(file, "PNG")
    return file.getvalue()


def opened(path: Path) -> BenchmarkSet:
    (benchmark,) = open_benchmark_sets("s", [str(path)], Path(), COLUMNS)
    return benchmark


def items(path: Path, images: tuple[str, ...] = ("image",)) -> list[BenchmarkItem]:
    return list(read_items(opened(path), Columns(images, ("question",)), 1 << 20))


def test_a_folder_of_images_is_read_with_the_names_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "deep" / "a.png").write_bytes(png())
    (tmp_path / "set" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "large.png").write_bytes(bytes(2 << 20))
    (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = items(tmp_path / "set")
    (gone,) = [item.file for item in found if item.name == "gone.png"]
    assert isinstance(gone, Failure) and gone.reason == "unreadable" and "No such file" in (gone.detail or "")
    assert [item for item in found if item.name != "gone.png"] == [
        BenchmarkItem("a.png", png()),
        BenchmarkItem("large.png", Failure("too_many_bytes", "more than 1,048,576 bytes")),
    ]
    assert [item.name for item in items(tmp_path / "set" / "deep" / "*.png")] == ["a.png"]


def test_a_tsv_of_vlmevalkit_is_read_with_references_lists_and_quoted_questions(tmp_path: Path) -> None:
    first, second = (base64.b64encode(png(colour)).decode() for colour in (10, 200))
    rows = [
        {"index": "1", "image": first, "question": 'Is it "red"?\nOr\tblue?'},
        {"index": "2", "image": "1", "question": "The same image again?"},
        {"index": "3", "image": str([first, second]), "question": ""},
        {"index": "4", "image": "A" * 70 + "!", "question": "What is in the broken one?"},
    ]
    path = tmp_path / "MMBench.tsv"
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    found = items(path)
    assert [(item.name, item.file, item.question) for item in found if not isinstance(item.file, Failure)][:5] == [
        ("MMBench.tsv:1", png(10), None),
        ("MMBench.tsv:1", None, 'Is it "red"?\nOr\tblue?'),
        ("MMBench.tsv:2", None, "The same image again?"),
        ("MMBench.tsv:3", png(10), None),
        ("MMBench.tsv:3", png(200), None),
    ]
    assert opened(path).name == "MMBench"


def test_parquet_may_hold_bytes_structs_or_lists_of_them(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [{"bytes": png(1), "path": "x"}, None],
            "more": [[{"bytes": png(2), "path": None}], []],
            "plain": [png(3), None],
            "question": ["What is it?", None],
        }
    )
    pq.write_table(table, tmp_path / "set.parquet")
    found = items(tmp_path / "set.parquet", ("image", "more", "plain"))
    assert [item.file for item in found] == [png(1), png(2), png(3), None]
    assert [item.question for item in found] == [None, None, None, "What is it?"]
    assert {item.name for item in found} == {"set.parquet:0"}


def test_tables_are_known_by_their_suffix_in_any_case(tmp_path: Path) -> None:
    image = base64.b64encode(png()).decode()
    (tmp_path / "MMBench.TSV").write_text(f"index\timage\tquestion\n1\t{image}\tWhat is it?\n")
    pq.write_table(pa.table({"image": [png()]}), tmp_path / "Chart.PARQUET")
    assert [item.file or item.question for item in items(tmp_path / "MMBench.TSV")] == [png(), "What is it?"]
    assert [item.file for item in items(tmp_path / "Chart.PARQUET")] == [png()]
    assert opened(tmp_path / "MMBench.TSV").name == "MMBench"


def test_base64_may_be_in_lines_in_the_alphabet_of_urls_and_in_parquet(tmp_path: Path) -> None:
    plain, of_urls = base64.b64encode(png()).decode(), base64.urlsafe_b64encode(png()).decode()
    assert plain != of_urls
    lines = "\n".join(plain[start : start + 76] for start in range(0, len(plain), 76))
    cells = [lines, of_urls, f"data:image/png;base64,{plain}"]
    pd.DataFrame({"image": cells}).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    pq.write_table(pa.table({"image": cells}), tmp_path / "b.parquet")
    for name in ("a.tsv", "b.parquet"):
        assert [item.file for item in items(tmp_path / name)] == [png()] * 3


def test_a_broken_row_of_a_tsv_costs_itself_and_has_a_record(tmp_path: Path) -> None:
    image = base64.b64encode(png()).decode()
    rows = [f"1\t{image}\tone", f"2\t{image}", f"3\t{image}\tthree\tand more", "4\t" + "!" * 100 + "\tfour"]
    (tmp_path / "set.tsv").write_text("\n".join(["index\timage\tquestion", *rows]) + "\n")
    found = items(tmp_path / "set.tsv")
    assert [item.question for item in found if item.question] == ["one", "four"]
    assert [item.name for item in found if item.file == png()] == ["set.tsv:1", "set.tsv:2"]
    assert {item.name: item.file.reason for item in found if isinstance(item.file, Failure)} == {
        "set.tsv, line 4": "corrupt",
        "set.tsv:4": "no_bytes",
    }


def test_a_tab_at_the_end_of_each_row_shifts_no_column(tmp_path: Path) -> None:
    (tmp_path / "set.tsv").write_text("index\tquestion\n1\tWhat is it?\t\n2\tAnd this?\t\n")
    assert [(item.name, item.question) for item in items(tmp_path / "set.tsv")] == [
        ("set.tsv:1", "What is it?"),
        ("set.tsv:2", "And this?"),
    ]


def test_a_cell_of_parquet_without_image_or_text_has_a_record(tmp_path: Path) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.jpg"}, None], struct)
    pq.write_table(pa.table({"image": images, "question": [["One?", "Two?"], None]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": ["a.jpg", ""], "question": [7, None]}), tmp_path / "b.parquet")
    first, second = items(tmp_path / "a.parquet"), items(tmp_path / "b.parquet")
    assert [item.file.reason for item in first if isinstance(item.file, Failure)] == ["no_bytes"]
    assert [item.question for item in first if item.question] == ["One?", "Two?"]
    assert [item.file.reason for item in second if isinstance(item.file, Failure)] == ["no_bytes", "no_text"]


def test_patterns_in_different_folders_have_different_names(tmp_path: Path) -> None:
    for name in ("chart", "text"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"question": ["What is it?"]}), tmp_path / name / "test.parquet")
    named = [str(tmp_path / "chart" / "*.parquet"), str(tmp_path / "text" / "*.parquet")]
    assert [one.name for one in open_benchmark_sets("s", named, Path(), COLUMNS)] == [
        "chart__.parquet",
        "text__.parquet",
    ]


def test_what_cannot_be_used_is_told_together(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"no Parquet")
    (tmp_path / "damaged.tsv").write_bytes(b"")
    pq.write_table(pa.table({"picture": [png()]}), tmp_path / "other.parquet")
    twice = pa.Table.from_arrays([pa.array([png()])] * 2, names=["image", "image"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    for folder in (tmp_path, tmp_path / "a"):
        pq.write_table(pa.table({"question": ["What is it?"]}), folder / "same.parquet")
    names = ("nowhere", "empty", "broken.parquet", "damaged.tsv", "other.parquet")
    same = ("twice.parquet", "same.parquet", "a/same.parquet")
    with pytest.raises(Mistakes) as caught:
        open_benchmark_sets("s", [str(tmp_path / name) for name in (*names, *same)], Path(), COLUMNS)
    assert [re.split(r"[;(]", line)[0].strip() for line in caught.value.lines] == [
        f"s: {tmp_path}/nowhere: is not there",
        f"s: {tmp_path}/empty: holds no images, TSV or Parquet files",
        f"s: {tmp_path}/broken.parquet: cannot be read as Parquet",
        f"s: {tmp_path}/damaged.tsv: cannot be read as a TSV file",
        f"s: {tmp_path}/other.parquet: has none of the columns image, question",
        f"s: {tmp_path}/twice.parquet: has 2 columns 'image'",
        "s: two sets are called same, by which the report names them",
    ]


def test_a_table_that_is_damaged_further_on_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "late.tsv").write_bytes(b"index\tquestion\n1\tgood\n2\t\xff\xfe\n")
    with pytest.raises(UserMistake, match=r"late\.tsv: cannot be read as a TSV file"):
        items(tmp_path / "late.tsv")


def test_relative_places_start_from_home_and_another_file_is_another_digest(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(png())
    (first,) = open_benchmark_sets("s", ["set"], tmp_path, COLUMNS)
    (tmp_path / "set" / "b.png").write_bytes(png(9))
    (second,) = open_benchmark_sets("s", ["set"], tmp_path, COLUMNS)
    assert first.url == str(tmp_path / "set") and first.digest != second.digest
    limits = ImagesConfig()
    other = Columns(("picture",), ("question",))
    assert len({digest_of(one, columns, limits) for one in (first, second) for columns in (COLUMNS, other)}) == 4


def test_prints_are_made_once_of_whole_images_and_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    for name, data in (("a.png", png()), ("b.png", b"no image"), ("c.png", png(90))):
        (tmp_path / "set" / name).write_bytes(data)
    out, benchmark = Folder(str(tmp_path / "out")), opened(tmp_path / "set")
    made = prints_of(out, benchmark, COLUMNS, ImagesConfig())
    crops = sum(len(places) ** 2 for _, places in CROPS)
    rows = made.to_pylist()
    assert [row["item"] for row in rows] == ["a.png"] * (1 + crops) + ["b.png"] + ["c.png"] * (1 + crops)
    assert [row["failure"] for row in rows if row["phash"] is None] == ["not_an_image"]
    assert [row["is_crop"] for row in rows[: 1 + crops]] == [False] + [True] * crops
    monkeypatch.setattr(benchmark_prints, "read_items", None)
    assert prints_of(out, benchmark, COLUMNS, ImagesConfig()).equals(made)
    assert len(out.child("benchmarks").names(".parquet")) == 1


def test_stored_prints_that_are_damaged_are_made_again(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(png())
    out, benchmark = Folder(str(tmp_path / "out")), opened(tmp_path / "set")
    made = prints_of(out, benchmark, COLUMNS, ImagesConfig())
    (stored,) = (tmp_path / "out" / "benchmarks").glob("*.parquet")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:100])
    assert prints_of(out, benchmark, COLUMNS, ImagesConfig()).equals(made)
    assert stored.read_bytes() == whole
