"""Runs of the demo pipeline killed by SIGKILL at random instants, each started again until it is done: nothing may be missing.

Comes in: a number of kills and a seed. Goes out: how many kills there were, and how many assignments, pairs, scores, decisions and
training samples were lost, doubled or other than an undisturbed run's (0, 0, 0). A kill takes the whole process group
at once: driver, Ray and workers; with `--cluster` the jobs join a Ray that lives on, so a kill takes the driver alone and its
workers find out by themselves, beside those of the next start. The instants are drawn evenly over a little more than the time
of an undisturbed run, anew for each start, so every stage is hit, also what starts and ends. With `--store s3` images and
output lie in an S3 server behind a proxy that answers some requests with 500, late, cut short or not at all
(faulty_store.py). With the real engine (`--engine vllm`) texts are sampled, so only rows are compared, not what they say.

On two cores that much else shared, nothing was lost, doubled or different: 101 kills on disk (`--seed 27`, 10 minutes), 30 on S3
behind the proxy (`--store s3 --kills 30 --seed 28`, 9 minutes), 5 with vLLM (`--engine vllm --kills 5 --seed 29 --images 12
--lanes 1`, 6 minutes), 10 in a Ray that lives on (`--cluster --kills 10 --seed 30 --lanes 1`, 3 minutes).

    python benchmarks/kill_soak.py [--kills 100] [--seed 1] [--images 40] [--lanes 2] [--cluster] [--store s3] [--engine vllm] [--quick]
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

from synthgen.job.funnel import funnels
from synthgen.store import Folder, RunFolder, StageFolder
from synthgen.tables import ASSIGNMENTS, DECISIONS, IMAGES, PAIRS, SCORES, STAGES, stage_at

ROOT = Path(__file__).parent.parent
SCRIPTED = (
    "generate.engine.kind=scripted",
    "generate.engine.environment={}",
    "generate.engine.options={seconds: 0.02}",
)
LONGER = 1.15  # times an undisturbed run, within which a kill falls
PATIENCE = 900  # seconds that a start may take
Rows = dict[str, tuple[Any, ...]]


@dataclass
class Tally:
    """What came of all jobs."""

    kills: int = 0
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    gave_up: int = 0  # starts that ended with an error of the store, in one line, and were started again
    hit: Counter[str] = field(default_factory=Counter)  # stage that was at work at a kill -> kills
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Ground:
    """Where jobs run: how a run is called, and the folder that each job gets."""

    source: str
    outs: str
    engine: str
    images: int
    environment: Mapping[str, str]

    def command(self, out: str) -> list[str]:
        """The command of a run."""
        words = ["run", self.source, "--out", f"{self.outs}/{out}", "--pipeline", "demo", "--limit", str(self.images)]
        given = SCRIPTED if self.engine == "scripted" else ()
        return [sys.executable, "-m", "synthgen", *words, *(word for one in given for word in ("--set", one))]


def main() -> None:
    """Prints a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--store", choices=("disk", "s3"), default="disk")
    parser.add_argument("--lanes", type=int, default=2, help="jobs side by side")
    parser.add_argument("--cluster", action="store_true", help="jobs join a Ray that outlives them")
    parser.add_argument("--engine", choices=("scripted", "vllm"), default="scripted")
    parser.add_argument("--quick", action="store_true", help="two kills of a small job")
    given = parser.parse_args()
    if given.quick:
        given.kills, given.images, given.lanes = 2, 8, 1
    started = time.monotonic()
    with ground(given.store, given.engine, given.images) as (place, store), joined(place, given.cluster) as place:
        tally, seconds = soak(place, store, given)
    report(tally, seconds, given, time.monotonic() - started)


