"""Pictures that are held out are on no training side, in whatever data set, size or compression they come."""

import io
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthgen.errors import UserMistake
from synthgen.ingest.images.phash import perceptual_hash
from synthgen.train import held_out, train
from synthgen.train.feed import Feed, open_feed
from synthgen.train.record import read_log
from synthgen.train.sightings import images_seen
from synthgen.train.stream import rows
from tests.fixtures.tiny_vlm import FAST, Row, names, row, write

HELD = FAST.model_copy(update={"hold_out": 0.3, "held_out_rows": 6, "held_out_every": 3})


def painting(number: int, side: int = 64, form: str = "PNG") -> bytes:
    """Return a picture that is like no other number's; the same in any size and form to the eye."""
    cells = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(cells).resize((256, 256), Image.Resampling.BICUBIC).resize((side, side)).save(
        file, form, quality=80
    )
    return file.getvalue()


def shown(number: int, **how: int | str) -> Row:
    return row((f"number {number}", "It is red."), image=painting(number, **how))  # type: ignore[arg-type]


def number_of(taken: Row) -> int:
    return int(taken["messages"][0]["content"][-1]["text"].split()[-1])


def two_sets(folder: Path) -> Feed:
    """Return a feed of two data sets that share half of their pictures, in other sizes and forms."""
    write(folder / "one", [shown(number) for number in range(40)])
    write(folder / "two", [shown(number, side=90, form="JPEG") for number in range(20, 60)])
    sources = {name: str(folder / name) for name in ("one", "two")}
    return open_feed(sources, folder / "feed", HELD)


def test_no_picture_is_on_both_sides(tmp_path: Path) -> None:
    feed = two_sets(tmp_path)
    trained = {number_of(each) for each in islice(rows(feed, HELD, 0), 400)}
    held = set[int]()
    for data in feed.sets:
        for digest, place in held_out.read(feed.folder, data.name, held_out.HELD):
            (file,) = [each for each in data.files if each.sha256 == digest]
            held.add(number_of(feed.store(HELD).row(file, place)))
    assert 8 <= len(held) <= 30 and not held & trained and held | trained == set(range(60))
    for number in range(20, 40):
        assert perceptual_hash(Image.open(io.BytesIO(painting(number)))) != 0


def test_what_is_held_out_depends_on_the_pictures_alone(tmp_path: Path) -> None:
    feed = two_sets(tmp_path)
    other = open_feed({"both": str(tmp_path / "*" / "train-*.parquet")}, tmp_path / "again", HELD)
    found = [
        {place for data in each.sets for place in held_out.read(each.folder, data.name, held_out.HELD)}
        for each in (feed, other)
    ]
    assert found[0] == found[1]


def test_a_picture_near_to_one_that_is_held_out_is_on_neither_side() -> None:
    """In a chain each hash differs from the next in as many bits as may differ, so a cluster has an end."""
    chain = np.array(sorted((1 << 4 * length) - 1 for length in range(16)), np.uint64)
    found = [held_out.split(chain, HELD.model_copy(update={"seed": seed})) for seed in range(20)]
    assert any(sides.left for sides in found)
    for sides in found:
        trained = {int(each) for each in chain} - sides.held - sides.left
        assert all((one ^ other).bit_count() > 4 for one in sides.held for other in trained)
        assert not sides.held & sides.left
    sides = held_out.Sides(frozenset({1}), frozenset({2}))
    assert [sides.of_row(each) for each in ([1], [2], [3], [], [1, 3], [3, 2])] == [
        *(held_out.HELD, held_out.LEFT, None, None, held_out.LEFT, held_out.LEFT),
    ]


def test_a_training_measures_what_it_never_saw_by_type(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [{**shown(number), "types": [f"colours/{'even' if number % 2 == 0 else 'odd'}"]} for number in range(40)]
    out = tmp_path / "out"
    train(str(write(tmp_path / "shards", samples)), str(model), out, HELD.model_copy(update={"learning_rate": 3e-2}))
    lines = [line for line in read_log(out, "monitor.jsonl") if "held_out" in line]
    assert [line["step"] for line in lines] == [0, 3, 6]
    of_all = [line["held_out"]["all"]["all"] for line in lines]
    assert all(each["answers"] == 6 and 0 <= each["right"] <= 1 for each in of_all)
    assert of_all[-1]["loss"] < of_all[0]["loss"]
    assert set(lines[0]["held_out"]["type"]) <= {"colours/even", "colours/odd"}
    assert "held out: " in capsys.readouterr().err


def test_what_a_model_has_seen_leaves_out_what_was_held_out(model: Path, tmp_path: Path) -> None:
    from synthgen.tables import image_id

    samples = [shown(number) for number in range(30)]
    out = tmp_path / "out"
    train(str(write(tmp_path / "shards", samples)), str(model), out, HELD)
    seen = images_seen(out / "model")
    numbers = {number for number in range(30) if image_id(painting(number)) in seen.ids}
    assert 10 <= len(numbers) < 30 and seen.bits == HELD.hold_out_bits
    hashes = {number: perceptual_hash(Image.open(io.BytesIO(painting(number))), 8.0) for number in range(30)}
    assert {number for number in range(30) if hashes[number] in seen.hashes} == numbers
    assert "rows" not in names(out / "feed")


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_one_side_empty_is_one_line(model: Path, tmp_path: Path, share: float) -> None:
    shards = write(tmp_path / "shards", [shown(number) for number in range(4)])
    with pytest.raises(UserMistake, match=rf"^train\.hold_out {share}: of 4 pictures [04] are held out; give another"):
        train(str(shards), str(model), tmp_path / "out", FAST.model_copy(update={"hold_out": share}))
