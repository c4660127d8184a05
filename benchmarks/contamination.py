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
import pyarrow as pa
from driver import is_quick
from pages import KINDS
from PIL import Image, ImageEnhance, ImageOps

from synthgen.config.deduplication import DecontaminateConfig
from synthgen.config.source import ImagesConfig
from synthgen.dedup import plain_texts
from synthgen.dedup.ngrams import RunIndex
from synthgen.ingest.benchmark_prints import prints_of
from synthgen.ingest.benchmark_sets import open_benchmark_sets
from synthgen.ingest.benchmark_tables import Columns
from synthgen.ingest.images import Decoded, decode
from synthgen.stages.select.benchmark_images import KnownImages
from synthgen.store import Folder, RunFolder
from synthgen.tables import IMAGES

WORDS, LIMITS = 13, ImagesConfig()
DRAWN = ("scenes", "pages", "bar charts", "slides")
PLACE_NAMES = "kitchen station harbour garden office market museum school airport library"
NOUNS = "bus umbrella lighthouse clock ladder piano kettle statue bicycle lantern fountain carpet"
COLOUR_NAMES = "red blue green yellow black white orange purple"
PLACES, THINGS, COLOURS = PLACE_NAMES.split(), NOUNS.split(), COLOUR_NAMES.split()
COLUMNS = Columns(("image",), ("question",))

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
    count, innocent = (12, 50) if is_quick(__doc__) else (60, 1000)
    drawn = {kind: [KINDS[kind](random.Random(number)) for number in range(count)] for kind in DRAWN}
    known, cost = read_benchmark([image for images in drawn.values() for image in images])
    record: dict[str, Any] = {"benchmark": "contamination", "images": count * len(DRAWN), "recall": {}, "false": {}}
    print(f"{'':>14}{''.join(f'{kind:>12}' for kind in DRAWN)}")
    for name, treat in TREATMENTS.items():
        draw = random.Random(1)
        copies = {kind: [treated(image, treat, draw) for image in images] for kind, images in drawn.items()}
        shares = {kind: found(known, images) for kind, images in copies.items()}
        record["recall"][name] = show(name, shares)
    start = time.process_time()
    shares = {kind: found(known, innocents(kind, innocent)) for kind in DRAWN}
    record["false"] = show("innocent", shares)
    record |= {"seconds_a_benchmark_image": round(cost, 3), "seconds": round(time.process_time() - start, 1)}
    shares = measure_questions(20 * count, 100 * innocent)
    print("questions found: " + ", ".join(f"{name} {share:.4f}" for name, share in shares.items()))
    print(json.dumps({**record, "questions": {name: round(share, 5) for name, share in shares.items()}}))


def show(name: str, shares: dict[str, float]) -> dict[str, float]:
    """Print a line of the table, and return it."""
    print(f"{name:>14}{''.join(f'{share:>12.3f}' for share in shares.values())}", flush=True)
    return {kind: round(share, 4) for kind, share in shares.items()}


def read_benchmark(images: list[Image.Image]) -> tuple[KnownImages, float]:
    """Return the images as those of a benchmark set, and the seconds that reading one takes."""
    settings = DecontaminateConfig(sets=("set",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        folder.mkdir()
        for number, image in enumerate(images):
            image.save(folder / f"{number:06d}.png")
        (benchmark,) = open_benchmark_sets("sets", [str(folder)], Path(), COLUMNS)
        start = time.perf_counter()
        prints = prints_of(Folder(name), benchmark, COLUMNS, LIMITS)
        seconds = (time.perf_counter() - start) / len(images)
        return KnownImages.of(prints, settings, [], RunFolder(Folder(name))), seconds


def treated(image: Image.Image, treat: Treat, draw: random.Random) -> Decoded:
    """Return a copy as a run reads it from a JPEG file of some quality."""
    return decode(jpeg(treat(image.convert("RGB"), draw), draw.randrange(50, 95)), LIMITS)


def innocents(kind: str, count: int) -> list[Decoded]:
    """Return images of a kind that are not in the benchmark."""
    return [decode(jpeg(KINDS[kind](random.Random(10**6 + number))), LIMITS) for number in range(count)]


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Return the image as a JPEG file."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def found(known: KnownImages, images: list[Decoded]) -> float:
    """Return the share of the images that show one that is known."""
    columns = {
        name: pa.array([getattr(image, name) for image in images], IMAGES.field(name).type)
        for name in ("phash", "thumbnail", "flat_share")
    }
    table = pa.table({"image_id": list(map(str, range(len(images)))), **columns})
    return len(list(known.find(table))) / len(images)


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
