"""The first pages of `synth browse`, and `synth diff`, on a large run, as a ratio to reading its tables once.

The made-up run of `report.py` is opened and asked for its pages one after the other, in a fresh process for each size,
while its counts are made in the background as they are for a person. `slowest_page` is the slowest of the pages that
open a search; `rare_words` is a search through everything for words that only the last pairs have, in as many requests
as a browser makes. `diff` compares the run with itself, which reads everything twice. Pictures come
from the source and are not asked for. Seconds are of the clock and of a core, those of the counts in the background
among them; `ratio` is the slowest page over reading the columns of a report once, both of a core.

    python benchmarks/browse.py [--quick]
"""

import json
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from driver import in_fresh_process, is_quick
from report import read_once, write_run
from starlette.testclient import TestClient

from synthgen.commands.browse.server import Desk, app_of
from synthgen.commands.diff import DiffRequest, diff
from synthgen.store import Folder, Lease, RunFolder

PAGES = {
    "overview": "",
    "pairs": "pairs",
    "kept pairs": "pairs?outcome=kept",
    "of a type": "pairs?type=family_3/type_7",
    "of a reason": "pairs?reason=score:answer",
    "of a tag": "pairs?tag=root_2/group_1/leaf_4",
    "by a score": "pairs?score=likelihood&least=0.999",
    "by words": "pairs?q=boat+horse+lamp",
    "from the middle": "pairs?after={middle}:500",
    "images": "images",
    "images of a tag": "images?tag=root_2",
    "tags": "tags",
}
RARE = "pairs?q=nosuchword"


def main() -> None:
    """Measure two sizes; print a table, then one line of JSON."""
    if "--size" in sys.argv:
        print(json.dumps(measure(int(sys.argv[-1]))))
        return
    most = 100_000 if is_quick(__doc__) else 1_000_000
    small, large = (in_fresh_process(__file__, "--size", count) for count in (most // 10, most))
    print(f"{'seconds, of a core':<20} {small['pairs']:>16,} {large['pairs']:>16,}")
    for name in ("opening", *PAGES, "pair", "next pair", "rare words", "counts", "diff"):
        times = (f"{each['seconds'][name]:>8.3f} {each['cpu_seconds'][name]:>7.3f}" for each in (small, large))
        print(f"{name:<20} {' '.join(times)}")
    print(f"{'peak MB':<20} {small['peak_mb']:>16,.0f} {large['peak_mb']:>16,.0f}")
    print(json.dumps({"benchmark": "browse", **large}))


def measure(count: int) -> dict[str, Any]:
    """Write `count` pairs, and time each page."""
    with tempfile.TemporaryDirectory() as folder:
        out, times = Folder(f"{folder}/run"), Times()
        with Lease.take(out) as lease:
            write_run(out, lease, count)
        times.of("reading", lambda: read_once(RunFolder(out)))
        desk = times.of("opening", lambda: Desk(out))
        client = TestClient(app_of(desk), base_url="http://127.0.0.1:8000")
        middle = desk.snapshot.partitions[len(desk.snapshot.partitions) // 2]
        for name, place in PAGES.items():
            times.of(name, partial(_get, client, desk, place.format(middle=middle)))
        _pair_pages(client, desk, times)
        times.of("rare words", lambda: _search_everything(client, desk))
        times.of("counts", desk.snapshot.tally.finish)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        desk.close()
        times.of("diff", lambda: _diff(out, Path(folder)))
    slowest = max(times.cpu[name] for name in PAGES)
    costs = {"slowest_page": max(times.clock[name] for name in PAGES), "peak_mb": round(peak)}
    seconds = {"seconds": times.clock, "cpu_seconds": times.cpu}
    return {"pairs": count, **seconds, **costs, "ratio": round(slowest / times.cpu["reading"], 4)}


@dataclass
class Times:
    """Seconds of the clock, and of a core, by name."""

    clock: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    def of(self, name: str, call: Callable[[], Any]) -> Any:
        """Call, keep what it took, and return its result."""
        start, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.clock[name] = round(time.perf_counter() - start, 3)
        self.cpu[name] = round(time.process_time() - cpu, 3)
        return result


def _get(client: TestClient, desk: Desk, place: str) -> str:
    reply = client.get(f"/{desk.token}/{place}")
    assert reply.status_code == 200, reply.text[:500]
    return str(reply.text)


def _pair_pages(client: TestClient, desk: Desk, times: Times) -> None:
    """Time the page of a pair, and the step to the next of a search."""
    (place, *_) = re.findall(rf'class="whole" href="/{desk.token}/([^"]+)"', _get(client, desk, PAGES["of a type"]))
    place = place.replace("&amp;", "&")
    step = re.findall(rf'id="next" rel="next" href="/{desk.token}/([^"]+)"', _get(client, desk, place))[0]
    times.of("pair", lambda: _get(client, desk, place))
    times.of("next pair", lambda: _get(client, desk, step.replace("&amp;", "&")))


def _search_everything(client: TestClient, desk: Desk) -> None:
    """Search for words that no pair has, as the script of the page goes on until everything is looked at."""
    place: str | None = RARE
    while place:
        text = _get(client, desk, place)
        more = re.findall(rf'data-next="/{desk.token}/([^"]+)"', text)
        place = more[0].replace("&amp;", "&") if more else None


def _diff(out: Folder, folder: Path) -> None:
    """Compare the run with itself, which reads everything twice, and write the page."""
    request = DiffRequest(html=str(folder / "diff.html"), has_pictures=False)
    diff(RunFolder(out), RunFolder(out), request)


if __name__ == "__main__":
    main()
