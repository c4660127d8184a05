"""The cost of watching a run: its throughput with the live view, JSON events and metrics, over that of a quiet run.

Pairs of jobs take turns: the same questions of a scripted engine, once with everything that `docs/watching.md` names,
once with nothing. The engine answers at once, so the processor is all that they compete for, as with no real model.
Throughput is questions a processor second of the driver and the worker together, so that other work on the machine
counts little. `ratio` is the median of the pairs' ratios; `driver` and `ray` are how much of a core the driver and
Ray's own processes, which serve the metrics, take more.

    python benchmarks/watching.py [--pairs 5] [--images 2000] [--quick]
"""

import argparse
import json
import os
import pty
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bad_engines import ROOT, command, make_workspace

from synthgen.console import Event, JsonLines, only, print_notes, seen_by
from synthgen.console.events import Progress

PORT = 18_181
FASTEST = ["--set", "generate.engine.options.seconds=0", "--set", "generate.engine.in_flight=16"]


class Watch:
    """A view that measures, while the stage is at work: rows with an outcome, seconds, and processor seconds.

    The first are those of the first rows, so that what is loaded before them does not count.
    """

    def __init__(self) -> None:
        self.first: tuple[float, ...] = ()
        self.last: tuple[float, ...] = ()

    def see(self, event: Event) -> None:
        """Take the measures at progress of the stage."""
        if isinstance(event, Progress) and event.stage == "generate" and event.phase == "going" and event.done:
            self.last = event.done, time.monotonic(), own_cpu(), *family_cpu()
            self.first = self.first or self.last

    def figures(self) -> dict[str, float]:
        """Return the rows a processor second, and how much of a core the driver and Ray took."""
        rows, seconds, own, work, ray = (last - first for first, last in zip(self.first, self.last, strict=True))
        return {"rate": rows / (own + work), "driver": own / seconds, "ray": ray / seconds}


def main() -> None:
    """Measure pairs of jobs; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="1 pair of 300 images")
    parser.add_argument("--job", nargs=2, metavar=("OUT", "LOOK"), help="run one job in this process")
    args = parser.parse_args()
    if args.job:
        run_job(*args.job)
        return
    pairs, images = (1, 300) if args.quick else (args.pairs, args.images)
    with tempfile.TemporaryDirectory(prefix="watching-") as name:
        make_workspace(Path(name), images)
        planned = command("planned", "--until", "plan", "--quiet")
        subprocess.run(planned, cwd=name, env=environment(), check=True, stdout=subprocess.DEVNULL)
        measured = [measure_pair(Path(name), number) for number in range(pairs)]
    report(measured, images)


def measure_pair(folder: Path, number: int) -> list[dict[str, float]]:
    """Return what a quiet and a watched job measured; every other pair begins with the watched one."""
    looks = ("quiet", "watched") if number % 2 else ("watched", "quiet")
    found = {look: start_job(folder, look) for look in looks}
    return [found["quiet"], found["watched"]]


def start_job(folder: Path, look: str) -> dict[str, float]:
    """Run a job in a process of its own, whose stderr is a terminal, and return what it measured."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.copytree(folder / "planned", folder / "out")
    leader, terminal = pty.openpty()
    threading.Thread(target=_drain, args=(leader,), daemon=True).start()
    metrics = {"SYNTH_METRICS": str(PORT)} if look == "watched" and has_exporter() else {}
    started = [sys.executable, __file__, "--job", "out", look]
    done = subprocess.run(
        started, cwd=folder, env={**environment(), **metrics}, check=True, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_job(out: str, look: str) -> None:
    """Run the stage generate, and print its rate and the processor time of this process as JSON."""
    from synthgen.commands.open import open_run
    from synthgen.job.request import RunRequest
    from synthgen.run import StageRange, run

    settings = [word for word in FASTEST if word != "--set"]
    opened = open_run("run", RunRequest.typed("small", "photos", None, settings), out, lists=False)
    watch = Watch()
    with ExitStack() as stack:
        if look == "watched":
            print_notes()
            stack.enter_context(seen_by(JsonLines(stack.enter_context(open(os.devnull, "w")).write)))  # noqa: PTH123
            stack.enter_context(seen_by(watch))
        else:
            stack.enter_context(only(watch))
        run(opened.folder, opened.job, opened.request, StageRange("generate", "generate"))
    print(json.dumps(watch.figures()))


def report(measured: list[list[dict[str, float]]], images: int) -> None:
    """Print the table and the line of JSON."""
    print(f"{images:,} images, 3 questions each; questions a processor second, and how much of a core the driver takes")
    print(f"{'quiet':>18}{'watched':>18}{'ratio':>8}")
    for quiet, watched in measured:
        cells = (f"{job['rate']:,.1f}/s {job['driver']:.1%}" for job in (quiet, watched))
        print(("{:>18}" * 2).format(*cells) + f"{watched['rate'] / quiet['rate']:8.3f}")
    ratio = statistics.median(watched["rate"] / quiet["rate"] for quiet, watched in measured)
    driver, ray = (
        statistics.median(watched[who] - quiet[who] for quiet, watched in measured) for who in ("driver", "ray")
    )
    print(f"ratio {ratio:.3f}; the driver takes {driver:.1%} of a core more, Ray {ray:.1%}")
    record: dict[str, Any] = {"benchmark": "watching", "ratio": round(ratio, 4)}
    record |= {"driver": round(driver, 4), "ray": round(ray, 4)}
    print(json.dumps(record | {"pairs": len(measured), "images": images, "metrics": has_exporter()}))


def environment() -> dict[str, str]:
    """Return the environment of a job."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}


def has_exporter() -> bool:
    """Return whether Ray can serve metrics here."""
    from ray._private.utils import get_dashboard_dependency_error

    return get_dashboard_dependency_error() is None


def own_cpu() -> float:
    """Return the processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def family_cpu() -> tuple[float, float]:
    """Return the processor seconds of the workers below this process, and of everything else below it that lives."""
    parents, ticks, workers = dict[int, int](), dict[int, int](), set[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().rpartition(") ")
            pid, values = int(path.parent.name), rest.split()
            parents[pid], ticks[pid] = int(values[1]), int(values[11]) + int(values[12])
            workers |= {pid} if "(ray::Actor" in name else set()
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    family -= {os.getpid()}
    tick = os.sysconf("SC_CLK_TCK")
    return sum(ticks[pid] for pid in family & workers) / tick, sum(ticks[pid] for pid in family - workers) / tick


def _drain(leader: int) -> None:
    try:
        while os.read(leader, 65_536):
            pass
    except OSError:  # the other end is closed
        os.close(leader)


if __name__ == "__main__":
    main()
