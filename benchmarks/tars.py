"""The time and the memory of listing shards of WebDataset, beside a bare walk through the same tars.

Shards of 10,000 small entries are drawn on the spot: an image and its JSON by turns. `tarfile` walks through them and
reads the JSON, as little as a listing can do; then they are listed by the real listing, up to the committed table. Each
step runs in a fresh process, so that its peak memory is not another's. `ratio` is the time of a core that the bare walk
takes over that of the listing; `growth` is the peak memory of the listing over that of a tenth of the entries.

    python benchmarks/tars.py [--quick]
"""

import json
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driver import in_fresh_process, list_source

from synthgen.config.source import SourceConfig
from synthgen.ingest.sources import list_objects
from synthgen.store import Folder, Lease, StageFolder
from synthgen.tables import LIST

ENTRIES = 10_000  # of a shard
IMAGE_BYTES = 700


def main() -> None:
    """Draw the shards, run each step in a fresh process; print a table, then one line of JSON."""
    steps: dict[str, Callable[[str], int]] = {"--walk": walk, "--list": list_shards}
    if step := next((step for step in steps if step in sys.argv), None):
        print(json.dumps(measure(steps[step], sys.argv[sys.argv.index(step) + 1])))
        return
    most = 20_000 if "--quick" in sys.argv else 1_000_000
    with tempfile.TemporaryDirectory(prefix="synth-tars-") as folder:
        places = [f"{folder}/{size}" for size in (most // 10, most)]
        for place, size in zip(places, (most // 10, most), strict=True):
            draw(Path(place), size)
        costs = [{step: in_fresh_process(__file__, step, place) for step in steps} for place in places]
    print(f"{'entries':>10} {'step':>6} {'seconds':>8} {'CPU s':>8} {'entries/s':>10} {'peak MB':>8}")
    for size, cost in zip((most // 10, most), costs, strict=True):
        for step, one in cost.items():
            rate = size / one["seconds"]
            print(
                f"{size:>10,} {step[2:]:>6} {one['seconds']:>8.1f} {one['cpu']:>8.1f} {rate:>10,.0f} "
                f"{one['peak_mb']:>8.0f}"
            )
    report(most, costs)


def report(most: int, costs: list[dict[str, Any]]) -> None:
    """Print the line of JSON."""
    small, large = costs
    result = {
        "entries": most,
        "seconds": round(large["--list"]["seconds"], 1),
        "cpu_seconds": round(large["--list"]["cpu"], 1),
        "peak_mb": round(large["--list"]["peak_mb"]),
        "growth": round(large["--list"]["peak_mb"] / small["--list"]["peak_mb"], 2),
        "ratio": round(large["--walk"]["cpu"] / large["--list"]["cpu"], 2),
    }
    print(json.dumps({"benchmark": "tars", **result}))


def draw(folder: Path, entries: int) -> None:
    """Write shards of this many entries in all."""
    folder.mkdir()
    for shard in range(-(-entries // ENTRIES)):
        with (folder / f"{shard:05}.tar").open("wb") as file:
            for number in range(min(ENTRIES, entries - shard * ENTRIES) // 2):
                name = f"{shard:05}{number:04}"
                meta = json.dumps({"url": f"https://example.org/{name}.jpg", "caption": f"picture {name}"}).encode()
                for suffix, content in (("jpg", b"\xff\xd8\xff" + bytes(IMAGE_BYTES)), ("json", meta)):
                    info = tarfile.TarInfo(f"{name}.{suffix}")
                    info.size = len(content)
                    file.write(info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE))
            file.write(bytes(2 * tarfile.BLOCKSIZE))


def measure(step: Callable[[str], int], place: str) -> dict[str, Any]:
    """Run a step; return seconds, core seconds, peak memory and the number of images."""
    start, cpu = time.perf_counter(), time.process_time()
    images = step(place)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": images, "seconds": seconds, "cpu": cpu, "peak_mb": peak}


def walk(place: str) -> int:
    """Walk through all headers, and read each JSON."""
    images = 0
    for path in sorted(Path(place).glob("*.tar")):
        with tarfile.open(path) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                images += info.name.endswith(".jpg")
                if info.name.endswith(".json") and (file := archive.extractfile(info)):
                    json.loads(file.read())
    return images


def list_shards(place: str) -> int:
    """List the shards into an output folder."""
    with tempfile.TemporaryDirectory(prefix="synth-listed-") as name:
        out = Folder(f"{name}/out")
        with Lease.take(out) as lease:
            list_source(out, list_objects(SourceConfig(uri=place)), lease)
        return StageFolder(out, LIST).log().counts()["listed"]


if __name__ == "__main__":
    main()
