"""Decontamination: which planted copies of a benchmark's images and questions are found, and the false alarms.

Scenes, pages, charts and slides are drawn; some are a benchmark set, others are innocent. Copies of the benchmark's
images are made: other files, scaled, brighter, darker, more contrast, without colour, in other colours, and cropped by
up to 5, 10 and 20 % of a side at random places. `recall` is the share of the copies that are found, by what was done;
`false` the share of innocent images. The questions of the benchmark are planted verbatim, within another sentence, with
a word changed and in other words (paraphrased); innocent questions are of another form, or come from the same templates
with other words, so that a few share a run by chance.

    python benchmarks/contamination.py [--quick]
"""

import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from driver import is_quick
from pages import KINDS
from PIL import Image, ImageEnhance, ImageOps

from synthgen.config.pipeline import ImagesConfig
from synthgen.dedup import Thumbnails, near_known, plain_texts
from synthgen.dedup.ngrams import RunIndex
from synthgen.ingest.benchmark_prints import prints_of
from synthgen.ingest.benchmark_sets import Columns, open_benchmark_sets
from synthgen.ingest.images import Decoded, decode
from synthgen.store import Folder

BITS, WORDS, LIMITS = 8, 13, ImagesConfig()
DRAWN = ("scenes", "pages", "bar charts", "slides")
PLACES = ["kitchen", "station", "harbour", "garden", "office", "market", "museum", "school", "airport", "library"]
THINGS = [
    "bus",
    "umbrella",
    "lighthouse",
    "clock",
    "ladder",
    "piano",
    "kettle",
    "statue",
    "bicycle",
    "lantern",
    "fountain",
    "carpet",
]
COLOURS = ["red", "blue", "green", "yellow", "black", "white", "orange", "purple"]

Treat = Callable[[Image.Image, random.Random], Image.Image]


def cropped(image: Image.Image, draw: random.Random, most: float) -> Image.Image:
    """Return the image without up to this share of its sides, each by itself but alike in both directions."""
    width, height = image.size
    side = 1 - most * draw.uniform(0.5, 1)
    left, top = draw.uniform(0, 1 - side) * width, draw.uniform(0, 1 - side) * height
    return image.crop((round(left), round(top), round(left + side * width), round(top + side * height)))


def recoloured(image: Image.Image, draw: random.Random) -> Image.Image:
    """Return the image with its hues turned and its saturation changed."""
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += draw.randrange(8, 24)
    return ImageEnhance.Color(Image.fromarray(hsv, "HSV").convert("RGB")).enhance(draw.uniform(0.5, 1.5))


TREATMENTS: dict[str, Treat] = {
    "file": lambda image, draw: image,
    "half the size": lambda image, draw: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "light": lambda image, draw: ImageEnhance.Brightness(image).enhance(draw.uniform(0.88, 1.12)),
    "contrast": lambda image, draw: ImageEnhance.Contrast(image).enhance(draw.uniform(0.85, 1.15)),
    "no colour": lambda image, draw: ImageOps.grayscale(image).convert("RGB"),
    "other colours": recoloured,
    "crop 5 %": lambda image, draw: cropped(image, draw, 0.05),
    "crop 10 %": lambda image, draw: cropped(image, draw, 0.1),
    "crop 20 %": lambda image, draw: cropped(image, draw, 0.2),
}


def main() -> None:
    """Measure images and questions; print two tables, then one line of JSON."""
    count, innocent = (12, 100) if is_quick(__doc__) else (60, 1000)
    record: dict[str, Any] = {"benchmark": "contamination", "recall": {}, "false": {}}
    print(f"{'images':>12}  recall of {', '.join(TREATMENTS)}; false alarms; seconds a benchmark image")
    for kind in DRAWN:
        recall, false, seconds = measure_images(kind, count, innocent)
        print(f"{kind:>12}  {'  '.join(f'{share:.2f}' for share in recall.values())}; {false:.4f}; {seconds:.3f}")
        record["recall"][kind] = {name: round(share, 3) for name, share in recall.items()}
        record["false"][kind] = round(false, 5)
    shares = measure_questions(20 * count, 100 * innocent)
    print("questions found: " + ", ".join(f"{name} {share:.4f}" for name, share in shares.items()))
    print(json.dumps({**record, "questions": {name: round(share, 5) for name, share in shares.items()}}))


