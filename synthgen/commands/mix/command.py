"""`synth mix` from its definition to its folder: the record, the lease, what is taken, shards and card."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthgen import __version__
from synthgen.commands.export import shards_of
from synthgen.commands.mix.card import mixture_card
from synthgen.commands.mix.choice import OUTCOMES, Choice, SetCounts
from synthgen.commands.mix.survey import Source, Survey
from synthgen.commands.mix.write import MixContext, MixTask, scores_of, tasks_of, write_partition
from synthgen.config import mixture as mixtures
from synthgen.config.mixture import MixtureFile
from synthgen.console import StageProgress, pluralize
from synthgen.errors import Mistakes, NothingUsable, UserMistake, attempt
from synthgen.stages.memory import MEGABYTE
from synthgen.store import Folder, Lease, RunFolder
from synthgen.store.earlier_runs import open_earlier_runs
from synthgen.store.opening import open_folder
from synthgen.store.run_folder import FORMAT, MIXTURE
from synthgen.tables import GENERATE, PACK, PLAN, SELECT, TAG, make_id

VERSION = "1"  # of what shapes the shards; part of the fingerprint
Counts = Mapping[tuple[int, str], SetCounts]  # stage and name of a set → what became of it


@dataclass(frozen=True)
class Mixed:
    """What a mixture takes, or has taken.

    Attributes:
        counts: In the order of the stages and of the file.
        bytes: Of the shards; None where none is written.
    """

    name: str
    counts: Counts
    shards: int = 0
    bytes: int | None = None


def mix(name: str, out: str, *, is_dry: bool = False) -> Mixed:
    """Write a mixture, or go on with one that was killed.

    Args:
        name: By name or path.
        out: The output folder; not needed if nothing is written.
        is_dry: Whether it is only counted.

    Raises:
        UserMistake: The file or a folder cannot be used, or `out` holds something else.
        NothingUsable: Nothing is taken.
    """
    mixture = mixtures.load(name)
    place = open_folder(out) if out else None
    stages = _open(mixture, place)
    digest = _digest(mixture, stages)
    if is_dry:
        return Mixed(name, _counts(mixture, stages))
    if place is None:
        raise UserMistake(f"missing: --out, the folder for the mixture; for example: synth mix {name} --out mixed")
    folder = RunFolder(place)
    _check_target(folder, out, digest)
    with folder.lease() as lease:
        _begin(folder, name, mixture, digest)
        return _write(folder, lease, name, mixture, stages)


def as_json(mixed: Mixed) -> dict[str, Any]:
    """Return what a mixture takes as one JSON object."""
    sets = [
        {"stage": stage, "set": name, "samples": counts.samples, "pairs": dict(counts.pairs)}
        for (stage, name), counts in mixed.counts.items()
    ]
    return {"mixture": mixed.name, "sets": sets, "shards": mixed.shards, "bytes": mixed.bytes}


def text(mixed: Mixed) -> str:
    """Return what a mixture takes as lines for a terminal: a set a line, then why pairs are not taken."""
    lines = [f"{'stage':>5}  {'set':<24} {'pairs':>10} {'taken':>10} {'samples':>10}"]
    lost: Counter[str] = Counter()
    for (stage, name), counts in mixed.counts.items():
        taken = counts.pairs["taken"]
        lines.append(f"{stage:>5}  {name:<24} {counts.pairs.total():>10,} {taken:>10,} {counts.samples:>10,}")
        lost.update({outcome: count for outcome, count in counts.pairs.items() if outcome != "taken"})
    lines += [f"{count:>12,}  {outcome}: {OUTCOMES[outcome]}" for outcome, count in lost.items() if count]
    if mixed.bytes is not None:
        lines.append(f"{pluralize(mixed.shards, 'shard')}, {mixed.bytes / 1e6:,.1f} MB")
    return "\n".join(lines)


# --- folders ----------------------------------------------------------------------------------------------------------


def _open(mixture: MixtureFile, out: Folder | None) -> dict[int, tuple[Source, ...]]:
    """Return the sets of each stage with their folders.

    Raises:
        Mistakes: Some cannot be used.
    """
    faults, stages = list[str](), dict[int, list[Source]]()
    for name, settings in mixture.sets.items():

        def opened(name: str = name, folder: str = settings.folder) -> RunFolder:
            known = out or Folder("")  # of a dry run, which no folder is
            (run,) = open_earlier_runs(f"sets.{name}.folder", [folder], Path(), known, PACK)
            return run.folder

        if run := attempt(faults, opened):
            shards = tuple(shards_of(run))
            stages.setdefault(settings.stage, []).append(Source(name, settings, run, shards))
    if faults:
        raise Mistakes(faults)
    return {stage: tuple(stages[stage]) for stage in sorted(stages)}


def _digest(mixture: MixtureFile, stages: Mapping[int, Sequence[Source]]) -> str:
    """Return a hash of everything that shapes a mixture."""
    read = [
        f"{source.name} {key} {digest}"
        for sources in stages.values()
        for source in sources
        for spec in (TAG, PLAN, GENERATE, SELECT, PACK)
        for key, digest in sorted(source.run.log(spec).digests(spec, source.run.log(spec).partitions).items())
    ]
    shape = mixture.model_dump(mode="json", exclude={"about": True, "pack": {"license", "languages"}})
    return make_id("mixture", VERSION, __version__, json.dumps(shape, sort_keys=True), *read)


def _check_target(folder: RunFolder, out: str, digest: str) -> None:
    """Raise UserMistake if a folder holds anything but this mixture."""
    if folder.record is None:
        if not folder.out.is_empty():
            raise UserMistake(f"{out}: is not empty; give a folder that does not exist yet")
        return
    known = folder.record.get(MIXTURE)
    if folder.record and known is None:
        raise UserMistake(f"{out}: holds a run; give the mixture a folder of its own")
    if known and known["digest"] != digest:
        raise UserMistake(
            f"{out}: holds a mixture of other samples or settings; give another folder, or delete that one"
        )


def _begin(folder: RunFolder, name: str, mixture: MixtureFile, digest: str) -> None:
    """Write the record of a mixture, once."""
    if folder.record:
        return
    made = datetime.now(UTC).isoformat(timespec="seconds")
    folder.out.create("run.json", json.dumps({"format": FORMAT, "made": made}).encode())
    folder.write_record({MIXTURE: {"name": name, "digest": digest, **mixture.model_dump(mode="json")}})


# --- writing ----------------------------------------------------------------------------------------------------------


def _counts(mixture: MixtureFile, stages: Mapping[int, Sequence[Source]]) -> Counts:
    counts: dict[tuple[int, str], SetCounts] = {}
    for stage, sources in stages.items():
        with tempfile.TemporaryDirectory(prefix="synth-mix-") as disk:
            choice = Choice(Survey(sources, mixture, Path(disk)), sources, mixture)
            counts |= {(stage, s.name): own for s, own in zip(sources, choice.counts(), strict=True)}
    return counts


def _write(
    folder: RunFolder, lease: Lease, name: str, mixture: MixtureFile, stages: Mapping[int, Sequence[Source]]
) -> Mixed:
    every = [source for sources in stages.values() for source in sources]
    digest = (folder.record or {})[MIXTURE]["digest"]
    context, counts = MixContext(folder.out, mixture.pack, digest, scores_of(every)), dict[tuple[int, str], SetCounts]()
    for task in _tasks(mixture, stages, counts):
        if folder.log(PACK).latest(task.partition) is None:
            folder.commit_or_fail(PACK, write_partition(context, task), lease)
    if not any(own.samples for own in counts.values()):
        raise NothingUsable(f"{folder.out.url}: nothing is taken; `synth mix {name} --dry-run` says why")
    data, log = folder.stage(PACK).folder.child("data"), folder.log(PACK)
    current = {file.name: file.bytes for file in log.files("data")}
    lease.check()  # as late as possible: by the log read here, the files of a new driver would look stale
    data.remove([file for file in data.names(".parquet") if file not in current])
    card = mixture_card(folder, mixture, stages, counts, context)
    folder.stage(PACK).folder.write("README.md", card.encode())
    return Mixed(name, counts, len(current), sum(current.values()))


def _tasks(
    mixture: MixtureFile, stages: Mapping[int, Sequence[Source]], counts: dict[tuple[int, str], SetCounts]
) -> Iterator[MixTask]:
    """Yield the partitions of all stages, and add to the counts of their sets; one stage is in memory at a time."""
    for stage, sources in stages.items():
        with tempfile.TemporaryDirectory(prefix="synth-mix-") as disk:
            survey = Survey(sources, mixture, Path(disk))
            choice = Choice(survey, sources, mixture)
            counts |= {(stage, s.name): own for s, own in zip(sources, choice.counts(), strict=True)}
            tasks = list(tasks_of(stage, sources, survey, choice, mixture.pack.shard_megabytes * MEGABYTE))
        with StageProgress(f"mix stage {stage}", len(tasks), "shard") as bar:
            for number, task in enumerate(tasks, 1):
                yield task
                bar.show(number)
