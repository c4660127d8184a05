"""What is to be done again: rows that failed, by their reasons, and partitions, whatever they hold, where a file is damaged.

Comes in: reasons as `synth status` shows them, less their stage; which rows those are is for the stages. And partitions as the
messages about damage name them (`3-generated/e001-00004`). Goes out: those partitions emptied, by one
more commit each and without a look at their files; the next run then finds them not done. What comes of them needs no such
care, since every stage notices that what it read is another. Only listed objects are not made from anything: where their record
is gone the source is listed again, under new partitions, so what was made of the lost ones is taken back with them.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from synthgen.errors import Mistakes, UserMistake, close, nearest
from synthgen.rows import FAILURE_REASONS, QUARANTINE_REASONS, RETRIED_REASONS
from synthgen.status import FOLDERS
from synthgen.store import Folder, Lease, Stage

TOGETHER = FOLDERS[:4]  # that cut the job into the same partitions
REASONS = (*QUARANTINE_REASONS, *FAILURE_REASONS)
LISTS = "`synth status` shows those of a folder, docs/security.md explains all"


def checked(reasons: Sequence[str]) -> frozenset[str]:
    """The reasons that the user named; those that there are not are mistakes."""
    faults = [f"--reason {one}: no row fails for that; {close(one, REASONS)}{LISTS}" for one in reasons if one not in REASONS]
    if faults:
        raise Mistakes(faults)
    return frozenset(reasons)


def nothing_fits(out: Folder, reasons: Collection[str]) -> str | None:
    """If no row of a folder failed for any of these reasons, a line that says so and for which others rows did."""
    failed = Counter[str]()
    for stage in ("1-tagged", "3-generated", "5-shards"):
        for name, count in Stage(out, stage).log().counts().items():
            failed[name.rpartition(".")[2]] += count
    if any(failed[reason] for reason in reasons):
        return None
    others = ", ".join(f"{failed[reason]:,} {reason}" for reason in sorted(REASONS) if failed[reason])
    named = "a reason that may pass by itself" if set(reasons) == set(RETRIED_REASONS) else " or ".join(sorted(reasons))
    return f"nothing to do again: no row failed for {named}; failed here: {others or 'none at all'}"


def redo(out: Folder, names: Sequence[str], lease: Lease) -> int:
    """Empties these partitions; returns how many, those emptied with them included. All names are checked first."""
    known = {f"{stage}/{partition}" for stage in FOLDERS for partition in Stage(out, stage).log().partitions}
    for name in names:
        if name not in known:
            raise UserMistake(f"--partition {name}: is not in {out.url}; {nearest(name, known)}")
    done = 0
    for name in names:
        stage, _, partition = name.partition("/")
        stages = TOGETHER if stage == FOLDERS[0] else (stage,)
        done += sum(Stage(out, one).empty(partition, lease) for one in stages)
    return done
