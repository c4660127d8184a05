"""Which failed rows `synth retry` does again, told by the reasons that are on record for them.

Comes in: reasons as the user named them, with or without their kind as `synth status` prints it, or a kind alone, and an output
folder. Goes out: the reasons, checked, and a line for when no row of the folder failed for any of them. Counts come from commits
alone; which rows those are is for the stages.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from synthgen.tables import stage_at
from synthgen.errors import Mistakes, close
from synthgen.store import Folder, StageFolder
from synthgen.tables import FAILURE_REASONS, QUARANTINE_REASONS, RETRIED_REASONS

KINDS = {
    "quarantined": frozenset(QUARANTINE_REASONS) - {"purged"},
    "failed": frozenset(FAILURE_REASONS),
}  # that another try may mend
REASONS = (*QUARANTINE_REASONS, *FAILURE_REASONS)
LISTS = "`synth status` shows those of a folder, docs/security.md explains all"


def checked(reasons: Sequence[str]) -> frozenset[str]:
    """The reasons that the user named, of a kind all that another try may mend; those that there are not are mistakes."""
    known = {one: frozenset({one}) for one in REASONS} | KINDS
    known |= {f"quarantined.{one}": known[one] for one in QUARANTINE_REASONS} | {
        f"failed.{one}": known[one] for one in FAILURE_REASONS
    }
    faults = [
        f"--reason {one}: no row fails for that; {close(one, known)}{LISTS}" for one in reasons if one not in known
    ]
    if faults:
        raise Mistakes(faults)
    return frozenset[str]().union(*(known[one] for one in reasons))


def nothing_fits(out: Folder, reasons: Collection[str]) -> str | None:
    """If no row of a folder failed for any of these reasons, a line that says so and for which others rows did."""
    failed = Counter[str]()
    for stage in ("1-tagged", "3-generated", "5-shards"):
        for name, count in StageFolder(out, stage_at(stage)).log().counts().items():
            failed[name.rpartition(".")[2]] += count
    if any(failed[reason] for reason in reasons):
        return None
    others = ", ".join(f"{failed[reason]:,} {reason}" for reason in sorted(REASONS) if failed[reason])
    named = "a reason that may pass by itself" if set(reasons) == set(RETRIED_REASONS) else " or ".join(_named(reasons))
    return f"nothing to do again: no row failed for {named}; failed here: {others or 'none at all'}"


def _named(reasons: Collection[str]) -> list[str]:
    """The reasons, and for all of a kind its name."""
    whole = [kind for kind, ones in KINDS.items() if ones <= set(reasons)]
    return sorted([*whole, *(one for one in reasons if not any(one in KINDS[kind] for kind in whole))])
