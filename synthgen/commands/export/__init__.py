"""`synth export`: the samples of a run in the form that another program reads.

Each shard of the run becomes a part of the export. A part is whole once its record is written, so an export that was
killed goes on where it was, with the same files as one that was not. The end puts together what only the whole has, and
`export.json` says last that the export is finished.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from synthgen import __version__
from synthgen.commands.export.form import REASONS, Facts, Form
from synthgen.commands.export.forms.kinds import FORMS
from synthgen.commands.export.readme import LEFT_OUT
from synthgen.commands.export.record import ExportRecord, read_export, remove_folder, write_export
from synthgen.commands.export.sample import score_names
from synthgen.commands.export.write import finish, write_parts
from synthgen.console import note, pluralize
from synthgen.errors import LeaseHeld, NothingUsable, UserMistake, nearest
from synthgen.job import run_record
from synthgen.job.funnel import funnels, nothing_kept
from synthgen.store import Folder, Lease, RunFolder
from synthgen.store.opening import open_folder
from synthgen.store.run_folder import NO_SHARDS
from synthgen.tables import PACK

__all__ = ["FORMS", "export", "text"]

LEFTOVERS = ("parts", "lease")  # folders that a finished export does not need


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
    form, shards = FORMS[name], shards_of(folder)
    out = open_folder(target)
    begun = ExportRecord(name, _source(folder, shards, form))
    record = _known(out, target, begun)
    if record and record.finished:
        note(f"nothing to do: {target} holds this export already")
    else:
        with _alone(out, target):
            record = _continue(folder, out, form, shards, _known(out, target, begun) or begun)
    for leftover in LEFTOVERS:
        remove_folder(out, leftover)
    return record


def text(record: ExportRecord, target: str) -> str:
    """Return what came of an export as lines for a terminal."""
    names = ("rows", "samples", "turns")
    rows, samples, turns = (pluralize(record.counts[name], name.removesuffix("s")) for name in names)
    images = f", {pluralize(record.counts['images'], 'image')} beside them" if record.counts["images"] else ""
    lines = [f"{rows} in the form {record.form}{images}, of {samples} with {turns}"]
    lines += [f"left out: {count:,} ({reason}: {REASONS[reason]})" for reason, count in record.left_out.items()]
    lines += [f"these are listed in {target}/{LEFT_OUT}"] if record.left_out else []
    return "\n".join([*lines, f"how to use it: {target}/README.md"])


def shards_of(folder: RunFolder) -> list[str]:
    """Return the partitions of the shards that hold samples.

    Raises:
        UserMistake: The run has no shards yet, or a purge was cut short, so that they may hold what should be gone.
        NothingUsable: It kept no pair.
        Damaged: A shard is missing or was cut.
    """
    run_record.check_is_run(folder)
    if why := run_record.unfinished_purge(folder):
        raise UserMistake(f"{folder.out.url}: {why}")
    log = folder.log(PACK)
    if not folder.whole_shards():
        counts = funnels(folder)
        if not counts[0].received or not all(funnel.is_settled for funnel in counts):
            raise UserMistake(NO_SHARDS.format(folder.out.url))
        raise NothingUsable(f"{folder.out.url}: {nothing_kept(folder)}")
    return [
        name for name in log.partitions if any(file.rows for part in log.parts(name, "data") for file in part.files)
    ]


def _continue(folder: RunFolder, out: Folder, form: Form, shards: list[str], record: ExportRecord) -> ExportRecord:
    """Do what an export lacks, and return its record."""
    out.remove(list(out.unfinished()))
    write_export(out, record)
    place = out.path if out.is_local else out.url
    facts = Facts(_data_set_name(out), score_names(folder, shards[0]), len(shards), place)
    counts, left_out = write_parts(folder, out, form, facts, shards)
    done = replace(record, finished=True, counts=dict(counts), left_out=dict(left_out))
    finish(folder, out, form, facts, done)
    return done


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
        raise UserMistake(f"{target}: holds an export {what}; give another folder, or delete that one")
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
