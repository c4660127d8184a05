"""The same question and answer on the same picture come once."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from synthgen import tables as schemas
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import decode
from synthgen.store import Folder, Lease, Receipt, StageFolder, TablePart
from synthgen.tables import TAG
from tests.fixtures.rows import describe_run
from tests.fixtures.selecting import Output, Row, decide, generate, pair, pending
from tests.stages.select.test_contamination import encoded, scene

BUS = "What colour is the large bus on the left?"
SAME = SelectConfig(near_questions=None, same_pair=4)
DUPLICATE = "duplicate:same_pair"


def name(text: str) -> str:
    return schemas.make_id("image", text)


SHOWN, COPY, OTHER = (name(text) for text in ("shown", "copy", "other"))


def tag(out: Output, partition: str = "e001-00000") -> None:
    """Commit three images as the tag stage does: one, the same smaller and in another compression, and another one."""
    images = {SHOWN: encoded(scene(2)), OTHER: encoded(scene(1))}
    images[COPY] = encoded(scene(2).resize((160, 120)), "JPEG", quality=60)
    rows = list[Row]()
    for image_id, data in images.items():
        seen = decode(data, ImagesConfig())
        row: Row = {"object_id": image_id, "image_id": image_id, "outcome": "tagged", "phash": seen.phash}
        rows.append(row | {"thumbnail": seen.thumbnail, "flat_share": seen.flat_share})
    stage = StageFolder(out[0], TAG)
    file = stage.write("images", partition, 1, schemas.table(rows, schemas.IMAGES))
    stage.commit(Receipt(partition, 1, {"images": TablePart((file,), "f")}, {}, epoch=1), out[1])


def reasons(out: Output, rows: list[Row], config: SelectConfig = SAME) -> list[str]:
    decided = decide(out, config)
    return [decided[row["pair_id"]] for row in rows]


def test_the_same_words_on_a_copy_of_the_picture_are_dropped_and_other_words_are_not(out: Output) -> None:
    tag(out)
    rows = [
        pair(SHOWN, BUS, "Red.", number=0),
        pair(COPY, BUS, "Red.", number=1),  # in other bytes
        pair(SHOWN, BUS, "Blue.", number=2),
        pair(OTHER, BUS, "Red.", number=3),
        pair(SHOWN, BUS, "Red.", number=4, form="choice", options=["Red.", "Blue."]),
    ]
    generate(out, "e001-00000", rows, {"answer": [0.9, 0.5, 0.5, 0.5, 0.5]})
    choice = "rule:broken_choice"
    wanted = SAME.model_copy(update={"survivor": "answer"})
    assert reasons(out, rows, wanted) == ["kept", DUPLICATE, "kept", "kept", choice]
    exactly = wanted.model_copy(update={"same_pair": 0})  # two bits differ
    assert reasons(out, rows, exactly) == ["kept"] * 4 + [choice]
    assert reasons(out, rows, SelectConfig(near_questions=None)) == ["kept"] * 4 + [choice]


def test_an_image_without_a_hash_is_the_same_as_itself_alone(out: Output) -> None:
    rows = [pair(SHOWN, BUS, number=0), pair(SHOWN, BUS, number=1), pair(COPY, BUS, number=2)]
    generate(out, "e001-00000", rows)
    assert sorted(reasons(out, rows)) == [DUPLICATE, "kept", "kept"]


def test_of_two_talks_that_are_the_same_one_stays_whole(out: Output) -> None:
    tag(out)
    talks = list[Row]()
    for number, image in enumerate((SHOWN, COPY)):
        first = pair(image, BUS, "Red.", number=number)
        talks += [first, pair(image, "And the car?", "Green.", number=number, follows=first["pair_id"])]
    # The second turns would survive of the other talk each.
    generate(out, "e001-00000", talks, {"answer": [0.9, 0.1, 0.5, 0.8]})
    wanted = SAME.model_copy(update={"survivor": "answer"})
    assert [reason == "kept" for reason in reasons(out, talks, wanted)] == [True, True, False, False]


def test_a_pair_that_was_kept_stays_when_a_better_one_comes(out: Output) -> None:
    tag(out)
    wanted = SAME.model_copy(update={"survivor": "answer"})
    generate(out, "e001-00000", [first := pair(SHOWN, BUS)], {"answer": [0.1]})
    assert reasons(out, [first], wanted) == ["kept"]
    tag(out, "e002-00000")
    generate(out, "e002-00000", [second := pair(COPY, BUS, number=1)], {"answer": [0.9]})
    assert reasons(out, [first, second], wanted) == ["kept", DUPLICATE]


def test_images_that_are_tagged_anew_make_the_decisions_pending(out: Output) -> None:
    generate(out, "e001-00000", [pair(SHOWN, BUS)])
    decide(out, SAME)
    assert pending(out, SAME) == []
    tag(out)
    assert pending(out, SAME) == ["e001-00000"]


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[tuple[Output, Output]]:
    """Hold the leases on two output folders, `first` and `second`, that have the images."""
    with ExitStack() as leases:
        folders = [Folder(str(tmp_path / each)) for each in ("first", "second")]
        for folder in folders:
            describe_run(folder)
        first, second = ((folder, leases.enter_context(Lease.take(folder))) for folder in folders)
        tag(first)
        tag(second)
        yield first, second


def test_what_an_earlier_run_kept_is_dropped_by_its_name(runs: tuple[Output, Output]) -> None:
    first, second = runs
    generate(first, "e001-00000", [pair(SHOWN, BUS), pair(OTHER, "Where is it?", "Here.")], {"answer": [0.9, 0.1]})
    decide(first, SelectConfig(keep={"answer": KeepRule(min=0.5)}))
    rows = [pair(COPY, BUS, number=1), pair(OTHER, "Where is it?", "Here.", number=1), pair(OTHER, BUS, number=2)]
    generate(second, "e001-00000", rows)
    wanted = SAME.model_copy(update={"against": (first[0].path,)})
    assert reasons(second, rows, wanted) == ["duplicate:run:first", "kept", "kept"]
