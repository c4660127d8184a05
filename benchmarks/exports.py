"""The images a second of each form of export, beside a bare copy of the same bytes.

A packed run is made up: noisy JPEGs of about 100 KB, four turns each. Each form is then exported in a fresh process, as
are two bare copies that read the shards as an export does: of all images into one file, and of each into a file of its
own. The ratio of a form with images inside is to the first, of one with images beside it to the second, both of core
seconds, as other processes change the seconds. `growth` is the peak memory of exporting all images over that of a tenth
of them.

    python benchmarks/exports.py [--quick]
"""

import io
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from driver import in_fresh_process, is_quick
from PIL import Image

from synthgen import tables as schemas
from synthgen.commands.export import FORMS, export
from synthgen.commands.export.sample import read_samples
from synthgen.stages.pack.schema import ParquetFiles, sample_schema
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import GENERATE, PACK

SIDE, TURNS, SHARD_BYTES, GROUP_BYTES = 360, 4, 20 * 2**20, 4 * 2**20
PICTURES = 50  # different ones; names differ everywhere
BARE = {"inside": "one file", "beside": "a file each"}  # where a form has its images → the copy beside it


def main() -> None:
    """Measure each form just after the copy beside it; print a table, then one line of JSON."""
    if "--export" in sys.argv:
        print(json.dumps(measure(sys.argv[-2], sys.argv[-1])))
        return
    count = 1_000 if is_quick(__doc__) else 10_000
    with tempfile.TemporaryDirectory() as folder:
        out, small = Path(folder, "run"), Path(folder, "small")
        make_run(out, count)
        make_run(small, count // 10)
        pairs = {name: (run(BARE[form.images], out, count), run(name, out, count)) for name, form in FORMS.items()}
        tenth = in_fresh_process(__file__, "--export", "llava", small)
    ratios = {name: round(bare["cpu_seconds"] / own["cpu_seconds"], 2) for name, (bare, own) in pairs.items()}
    for name, ratio in ratios.items():
        print(f"{name:>14}  {ratio:.2f} of the bare copy with images {FORMS[name].images}")
    growth = pairs["llava"][1]["peak_mb"] / tenth["peak_mb"]
    print(f"ten times the images take {growth:.2f} times the memory")
    rates = {name: round(count / own["cpu_seconds"]) for name, (_, own) in pairs.items()}
    result = {"images": count, "ratio": min(ratios.values()), "ratios": ratios, "images_per_core_second": rates}
    print(json.dumps({"benchmark": "exports", **result, "growth": round(growth, 2)}))


def run(name: str, out: Path, count: int) -> dict[str, Any]:
    """Measure one export or copy in a fresh process, and print its line."""
    cost: dict[str, Any] = in_fresh_process(__file__, "--export", name, out)
    core, seconds = (count / cost[key] for key in ("cpu_seconds", "seconds"))
    print(f"{name:>14} {seconds:>9,.0f} images/s {core:>9,.0f} a core second {cost['peak_mb']:>7.0f} MB", flush=True)
    return cost


def measure(name: str, out: str) -> dict[str, float]:
    """Export in a form, or copy; return what it cost."""
    folder = RunFolder(Folder(out))
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as target:
        start, cpu = time.perf_counter(), time.process_time()
        if name in BARE.values():
            copy_images(folder, Path(target), name)
        else:
            export(folder, f"{target}/set", name)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak_megabytes(),
    }


def copy_images(folder: RunFolder, target: Path, name: str) -> None:
    """Write every image of the shards into one file or into a file of its own, and nothing else."""
    with (target / "images").open("wb") as joined:
        for shard in folder.log(PACK).partitions:
            for image in (image for each in read_samples(folder, shard) for image in each.pictures):
                if name == BARE["inside"]:
                    joined.write(image.data)
                else:
                    (target / image.name).write_bytes(image.data)


def peak_megabytes() -> float:
    """Return the most memory that this program took; that of its parent, which rusage counts too, is left out."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


# --- the run ----------------------------------------------------------------------------------------------------------


def make_run(folder: Path, count: int) -> None:
    """Write the folder of a run with this many images, up to its shards."""
    out = Folder(str(folder))
    out.write("run.json", b'{"format": 1}')
    RunFolder(out).write_record({"pipeline": {}})
    files = ParquetFiles(sample_schema(("answer",)), SHARD_BYTES, GROUP_BYTES)
    pairs = list[dict[str, Any]]()
    with Lease.take(out) as lease:
        for content, rows in cut(files, count, pairs):
            commit_shard(out, content, rows, pairs, lease)


def cut(files: ParquetFiles, count: int, pairs: list[dict[str, Any]]) -> Any:
    """Yield the shards and their rows; `pairs` grows by the pairs of the samples."""
    pictures = [picture(number) for number in range(PICTURES)]
    for number in range(count):
        row = sample(number, pictures[number % PICTURES])
        pairs += [pair(row, turn) for turn in range(TURNS)]
        yield from files.add(row)
    yield from files.finish()


def commit_shard(out: Folder, content: bytes, rows: int, pairs: list[dict[str, Any]], lease: Lease) -> None:
    """Commit a shard that was made from the pairs of a partition of the same name."""
    stage, made = StageFolder(out, PACK), StageFolder(out, GENERATE)
    partition = f"e001-{len(stage.log().partitions):05d}"
    table = schemas.table(pairs, schemas.PAIRS)
    made.commit(Receipt(partition, 1, {"pairs": TablePart((made.write("pairs", partition, 1, table),), "f")}), lease)
    data = TablePart((stage.put("data", f"train-{partition}", content, rows),), "f")
    reads = {f"{GENERATE.folder}/{name}.1": "" for name in made.log().partitions}
    stage.commit(Receipt(partition, 1, {"data": data}, {"samples": rows, "turns": rows * TURNS}, reads), lease)
    pairs.clear()


def picture(number: int) -> bytes:
    """Return a JPEG of about 100 KB."""
    sink = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(sink, "JPEG", quality=80)
    return sink.getvalue()


def sample(number: int, image: bytes) -> dict[str, Any]:
    """Return a row of the shards."""
    image_id, draw = f"{number:064x}", random.Random(number)
    names = [f"{number:028x}{turn:04x}" for turn in range(TURNS)]
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": " ".join(draw.choices(WORDS, k=12))}]}
        for _ in range(TURNS)
        for role in ("user", "assistant")
    ]
    messages[0]["content"].insert(0, {"type": "image", "text": None})
    blank = dict.fromkeys(sample_schema(()).names)
    own = {"id": f"{number:032x}", "images": [{"bytes": image, "path": f"{image_id}.jpg"}], "messages": messages}
    lists = {"uris": [f"{number}.jpg"], "tags": [], "pair_ids": names, "types": ["coarse/scene"] * TURNS}
    kinds = {"forms": ["short"] * TURNS, "languages": ["English"] * TURNS, "score_answer": [4.0] * TURNS}
    return {**blank, **own, "image_id": image_id, "width": SIDE, "height": SIDE, **lists, **kinds}


def pair(row: dict[str, Any], turn: int) -> dict[str, Any]:
    """Return the record of a pair."""
    name = row["pair_ids"][turn]
    return {"assignment_id": name, "pair_id": name, "outcome": "pair", "form": "short", "question": "What is it?"}


TEXT = "the a bus dog tree stands left right of under what where colour sign red green how many"
WORDS = TEXT.split()

if __name__ == "__main__":
    main()
