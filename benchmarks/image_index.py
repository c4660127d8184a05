"""Near-duplicate images among 100,000: by hash and thumbnail, and by embedding; recall, precision, time and growth.

Small scenes are drawn, and a tenth of the images are copies of others: files of another kind and quality, brighter or
darker ones, and ones cropped by 1 or 2 % of a side. `recall` is the share of the copies that count as near duplicates,
by what was done to them; `precision` the share of all near duplicates that are copies of the image that stands for
them; `exact` the share of the copies near to their original by a comparison of the two alone that the index finds.

The embeddings are made: a common direction, one of 2,000 topics, and noise, so that unlike images have a cosine of .43
and those of a topic .7. A twentieth are near to another one, at .965 to .995, and those from .97 on must be found.
Beside ours stands faiss with cells of the same size, where it is installed (pip install faiss-cpu). `growth` is the
core seconds of all over those of a tenth.

    python benchmarks/image_index.py [--quick]
"""

import importlib
import importlib.util
import io
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from driver import is_quick
from pages import COPIES
from PIL import Image, ImageDraw

from synthgen.dedup import Thumbnails, near_embeddings, near_images
from synthgen.ingest.images import perceptual_hash
from synthgen.ingest.images.decode import HASH_GAP
from synthgen.ingest.images.thumbnail import flat_share, thumbnail

BITS, COSINE = 4, 0.97
SIZE, DIMENSIONS, TOPICS = (160, 120), 512, 2000
WAYS = [(kind, way) for kind, ways in COPIES.items() for way in ways.values()]


@dataclass(frozen=True)
class Shown:
    """Images as the index sees them.

    Attributes:
        source: The image that each is a copy of, or -1.
        way: What was done to it, an index into WAYS, or -1.
    """

    hashes: npt.NDArray[np.uint64]
    thumbnails: Thumbnails
    source: npt.NDArray[np.int64]
    way: npt.NDArray[np.int64]


