"""What an engine that misbehaves costs: whole jobs with scripted engines that fail in every way, beside one that does not.

Comes in: nothing; the images are made here. Goes out: for each kind of trouble the seconds of `generate`'s job, the pairs that were
made, the failures by reason, and how the job ended. Every job ends: done, or stopped with the cause in one line. Ours is what
the pairs of a troubled job cost in time, the limit a job without trouble.
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
PATIENCE = 900
SHELVES = {
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
    """What a job came to."""

    seconds: float
    pairs: int
    failed: Mapping[str, int]
    end: str


def main() -> None:
    """Prints a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="few images and kinds of trouble")
    given = parser.parse_args()
    count = 64 if given.quick else given.images
    with tempfile.TemporaryDirectory(prefix="bad-engines-") as name:
        photos = workspace(Path(name), count)
        troubles = kinds(photos)
        chosen = {
            kind: troubles[kind] for kind in (("none", "one call in ten answers junk") if given.quick else troubles)
        }
        found = {kind: job(Path(name), kind, settings) for kind, settings in chosen.items()}
    report(found, count)


def kinds(photos: list[Path]) -> dict[str, list[str]]:
    """Every kind of trouble, as settings of the engine."""
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


def workspace(folder: Path, count: int) -> list[Path]:
    """Small images with their tags beside them, and shelves."""
    for name, text in SHELVES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    photos = [folder / "photos" / f"{number:05}.png" for number in range(count)]
    photos[0].parent.mkdir()
    for number, path in enumerate(photos):
        Image.new("RGB", (32, 32), (number % 256, number // 256, 90)).save(path)
        path.with_suffix(".json").write_text('{"tags": ["thing"]}')
    return photos


def command(out: str, *more: str) -> list[str]:
    """A run, as it is typed."""
    words = [
        "run",
        "photos",
        "--out",
        out,
        "--pipeline",
        "small",
        "--set",
        "generate.engine.options.seconds=0.005",
        *more,
    ]
    return [sys.executable, "-m", "synthgen", *words]


def job(folder: Path, kind: str, settings: list[str]) -> Cost:
    """The last three stages of one job, to their end; tag and plan are the same for all and done before."""
    out = kind.replace(" ", "-")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if not (folder / "planned").exists():
        subprocess.run(
            command("planned", "--until", "plan"),
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
    shutil.copytree(folder / "planned", folder / out)
    troubled = command(
        out, "--from", "generate", *(word for one in settings for word in ("--set", f"generate.engine.{one}"))
    )
    started = time.monotonic()
    done = subprocess.run(
        troubled, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    seconds = time.monotonic() - started
    run = RunFolder(Folder(str(folder / out)))
    funnel = next(funnel for funnel in funnels(run) if funnel.stage == "generate")
    failed = {name.removeprefix("failed."): count for name, count in funnel.fell.items()}
    end = "done" if done.returncode == 0 else f"stopped, exit {done.returncode}"
    if done.returncode not in (0, 1) or (done.returncode == 0 and funnel.to_do):
        raise SystemExit(f"{kind}: {done.stderr[-2000:]}")
    print(f"{kind}: {seconds:.0f} s, {end}", file=sys.stderr, flush=True)
    return Cost(seconds, funnel.went, failed, end)


def report(found: Mapping[str, Cost], images: int) -> None:
    """The table and the line."""
    print(f"{images:,} images, 3 questions each")
    print(f"{'engine':<40}{'seconds':>8}{'pairs':>8}  failed, and how it ended")
    for kind, cost in found.items():
        failed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(cost.failed.items())) or "none"
        print(f"{kind:<40}{cost.seconds:>8.1f}{cost.pairs:>8,}  {failed}; {cost.end}")
    plain = found["none"]
    worst = max((cost.seconds / plain.seconds for cost in found.values()), default=1.0)
    told = {"kinds": len(found), "ended": len(found), "seconds_without_trouble": round(plain.seconds, 1)}
    print(json.dumps({"benchmark": "bad_engines", "ratio": round(worst, 2), **told, "images": images}))


if __name__ == "__main__":
    main()
