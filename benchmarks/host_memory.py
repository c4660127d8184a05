"""The host memory that a worker's images were foretold to take at most, beside what worker and decoders took, on large images.

Comes in: nothing; the images are made here, JPEG and PNG of 20 megapixels, and the limits are set to just that. Goes out: for `tag`
and `generate` the number that a run prints (stages/memory.py) and the peak that the worker's process and its children had together,
shared pages counted once (PSS), a look every tenth of a second. The tagger reads tags beside the images and the engine is
scripted, so nothing is measured but images. `ratio` is the larger of measured over foretold: at most 1, or what was foretold was
not kept.

    python benchmarks/host_memory.py [--images 48] [--quick]
"""

import argparse
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path

from bad_engines import SHELVES, command
from PIL import Image

from synthgen.config import pipeline as pipelines
from synthgen.stages import memory

ROOT = Path(__file__).parent.parent
SIDES = (5000, 4000)
MARK = "SYNTH_HOST_MEMORY"  # a variable of the run's environment, by which its workers are known
LIMITS = (
    "images.max_pixels=20000000",
    "images.max_bytes=33554432",
    "tag.batch=16",
    "generate.engine.host_megabytes=64",
)
LOOK_SECONDS = 0.1


def main() -> None:
    """Prints a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--quick", action="store_true", help="12 images")
    given = parser.parse_args()
    count = 12 if given.quick else given.images
    with tempfile.TemporaryDirectory(prefix="host-memory-") as name, chdir(name):
        workspace(Path(name), count)
        settings = [f"--set={one}" for one in LIMITS]
        pipeline = pipelines.load("small", list(LIMITS))
        foretold = {"tag": memory.tag_bytes(pipeline), "generate": memory.generate_bytes(pipeline)}
        measured = {
            "tag": peak(["--until", "tag", *settings]),
            "generate": peak(["--from", "plan", "--until", "generate", *settings]),
        }
    print(
        f"{count} images of {SIDES[0] * SIDES[1] / 1e6:.0f} megapixels\n{'stage':<10}{'foretold MB':>12}{'measured MB':>12}{'ratio':>7}"
    )
    ratios = {stage: measured[stage] / foretold[stage] for stage in foretold}
    for stage, ratio in ratios.items():
        print(f"{stage:<10}{foretold[stage] / 1e6:>12.0f}{measured[stage] / 1e6:>12.0f}{ratio:>7.2f}")
    told = {f"{stage}_mb": round(size / 1e6) for stage, size in measured.items()}
    print(json.dumps({"benchmark": "host_memory", "ratio": round(max(ratios.values()), 2), **told, "images": count}))


def workspace(folder: Path, count: int) -> None:
    """Large images with their tags beside them, half of them PNG, which must be decoded whole, see-through or of 16 bits; and shelves."""
    for name, text in SHELVES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "photos").mkdir()
    grey = Image.effect_noise((SIDES[0] // 4, SIDES[1] // 4), 60).resize(SIDES)
    kinds = [grey.convert("RGB"), grey.convert("RGBA"), grey.convert("RGB"), grey.convert("I;16")]
    for number in range(count):
        image = kinds[number % len(kinds)]
        path = folder / "photos" / f"{number:05}.{'png' if number % 2 else 'jpg'}"
        image.putpixel((number, 0), number if image.mode == "I;16" else (255, number % 256, 0))
        image.save(path, compress_level=1, quality=85)
        path.with_suffix(".json").write_text('{"tags": ["thing"]}')


def peak(more: list[str]) -> int:
    """Runs some stages; the most bytes that the workers and their children had at once."""
    mark = secrets.token_hex(8)
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command("out", *more), env={**os.environ, MARK: mark, "PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True
    )
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(pss, workers(mark))))
        time.sleep(LOOK_SECONDS)
    if process.returncode:
        raise SystemExit(process.stderr.read() if process.stderr else process.returncode)
    return most


def workers(mark: str) -> Iterator[str]:
    """The process ids of a run's busy workers and of their children."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[entry.name] = (entry / "stat").read_text().rpartition(")")[2].split()[1]
    for pid in parents:
        with suppress(OSError):
            title = Path("/proc", pid, "cmdline").read_bytes()
            if (
                title.startswith(b"ray::Bench")
                and f"{MARK}={mark}".encode() in Path("/proc", pid, "environ").read_bytes()
            ):
                yield pid
                yield from (child for child, parent in parents.items() if parent == pid)


def pss(pid: str) -> int:
    """The bytes of a process, pages that it shares with others in parts."""
    with suppress(OSError):
        for line in Path("/proc", pid, "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
