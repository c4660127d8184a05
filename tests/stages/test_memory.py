"""The host memory that is announced for workers: it grows with the limits, and real packing stays below it."""

import io
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen.config import pipeline
from synthgen.config.packing import PackConfig
from synthgen.config.pipeline import Pipeline
from synthgen.config.selection import SelectConfig
from synthgen.config.source import ImagesConfig
from synthgen.engines import endpoint
from synthgen.engines.kinds import ENGINE_KINDS
from synthgen.errors import SynthError
from synthgen.ingest.sources.fetch import BUFFER_BYTES
from synthgen.stages import memory
from synthgen.stages.pack import Shard, metadata, write_shard
from synthgen.stages.pack import images as shard_images
from synthgen.tables import image_id
from tests.fixtures.noise import grey_noise
from tests.fixtures.packing import World, jpeg, pictures
from tests.fixtures.workspace import ROOT

WITHIN = "with at most 3.0 GB of host memory, and that only if every image were as large as the limits allow"


@pytest.mark.parametrize(
    ("setting", "workers"),
    [
        ("images.max_pixels=200000000", ("tag", "generate", "pack")),
        ("images.max_bytes=900000000", ("tag", "generate", "pack")),
        ("images.model_pixels=50000000", ("tag", "generate")),
        ("pack.shard_megabytes=4000", ("pack",)),
        ("pack.row_group_megabytes=500", ("pack",)),
    ],
)
def test_larger_limits_announce_more_memory(setting: str, workers: tuple[str, ...]) -> None:
    usual, larger = pipeline.load("everyday"), pipeline.load("everyday", [setting])
    predictions = {"tag": memory.tag_bytes, "generate": memory.generate_bytes, "pack": memory.pack_bytes}
    assert {name for name, predict in predictions.items() if predict(larger) > predict(usual)} == set(workers)


def test_a_megabyte_of_a_setting_is_the_same_for_the_announcement_and_for_the_files() -> None:
    usual, larger = (pipeline.load("everyday", [f"pack.shard_megabytes={size}"]) for size in (400, 401))
    assert memory.pack_bytes(larger) - memory.pack_bytes(usual) == 3 * 10**6


