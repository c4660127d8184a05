"""Runs of the demo pipeline killed by SIGKILL at random instants and started again until done: no row may be missing.

Counts the kills, and how many assignments, pairs, scores, decisions and training samples were lost, doubled or
different from those of an undisturbed run (0, 0, 0). A kill takes the whole process group at once: driver, Ray and
workers. With `--cluster` the jobs join a Ray that lives on, so a kill takes the driver alone; its workers find out by
themselves, beside those of the next start. The instants are drawn evenly over a little more than the time of an
undisturbed run, again for each start, so every stage is hit, also its start and its end. With `--store s3` images and
output are in an S3 server behind a proxy that answers some requests with 500, late, cut short or not at all
(faulty_store.py). With the real engine (`--engine vllm`) replies are sampled, so only rows are compared, not their
text.

On two cores with much other load, nothing was lost, doubled or different: 101 kills on disk (`--seed 27`, 10 minutes),
30 on S3 behind the proxy (`--store s3 --kills 30 --seed 28`, 9 minutes), 5 with vLLM (`--engine vllm --kills 5 --seed
29 --images 12 --lanes 1`, 6 minutes), 10 in a Ray that lives on (`--cluster --kills 10 --seed 30 --lanes 1`, 3
minutes).

    python benchmarks/kill_soak.py [--kills 100] [--seed 1] [--images 40] [--lanes 2] [--cluster] [--store s3]
        [--engine vllm] [--quick]
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from faulty_store import FaultyStore

from demo.truth import read_rows as current_rows
from synthgen.job.funnel import funnels
from synthgen.store import Folder, RunFolder, StageFolder
from synthgen.tables import ASSIGNMENTS, DECISIONS, IMAGES, PAIRS, SCORES, STAGES

ROOT = Path(__file__).parent.parent
SCRIPTED = (
    "generate.engine.kind=scripted",
    "generate.engine.environment={}",
    "generate.engine.options={seconds: 0.02}",
)
LATEST = 1.15  # times an undisturbed run, until which a kill may fall
TIMEOUT = 900  # seconds that a start may take
Rows = dict[str, tuple[Any, ...]]


@dataclass
class Tally:
    """The result of all jobs."""

    kills: int = 0
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    gave_up: int = 0  # starts that ended with an error of the store, in one line, and were started again
    hit: Counter[str] = field(default_factory=Counter)  # stage at work at a kill -> kills
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Site:
    """Where jobs run: their images, the folder of their outputs, the engine and the environment."""

    source: str
    outs: str
    engine: str
    images: int
    environment: Mapping[str, str]

    def command(self, out: str) -> list[str]:
        """Return the command line of a run into a folder."""
        run = ["run", self.source, "--out", f"{self.outs}/{out}", "--pipeline", "demo", "--limit", str(self.images)]
        settings = ("score={}", "select.keep={}", *(SCRIPTED if self.engine == "scripted" else ()))
        return [sys.executable, "-m", "synthgen", *run, *(word for value in settings for word in ("--set", value))]


def main() -> None:
    """Run jobs until there were enough kills; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how often the run is killed (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    parser.add_argument("--images", type=int, default=40, help="of the bucket (40)")
    parser.add_argument("--store", choices=("disk", "s3"), default="disk", help="where the results go (disk)")
    parser.add_argument("--lanes", type=int, default=2, help="jobs side by side")
    parser.add_argument("--cluster", action="store_true", help="jobs join a Ray that outlives them")
    parser.add_argument("--engine", choices=("scripted", "vllm"), default="scripted", help="what answers (scripted)")
    parser.add_argument("--quick", action="store_true", help="two kills of a small job")
    args = parser.parse_args()
    if args.quick:
        args.kills, args.images, args.lanes = 2, 8, 1
    started = time.monotonic()
    with open_site(args.store, args.engine, args.images) as (site, store), join_cluster(site, args.cluster) as site:
        tally, seconds = soak(site, store, args)
    report(tally, seconds, args, time.monotonic() - started)


@contextlib.contextmanager
def open_site(store: str, engine: str, images: int) -> Iterator[tuple[Site, FaultyStore | None]]:
    """Make a site for jobs, and delete everything that they leave behind in the end."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    faulty = FaultyStore() if store == "s3" else None
    try:
        if faulty:
            os.environ.update(faulty.environment)
            faulty.put("photos", sorted((ROOT / "demo" / "images").glob("*.png"))[:images])
            yield Site("s3://photos", "s3://out", engine, images, {**environment, **faulty.environment}), faulty
        else:
            yield Site(str(ROOT / "demo" / "images"), str(folder), engine, images, environment), None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def join_cluster(site: Site, is_wanted: bool) -> Iterator[Site]:
    """Give the site a Ray cluster that no kill touches, if one is wanted."""
    if not is_wanted:
        yield site
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # Ray would otherwise ask for a token that is in the user's folder.
    site = replace(site, environment={**site.environment, "RAY_AUTH_MODE": "disabled"})
    port = address.rpartition(":")[2]
    options = ["--head", "--block", "--port", port, "--num-cpus", "8", "--include-dashboard", "false"]
    ray = subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=site.environment,
        start_new_session=True,
    )
    try:
        while socket.socket().connect_ex(("127.0.0.1", int(port))):
            time.sleep(0.2)
        time.sleep(5)  # the port is open before the node is there
        yield replace(site, environment={**site.environment, "RAY_ADDRESS": address})
    finally:
        os.killpg(ray.pid, signal.SIGKILL)
        ray.wait()


def soak(site: Site, store: FaultyStore | None, args: argparse.Namespace) -> tuple[Tally, float]:
    """Run jobs in some lanes until there were enough kills; return also the seconds of an undisturbed run."""
    started = time.monotonic()
    start(site, "whole", None)
    seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    whole, tally = read_tables(Folder(f"{site.outs}/whole"), site.engine), Tally()
    if store:
        store.start_faults(args.seed)

    def lane(number: int) -> None:
        nonlocal seconds
        rng = random.Random(f"{args.seed} {number}")

        def draw_instant() -> float:
            return rng.uniform(0, LATEST * seconds)

        while tally.kills < args.kills:
            with tally.lock:
                out, tally.jobs = f"job{tally.jobs}", tally.jobs + 1
            # The undisturbed run may have met more load: by its time, kills would fall behind the end.
            seconds = min(seconds, run_job(site, out, tally, args.kills, draw_instant))
            rows = read_tables(Folder(f"{site.outs}/{out}"), site.engine)
            with tally.lock:
                compare(whole, rows, tally)
                wrong = f"lost {tally.lost}, doubled {tally.doubled}, different {tally.different}"
                print(f"{out}: {tally.kills} kills so far, {wrong}, {dict(tally.hit)}", flush=True)

    with ThreadPoolExecutor(args.lanes) as pool:
        for done in [pool.submit(lane, number) for number in range(args.lanes)]:
            done.result()
    return tally, seconds


def run_job(site: Site, out: str, tally: Tally, kills: int, draw_instant: Callable[[], float]) -> float:
    """Start a job, kill it and start it again until a start ends before its kill.

    Returns:
        The seconds of the job if it was never killed, else infinity.
    """
    started, was_killed = time.monotonic(), False
    while (end := start(site, out, draw_instant() if tally.kills < kills else None)) != "done":
        was_killed |= end == "killed"
        stage = stage_at_work(Folder(f"{site.outs}/{out}")) if end == "killed" else ""
        with tally.lock:
            tally.gave_up += end == "gave up"
            tally.kills += end == "killed"
            tally.hit.update([stage] if stage else [])
    return float("inf") if was_killed else time.monotonic() - started


def start(site: Site, out: str, kill_after: float | None) -> str:
    """Run a job to its end, or kill it after some seconds.

    Returns:
        `done`, `killed`, or `gave up` if it ended because the store is broken on purpose.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            site.command(out), stdout=output, stderr=output, env=site.environment, cwd=ROOT, start_new_session=True
        )
        try:
            process.wait(kill_after or TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if kill_after is None:
                raise SystemExit(f"{out}: not done within {TIMEOUT} s") from None
            return "killed"
        output.seek(0)
        messages = output.read().decode()
    if process.returncode == 1 and "AWS_ENDPOINT_URL" in site.environment and "Traceback" not in messages:
        return "gave up"
    if process.returncode:
        raise SystemExit(f"{out}: exit status {process.returncode}: {messages[-3000:]}")
    return "done"


def stage_at_work(out: Folder) -> str:
    """Return the last stage that has written anything, or `start`."""
    written = [spec.folder for spec in STAGES if StageFolder(out, spec).folder.sizes(".parquet")]
    return written[-1] if written else "start"


def read_tables(out: Folder, engine: str) -> dict[str, Rows]:
    """Return all rows by table and key, without the columns that differ between two runs of one job."""
    for funnel in funnels(RunFolder(out)):
        if not funnel.is_settled:
            raise SystemExit(
                f"{out.url}: {funnel.stage} has {funnel.pending} rows pending and {funnel.superseded} superseded"
            )
    # With vLLM replies are sampled.
    replies = ["outcome", "reason", "pair_id", "question", "answer"] if engine == "scripted" else []
    tables = {
        "images": read_rows(out, "1-tagged", "images", "object_id", IMAGES, ["outcome", "reason", "image_id"]),
        "assignments": read_rows(
            out, "2-planned", "assignments", "assignment_id", ASSIGNMENTS, ["image_id", "type", "form", "retired"]
        ),
        "pairs": read_rows(out, "3-generated", "pairs", "assignment_id", PAIRS, replies),
    }
    if engine == "scripted":
        for name in ("likelihood", "agreement", "paraphrase"):
            tables[name] = read_rows(out, "3-generated", f"scores/{name}", "pair_id", SCORES, ["value"])
        tables["decisions"] = read_rows(out, "4-selected", "decisions", "pair_id", DECISIONS, ["kept", "reason"])
    tables["samples"] = read_samples(out, engine)
    return tables


def read_rows(out: Folder, stage: str, table: str, key: str, schema: Any, columns: list[str]) -> Rows:
    """Return the current rows of a table; a key that occurs twice gets a second entry, so that it shows."""
    by_key: Rows = {}
    for row in current_rows(out, stage, table, schema):
        by_key[_unused(by_key, row[key])] = tuple(row[name] for name in columns)
    return by_key


def read_samples(out: Folder, engine: str) -> Rows:
    """Return the rows of the shards as a plain glob finds them, by pair; with vLLM only the pairs that occur twice."""
    data = out.child("5-shards").child("data")
    by_key: Rows = {}
    for name in data.names(".parquet"):
        with data.fs.open(data.full(name)) as file:
            for row in pq.ParquetFile(file).read(["id", "pair_ids", "messages", "image_id"]).to_pylist():
                for pair in row["pair_ids"]:
                    by_key[_unused(by_key, pair)] = (row["id"], row["image_id"], json.dumps(row["messages"]))
    return by_key if engine == "scripted" else {key: () for key in by_key if "twice" in key}


def _unused(by_key: Rows, key: str) -> str:
    return key if key not in by_key else _unused(by_key, f"{key} twice")


def compare(whole: Mapping[str, Rows], tables: Mapping[str, Rows], tally: Tally) -> None:
    """Add the rows that one job lost, doubled or has different."""
    for name, expected in whole.items():
        rows = tables[name]
        doubled = [key for key in rows if key.endswith(" twice")]
        changed = [key for key, row in expected.items() if rows.get(key, row) != row]
        added = [key for key in rows.keys() - expected.keys() if not key.endswith(" twice")]
        tally.lost += len(expected.keys() - rows.keys())
        tally.doubled += len(doubled)
        tally.different += len(changed) + len(added)


def report(tally: Tally, seconds: float, args: argparse.Namespace, duration: float) -> None:
    """Print the table and the line of JSON.

    Args:
        tally: The result.
        seconds: Of an undisturbed run.
        args: The options.
        duration: Seconds of the whole benchmark.
    """
    print(f"{'killed while at work on':<24}{'kills':>6}")
    for stage, count in sorted(tally.hit.items()):
        print(f"{stage:<24}{count:>6}")
    record = {
        "benchmark": "kill_soak",
        "kills": tally.kills,
        "lost": tally.lost,
        "doubled": tally.doubled,
        "different": tally.different,
        "jobs": tally.jobs,
        "gave_up": tally.gave_up,
        "seed": args.seed,
        "store": args.store,
        "engine": args.engine,
        "images": args.images,
        "cluster": args.cluster,
        "undisturbed_s": round(seconds, 1),
        "minutes": round(duration / 60),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
