"""Partitions that are to be done again, whatever they hold: the way back from a damaged file.

Comes in: names as the messages about damage print them (`3-generated/e001-00004`). Goes out: those partitions emptied, by one
more commit each and without a look at their files; the next run then finds them not done. What comes of them needs no such
care, since every stage notices that what it read is another. Only listed objects are not made from anything: where their record
is gone the source is listed again, under new partitions, so what was made of the lost ones is taken back with them.
"""

from collections.abc import Sequence

from synthgen.errors import UserMistake, nearest
from synthgen.status import FOLDERS
from synthgen.store import Folder, Lease, Stage

TOGETHER = FOLDERS[:4]  # that cut the job into the same partitions


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
