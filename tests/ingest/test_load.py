"""Listed images are fetched, verified and decoded in one loop; an image that cannot be used is a failure."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded, DecoderPool
from synthgen.ingest.load import fetch_images, load_images
from synthgen.ingest.sources import ObjectRef
from synthgen.tables import image_id
from tests.fixtures.images import LIMITS, drawn, encoded
from tests.fixtures.sources import listed, parquet, refs

SOURCE = SourceConfig()
GOOD = encoded(drawn(), "PNG")
OTHER = encoded(drawn("L"), "PNG")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool[str]]:
    with DecoderPool[str](LIMITS, 1) as decoders:
        yield decoders


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, ObjectRef]:
    """List a good image, another one, a broken one and one that is then deleted, by the stem of their names."""
    for name, data in {"good": GOOD, "other": OTHER, "broken": b"no image", "gone": GOOD}.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    by_name = {Path(ref.uri).stem: ref for ref in refs(listed(tmp_path))}
    (tmp_path / "gone.png").unlink()
    return by_name


def test_images_are_decoded_and_others_are_failures(objects: dict[str, ObjectRef], pool: DecoderPool[str]) -> None:
    loaded = {item.object_id: item for item in load_images(list(objects.values()), SOURCE, pool)}
    results = {name: loaded[ref.object_id] for name, ref in objects.items()}
    for name, data in {"good": GOOD, "other": OTHER}.items():
        assert isinstance(results[name].image, Decoded)
        assert results[name].image_id == image_id(data)
    broken, gone = results["broken"], results["gone"]
    assert isinstance(broken.image, Failure) and broken.image.reason == "not_an_image"
    assert broken.image_id == image_id(b"no image"), "an image that cannot be decoded can be purged by its id"
    assert gone.image == Failure("unreadable", "no longer there")
    assert gone.image_id is None


def test_other_bytes_than_expected_are_a_failure(objects: dict[str, ObjectRef], pool: DecoderPool[str]) -> None:
    wanted = [objects["good"], objects["other"]]
    expected_ids = {ref.object_id: image_id(GOOD) for ref in wanted}
    good, other = sorted(load_images(wanted, SOURCE, pool, expected_ids=expected_ids), key=lambda item: item.object_id)
    assert isinstance(good.image, Decoded) and good.image_id == image_id(GOOD)
    assert other.image == Failure("changed", "the bytes differ from those that were tagged")
    assert other.image_id is None


def test_expected_bytes_are_taken_whatever_their_version_is_by_now(objects: dict[str, ObjectRef]) -> None:
    """A copy or a synchronisation gives files a new date."""
    for ref in objects.values():
        if Path(ref.uri).exists():
            os.utime(ref.uri, ns=(1, 1))
    expected_ids = {objects[name].object_id: image_id(GOOD) for name in ("good", "other")}
    wanted = [objects[name] for name in ("good", "other")]
    files = {item.object_id: item.file for item in fetch_images(wanted, SOURCE, LIMITS, expected_ids=expected_ids)}
    assert files[objects["good"].object_id] == GOOD
    assert files[objects["other"].object_id] == Failure("changed", "the bytes differ from those that were tagged")
    [item] = fetch_images([objects["good"]], SOURCE, LIMITS)
    assert isinstance(item.file, Failure) and item.file.reason == "changed", "nothing is known of its bytes"


def test_a_row_of_a_file_that_was_written_again_is_taken_if_its_bytes_are_the_same(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", [GOOD, OTHER], pa.binary())
    rows = refs(listed(path))
    expected_ids = {ref.object_id: image_id(data) for ref, data in zip(rows, (GOOD, OTHER), strict=True)}
    parquet(path, [GOOD, GOOD, OTHER], pa.binary())
    files = {item.object_id: item.file for item in fetch_images(rows, SOURCE, LIMITS, expected_ids=expected_ids)}
    assert files[rows[0].object_id] == GOOD
    assert isinstance(files[rows[1].object_id], Failure)


def test_denied_bytes_are_a_failure_without_an_id(objects: dict[str, ObjectRef], pool: DecoderPool[str]) -> None:
    [item] = load_images([objects["good"]], SOURCE, pool, denied_ids={image_id(GOOD)})
    assert item.image == Failure("purged", "an image of the same bytes was purged")
    assert item.image_id is None


def test_files_are_fetched_as_they_are(objects: dict[str, ObjectRef]) -> None:
    wanted = [objects[name] for name in ("good", "broken", "gone")]
    files = {Path(item.object_id).name.partition(".")[0]: item.file for item in fetch_images(wanted, SOURCE, LIMITS)}
    assert files == {"good": GOOD, "broken": b"no image", "gone": Failure("unreadable", "no longer there")}


def test_a_file_over_the_limit_is_a_failure(objects: dict[str, ObjectRef]) -> None:
    small = LIMITS.model_copy(update={"max_bytes": 10})
    [item] = fetch_images([objects["good"]], SOURCE, small)
    assert isinstance(item.file, Failure) and item.file.reason == "too_many_bytes"


def test_a_pool_serves_one_load_after_another(objects: dict[str, ObjectRef], pool: DecoderPool[str]) -> None:
    """Also after a caller that stopped half way."""
    wanted = [ObjectRef(f"{number}", objects["good"].uri, objects["good"].version) for number in range(20)]
    next(load_images(wanted, SOURCE, pool))
    assert len(list(load_images(wanted, SOURCE, pool))) == 20
