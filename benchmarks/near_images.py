"""Near-duplicate images: the perceptual hash alone beside the hash confirmed by thumbnails, kind by kind.

`kept` is how many of the images of a kind, all unlike one another, are not taken for near duplicates: by the hash, and
with thumbnails. `precision` is the share of the pairs called near that are copies, among pairs of images and of an
image and its copies. `recall` is the share of the copies that the hash finds that thumbnails confirm, by what was done
to the copy. The images are drawn (pages.py); a folder of photographs may be given as one more kind.

    python benchmarks/near_images.py [--quick] [--images FOLDER]
"""

import argparse
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages import COPIES, KINDS
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.dedup import Thumbnails, near_images
from synthgen.ingest.images import Decoded, decode

BITS = 4  # as the shipped pipelines have it
LIMITS = ImagesConfig()
Draw = Callable[[], Image.Image]


@dataclass(frozen=True)
class Measured:
    """What was counted for one kind of images.

    Attributes:
        kept: Of the images: by the hash, and with thumbnails.
        wrong: Pairs of unlike images that are called near, in the same order.
        found: What was done → copies that are called near, in the same order.
    """

    images: int
    kept: tuple[int, int]
    wrong: tuple[int, int]
    found: dict[str, tuple[int, int]]

    def precision(self, method: int) -> float:
        """Return the share of true copies among near pairs: 0 is the hash alone, 1 is with thumbnails."""
        right = sum(found[method] for found in self.found.values())
        return right / max(1, right + self.wrong[method])

    def recall(self, treatment: str) -> float:
        """Return the share of the copies found by the hash that are confirmed; all copies if it is empty."""
        pairs = [found for name, found in self.found.items() if treatment in ("", name)]
        return sum(pair[1] for pair in pairs) / max(1, sum(pair[0] for pair in pairs))


def main() -> None:
    """Measure each kind; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--images", type=Path, help="a folder of photographs, all unlike one another")
    options = parser.parse_args()
    count, copied = (60, 6) if options.quick else (200, 40)
    kinds = {name: measure(drawn(name, count), copied) for name in KINDS}
    if options.images:
        photographs = [opened(path) for path in sorted(options.images.iterdir())]
        kinds["photographs"] = measure(photographs, len(photographs))
    head = f"{'kind':>13} {'images':>6} {'kept: hash, now':>15} {'precision: hash, now':>20}"
    print(head + "  recall of " + ", ".join(COPIES))
    for name, kind in kinds.items():
        kept, precision = f"{kind.kept[0]}, {kind.kept[1]}", f"{kind.precision(0):.3f}, {kind.precision(1):.3f}"
        recalls = "  ".join(f"{kind.recall(treatment):.2f}" for treatment in COPIES)
        print(f"{name:>13} {kind.images:>6} {kept:>15} {precision:>20}  {recalls}")
    record = {
        "benchmark": "near_images",
        "kept_hash": {name: round(kind.kept[0] / kind.images, 3) for name, kind in kinds.items()},
        "kept": {name: round(kind.kept[1] / kind.images, 3) for name, kind in kinds.items()},
        "recall": {name: round(kind.recall(""), 3) for name, kind in kinds.items()},
    }
    print(json.dumps(record))


def drawn(kind: str, count: int) -> list[Draw]:
    """Return what draws the images of a kind."""
    return [lambda number=number: KINDS[kind](random.Random(number)) for number in range(count)]  # type: ignore[misc]


def opened(path: Path) -> Draw:
    """Return what opens an image."""
    return lambda: Image.open(path).convert("RGB")


def measure(draws: Sequence[Draw], copied: int) -> Measured:
    """Compare images with each other, and the first of them with copies."""
    originals, copies = list[Decoded](), dict[str, list[tuple[int, Decoded]]]()
    for number, draw in enumerate(draws):
        image = draw()
        file = io.BytesIO()
        image.save(file, "PNG")
        originals.append(decode(file.getvalue(), LIMITS))
        for treatment, ways in COPIES.items() if number < copied else ():
            made = [(number, decode(make(image), LIMITS)) for make in ways.values()]
            copies.setdefault(treatment, []).extend(made)
    hashes, shown = _hashes(originals), _thumbnails(originals)
    kept = [near_images(hashes, BITS), near_images(hashes, BITS, thumbnails=shown)]
    left, right = np.triu_indices(len(originals), 1)
    is_near = np.bitwise_count(hashes[left] ^ hashes[right]) <= BITS
    wrong = int(is_near.sum()), int(shown.are_near(left[is_near], right[is_near]).sum())
    by_hash, now = (int((found == np.arange(len(originals))).sum()) for found in kept)
    found = {treatment: _found(originals, made) for treatment, made in copies.items()}
    return Measured(len(originals), (by_hash, now), wrong, found)


def _found(originals: Sequence[Decoded], copies: Sequence[tuple[int, Decoded]]) -> tuple[int, int]:
    """Return how many copies are near to their original by the hash, and by the thumbnail too."""
    pairs = [image for number, copy in copies for image in (originals[number], copy)]
    hashes, even = _hashes(pairs), np.arange(0, len(pairs), 2)
    is_near = np.bitwise_count(hashes[even] ^ hashes[even + 1]) <= BITS
    confirmed = _thumbnails(pairs).are_near(even[is_near], even[is_near] + 1)
    return int(is_near.sum()), int(confirmed.sum())


def _hashes(images: Sequence[Decoded]) -> np.typing.NDArray[np.uint64]:
    return np.array([image.phash for image in images], np.uint64)


def _thumbnails(images: Sequence[Decoded]) -> Thumbnails:
    cells = np.frombuffer(b"".join(image.thumbnail for image in images), np.uint8).reshape(len(images), -1)
    return Thumbnails(cells, np.array([image.flat_share for image in images], np.float32), np.arange(len(images)))


if __name__ == "__main__":
    main()
