"""What an output folder holds: the funnel from listed objects to training samples, from commits alone.

Comes in: an output folder, of a running, dead or finished job. Goes out: whether a run is at work, and the counts of every outcome,
stage by stage. Each stage's outcomes add up to what the stage before handed on, less what is still to do; a difference is shown,
not hidden. No data file is read: commits say by how much they change each count.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.tables import TAG, stage_at
from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.store import Folder, StageFolder
from synthgen.store.lease import holder_of
from synthgen.tables import LEFT_OUT, PLAN_OUTCOMES, UNSCORED

_LEFT_OUT = (
    "left_out",
    *(f"left_out.{reason}" for reason in LEFT_OUT),
)  # counted beside the outcomes, of images that are tagged
FOLDERS = ("0-listed", "1-tagged", "2-planned", "3-generated", "4-selected", "5-shards")


@dataclass(frozen=True)
class StageFunnel:
    """One stage: what came in, what went on, what fell out and why, what is still to do."""

    stage: str
    unit: str
    came: int
    went: int
    fell: Mapping[str, int]

    @property
    def to_do(self) -> int:
        """What has no outcome yet."""
        return self.came - self.went - sum(self.fell.values())


def funnels(out: Folder) -> list[StageFunnel]:
    """The five stages of an output folder."""
    if "run.json" not in out.names(".json"):
        raise UserMistake(f"{out.url}: holds no synth run")
    counts = {name: StageFolder(out, stage_at(name)).log().counts() for name in FOLDERS}
    listed, tagged, planned = counts["0-listed"], counts["1-tagged"], counts["2-planned"]
    generated, selected, packed = counts["3-generated"], counts["4-selected"], counts["5-shards"]
    return [
        StageFunnel(
            "tag", "objects", listed.get("listed", 0), tagged.get("tagged", 0), _without(tagged, "tagged", *_LEFT_OUT)
        ),
        StageFunnel(
            "plan",
            "images",
            tagged.get("tagged", 0),
            planned.get("planned", 0),
            {name: planned[name] for name in PLAN_OUTCOMES[1:] if name in planned},
        ),
        StageFunnel(
            "generate",
            "assignments",
            planned.get("assigned", 0) + planned.get("retired", 0),
            generated.get("pair", 0),
            _without(generated, "pair", *UNSCORED),
        ),
        StageFunnel("select", "pairs", generated.get("pair", 0), selected.get("kept", 0), _without(selected, "kept")),
        StageFunnel(
            "pack", "pairs kept", selected.get("kept", 0), packed.get("turns", 0), _without(packed, "turns", "samples")
        ),
    ]


def as_json(out: Folder) -> dict[str, Any]:
    """The run that is at work here, if one is, the funnel, of how many images tags that came along were left out, and what is unfinished.

    `unfinished` is stage → "edit" or "redraw": of the run at work, or of one that was cut short.
    """
    holder = holder_of(out)
    at_work = (
        {"pid": holder["pid"], "host": holder["host"], "beat_age_seconds": round(_age(holder), 1)} if holder else None
    )
    stages = [{**vars(one), "to_do": one.to_do} for one in funnels(out)]
    return {"at_work": at_work, "stages": stages, "left_out": _left_out(out), "unfinished": run_record.unfinished(out)}


def text(out: Folder, *, is_over: bool = False) -> str:
    """The funnel as lines for a terminal; the last says whether a run is at work, unless the caller is one that `is_over`."""
    shown = funnels(out)
    going_on = (
        f"; `synth run --out {out.url}` goes on with what is to do" if any(funnel.to_do for funnel in shown) else ""
    )
    if holder := holder_of(out):
        last = [f"a run is at work here: process {holder['pid']} on {holder['host']}, renewed {_age(holder):.0f} s ago"]
    elif told := run_record.purge_cut_short(out):
        last = [told]
    else:
        last = [
            *_update_cut_short(out, shown),
            *([f"no run is at work here{going_on}"] if going_on or not is_over else []),
        ]
    return "\n".join([*_table(shown), *filter(None, [left_out(out)]), *last])


def _update_cut_short(out: Folder, shown: list[StageFunnel]) -> list[str]:
    unfinished = run_record.unfinished(out)
    left = [one.stage for one in shown if one.stage in unfinished]
    return [f"an update of {', '.join(left)} was cut short; the next run finishes it"] if left else []


def _table(shown: list[StageFunnel]) -> Iterator[str]:
    yield f"{'stage':<9} {'in':>10} {'out':>10} {'dropped':>10} {'to do':>8}"
    for funnel in shown:
        dropped = sum(funnel.fell.values())
        yield f"{funnel.stage:<9} {funnel.came:>10,} {funnel.went:>10,} {dropped:>10,} {funnel.to_do:>8,}  {funnel.unit}"
        for reason, count in sorted(funnel.fell.items()):
            if count:
                yield f"{'':<9} {'':>10} {'':>10} {count:>10,} {'':>8}    {reason}"
    for funnel in shown:
        if funnel.to_do < 0:
            yield f"{funnel.stage}: holds {-funnel.to_do:,} {funnel.unit} more than came in, taken back since; the next run takes them out"


def _age(holder: Mapping[str, Any]) -> float:
    """Seconds since a run renewed its lease; not negative, as clocks may have it."""
    return max(0.0, time.time() - float(holder["beat"]))


def left_out(out: Folder) -> str | None:
    """Where tags that came along with images were left out, or none came, a line that says of how many images and why."""
    found = _left_out(out)
    if not found["images"]:
        return None
    reasons = sorted(found["reasons"].items(), key=lambda one: -one[1])
    told = ", ".join(f"{reason.replace('_', ' ')} ({count:,})" for reason, count in reasons)
    share = f"{found['images']:,} of {found['of']:,} tagged images"
    return f"tags that should have come along were left out or missing for {share}: {told}; `detail` in 1-tagged/images says more"


def _left_out(out: Folder) -> dict[str, Any]:
    counts = StageFolder(out, TAG).log().counts()
    reasons = {reason: count for reason in LEFT_OUT if (count := counts.get(f"left_out.{reason}"))}
    return {"images": counts.get("left_out", 0), "of": counts.get("tagged", 0), "reasons": reasons}


def nothing_kept(out: Folder) -> str | None:
    """Where no pair came through, a line that says so with the commonest reason of the stage that nothing came out of."""
    shown = funnels(out)
    if shown[-1].went:
        return None
    dry = next(one for one in shown if not one.went)
    if not any(dry.fell.values()):
        return (
            f"0 pairs were kept: {dry.stage} had nothing to work on"
            if not dry.came
            else f"0 pairs were kept: {dry.stage} is not done"
        )
    reason, count = max(dry.fell.items(), key=lambda one: one[1])
    return (
        f"0 pairs were kept: nothing came out of {dry.stage}, mostly for {reason} ({count:,} of {dry.came:,} {dry.unit}); "
        f"`synth status {out.url} --reason {reason}` lists them"
    )


def holds(out: Folder) -> dict[str, int]:
    """How many of each thing that has come of the images are there now, by its name in the singular."""
    places = {"question": ("2-planned", "assigned"), "pair": ("3-generated", "pair"), "sample": ("5-shards", "samples")}
    return {
        name: StageFolder(out, stage_at(stage)).log().counts().get(outcome, 0)
        for name, (stage, outcome) in places.items()
    }


def _without(counts: Mapping[str, int], *names: str) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name not in names}
