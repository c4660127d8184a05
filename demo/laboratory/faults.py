"""What each gate catches of planted faults, and its false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from demo.laboratory.gates import Mask, Pairs, Values
from demo.laboratory.planted import RIGHT, plant
from demo.laboratory.rated import Rows, rows_of
from synthgen.store import Folder, RunFolder
from synthgen.tables import SELECT

FALSE_ALARMS = 0.05  # share of the right pairs that a threshold may drop


def faults_of(rows: Rows) -> list[str]:
    """Return which fault was planted in each pair."""
    found = []
    for pair, scene in zip(rows.pairs, rows.scenes, strict=True):
        planted = {each.question: each.fault for each in plant(scene, pair["type"].rpartition("/")[2])}
        found.append(planted[pair["question"]])
    return found


def duplicates_of(out: Path, rows: Rows) -> Mask:
    """Return which pairs select drops as near questions about one image, (pairs,)."""
    decisions = rows_of(RunFolder(Folder(str(out))), SELECT, "decisions")
    dropped = {row["pair_id"] for row in decisions if row["reason"] == "duplicate:question"}
    return np.array([pair["pair_id"] in dropped for pair in rows.pairs])


def dropped_by(values: Values, is_right: Mask) -> Mask:
    """Return the pairs below the highest threshold that drops no more than FALSE_ALARMS of the right ones."""
    known = np.nan_to_num(values, nan=np.inf)
    limits = np.unique(known)
    alarms = np.array([(known[is_right] < limit).sum() for limit in limits]) / max(1, is_right.sum())
    return np.asarray(known < limits[alarms <= FALSE_ALARMS].max())


def fault_rows(faults: Sequence[str], dropped: Mapping[str, Mask]) -> list[dict[str, str]]:
    """Return a row for each fault: how many there are, and the percentage that each gate drops; false alarms first."""
    names = [RIGHT, *sorted(set(faults) - {RIGHT}, key=lambda fault: (-faults.count(fault), fault))]
    rows = []
    for name in names:
        of_fault = np.array([fault == name for fault in faults])
        shares = {gate: f"{100 * mask[of_fault].mean():.0f}" for gate, mask in dropped.items()}
        rows.append({"planted": name, "pairs": str(int(of_fault.sum())), **shares})
    return rows


def all_dropped(pairs: Pairs, faults: Sequence[str], duplicates: Mask) -> dict[str, Mask]:
    """Return what each gate drops, and what the comparison of questions does."""
    is_right = np.array([fault == RIGHT for fault in faults])
    found = {gate: dropped_by(values, is_right) for gate, values in pairs.values.items()}
    return {**found, "near_questions": duplicates}
