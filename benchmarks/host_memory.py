"""The host memory that a worker's images are predicted to take at most, beside that measured, on large images.

The images are JPEG and PNG of 20 megapixels, and the limits are set to just that. For `tag` and `generate`: the figure
that a run prints (stages/memory.py), and the peak of the worker's process and its children together, shared pages
counted once (PSS), looked at every tenth of a second. The tagger reads tags beside the images and the engine is
scripted, so only images are measured. `ratio` is the larger of measured over predicted: at most 1, or the prediction
was broken.

    python benchmarks/host_memory.py [--images 48] [--quick]
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path

from bad_engines import DEFINITION_FILES, command
from PIL import Image

from synthgen.config import pipeline as pipelines
from synthgen.stages import memory
from synthgen.workers.actor import ActorShell

ROOT = Path(__file__).parent.parent
SIDES = (5000, 4000)  # pixels
MARK = "SYNTH_HOST_MEMORY"  # a variable of the run's environment, by which its workers are recognised
LIMITS = (
    "images.max_pixels=20000000",
    "images.max_bytes=33554432",
    "tag.batch=16",
    "generate.engine.host_megabytes=64",
)
LOOK_SECONDS = 0.1
ACTOR_TITLE = f"ray::{ActorShell.__name__}".encode()  # of a busy worker's process


@dataclass(frozen=True)
class Watched:
    """The end of a command.

    Attributes:
        status: Its exit status.
        messages: All that it wrote.
        seconds: The time that it took.
        peak: The most bytes that its workers and their children had at once.
    """

    status: int
    messages: str
    seconds: float
    peak: int


def main() -> None:
    """Run two stages; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=48, help="of the bucket (48)")
    parser.add_argument("--quick", action="store_true", help="12 images")
    args = parser.parse_args()
    count = 12 if args.quick else args.images
    with tempfile.TemporaryDirectory(prefix="host-memory-") as name, chdir(name):
        make_workspace(Path(name), count)
        settings = [f"--set={limit}" for limit in LIMITS]
        pipeline = pipelines.load("small", list(LIMITS))
        predicted = {"tag": memory.tag_bytes(pipeline), "generate": memory.generate_bytes(pipeline)}
        measured = {
            "tag": peak(["--until", "tag", *settings]),
            "generate": peak(["--from", "plan", "--until", "generate", *settings]),
        }
    print(f"{count} images of {SIDES[0] * SIDES[1] / 1e6:.0f} megapixels")
    print(f"{'stage':<10}{'predicted MB':>13}{'measured MB':>12}{'ratio':>7}")
    ratios = {stage: measured[stage] / predicted[stage] for stage in predicted}
    for stage, ratio in ratios.items():
        print(f"{stage:<10}{predicted[stage] / 1e6:>13.0f}{measured[stage] / 1e6:>12.0f}{ratio:>7.2f}")
    sizes = {f"{stage}_mb": round(size / 1e6) for stage, size in measured.items()}
    print(json.dumps({"benchmark": "host_memory", "ratio": round(max(ratios.values()), 2), **sizes, "images": count}))


def make_workspace(folder: Path, count: int) -> None:
    """Write definition files and large images with their tags beside them.

    Half of the images are PNG, which must be decoded whole, with transparency or of 16 bits.
    """
    for name, text in DEFINITION_FILES.items():
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


def peak(options: list[str]) -> int:
    """Run some stages; return the most bytes that the workers and their children had at once."""
    watched = watch(command("out", *options))
    if watched.status:
        raise SystemExit(watched.messages or watched.status)
    if not watched.peak:
        raise SystemExit(f"no process of the run had a title that begins with {ACTOR_TITLE.decode()}: nothing measured")
    return watched.peak


def watch(words: list[str], timeout: float = float("inf")) -> Watched:
    """Run a command to its end, or kill it after some seconds, and look at the memory of its workers."""
    mark, started, most = secrets.token_hex(8), time.monotonic(), 0
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, MARK: mark, "PYTHONPATH": paths}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output, start_new_session=True)
        while process.poll() is None:
            most = max(most, sum(map(pss, workers(mark))))
            if time.monotonic() - started > timeout:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)
        output.seek(0)
        return Watched(process.returncode, output.read(), time.monotonic() - started, most)


def workers(mark: str) -> Iterator[str]:
    """Yield the process ids of a run's busy workers and of their children."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[entry.name] = (entry / "stat").read_text().rpartition(")")[2].split()[1]
    for pid in parents:
        with suppress(OSError):
            title = Path("/proc", pid, "cmdline").read_bytes()
            if (
                title.startswith(ACTOR_TITLE)
                and f"{MARK}={mark}".encode() in Path("/proc", pid, "environ").read_bytes()
            ):
                yield pid
                yield from (child for child, parent in parents.items() if parent == pid)


def pss(pid: str) -> int:
    """Return the bytes of a process, with its part of the pages that it shares with others."""
    with suppress(OSError):
        for line in Path("/proc", pid, "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
