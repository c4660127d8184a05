"""A whole job over any folder of files: every file has one outcome, whatever it is.

Lists every file of a folder whatever its name, tags it with a tagger that needs no model, plans, asks the scripted
engine, and packs, by the commands that users type. Prints what the listing left out, every outcome with its first
example, the speed, and the memory that a tagging worker announced and reached (its process and its decoders, shared
pages counted once). Without a folder, files are made: images of every kind, damaged copies of them, and files of no
image. `--damaged N` adds N damaged copies of the files of a folder. `missing` are the objects that were listed and have
no outcome, in any stage; it must be 0, and the exit status is 1 otherwise. `ratio` is the memory reached over the one
announced.

    python benchmarks/corpus.py [FOLDER] [--damaged N] [--seed 1] [--out FOLDER] [--quick]
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

from bad_engines import DEFINITION_FILES
from damaged_files import find_files, make_images, write_damaged
from host_memory import Watched, watch

from synthgen.config import pipeline as pipelines
from synthgen.job.funnel import funnels
from synthgen.stages import memory
from synthgen.stages.listing import not_listed
from synthgen.store import Folder, RunFolder
from synthgen.tables import LIST, TAG

TIMEOUT = 3600.0  # seconds of a command; a run that hangs is a fault
TAGGER = """
class Tagger:
    def __init__(self, taxonomy, options):
        pass

    def tag(self, images, metas):
        return [{"thing": 1.0} for _ in images]
"""
FILES = {
    **DEFINITION_FILES,
    "fixed.py": TAGGER,
    "taggers/fixed.yaml": "about: one tag for all\nengine: fixed:Tagger\ntaxonomy: small\n",
    "pipelines/corpus.yaml": (
        "about: any folder of files\nsource: {suffixes: ['*']}\ntag: {tagger: fixed}\n"
        "plan: {mapping: small, per_image: 2}\n"
        "generate: {model: none, prompts: everyday, engine: {kind: scripted}, scores: [likelihood]}\n"
    ),
}


@dataclass
class Outcomes:
    """What became of the objects of a folder.

    Attributes:
        listed: Their number.
        left_out: Suffix or kind → files that the listing left out.
        counts: Outcome with its reason → objects.
        examples: Outcome with its reason → the uri and the detail of the first one.
        missing: Objects without an outcome or with two, and rows that are pending in a later stage.
        pending: Stage → rows that are pending there, or are there although they were retired or purged.
    """

    listed: int
    left_out: Mapping[str, int]
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    pending: dict[str, int] = field(default_factory=dict)


def main() -> None:
    """Run a job; print tables, then one line of JSON; exit with 1 if an object is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="files of any kind; made ones without it")
    parser.add_argument("--damaged", type=int, default=0, help="damaged copies of these files to add")
    parser.add_argument("--seed", type=int, default=1, help="of the damage")
    parser.add_argument("--out", type=Path, help="keep the output folder here")
    parser.add_argument("--quick", action="store_true", help="200 made files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corpus-") as name:
        source = files_of(args, Path(name) / "files")
        out = (args.out or Path(name) / "out").absolute()
        for file, text in FILES.items():
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / file).write_text(text)
        with chdir(name):
            tagged = run(source, out, "--until", "tag")
            rest = run(source, out)
            announced = memory.tag_bytes(pipelines.load("corpus"))
        outcomes = read_outcomes(RunFolder(Folder(str(out))))
    report(outcomes, tagged, rest, announced)
    sys.exit(1 if outcomes.missing else 0)


def files_of(args: argparse.Namespace, made: Path) -> str:
    """Return the source of the run: the folder, or one that holds it and its damaged copies, or made files."""
    if args.folder and not args.damaged:
        return str(args.folder.absolute())
    made.mkdir()
    paths = list(find_files(args.folder)) if args.folder else make_images(made / "whole")
    if args.folder:
        (made / "whole").mkdir()
        for number, path in enumerate(paths):
            (made / "whole" / f"{number:06}-{path.name}").write_bytes(path.read_bytes())
    write_damaged(paths, made / "damaged", args.damaged or (170 if args.quick else 2000), args.seed)
    return str(made)


def run(source: str, out: Path, *options: str) -> Watched:
    """Run a job to its end, or end the benchmark with what it wrote."""
    words = ["run", source, "--out", str(out), "--pipeline", "corpus", *options]
    watched = watch([sys.executable, "-m", "synthgen", *words], TIMEOUT)
    # 3: nothing in the folder can be used, which is no fault here.
    if watched.status not in (0, 3):
        raise SystemExit(f"exit status {watched.status}: {watched.messages[-3000:]}")
    return watched


def read_outcomes(folder: RunFolder) -> Outcomes:
    """Return what became of every object."""
    objects = dict(listed(folder))
    outcomes = Outcomes(len(objects), not_listed(folder))
    seen: Counter[str] = Counter()
    log, stage = folder.log(TAG), folder.stage(TAG)
    for name in log.partitions:
        for row in stage.current(log, name, "images", ["object_id", "outcome", "reason", "detail"]).to_pylist():
            seen[row["object_id"]] += 1
            key = ".".join(filter(None, (row["outcome"], row["reason"])))
            outcomes.counts[key] += 1
            uri = objects.get(row["object_id"], "an object that was not listed")
            outcomes.examples.setdefault(key, ": ".join(filter(None, (uri, row["detail"]))))
    outcomes.pending = {
        funnel.stage: funnel.pending + funnel.superseded for funnel in funnels(folder) if not funnel.is_settled
    }
    doubled_or_strange = sum(count - 1 for count in seen.values()) + len(seen.keys() - objects.keys())
    outcomes.missing = len(objects.keys() - seen.keys()) + doubled_or_strange + sum(outcomes.pending.values())
    return outcomes


def listed(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """Yield the id and the uri of each object that was listed."""
    log = folder.log(LIST)
    for name in log.partitions:
        for row in folder.table(LIST, name, "objects", ["object_id", "uri"]).to_pylist():
            yield row["object_id"], row["uri"]


def report(outcomes: Outcomes, tagged: Watched, rest: Watched, announced: int) -> None:
    """Print the tables and the line of JSON."""
    left_out = sum(outcomes.left_out.values())
    print(f"{outcomes.listed + left_out:,} files met, {outcomes.listed:,} listed, {left_out:,} left out")
    for why, count in sorted(outcomes.left_out.items()):
        print(f"  {count:>8,}  {why}")
    print(f"{'outcome':<32}{'objects':>9}  the first one")
    for key, count in outcomes.counts.most_common():
        print(f"{key:<32}{count:>9,}  {ascii(outcomes.examples[key])[1:-1][:160]}")
    speed = outcomes.listed / tagged.seconds
    print(f"list and tag: {tagged.seconds:.1f} s, {speed:.1f} images/s with the start; the rest: {rest.seconds:.1f} s")
    print(f"a tagging worker: {tagged.peak / 1e6:.0f} MB of the {announced / 1e6:.0f} MB announced")
    print(f"missing: {outcomes.missing}{f', pending {outcomes.pending}' if outcomes.pending else ''}")
    record = {
        "benchmark": "corpus",
        "ratio": round(tagged.peak / announced, 2),
        "missing": outcomes.missing,
        "listed": outcomes.listed,
        "images_per_s": round(speed, 1),
        "outcomes": dict(sorted(outcomes.counts.items())),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
