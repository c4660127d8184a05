"""The first pages of `synth browse`, and `synth diff`, on a large run, as a ratio to reading its tables once.

The made-up run of `report.py` is opened and asked for its pages one after the other, in a fresh process for each size,
while its counts are made in the background as they are for a person. `slowest_page` is the slowest of the pages that
open a search; `rare_words` is a search through everything for words that only the last pairs have, in as many requests
as a browser makes. `diff` compares the run with another selection of it. Pictures come from the source and are not
asked for. `ratio` is the slowest page over reading the columns of a report once.

    python benchmarks/browse.py [--quick]
"""

import json
import re
import resource
import sys
import tempfile
import time
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
    print(f"{'seconds':<18} {small['pairs']:>12,} {large['pairs']:>12,}")
    for name in ("opening", *PAGES, "pair", "next pair", "rare words", "counts", "diff"):
        print(f"{name:<18} {small['seconds'][name]:>12.3f} {large['seconds'][name]:>12.3f}")
    print(f"{'peak MB':<18} {small['peak_mb']:>12,.0f} {large['peak_mb']:>12,.0f}")
    print(json.dumps({"benchmark": "browse", **large}))


def measure(count: int) -> dict[str, Any]:
    """Write `count` pairs, and time each page."""
    with tempfile.TemporaryDirectory() as folder:
        out, seconds = Folder(f"{folder}/run"), dict[str, float]()
        with Lease.take(out) as lease:
            write_run(out, lease, count)
        reading = _timed(lambda: read_once(RunFolder(out)))
        start = time.perf_counter()
        desk = Desk(out)
        seconds["opening"] = time.perf_counter() - start
        client = TestClient(app_of(desk), base_url="http://127.0.0.1:8000")
        middle = desk.snapshot.partitions[len(desk.snapshot.partitions) // 2]
        for name, place in PAGES.items():
            seconds[name] = _timed(lambda place=place: _get(client, desk, place.format(middle=middle)))
        seconds |= _pair_pages(client, desk)
        seconds["rare words"] = _timed(lambda: _search_everything(client, desk))
        seconds["counts"] = _timed(desk.snapshot.tally.finish)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        desk.close()
        seconds["diff"] = _timed(lambda: _diff(out, Path(folder)))
    slowest = max(seconds[name] for name in PAGES)
    shown = {name: round(value, 3) for name, value in seconds.items()}
    ratio = round(slowest / reading, 4)
    costs = {"reading_seconds": round(reading, 2), "slowest_page": round(slowest, 3), "peak_mb": round(peak)}
    return {"pairs": count, "seconds": shown, **costs, "ratio": ratio}


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _get(client: TestClient, desk: Desk, place: str) -> str:
    reply = client.get(f"/{desk.token}/{place}")
    assert reply.status_code == 200, reply.text[:500]
    return str(reply.text)


def _pair_pages(client: TestClient, desk: Desk) -> dict[str, float]:
    """Time the page of a pair, and the step to the next of a search."""
    (place, *_) = re.findall(rf'class="whole" href="/{desk.token}/([^"]+)"', _get(client, desk, PAGES["of a type"]))
    place = place.replace("&amp;", "&")
    step = re.findall(rf'id="next" rel="next" href="/{desk.token}/([^"]+)"', _get(client, desk, place))[0]
    first = _timed(lambda: _get(client, desk, place))
    return {"pair": first, "next pair": _timed(lambda: _get(client, desk, step.replace("&amp;", "&")))}


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
