"""Decoding with all guards on, beside a bare Pillow loop on the same images, cores and number of processes.

The images are real photographs (those inside scikit-image) at the sizes and in the formats of a photo bucket. Bare:
each process opens its share and converts to RGB; it keeps nothing, sends no pixels, and has no limits, timeouts or
protection. Ours: one parent hands bytes to killable children and gets back upright RGB images, scaled to what models
see, and perceptual hashes. `ratio` is ours over bare. Because ours decodes large JPEGs at reduced size, the same work
without guards (checks, decode, scale, hash, in the process) stands beside it: `ratio_same_work` is the price of the
guards alone. Both are of core seconds, over all processes, which other load moves less than seconds, but does move
(to about .8 beside two busy cores); `…_wall` are the ratios of the time that passed.

    python benchmarks/ingest.py [--quick]
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import skimage.data
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Decoded, DecoderPool, decode

LIMITS = ImagesConfig()


@dataclass(frozen=True)
class Cost:
    """Seconds that passed, and core seconds over all processes that took part."""

    seconds: float
    cpu: float


PHOTOS = (
    "astronaut.png",
    "coffee.png",
    "chelsea.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
)
# share of the bucket, megapixels from and to, format and its options
MIX = (
    (0.35, (0.25, 0.5), "JPEG", {"quality": 85}),
    (0.25, (0.6, 1.0), "JPEG", {"quality": 88}),
    (0.10, (1.5, 4.0), "JPEG", {"quality": 90}),
    (0.10, (8.0, 12.0), "JPEG", {"quality": 90}),
    (0.10, (0.25, 0.8), "PNG", {"compress_level": 6}),
    (0.03, (1.5, 3.0), "PNG", {"compress_level": 6}),
    (0.07, (0.3, 1.0), "WEBP", {"quality": 80}),
)


def main() -> None:
    """Measure in turn; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    is_quick = parser.parse_args().quick
    processes = len(os.sched_getaffinity(0))
    images = make_corpus(100 if is_quick else 300)
    megapixels = sum(math.prod(Image.open(io.BytesIO(data)).size) for data in images) / 1e6
    mebibytes = sum(map(len, images)) / 2**20
    print(f"{len(images)} images, {megapixels:.0f} megapixels, {mebibytes:.0f} MiB, {processes} processes")
    rounds = [measure(images, processes, number) for number in range(4 if is_quick else 9)]
    report(rounds, len(images))


def make_corpus(count: int) -> list[bytes]:
    """Return the files of the bucket, the same for the same count."""
    rng = random.Random(7)
    folder = Path(skimage.data.__file__).parent
    photos = [Image.open(folder / name).convert("RGB") for name in PHOTOS]
    images = [encode(rng, photos, kind) for kind in MIX for _ in range(round(kind[0] * count))]
    rng.shuffle(images)
    return images


def encode(
    rng: random.Random, photos: list[Image.Image], kind: tuple[float, tuple[float, float], str, dict[str, int]]
) -> bytes:
    """Return a photograph at a size from the range of its kind, an entry of MIX."""
    _, megapixels, image_format, options = kind
    photo = rng.choice(photos)
    scale = (rng.uniform(*megapixels) * 1e6 / (photo.width * photo.height)) ** 0.5
    buffer = io.BytesIO()
    photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC).save(
        buffer, image_format, **options
    )
    return buffer.getvalue()


def measure(images: Sequence[bytes], processes: int, number: int) -> dict[str, Cost]:
    """Return the cost of all images in each of the three ways, whose order turns with the number of the round."""
    ways: list[tuple[str, Callable[[], Cost]]] = [
        ("bare", partial(decode_in_processes, images, processes, decode_bare)),
        ("same_work", partial(decode_in_processes, images, processes, decode_unguarded)),
        ("ours", partial(decode_guarded, images, processes)),
    ]
    turned = ways[number % 3 :] + ways[: number % 3]
    return {name: way() for name, way in turned}


def decode_bare(data: bytes) -> None:
    """Decode as a loop without any care does."""
    Image.open(io.BytesIO(data)).convert("RGB")


def decode_unguarded(data: bytes) -> None:
    """Do the work of ours, in the process that wants the result."""
    decode(data, LIMITS)


def decode_in_processes(images: Sequence[bytes], processes: int, decode_one: Callable[[bytes], None]) -> Cost:
    """Decode in forked processes, which take images from one list as they get done and send nothing anywhere."""
    context = multiprocessing.get_context("fork")
    taken, cpu, barrier = context.Value("i", 0), context.Value("d", 0.0), context.Barrier(processes + 1)

    def loop() -> None:
        decode_one(images[0])
        barrier.wait()
        before = time.process_time()
        while True:
            with taken.get_lock():
                at, taken.value = taken.value, taken.value + 1
            if at >= len(images):
                break
            decode_one(images[at])
        with cpu.get_lock():
            cpu.value += time.process_time() - before
        barrier.wait()

    workers = [context.Process(target=loop) for _ in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return Cost(seconds, cpu.value)


def decode_guarded(images: Sequence[bytes], processes: int) -> Cost:
    """Decode through the pool, once it has started; each result is dropped at once, as in the bare loop."""
    with DecoderPool[int](LIMITS, processes) as decoder:
        list(decoder.decode_many(enumerate([images[0]] * 2 * processes)))
        start, before = time.perf_counter(), cpu_seconds([os.getpid(), *decoder.pids])
        done = sum(isinstance(result, Decoded) for _, result in decoder.decode_many(enumerate(images)))
        cost = Cost(time.perf_counter() - start, cpu_seconds([os.getpid(), *decoder.pids]) - before)
    if done != len(images):
        raise SystemExit(f"{len(images) - done} images were not decoded")
    return cost


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the core seconds of running processes."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def report(rounds: list[dict[str, Cost]], count: int) -> None:
    """Print the sums over the rounds, and the line of JSON."""
    names = {"bare": "bare: open, convert", "same_work": "same work as ours, no guards", "ours": "ours, all guards on"}
    sums = {
        name: Cost(sum(costs[name].seconds for costs in rounds), sum(costs[name].cpu for costs in rounds))
        for name in names
    }
    images, us = count * len(rounds), sums["ours"]
    print(f"{'':32}{'images/s':>10}{'ours / it':>11}{'images per core second':>26}{'ours / it':>11}")
    for name, words in names.items():
        it = sums[name]
        print(
            f"{words:32}{images / it.seconds:10.1f}{it.seconds / us.seconds:11.2f}"
            f"{images / it.cpu:26.1f}{it.cpu / us.cpu:11.2f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(rounds)} rounds; peak of the parent {peak:.0f} MiB, the corpus included")
    bare, same = sums["bare"], sums["same_work"]
    summary = {
        "benchmark": "ingest",
        "ours": round(images / us.cpu, 1),
        "bare": round(images / bare.cpu, 1),
        "ratio": round(bare.cpu / us.cpu, 3),
        "ratio_same_work": round(same.cpu / us.cpu, 3),
        "unit": "images per core second",
        "ratio_wall": round(bare.seconds / us.seconds, 3),
        "ratio_same_work_wall": round(same.seconds / us.seconds, 3),
    }
    print(json.dumps({**summary, "images": count, "rounds": len(rounds)}))


if __name__ == "__main__":
    main()
