"""`synth status`: how far a run is, from its output folder alone."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.job import run_record
from synthgen.job.funnel import ScoreCounts, StageFunnel, funnels, near_duplicates_message, score_counts
from synthgen.stages.listing import not_listed, not_listed_message
from synthgen.stages.tag import left_out, left_out_message, untagged, untagged_message
from synthgen.store import RunFolder
from synthgen.store.lease import holder_of
from synthgen.tables import GENERATE, PLAN, TAG, stage_names


def as_json(folder: RunFolder) -> dict[str, Any]:
    """Return the status as one JSON object.

    `at_work` is the run that is at work here, `not_listed` what the listing left out, `stages` the funnel, `left_out`
    the tags that came along and were left out, `untagged` the images without any tag, of a sample where there are many,
    `scores` the counts of each score of a scoring pass,
    `unfinished` the updates (stage → "edit" or "redraw") and the retry (its reasons) of the run at work or of one that
    was cut short.
    """
    run_record.check_is_no_mixture(folder)
    holder = holder_of(folder.out)
    at_work = None
    if holder:
        at_work = {"pid": holder["pid"], "host": holder["host"], "beat_age_seconds": round(_age(holder), 1)}
    return {
        "at_work": at_work,
        "not_listed": not_listed(folder),
        "stages": [
            {**vars(funnel), "pending": funnel.pending, "superseded": funnel.superseded} for funnel in funnels(folder)
        ],
        "scores": [{**vars(counts), "pending": counts.pending} for counts in score_counts(folder)],
        "left_out": left_out(folder.log(TAG)),
        "untagged": untagged(folder),
        "unfinished": run_record.unfinished_changes(folder),
    }


def text(folder: RunFolder, *, is_over: bool = False) -> str:
    """Return the funnel as lines for a terminal.

    The last line says whether a run is at work, unless the caller is a run that `is_over`.
    """
    run_record.check_is_no_mixture(folder)
    shown = funnels(folder)
    not_listed_line = not_listed_message(not_listed(folder))
    of_images = (_near_duplicates(folder), left_out_message(folder), untagged_message(folder))
    messages = (not_listed_line, _asked_again(folder), *of_images)
    scores = score_counts(folder)
    lines = [
        *_table(shown),
        *_score_table(scores),
        *_superseded(shown),
        *_how_to_list(folder, shown),
        *filter(None, messages),
    ]
    if holder := holder_of(folder.out):
        age = f"renewed {_age(holder):.0f} s ago"
        return "\n".join([*lines, f"a run is at work here: process {holder['pid']} on {holder['host']}, {age}"])
    if message := run_record.unfinished_purge(folder):
        return "\n".join([*lines, message])
    is_scored = not any(counts.pending for counts in scores if not counts.is_removed)
    is_settled = all(funnel.is_settled for funnel in shown) and is_scored
    rest = "" if is_settled else f"; `synth run --out {folder.out.url}` continues with what is pending"
    idle = [f"no run is at work here{rest}"] if not is_settled or not is_over else []
    return "\n".join([*lines, *_cut_short(folder), *idle])


def _how_to_list(folder: RunFolder, shown: list[StageFunnel]) -> list[str]:
    """Return the command that lists dropped rows, with the first reason that the table shows."""
    reasons = (reason for funnel in shown for reason, count in sorted(funnel.dropped.items()) if count)
    first = next(reasons, None)
    return [f"`synth status {folder.out.url} --reason {first}` lists what was dropped for a reason"] if first else []


def _asked_again(folder: RunFolder) -> str | None:
    count = folder.log(GENERATE).counts().get("reasked", 0)
    pairs = "1 pair was" if count == 1 else f"{count:,} pairs were"
    return f"{pairs} asked again along the path of the section reask" if count else None


def _near_duplicates(folder: RunFolder) -> str | None:
    message = near_duplicates_message(folder.log(PLAN).counts())
    return f"{message}; `synth status {folder.out.url} --reason near_duplicate` lists them" if message else None


def _cut_short(folder: RunFolder) -> list[str]:
    unfinished = run_record.unfinished_changes(folder)
    stages = [stage for stage in stage_names() if stage in unfinished]
    again = {name: sorted(run_record.unfinished_names(folder, name)) for name in ("retry", "repair")}
    cut_short = {"an update": stages, "a retry": again["retry"], "a repair": again["repair"]}
    return [
        f"{what} of {', '.join(names)} was cut short; the next run finishes it"
        for what, names in cut_short.items()
        if names
    ]


def _table(shown: list[StageFunnel]) -> Iterator[str]:
    yield f"{'stage':<9} {'received':>10} {'passed':>10} {'dropped':>10} {'pending':>8}"
    for funnel in shown:
        dropped = sum(funnel.dropped.values())
        counts = f"{funnel.received:>10,} {funnel.passed:>10,} {dropped:>10,} {funnel.pending:>8,}"
        yield f"{funnel.stage:<9} {counts}  {funnel.unit}"
        for reason, count in sorted(funnel.dropped.items()):
            if count:
                yield f"{'':<9} {'':>10} {'':>10} {count:>10,} {'':>8}    {reason}"


def _score_table(scores: list[ScoreCounts]) -> Iterator[str]:
    """Yield a line for each score of a pass, and one for each reason why pairs have no value of it."""
    if not scores:
        return
    width = max(9, *(len(counts.name) for counts in scores))
    yield f"{'score':<{width}} {'pairs':>10} {'values':>10} {'without':>10} {'pending':>8}"
    for counts in scores:
        without = sum(counts.without.values())
        pending = f"{'removed' if counts.is_removed else format(counts.pending, ','):>8}"
        yield f"{counts.name:<{width}} {counts.received:>10,} {counts.values:>10,} {without:>10,} {pending}"
        if counts.taken:
            yield f"{'':<{width}} {'':>10} {counts.taken:>10,} {'':>10} {'':>8}    taken, as another score decides them"
        for reason, count in sorted(counts.without.items()):
            yield f"{'':<{width}} {'':>10} {'':>10} {count:>10,} {'':>8}    {reason}"
        if counts.retired:
            yield f"{'':<{width}} {'':>10} {'':>10} {counts.retired:>10,} {'':>8}    retired, and not scored"


def _superseded(shown: list[StageFunnel]) -> Iterator[str]:
    """Yield what an update or a purge has still to take out; the last lines of the status say how that is finished."""
    for funnel in shown:
        if funnel.superseded:
            yield f"{funnel.stage}: still to be taken out of what it wrote: {funnel.superseded:,} {funnel.unit}"


def _age(holder: Mapping[str, Any]) -> float:
    """Return the seconds since a run renewed its lease; not negative, as clocks may have it."""
    return max(0.0, time.time() - float(holder["beat"]))
