"""The images without a tag, as `synth status` tells of them."""

from pathlib import Path

import pytest

from synthgen.commands import status
from synthgen.stages import tag
from synthgen.store import RunFolder
from tests.fixtures.rows import describe_run
from tests.fixtures.tagging import TaggedFolder, write_sidecar
from tests.fixtures.workspace import make_images

pytestmark = pytest.mark.usefixtures("workspace")


def tagged_folder(tmp_path: Path, labelled: int, images: int) -> TaggedFolder:
    """Tag images of which so many have a tag."""
    photos = make_images(Path("photos").resolve(), images, ["cat"])
    for photo in photos[labelled:]:
        photo.with_suffix(".json").write_text('{"tags": []}')
    folder = TaggedFolder(tmp_path / "out")
    folder.tag(write_sidecar())
    return folder


def test_many_images_without_a_tag_are_told_with_what_to_do(tmp_path: Path) -> None:
    folder = tagged_folder(tmp_path, 8, 10)
    describe_run(folder.out)
    assert tag.untagged(folder.run_folder) == {"images": 2, "of": 10}
    message = tag.untagged_message(folder.run_folder)
    assert message and message.startswith("2 of 10 tagged images have no tag (20.0%), more than 10%: fit the tagger's")
    assert "`synth calibrate`" in message and "`least: 3`" in message and "tag.tagger" in message
    assert message in status.text(RunFolder(folder.out)).splitlines()
    assert status.as_json(RunFolder(folder.out))["untagged"] == {"images": 2, "of": 10}


def test_few_images_without_a_tag_are_told_without_advice(tmp_path: Path) -> None:
    folder = tagged_folder(tmp_path, 9, 10)
    assert tag.untagged_message(folder.run_folder) == "1 of 10 tagged images have no tag (10.0%)"


def test_nothing_is_told_where_every_image_has_a_tag_of_some_tagger(tmp_path: Path) -> None:
    folder = tagged_folder(tmp_path, 3, 3)
    assert tag.untagged_message(folder.run_folder) is None
    folder.tag(write_sidecar(), write_sidecar("labels", key="labels"))
    assert tag.untagged(folder.run_folder) == {"images": 0, "of": 3}


def test_tags_of_a_tagger_that_a_pipeline_no_longer_has_do_not_count(tmp_path: Path) -> None:
    folder = tagged_folder(tmp_path, 3, 3)
    folder.tag(write_sidecar("labels", key="labels"))
    assert tag.untagged(folder.run_folder) == {"images": 3, "of": 3}


def test_a_damaged_table_is_left_out(tmp_path: Path) -> None:
    folder = tagged_folder(tmp_path, 0, 3)
    for file in (tmp_path / "out").rglob("*.parquet"):
        if "tags" in str(file):
            file.write_bytes(b"x" * file.stat().st_size)
    assert tag.untagged(RunFolder(folder.out)) == {"images": 0, "of": 0}
    assert tag.untagged_message(RunFolder(folder.out)) is None
