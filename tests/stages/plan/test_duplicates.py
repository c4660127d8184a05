"""Of equal or near images the earliest is planned, and it stands for the others."""

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from synthgen.commands import status
from synthgen.errors import Damaged, SynthError
from synthgen.job.funnel import near_duplicates_message
from synthgen.stages.plan import duplicates
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.survey_process import survey_in_subprocess
from synthgen.stages.plan.survey_settings import SurveySettings
from synthgen.store import Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import IMAGES, LIST, PLAN, TAG
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import Content, World, unlike
from tests.fixtures.rows import describe_run


def test_the_same_bytes_are_planned_once_with_all_their_uris(world: World) -> None:
    copies = {uri: Content("same", 7, ("animal",)) for uri in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")}
    world.grow({**copies, "e.jpg": unlike(1)})
    world.plan()
    check(world, world.context())
    assert Counter(world.outcomes().values()) == {"planned": 2, "same_bytes": 3}
    (row,) = (row for row in world.images().values() if row["outcome"] == "planned" and len(row["uris"]) > 1)
    assert sorted(row["uris"]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"] and row["uris"][0] == row["uri"]


@pytest.mark.parametrize(("bits", "planned"), [(-1, 4), (0, 3), (1, 2), (4, 1)])
def test_near_images_are_planned_once(world: World, bits: int, planned: int) -> None:
    world.grow({f"{number}.jpg": Content(f"data {number}", phash) for number, phash in enumerate([0, 0, 1, 0b11110])})
    world.plan(context := world.context(near_duplicates=bits))
    check(world, context)
    assert Counter(world.outcomes().values())["planned"] == planned


def test_images_with_near_hashes_and_other_thumbnails_are_all_planned(world: World) -> None:
    """Pages of one layout: the words move a few cells of the thumbnail."""
    pages = {f"{number}.jpg": bytes([250] * 100 + [200 + 25 * number] + [250] * 155) for number in range(3)}
    world.grow({uri: Content(uri, number, thumbnail=page) for number, (uri, page) in enumerate(pages.items())})
    world.grow({"copy.jpg": Content("copy", 0, thumbnail=pages["0.jpg"])})
    world.plan(context := world.context(near_duplicates=4))
    uris = {row["object_id"]: row["uri"] for row in world.images().values()}
    same_as = {row["uri"]: uris.get(row["same_as"]) for row in world.images().values()}
    assert same_as == {"0.jpg": None, "1.jpg": None, "2.jpg": None, "copy.jpg": "0.jpg"}
    assert world.plan(context) == 0


def test_a_near_image_that_was_missed_and_planned_stays_when_growth_lets_it_be_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many images alike not all are compared, and growth changes which."""
    world.grow({"a.jpg": Content("a", 0), "b.jpg": Content("b", 1)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "near_images", lambda hashes, bits, kept, thumbnails: np.arange(len(hashes)))
        world.plan(context := world.context(near_duplicates=4))
    before = world.assignments()
    world.grow({"c.jpg": Content("c", 2)})
    world.plan(context)
    assert world.outcomes() == {"a.jpg 1": "planned", "b.jpg 1": "planned", "c.jpg 1": "near_duplicate"}
    assert before.items() <= world.assignments().items() and world.plan(context) == 0
    world.plan(world.context(near_duplicates=3), change="edit")
    assert Counter(world.outcomes().values()) == {"planned": 1, "near_duplicate": 2}, "an edit plans anew"


def test_where_an_older_synth_stored_no_thumbnails_the_hash_decides(world: World, tmp_path: Path) -> None:
    world.grow({"a.jpg": Content("a", 0, thumbnail=bytes(256)), "b.jpg": Content("b", 1, thumbnail=b"x" * 256)})
    older = pa.schema([field for field in IMAGES if field.name not in ("thumbnail", "flat_share")])
    stage = StageFolder(world.out, TAG)
    with Lease.take(world.out) as lease:
        for name in list(stage.log().partitions):
            images = stage.current(stage.log(), name, "images").select(older.names)
            part = TablePart((stage.write("images", name, 2, images),), "f", replaces=True)
            stage.commit(Receipt(name, 2, {"images": part}, {}, epoch=2), lease)
    assert {row["thumbnail"] for row in world.rows(TAG, "images")} == {None}
    world.plan()
    assert world.outcomes() == {"a.jpg 1": "planned", "b.jpg 1": "near_duplicate"}


def test_a_large_share_of_near_duplicates_is_reported_with_what_to_do(world: World) -> None:
    world.grow({f"{number}.jpg": Content(f"data {number}", 0) for number in range(3)})
    world.plan()
    describe_run(world.out)
    lines = status.text(RunFolder(world.out)).splitlines()
    (line,) = (line for line in lines if "near duplicates" in line)
    assert line.startswith("2 of 3 images (67%) are near duplicates of others")
    assert "`plan.near_duplicates: -1` keeps them" in line and "--reason near_duplicate` lists them" in line


@pytest.mark.parametrize(("near", "is_reported"), [(0, False), (9, False), (10, True), (100, True)])
def test_near_duplicates_are_reported_from_a_tenth_on(near: int, is_reported: bool) -> None:
    message = near_duplicates_message({"planned": 100 - near, "near_duplicate": near, "assigned": 400})
    assert (message is not None) == is_reported


def test_a_copy_of_a_near_duplicate_is_represented_by_the_planned_image(world: World) -> None:
    world.grow({"a.jpg": Content("first", 0)})
    world.grow({"b.jpg": Content("near", 1), "c.jpg": Content("near", 1)})
    world.plan()
    check(world, world.context())
    images = {row["uri"]: row for row in world.images().values()}
    assert images["b.jpg"]["same_as"] == images["c.jpg"]["same_as"] == images["a.jpg"]["object_id"]
    assert images["b.jpg"]["outcome"] == images["c.jpg"]["outcome"] == "near_duplicate"
    assert images["a.jpg"]["uris"] == ["a.jpg"], "the others have other bytes"


def test_the_earliest_of_equal_images_is_planned(world: World) -> None:
    world.grow({"z.jpg": Content("same", 0)})
    world.grow({f"{number}.jpg": Content("same", 0) for number in range(8)})
    world.plan()
    assert world.planned_uris() == ["z.jpg 1"]


def test_an_image_that_is_planned_already_comes_before_one_that_was_listed_earlier(world: World) -> None:
    """Partitions are tagged in any order; one that is tagged late retires nothing that is planned."""
    for number in range(12):
        world.put(f"{number}.jpg", Content(f"data {number % 3}", 2 ** (20 * (number % 3)) - 1))
    world.scan()
    first, *rest = world.untagged()
    world.tag(rest)
    world.plan()
    before = world.assignments()
    world.tag([first])
    world.plan()
    check(world, world.context())
    assert world.assignments() == before


def test_a_survey_in_another_process_finds_the_same_duplicates(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, apart = worlds(), worlds()
    for world in (here, apart):
        near = {f"{number}.jpg": Content(f"data {number % 7}", number % 5, ("animal",)) for number in range(12)}
        world.grow({**near, "x.jpg": unlike(1)})
        world.plan()
    for world in (here, apart):
        world.grow({f"{number}.jpg": Content(f"data {number % 9}", number % 6) for number in range(6, 18)})
        world.plan()
        check(world, world.context())
        monkeypatch.setattr("synthgen.stages.plan.survey_process.MIN_OBJECTS", 0)
        # From here on nothing is surveyed in this process.
        monkeypatch.setattr("synthgen.stages.plan.survey_process.survey_duplicates", None)
    assert len(here.images()) == 25
    assert apart.images() == here.images() and apart.assignments() == here.assignments()


def test_a_survey_in_another_process_reads_no_commit(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(3)})
    folder = RunFolder(world.out)
    inputs, planned = Inputs.from_folder(folder, world.context().taggers), folder.log(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthgen.stages.plan.survey_process.MIN_OBJECTS", 0)
        for stage in (LIST, TAG):
            Path(world.out.path, stage.folder, "commits").rename(Path(world.out.path, stage.folder, "elsewhere"))
        survey = survey_in_subprocess(inputs, planned, SurveySettings(2, fingerprint="f"))
    assert list(survey.spans) == inputs.partitions and len(survey.object_ids) == 3


def test_a_survey_that_ends_with_a_long_line_reports_it_with_a_mark_of_the_cut(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grow({"a.jpg": unlike(1)})
    monkeypatch.setattr("synthgen.stages.plan.survey_process.MIN_OBJECTS", 0)
    done = subprocess.CompletedProcess[str]([], 1, stderr="x" * 900)
    monkeypatch.setattr("synthgen.stages.plan.survey_process.subprocess.run", lambda *args, **options: done)
    with pytest.raises(SynthError, match=r"ended without a result: x+…x+$"):
        world.plan()


def test_damage_that_a_survey_in_another_process_finds_is_reported_as_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(9)})
    for path in Path(world.out.path, "1-tagged", "images").iterdir():
        path.write_bytes(b"damage")
    monkeypatch.setattr("synthgen.stages.plan.survey_process.MIN_OBJECTS", 0)
    with pytest.raises(Damaged, match=r"1-tagged/images/.* was damaged after it was committed") as caught:
        world.plan()
    assert "synth retry" in str(caught.value) and "\n" not in str(caught.value)