def main() -> None:
    """Measure both; print two tables, then one line of JSON."""
    most = 20_000 if is_quick(__doc__) else 100_000
    shown = draw_images(most)
    small, large = (measure_hashes(part) for part in (first(shown, most // 10), shown))
    print(f"{'images':>8} {'core s':>7} {'exact':>6} {'precision':>9}  recall of {', '.join(COPIES)}")
    for cost in (small, large):
        recalls = "  ".join(f"{recall:.3f}" for recall in cost["recall"].values())
        print(
            f"{cost['images']:>8,} {cost['seconds']:>7.2f} {cost['exact']:>6.3f} {cost['precision']:>9.4f}  {recalls}"
        )
    record: dict[str, Any] = {"benchmark": "image_index", "images": most, "hashes": large}
    record["growth"] = round(large["seconds"] / small["seconds"], 2)
    embeddings, near = make_embeddings(most)
    keys = np.random.default_rng(2).integers(0, 1 << 63, most, dtype=np.uint64)
    tools: dict[str, Callable[[], npt.NDArray[np.bool_]]] = {
        "ours": lambda: near_embeddings(embeddings, COSINE, keys) != np.arange(most)
    }
    if importlib.util.find_spec("faiss"):
        tools |= {f"faiss, {cells} cells": lambda cells=cells: faiss_near(embeddings, cells) for cells in (1, 2)}  # type: ignore[misc]
    else:
        print("faiss is not installed, and left out; get it with: pip install faiss-cpu")
    print(f"{'embeddings':>16} {'core s':>7} {'recall':>7} {'precision':>9}")
    for name, tool in tools.items():
        start = time.process_time()
        found = tool()
        seconds = time.process_time() - start
        recall, precision = float(found[near >= COSINE].mean()), float((near[found] >= COSINE - 1e-3).mean())
        print(f"{name:>16} {seconds:>7.1f} {recall:>7.4f} {precision:>9.4f}", flush=True)
        record[name] = {"seconds": round(seconds, 1), "recall": round(recall, 4), "precision": round(precision, 4)}
    print(json.dumps(record))


def draw_images(count: int) -> Shown:
    """Draw scenes, a tenth of them copies of earlier ones."""
    draw, sources, ways = random.Random(0), list[int](), list[int]()
    hashes, cells, shares = list[int](), list[bytes](), list[float]()
    for number in range(count):
        is_copy = number % 10 == 9
        source = draw.randrange(number // 10) * 10 + draw.randrange(9) if is_copy and number > 9 else -1
        way = draw.randrange(len(WAYS)) if source >= 0 else -1
        image = scene(number if source < 0 else source)
        if way >= 0:
            image = Image.open(io.BytesIO(WAYS[way][1](image))).convert("RGB")
        grey = image.convert("L")
        hashes.append(perceptual_hash(grey, HASH_GAP))
        cells.append(thumbnail(grey))
        shares.append(flat_share(grey))
        sources.append(source)
        ways.append(way)
    grid = np.frombuffer(b"".join(cells), np.uint8).reshape(count, -1)
    shown = Thumbnails(grid, np.array(shares, np.float32), np.arange(count))
    return Shown(np.array(hashes, np.uint64), shown, np.array(sources), np.array(ways))


def scene(number: int) -> Image.Image:
    """Return a small scene of slopes and shapes, another for each number."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for x, y, side, *colour in rng.integers(0, [140, 100, 50, 256, 256, 256], (4, 6)).tolist():
        pen.ellipse((x, y, x + side + 10, y + side + 5), fill=tuple(colour))
    return image


def first(shown: Shown, count: int) -> Shown:
    """Return the first images."""
    part = slice(0, count)
    return Shown(shown.hashes[part], shown.thumbnails.take(np.arange(count)), shown.source[part], shown.way[part])


def measure_hashes(shown: Shown) -> dict[str, Any]:
    """Look for near duplicates by hash and thumbnail, and judge what was found."""
    start = time.process_time()
    representative = near_images(shown.hashes, BITS, thumbnails=shown.thumbnails)
    seconds = time.process_time() - start
    numbers = np.arange(len(shown.hashes))
    is_dropped, is_copy = representative != numbers, shown.source >= 0
    root = np.where(is_copy, shown.source, numbers)
    is_right = root[representative] == root
    copies = numbers[is_copy]
    near = np.bitwise_count(shown.hashes[copies] ^ shown.hashes[shown.source[copies]]) <= BITS
    near &= shown.thumbnails.are_near(copies, shown.source[copies])
    kinds = np.array([kind for kind, _ in WAYS])
    return {
        "images": len(numbers),
        "seconds": round(seconds, 4),
        "exact": round(float(is_dropped[copies[near]].mean()), 4),
        "precision": round(float(is_right[is_dropped].mean()), 4),
        "recall": {
            kind: round(float(is_dropped[is_copy][kinds[shown.way[is_copy]] == kind].mean()), 3) for kind in COPIES
        },
    }


def make_embeddings(count: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
    """Return embeddings, and the cosine of each to the earlier one that it was made near to; 0 for the others."""
    rng = np.random.default_rng(1)
    base, topics = _unit(rng.standard_normal((1, DIMENSIONS))), _unit(rng.standard_normal((TOPICS, DIMENSIONS)))
    noise = _unit(rng.standard_normal((count, DIMENSIONS)))
    made = _unit(0.65 * base + 0.55 * topics[rng.integers(0, TOPICS, count)] + 0.5 * noise)
    copies = np.arange(count - count // 20, count)
    origin = made[rng.integers(0, copies[0], len(copies))]
    across = _unit(noise[copies] - (noise[copies] * origin).sum(1, keepdims=True) * origin)
    cosine = rng.uniform(0.965, 0.995, (len(copies), 1))
    made[copies] = cosine * origin + np.sqrt(1 - cosine**2) * across
    stored, near = made.astype(np.float16), np.zeros(count, np.float32)
    near[copies] = (_unit(stored[copies].astype(np.float64)) * _unit(origin.astype(np.float16).astype(np.float64))).sum(
        1
    )
    return stored, near


def faiss_near(embeddings: npt.NDArray[np.float16], cells: int) -> npt.NDArray[np.bool_]:
    """Return which images are near to an earlier one, by faiss that looks into so many cells."""
    faiss: Any = importlib.import_module("faiss")
    vectors = np.ascontiguousarray(_unit(embeddings.astype(np.float32)))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(DIMENSIONS), DIMENSIONS, -(-len(vectors) // 1000), faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid, index.nprobe = 64, cells
    index.train(vectors)
    index.add(vectors)
    limits, _, earlier = index.range_search(vectors, COSINE)
    later = np.repeat(np.arange(len(vectors)), np.diff(limits).astype(np.int64))
    found = np.zeros(len(vectors), bool)
    found[later[earlier < later]] = True
    return found


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
