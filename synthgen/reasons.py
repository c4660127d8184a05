"""Which failed rows `synth retry` does again, told by the reasons that are on record for them.

Comes in: reasons as the user named them, and an output folder. Goes out: the reasons, checked, and a line for when no row of the
folder failed for any of them. Counts come from commits alone; which rows those are is for the stages.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from synthgen.errors import Mistakes, close
from synthgen.rows import FAILURE_REASONS, QUARANTINE_REASONS, RETRIED_REASONS
from synthgen.store import Folder, Stage

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
