"""`synth retry --reason`: which failed rows are tried again.

Counts come from commits alone; the rows themselves are for the stages.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from synthgen.errors import Mistakes, did_you_mean
from synthgen.job.funnel import score_counts
from synthgen.store import RunFolder
from synthgen.tables import ASK, FAILURE_REASONS, QUARANTINE_REASONS, RETRIED_REASONS, SCORE, STAGES, StageSpec

RETRIED_KINDS = {  # failures that another try may fix
    "quarantined": frozenset(QUARANTINE_REASONS) - {"purged"},
    "failed": frozenset(FAILURE_REASONS),
}
REASONS = (*QUARANTINE_REASONS, *FAILURE_REASONS)
WHERE_LISTED = "`synth status` shows those of a folder, docs/security.md explains all"


def parse_reasons(typed: Sequence[str]) -> frozenset[str]:
    """Return the reasons that the user named.

    Args:
        typed: Reasons, with or without their kind as `synth status` prints it, or a kind alone.

    Raises:
        Mistakes: There is no such reason.
    """
    known = {reason: frozenset({reason}) for reason in REASONS} | RETRIED_KINDS
    known |= {f"quarantined.{reason}": known[reason] for reason in QUARANTINE_REASONS}
    known |= {f"failed.{reason}": known[reason] for reason in FAILURE_REASONS}
    faults = [
        f"--reason {word}: no row fails for that; {did_you_mean(word, known)}{WHERE_LISTED}"
        for word in typed
        if word not in known
    ]
    if faults:
        raise Mistakes(faults)
    return frozenset[str]().union(*(known[word] for word in typed))


def nothing_to_retry(folder: RunFolder, reasons: Collection[str]) -> str | None:
    """Return a line that says that no row failed for any of these reasons, or None if one did."""
    failed = Counter[str]()
    for spec in STAGES:
        if spec.is_retried and spec not in (ASK, SCORE):
            failed += _by_reason(folder, spec)
    for counts in score_counts(folder):
        failed += Counter({} if counts.is_removed else counts.without)
    failed |= _by_reason(folder, ASK)  # a question that failed is a pair that failed, once that stage has seen it
    if any(failed[reason] for reason in reasons):
        return None
    others = ", ".join(f"{failed[reason]:,} {reason}" for reason in sorted(REASONS) if failed[reason])
    can_help = "a reason that a retry can help"
    named = can_help if set(reasons) == set(RETRIED_REASONS) else " or ".join(_names(reasons))
    return f"nothing to retry: no row failed for {named}; failed here: {others or 'none at all'}"


def _by_reason(folder: RunFolder, spec: StageSpec) -> Counter[str]:
    counts = Counter[str]()
    for name, count in folder.log(spec).counts().items():
        counts[name.rpartition(".")[2]] += count
    return counts


def _names(reasons: Collection[str]) -> list[str]:
    """Return the reasons, and the name of a kind in place of all of its reasons."""
    whole = [kind for kind, members in RETRIED_KINDS.items() if members <= set(reasons)]
    return sorted([*whole, *(reason for reason in reasons if not any(reason in RETRIED_KINDS[kind] for kind in whole))])