def measure_images(kind: str, count: int, innocent: int) -> tuple[dict[str, float], float, float]:
    """Return the recall by treatment, the share of false alarms, and the seconds to print an image of a benchmark."""
    draw, images = random.Random(1), [KINDS[kind](random.Random(number)) for number in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        folder.mkdir()
        for number, image in enumerate(images):
            image.save(folder / f"{number:06d}.png")
        (benchmark,) = open_benchmark_sets("sets", [str(folder)], Path(), Columns(("image",), ("question",)))
        start = time.perf_counter()
        prints = prints_of(Folder(name), benchmark, Columns(("image",), ("question",)), LIMITS)
        seconds = (time.perf_counter() - start) / count
    known = [(row["phash"], row["thumbnail"], row["flat_share"]) for row in prints.to_pylist()]
    recall = {}
    for name, treat in TREATMENTS.items():
        copies = [decode(jpeg(treat(image.convert("RGB"), draw), draw.randrange(50, 95)), LIMITS) for image in images]
        recall[name] = found(known, copies)
    others = [decode(jpeg(KINDS[kind](random.Random(10**6 + number))), LIMITS) for number in range(innocent)]
    return recall, found(known, others), seconds


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Return the image as a JPEG file."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def found(known: list[tuple[int, bytes, float]], images: list[Decoded]) -> float:
    """Return the share of the images that show one that is known."""
    shown = [*known, *((image.phash, image.thumbnail, image.flat_share) for image in images)]
    cells = np.frombuffer(b"".join(cells for _, cells, _ in shown), np.uint8).reshape(len(shown), -1)
    thumbnails = Thumbnails(cells, np.array([share for *_, share in shown], np.float32), np.arange(len(shown)))
    hashes = np.array([phash for phash, *_ in shown], np.uint64)
    return float((near_known(hashes[len(known) :], hashes[: len(known)], BITS, thumbnails) >= 0).mean())


def measure_questions(count: int, innocent: int) -> dict[str, float]:
    """Return which share of the questions of each kind is found in a benchmark of so many."""
    draw = random.Random(2)
    asked = [question(draw) for _ in range(count)]
    index = RunIndex.of(plain_texts([verbatim for verbatim, _ in asked]), WORDS)
    known = {verbatim for verbatim, _ in asked}
    alike = [text for _ in range(innocent) if (text := question(draw)[0]) not in known]
    others = [
        f"What is written on the {draw.choice(COLOURS)} {draw.choice(THINGS)} to the left of the {draw.choice(THINGS)} "
        f"that one sees in the {draw.choice(PLACES)}?"
        for _ in range(innocent)
    ]
    planted = {
        "verbatim": [verbatim for verbatim, _ in asked],
        "in another sentence": [
            f"Look at the picture closely. {verbatim} Answer in a few words." for verbatim, _ in asked
        ],
        "a word changed": [changed(verbatim, draw) for verbatim, _ in asked],
        "paraphrased": [paraphrase for _, paraphrase in asked],
        "innocent": others,
        "innocent, of the same templates": alike,
    }
    return {name: float((index.matches(plain_texts(texts)) >= 0).mean()) for name, texts in planted.items()}


def question(draw: random.Random) -> tuple[str, str]:
    """Return a question, and the same in other words."""
    a, b, c = draw.sample(THINGS, 3)
    place, colour, other, hour = draw.choice(PLACES), draw.choice(COLOURS), draw.choice(COLOURS), draw.randrange(1, 13)
    forms = [
        (
            f"If the {colour} {a} in the {place} is put beside the {other} {b} at {hour} o'clock, what hides a {c}?",
            f"Which object conceals the {c} once somebody puts the {place}'s {colour} {a} next to the {other} {b}?",
        ),
        (
            f"How many of the {colour} {a}s near the {b} in the {place} have a {other} {c} painted on them?",
            f"Count every {a} of {colour} by the {b}, inside the {place}, on which somebody drew a {c} in {other}.",
        ),
    ]
    return draw.choice(forms)


def changed(text: str, draw: random.Random) -> str:
    """Return the text with one of its words changed."""
    words = text.split()
    words[draw.randrange(len(words))] = "something"
    return " ".join(words)


if __name__ == "__main__":
    main()