@contextlib.contextmanager
def ground(store: str, engine: str, images: int) -> Iterator[tuple[Ground, FaultyStore | None]]:
    """A place for jobs, with everything that they leave behind deleted in the end."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    faulty = FaultyStore() if store == "s3" else None
    try:
        if faulty:
            os.environ.update(faulty.environment)
            faulty.put("photos", sorted((ROOT / "demo" / "images").glob("*.png"))[:images])
            yield Ground("s3://photos", "s3://out", engine, images, {**environment, **faulty.environment}), faulty
        else:
            yield Ground(str(ROOT / "demo" / "images"), str(folder), engine, images, environment), None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def joined(place: Ground, is_wanted: bool) -> Iterator[Ground]:
    """The place with a Ray of its own that no kill touches, if that is wanted."""
    if not is_wanted:
        yield place
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # A token that lies in the user's folder would otherwise be asked for.
    place = replace(place, environment={**place.environment, "RAY_AUTH_MODE": "disabled"})
    options = [
        "--head",
        "--block",
        "--port",
        address.rpartition(":")[2],
        "--num-cpus",
        "8",
        "--include-dashboard",
        "false",
    ]
    ray = subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=place.environment, start_new_session=True,
    )  # fmt: skip
    try:
        while socket.socket().connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))):
            time.sleep(0.2)
        time.sleep(5)  # the port is open before the node is there
        yield replace(place, environment={**place.environment, "RAY_ADDRESS": address})
    finally:
        os.killpg(ray.pid, signal.SIGKILL)
        ray.wait()


def soak(place: Ground, store: FaultyStore | None, given: argparse.Namespace) -> tuple[Tally, float]:
    """Jobs in some lanes until there were enough kills; also the seconds of an undisturbed run."""
    started = time.monotonic()
    finish(place, "whole", None)
    seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    whole, tally = tables(Folder(f"{place.outs}/whole"), place.engine), Tally()
    if store:
        store.break_things(given.seed)

    def lane(number: int) -> None:
        nonlocal seconds
        draw = random.Random(f"{given.seed} {number}")

        def instant() -> float:
            return draw.uniform(0, LONGER * seconds)

        while tally.kills < given.kills:
            with tally.lock:
                out, tally.jobs = f"job{tally.jobs}", tally.jobs + 1
            # Where the machine was busier when it was measured, kills would fall behind the end.
            seconds = min(seconds, job(place, out, tally, given.kills, instant))
            found = tables(Folder(f"{place.outs}/{out}"), place.engine)
            with tally.lock:
                compare(whole, found, tally)
                wrong = f"lost {tally.lost}, doubled {tally.doubled}, different {tally.different}"
                print(f"{out}: {tally.kills} kills so far, {wrong}, {dict(tally.hit)}", flush=True)

    with ThreadPoolExecutor(given.lanes) as pool:
        for done in [pool.submit(lane, number) for number in range(given.lanes)]:
            done.result()
    return tally, seconds


def job(place: Ground, out: str, tally: Tally, kills: int, instant: Callable[[], float]) -> float:
    """One job, killed and started again until a start ends before its kill; the seconds it took if it was never killed."""
    started, was_killed = time.monotonic(), False
    while (end := finish(place, out, instant() if tally.kills < kills else None)) != "done":
        was_killed |= end == "killed"
        stage = stage_at_work(Folder(f"{place.outs}/{out}")) if end == "killed" else ""
        with tally.lock:
            tally.gave_up += end == "gave up"
            tally.kills += end == "killed"
            tally.hit.update([stage] if stage else [])
    return float("inf") if was_killed else time.monotonic() - started


def finish(place: Ground, out: str, kill_after: float | None) -> str:
    """Runs a job to its end, or kills it after some seconds: `done`, `killed`, or `gave up` on a store that is broken on purpose."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            place.command(out), stdout=said, stderr=said, env=place.environment, cwd=ROOT, start_new_session=True
        )
        try:
            process.wait(kill_after or PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if kill_after is None:
                raise SystemExit(f"{out}: not done within {PATIENCE} s") from None
            return "killed"
        said.seek(0)
        told = said.read().decode()
    if process.returncode == 1 and "AWS_ENDPOINT_URL" in place.environment and "Traceback" not in told:
        return "gave up"
    if process.returncode:
        raise SystemExit(f"{out}: exit status {process.returncode}: {told[-3000:]}")
    return "done"


def stage_at_work(out: Folder) -> str:
    """The last stage that has written anything; 'start' if none has."""
    written = [spec.folder for spec in STAGES if StageFolder(out, spec).folder.sizes(".parquet")]
    return written[-1] if written else "start"


def tables(out: Folder, engine: str) -> dict[str, Rows]:
    """Everything that counts, by table and key; what differs between two runs of one job (seconds, with vLLM texts) is left out."""
    for funnel in funnels(RunFolder(out)):
        if funnel.to_do:
            raise SystemExit(f"{out.url}: {funnel.stage} has {funnel.to_do} rows to do")
    texts = ["question", "answer"] if engine == "scripted" else []
    outcome = ["outcome", "reason", "pair_id"] if engine == "scripted" else []
    found = {
        "images": rows(out, "1-tagged", "images", "object_id", IMAGES, ["outcome", "reason", "image_id"]),
        "assignments": rows(
            out, "2-planned", "assignments", "assignment_id", ASSIGNMENTS, ["image_id", "type", "form", "retired"]
        ),
        "pairs": rows(out, "3-generated", "pairs", "assignment_id", PAIRS, [*outcome, *texts]),
    }
    if engine == "scripted":
        for name in ("likelihood", "agreement", "paraphrase"):
            found[name] = rows(out, "3-generated", f"scores/{name}", "pair_id", SCORES, ["value"])
        found["decisions"] = rows(out, "4-selected", "decisions", "pair_id", DECISIONS, ["kept", "reason"])
    found["samples"] = samples(out, engine)
    return found


def rows(out: Folder, stage: str, table: str, key: str, schema: Any, columns: list[str]) -> Rows:
    """The current rows of a table; a key that is there twice gets a second entry, so that it shows."""
    folder = StageFolder(out, stage_at(stage))
    log = folder.log()
    found: Rows = {}
    for partition in log.partitions:
        for row in folder.current(log, partition, table, schema.names).select([key, *columns]).to_pylist():
            found[_unused(found, row[key])] = tuple(row[name] for name in columns)
    return found


def samples(out: Folder, engine: str) -> Rows:
    """Every row of the shards as a plain glob finds them, by pair; with vLLM only whether it is there once."""
    data = out.child("5-shards").child("data")
    found: Rows = {}
    for name in data.names(".parquet"):
        with data.fs.open(data.full(name)) as file:
            for row in pq.ParquetFile(file).read(["id", "pair_ids", "messages", "image_id"]).to_pylist():
                for pair in row["pair_ids"]:
                    found[_unused(found, pair)] = (row["id"], row["image_id"], json.dumps(row["messages"]))
    return found if engine == "scripted" else {key: () for key in found if "twice" in key}


def _unused(found: Rows, key: str) -> str:
    return key if key not in found else _unused(found, f"{key} twice")


def compare(whole: Mapping[str, Rows], found: Mapping[str, Rows], tally: Tally) -> None:
    """Adds what one job lost, doubled or has otherwise."""
    for name, expected in whole.items():
        tally.lost += len(expected.keys() - found[name].keys())
        tally.doubled += sum(key.endswith(" twice") for key in found[name])
        tally.different += len([key for key, row in expected.items() if found[name].get(key, row) != row])
        tally.different += len([key for key in found[name].keys() - expected.keys() if not key.endswith(" twice")])


def report(tally: Tally, seconds: float, given: argparse.Namespace, took: float) -> None:
    """The table and the line."""
    print(f"{'killed while at work on':<24}{'kills':>6}")
    for stage, count in sorted(tally.hit.items()):
        print(f"{stage:<24}{count:>6}")
    summary = {
        "kills": tally.kills,
        "lost": tally.lost,
        "doubled": tally.doubled,
        "different": tally.different,
        "jobs": tally.jobs,
    }
    summary["gave_up"] = tally.gave_up
    told = {
        "seed": given.seed,
        "store": given.store,
        "engine": given.engine,
        "images": given.images,
        "cluster": given.cluster,
    }
    print(
        json.dumps(
            {
                "benchmark": "kill_soak",
                **summary,
                **told,
                "undisturbed_s": round(seconds, 1),
                "minutes": round(took / 60),
            }
        )
    )


if __name__ == "__main__":
    main()