def test_images_that_an_endpoint_keeps_and_files_of_urls_are_announced_too() -> None:
    usual = pipeline.load("everyday")
    served = pipeline.load("everyday", ["generate.engine={kind: endpoint, urls: ['http://127.0.0.1:1/v1']}"])
    fetched = pipeline.load("everyday", ["source.uri=urls:links.txt", "source.hosts=[example.org]"])
    assert memory.generate_bytes(served) > memory.generate_bytes(usual)
    assert memory.tag_bytes(fetched) > memory.tag_bytes(usual)
    assert memory.pack_bytes(fetched) > memory.pack_bytes(usual)
    assert ENGINE_KINDS["endpoint"].images_in_memory > endpoint.CACHED_IMAGES


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (2, f"tag: 2 workers, each {WITHIN}\n"),
        (1, f"tag: 1 worker, {WITHIN}\n"),
        (0, ""),
    ],
)
def test_the_note_is_one_line(workers: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    memory.note_workers("tag", workers, 3 * 10**9)
    assert capsys.readouterr().err == message


# --- packing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world without images."""
    world = World(tmp_path)
    yield world
    world.lease.release()


def announced(world: World) -> int:
    """Return the bytes announced for packing a world, less those of the process and of files on their way."""
    settings = Pipeline.model_construct(
        images=world.context.images, pack=world.context.pack, source=world.context.source
    )
    arriving = 2 * BUFFER_BYTES + world.context.images.max_bytes
    return memory.pack_bytes(settings) - memory.PROCESS_BYTES - arriving


CHILD = """if 1:
    import pickle, re, sys
    from pathlib import Path
    from PIL import Image
    from synthgen.stages.pack import write_shard

    def peak():  # in kilobytes; unlike ru_maxrss not that of the process that started this one
        return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

    Image.init()
    context, shard = pickle.load(sys.stdin.buffer)
    before = peak()
    receipt = write_shard(context, shard)
    index = receipt.tables["index"]
    print((peak() - before) * 1024, sum(file.rows for file in index.files))"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read there")


def measure(world: World, shard: Shard) -> int:
    """Write a shard in a new process, and return the bytes by which its memory grows."""
    task = pickle.dumps((world.context, shard))
    child = subprocess.run([sys.executable, "-c", CHILD], input=task, capture_output=True, cwd=ROOT, check=True)
    grown, samples = map(int, child.stdout.split())
    assert samples == len(shard.samples), child.stderr
    return grown


@needs_proc
def test_a_shard_and_its_last_revision_take_no_more_than_is_announced(world: World) -> None:
    files = {f"{number}.jpg": jpeg(number, 1400, noise=True, quality=95) for number in range(32)}
    limits = ImagesConfig(max_bytes=max(map(len, files.values())), max_pixels=1400**2)
    settings = PackConfig(shard_megabytes=60, row_group_megabytes=4)
    world.context = replace(world.context, images=limits, pack=settings)
    world.add(1, files)
    size = sum(map(len, files.values()))
    assert 0.8 < size / (60 * 10**6) < 1
    world.decide()
    [first] = world.todo()
    assert size < measure(world, first) < announced(world)
    world.pack()
    world.select = SelectConfig(forbidden=("answer 1",))
    world.decide()
    [again] = world.todo()
    for path in world.images.iterdir():
        path.unlink()  # so that all images come from the last revision
    assert 2 * size < measure(world, again) < announced(world)


@needs_proc
@pytest.mark.parametrize("kind", ["transparent", "16 bits", "palette"])
def test_an_image_that_becomes_a_png_takes_no_more_than_is_announced(world: World, kind: str) -> None:
    side = 3000
    gradient = Image.linear_gradient("L").resize((side, side))
    sink = io.BytesIO()
    if kind == "transparent":
        Image.merge("RGBA", [gradient] * 4).save(sink, "PNG", compress_level=1)
    elif kind == "16 bits":
        gradient.convert("I").point(lambda level: level * 256, "I").convert("I;16").save(sink, "PNG", compress_level=1)
    else:
        gradient.convert("P").save(sink, "GIF")
    limits = ImagesConfig(max_bytes=len(sink.getvalue()), max_pixels=side**2)
    settings = PackConfig(shard_megabytes=1, row_group_megabytes=1)
    world.context = replace(world.context, images=limits, pack=settings)
    world.add(1, {"a": sink.getvalue()})
    world.decide()
    [shard] = world.todo()
    assert 4 * side**2 < measure(world, shard) < announced(world)


@dataclass(frozen=True)
class Counted(metadata.ImageFile):
    """An image file that can be counted while it is in memory."""


@pytest.mark.parametrize("waiting", [0, 10**9], ids=["on disk", "in memory"])
def test_one_image_is_held_as_it_is_written_and_the_others_wait_as_they_were_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    """Both of those that come from the source and of those that come from the last revision."""
    monkeypatch.setattr(shard_images, "BATCH", 8)
    monkeypatch.setattr(shard_images, "PACK_WAITING_BYTES", waiting)
    alive, most = weakref.WeakSet[Any](), 0

    def count(*values: Any) -> metadata.ImageFile:
        nonlocal most
        image = Counted(*values)
        alive.add(image)
        most = max(most, len(alive))
        return image

    make = metadata.make_image_file
    monkeypatch.setattr(shard_images, "make_image_file", lambda *values: count(*vars(make(*values)).values()))
    monkeypatch.setattr(shard_images, "ImageFile", count)
    images = pictures(18)
    world.add(1, images)
    world.pack()
    packed = {row["image_id"]: row["images"][0]["bytes"] for row in world.samples}
    assert packed.keys() == {image_id(data) for data in images.values()}
    assert all(jpeg_pixels(packed[image_id(data)]) == jpeg_pixels(data) for data in images.values())
    assert len(world.samples) == 18 and most == 1 + 1, "one that is written, and the next"
    most = 0
    world.select = SelectConfig(forbidden=("answer 1",))
    assert world.pack() == ["e001-00000.r2"]
    assert {row["image_id"]: row["images"][0]["bytes"] for row in world.samples} == packed and most == 1 + 1


def jpeg_pixels(data: bytes) -> bytes:
    """Return the pixels of a file."""
    return Image.open(io.BytesIO(data)).tobytes()


@needs_proc
def test_many_images_that_become_pngs_of_many_times_their_bytes_take_no_more_than_is_announced(world: World) -> None:
    side, files = 1400, dict[str, bytes]()
    for number in range(16):
        sink = io.BytesIO()
        noise = Image.merge("RGB", [grey_noise((side, side), 90, 3 * number + band) for band in range(3)])
        noise.save(sink, "TIFF", compression="jpeg", quality=10)
        files[str(number)] = sink.getvalue()
    limits = ImagesConfig(max_bytes=max(map(len, files.values())), max_pixels=side**2)
    world.context = replace(world.context, images=limits, pack=PackConfig(shard_megabytes=16, row_group_megabytes=1))
    world.add(1, files)
    assert sum(map(len, files.values())) < 16 * 10**6, "one shard by the bytes of the source"
    world.decide()
    [shard] = world.todo()
    waiting, libraries = limits.max_bytes * len(files), 60 * 10**6  # what is loaded on first use counts for the process
    assert measure(world, shard) < announced(world) - memory.PACK_WAITING_BYTES + waiting + libraries


def test_waiting_images_without_room_on_disk_end_the_run_in_one_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_images, "PACK_WAITING_BYTES", 0)
    world.add(1, pictures(2))
    world.decide()
    [shard] = world.todo()

    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(SynthError, match=r"images that wait to be packed cannot be written there .*make room"):
        write_shard(world.context, shard)


def test_an_image_too_large_for_a_column_costs_its_samples_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_images, "LARGEST", len(jpeg(1, 48)) + 1000)
    world.add(1, {"large.jpg": jpeg(1, 480, noise=True), "small.jpg": jpeg(1, 48)})
    world.pack()
    assert len(world.samples) == 1
    assert [row["reason"] for row in world.unpacked()] == ["too_many_bytes"]
