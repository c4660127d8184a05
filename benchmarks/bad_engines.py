"""The cost of an engine that misbehaves: whole jobs whose scripted engine fails, beside one without trouble.

For each kind of trouble: the seconds of the last three stages, the pairs that were made, the failures by reason, and
how the job ended. Every job must end, done or stopped with the cause in one line. `ratio` is the slowest job over the
one without trouble.

    python benchmarks/bad_engines.py [--images 1000] [--quick]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from synthgen.job.funnel import funnels
from synthgen.store import Folder, RunFolder
from synthgen.tables import image_id

ROOT = Path(__file__).parent.parent
TIMEOUT = 900  # seconds of a job
DEFINITION_FILES = {
    "taggers/taxonomies/small.yaml": "about: x\ntemplates: ['{}']\ntags:\n  thing: a thing\n",
    "taggers/beside.yaml": "about: tags beside the image\nengine: sidecar\ntaxonomy: small\n",
    "pipelines/mappings/small.yaml": "about: x\nrules:\n  - tags: '**'\n    ask: {'**': 1}\n",
    "pipelines/small.yaml": (
        "about: a job for a bad engine\nsource: {sidecar: .json}\ntag: {tagger: beside}\n"
        "plan: {mapping: small, per_image: 3, near_duplicates: -1}\n"
        "generate: {model: none, prompts: everyday, engine: {kind: scripted}, scores: [likelihood]}\n"
    ),
}


@dataclass(frozen=True)
class Cost:
    """The result of one job."""

    seconds: float
    pairs: int
    failed: Mapping[str, int]
    end: str


def main() -> None:
    """Run the jobs; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="of the bucket (1000)")
    parser.add_argument("--quick", action="store_true", help="64 images and one kind of trouble")
    args = parser.parse_args()
    count = 64 if args.quick else args.images
    with tempfile.TemporaryDirectory(prefix="bad-engines-") as name:
        troubles = engine_settings(make_workspace(Path(name), count))
        kinds = ("none", "one call in ten answers junk") if args.quick else tuple(troubles)
        costs = {kind: run_job(Path(name), kind, troubles[kind]) for kind in kinds}
    report(costs, count)


def engine_settings(photos: list[Path]) -> dict[str, list[str]]:
    """Return the engine's settings for every kind of trouble."""
    poison = image_id(photos[len(photos) // 2].read_bytes())[:32]
    return {
        "none": [],
        "one call in ten answers junk": ["options.junk=0.1"],
        "one call in ten is refused": ["options.refuse=0.1"],
        "one call in ten fails": ["options.fail=0.1"],
        "one call in ten answers twice": ["options.twice=0.1"],
        "one call in a hundred answers 5 s late": ["options.late=0.01"],
        "one call in a hundred hangs": ["options.hang=0.01", "call_seconds=5"],
        "one image kills the engine": [f"options.die_on={poison}"],
        "one image kills the process": [f"options.exit_on={poison}"],
        "one image hangs the engine": [f"options.stall_on={poison}", "stall_seconds=5"],
        "every call fails": ["options.fail=1"],
        "every image kills the process": ["options.exit_on='-'"],
    }


def make_workspace(folder: Path, count: int) -> list[Path]:
    """Write definition files and small images with their tags beside them; return the images."""
    for name, text in DEFINITION_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    photos = [folder / "photos" / f"{number:05}.png" for number in range(count)]
    photos[0].parent.mkdir()
    for number, path in enumerate(photos):
        Image.new("RGB", (32, 32), (number % 256, number // 256, 90)).save(path)
        path.with_suffix(".json").write_text('{"tags": ["thing"]}')
    return photos


def command(out: str, *options: str) -> list[str]:
    """Return the command line of a run into a folder."""
    run = ["run", "photos", "--out", out, "--pipeline", "small", "--set", "generate.engine.options.seconds=0.005"]
    return [sys.executable, "-m", "synthgen", *run, *options]


def run_job(folder: Path, kind: str, settings: list[str]) -> Cost:
    """Run the last three stages of one job to their end; tag and plan are the same for all jobs and run once."""
    out = kind.replace(" ", "-")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    if not (folder / "planned").exists():
        subprocess.run(
            command("planned", "--until", "plan"),
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )
    shutil.copytree(folder / "planned", folder / out)
    options = [word for setting in settings for word in ("--set", f"generate.engine.{setting}")]
    started = time.monotonic()
    process = subprocess.run(
        command(out, "--from", "generate", *options),
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    seconds = time.monotonic() - started
    run = RunFolder(Folder(str(folder / out)))
    funnel = next(funnel for funnel in funnels(run) if funnel.stage == "generate")
    failed = {name.removeprefix("failed."): count for name, count in funnel.dropped.items()}
    end = "done" if process.returncode == 0 else f"stopped, exit {process.returncode}"
    if process.returncode not in (0, 1) or (process.returncode == 0 and not funnel.is_settled):
        raise SystemExit(f"{kind}: {process.stderr[-2000:]}")
    print(f"{kind}: {seconds:.0f} s, {end}", file=sys.stderr, flush=True)
    return Cost(seconds, funnel.passed, failed, end)


def report(costs: Mapping[str, Cost], images: int) -> None:
    """Print the table and the line of JSON."""
    print(f"{images:,} images, 3 questions each")
    print(f"{'engine':<40}{'seconds':>8}{'pairs':>8}  failed, and how it ended")
    for kind, cost in costs.items():
        failed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(cost.failed.items())) or "none"
        print(f"{kind:<40}{cost.seconds:>8.1f}{cost.pairs:>8,}  {failed}; {cost.end}")
    untroubled = costs["none"].seconds
    slowest = max(cost.seconds / untroubled for cost in costs.values())
    counts = {"kinds": len(costs), "seconds_without_trouble": round(untroubled, 1)}
    print(json.dumps({"benchmark": "bad_engines", "ratio": round(slowest, 2), **counts, "images": images}))


if __name__ == "__main__":
    main()
