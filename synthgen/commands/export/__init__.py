"""`synth export`: the samples of a run in the form that another program reads.

Each shard of the run becomes a part of the export. A part is whole once its record is written, so an export that was
killed goes on where it was, with the same files as one that was not. The end puts together what only the whole has, and
`export.json` says last that the export is finished.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from synthgen import __version__
from synthgen.commands.export.form import REASONS, Facts, Form, Part
from synthgen.commands.export.forms.kinds import FORMS
from synthgen.commands.export.readme import readme
from synthgen.commands.export.record import (
    NAME,
    ExportRecord,
    PartRecord,
    images_folder,
    read_export,
    read_part,
    remove_folder,
    write_export,
    write_part,
)
from synthgen.commands.export.sample import Sample, read_pairs, read_samples, score_names, turned_upright
from synthgen.console import StageProgress, note, pluralize
from synthgen.errors import LeaseHeld, NothingUsable, UserMistake, nearest
from synthgen.job import run_record
from synthgen.job.funnel import funnels, nothing_kept
from synthgen.store import Folder, Lease, RunFolder
from synthgen.store.opening import open_folder
from synthgen.store.run_folder import NO_SHARDS
from synthgen.tables import PACK

LEFT_OUT = "left_out.jsonl"
CARD = "CARD.md"


def export(folder: RunFolder, target: str, name: str) -> ExportRecord:
    """Write the samples of a run in a form, or go on with an export that was killed, and return what came of it.

    Args:
        folder: The run.
        target: A folder that does not exist yet, is empty, or holds an unfinished export of the same samples.
        name: Of the form.

    Raises:
        UserMistake: There is no such form, the run has no shards, or the target holds something else.
        NothingUsable: The run kept no pair, or none of its samples can be written in this form.
        Damaged: A shard is missing or was changed.
    """
    if name not in FORMS:
        raise UserMistake(f"form '{name}' is unknown: {nearest(name, FORMS)}")
    form, shards = FORMS[name], _shards(folder)
    out = open_folder(target)
    record = ExportRecord(name, _source(folder, shards, form))
    if (known := _known(out, target, record)) and known.finished:
        note(f"nothing to do: {target} holds this export already")
        _clean(out)
        return known
    with _alone(out, target):
        out.remove(list(out.unfinished()))
        if _known(out, target, record) is None:
            write_export(out, record)
        facts = Facts(
            _data_set_name(out), score_names(folder, shards[0]), len(shards), out.path if out.is_local else out.url
        )
        record = _write(folder, out, form, facts, record, shards)
    _clean(out)
    return record


def text(record: ExportRecord, target: str) -> str:
    """Return what came of an export as lines for a terminal."""
    counts = ", ".join(pluralize(record.counts[name], name.removesuffix("s")) for name in ("samples", "turns"))
    images = f", {pluralize(record.counts['images'], 'image')} beside them" if record.counts["images"] else ""
    lines = [f"{counts}{images} in the form {record.form}; {target}/README.md says how to use them"]
    lines += [f"left out: {count:,} ({reason}: {REASONS[reason]})" for reason, count in record.left_out.items()]
    return "\n".join([*lines, *([f"which these are: {target}/{LEFT_OUT}"] if record.left_out else [])])


# --- what is exported, and where to ------------------------------------------------------------------------------------


def _shards(folder: RunFolder) -> list[str]:
    """Return the partitions of the shards that hold samples."""
    run_record.check_is_run(folder)
    files, log = folder.whole_shards(), folder.log(PACK)
    if not files:
        counts = funnels(folder)
        if not counts[0].received or not all(funnel.is_settled for funnel in counts):
            raise UserMistake(NO_SHARDS.format(folder.out.url))
        raise NothingUsable(f"{folder.out.url}: {nothing_kept(folder)}")
    return [
        name for name in log.partitions if any(file.rows for part in log.parts(name, "data") for file in part.files)
    ]


def _source(folder: RunFolder, shards: Iterable[str], form: Form) -> str:
    """Return a hash of all that shapes the files of an export."""
    log = folder.log(PACK)
    files = [file.sha256 for name in shards for part in log.parts(name, "data") for file in part.files]
    return hashlib.sha256(json.dumps([__version__, form.name, *files]).encode()).hexdigest()[:32]


def _known(out: Folder, target: str, wanted: ExportRecord) -> ExportRecord | None:
    """Return the record of this export where it was begun; None if nothing is there.

    Raises:
        UserMistake: Something else is there.
    """
    if out.is_empty():
        return None
    found = read_export(out)
    if found is None:
        raise UserMistake(f"{target}: is not empty; give a folder that does not exist yet")
    if (found.form, found.source) != (wanted.form, wanted.source):
        what = f"in the form {found.form}" if found.form != wanted.form else "of other samples, or by another synth"
        raise UserMistake(
            f"{target}: holds an export {what}; give a folder that does not exist yet, or delete that one"
        )
    return found


@contextmanager
def _alone(out: Folder, target: str) -> Iterator[None]:
    """Keep other exports out of a folder within this block."""
    try:
        lease = Lease.take(out)
    except LeaseHeld as error:
        raise UserMistake(f"{target}: another export is at work here; wait for it, or give another folder") from error
    with lease:
        yield


def _data_set_name(out: Folder) -> str:
    """Return a name for the data set that every program takes, from that of the folder."""
    name = re.sub(r"\W+", "_", out.url.rpartition("/")[2], flags=re.ASCII).strip("_")
    return name or "samples"


# --- the parts ---------------------------------------------------------------------------------------------------------


def _write(
    folder: RunFolder, out: Folder, form: Form, facts: Facts, record: ExportRecord, shards: list[str]
) -> ExportRecord:
    """Write every part that is not there, then what only the whole has."""
    rows, counts, left_out = Counter[str](), Counter[str](samples=0, turns=0, images=0), Counter[str]()
    with StageProgress("export", len(shards), "shard") as progress:
        for number, shard in enumerate(shards):
            part = read_part(out, number)
            if part is None:
                pairs = read_pairs(folder, shard) if form.needs_pairs else {}
                part = _write_part(read_samples(folder, shard), form, Part(out, facts, number, rows.copy(), pairs))
            rows = Counter(part.rows)
            counts.update(samples=part.samples, turns=part.turns, images=part.images)
            left_out.update(reason for _, reason in part.left_out)
            progress.show(number + 1, f"{counts['samples']:,} samples")
    if not rows.total():
        raise NothingUsable(f"{out.url}: no sample can be written in the form {form.name}: {_why(left_out)}")
    done = replace(record, finished=True, counts=dict(counts), left_out=dict(left_out))
    _finish(folder, out, form, facts, done)
    return done


def _why(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} × {REASONS[reason]}" for reason, count in left_out.items())


def _write_part(samples: Iterable[Sample], form: Form, part: Part) -> PartRecord:
    counts = Counter[str]()
    form.layout.write(part, _prepared(samples, form, part, counts))
    record = PartRecord(
        *(counts[name] for name in ("samples", "turns", "images", "image_bytes")),
        dict(part.rows),
        part.files,
        tuple(part.left_out),
    )
    write_part(part.target, part.number, record)
    return record


def _prepared(samples: Iterable[Sample], form: Form, part: Part, counts: Counter[str]) -> Iterator[Sample]:
    """Yield the samples that can be written, with their images as the reader takes them; count them."""
    names = set[str]()
    for sample in samples:
        if any(
            marker in text for marker in form.markers for turn in sample.turns for text in (turn.question, turn.answer)
        ):
            part.leave_out(sample.id, "marker")
            continue
        if form.ignores_exif:
            sample = replace(sample, pictures=tuple(map(turned_upright, sample.pictures)))
        if form.images == "beside":
            sample = _with_images(sample, part, names, counts)
        counts.update(samples=1, turns=len(sample.turns))
        yield sample


def _with_images(sample: Sample, part: Part, names: set[str], counts: Counter[str]) -> Sample:
    """Write the images of a sample, each once, and return the sample with their paths."""
    place = images_folder(part.number)
    for picture in sample.pictures:
        if picture.name not in names:
            part.target.child(place).put(picture.name, picture.data)
            names.add(picture.name)
            counts.update(images=1, image_bytes=len(picture.data))
    return replace(sample, paths=tuple(f"{place}/{picture.name}" for picture in sample.pictures))


# --- the end -----------------------------------------------------------------------------------------------------------


def _finish(folder: RunFolder, out: Folder, form: Form, facts: Facts, record: ExportRecord) -> None:
    """Write what only the whole has; `export.json` is the last, and a kill before it leaves the parts as they are."""
    form.layout.finish(out, facts)
    for name, content in form.others(facts).items():
        out.write(name, content.encode())
    if record.left_out:
        with out.stream(LEFT_OUT) as sink:
            for line in _left_out(out, facts):
                sink.write(line)
    if "README.md" in folder.stage(PACK).folder.names(".md"):
        out.write(CARD, folder.stage(PACK).folder.read("README.md"))
    out.write("README.md", readme(form, facts, record).encode())
    write_export(out, record)


def _clean(out: Folder) -> None:
    """Delete what a finished export does not need."""
    for name in ("parts", "lease"):
        remove_folder(out, name)


def _left_out(out: Folder, facts: Facts) -> Iterator[bytes]:
    for number in range(facts.parts):
        part: Any = read_part(out, number)
        yield from (json.dumps({"id": name, "reason": reason}).encode() + b"\n" for name, reason in part.left_out)


__all__ = ["FORMS", "NAME", "export", "text"]
