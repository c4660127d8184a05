"""The output folder of a training: its settings and its log; checkpoints.py has its checkpoints.

`training.json` pins the settings and the files, and gets the result at the end; `recipe.json` names the folders of a
recipe's stages, each of which is a training of its own. `log.jsonl` has one line a step, and
`monitor.jsonl` what monitor.py gathers from several. A record is written under another name and renamed, so a kill
leaves none incomplete; the logs are appended to, and a kill may cut a last line.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.engines.revision import folder_digest
from synthgen.errors import Damaged, SettingsChanged, UserMistake
from synthgen.store import Folder
from synthgen.train.preconditions import check_out
from synthgen.train.progress import checkpoints

if TYPE_CHECKING:
    from synthgen.train.loop import TrainingRun

END_BYTES = 20_000  # of a log
LOG = "log.jsonl"
RECIPE = "recipe.json"
FORMAT = 3  # 1 had a file a checkpoint, 2 one data set
# Settings that do not change the result.
FREE_SETTINGS = {
    *("workers", "checkpoint_every", "micro_batch", "pack_tokens", "processes", "recompute"),
    *("scratch", "held_out_rows", "held_out_every", "score_after"),
}


# --- training.json ----------------------------------------------------------------------------------------------------


def open_record(run: "TrainingRun") -> dict[str, Any]:
    """Return the record in training.json, or a new one with the files of the run.

    A training without a checkpoint counts as not started: its files are pinned again.

    Raises:
        SettingsChanged: The folder holds a training with other settings, data or model.
        UserMistake: The folder holds other files.
    """
    check_out(run.out)
    shape = {
        "data": {each.name: [each.source, run.feed.weights[each.name]] for each in run.feed.taken},
        "model": folder_digest(run.folder),
        **run.settings.model_dump(mode="json", exclude=FREE_SETTINGS),
    }
    record = read_record(run.out) or {"result": None}
    if not record["result"] and not checkpoints(run.out):
        record = {"format": FORMAT, "model": str(run.folder), "shape": shape, "result": None}
        feed = os.path.relpath(run.feed.folder, run.out)  # a training may be moved
        return {**record, "data": run.feed.record(), "feed": feed}
    _check_unchanged(run.out, record["shape"], shape)
    return record


def read_state(out: Path) -> tuple[bytes, ...]:
    """Return what another start would change: training.json and the names of the checkpoints, in one value to compare.

    Every checkpoint has a name of its own, and is written before an older one is deleted.
    """
    path = out / "training.json"
    return path.read_bytes() if path.is_file() else b"", *(os.fsencode(file.name) for file in checkpoints(out))


def read_record(out: Path) -> dict[str, Any] | None:
    """Return the record of a training; None if there is none.

    Raises:
        Damaged: It is damaged.
        UserMistake: Another version of synth wrote it.
    """
    path = out / "training.json"
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = dict(json.loads(path.read_bytes()))
        record["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{path}: is not the record of a training ({error}); use another --out") from error
    if record.get("format") != FORMAT:
        raise UserMistake(
            f"--out {path.parent}: has format {record.get('format')}; this synth reads format {FORMAT}; "
            "use another --out"
        )
    return record


def _check_unchanged(out: Path, recorded: dict[str, Any], current: dict[str, Any]) -> None:
    changed = [key for key in {**recorded, **current} if recorded.get(key) != current.get(key)]
    if changed:
        changes = "; ".join(f"{key} was {recorded.get(key)!r} and is now {current.get(key)!r}" for key in changed)
        raise SettingsChanged(
            f"--out {out}: was started with other settings: {changes}; use another --out, or restore them to continue"
        )


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write training.json."""
    _write(out / "training.json", json.dumps(record, indent=1).encode())


def write_recipe(out: Path, stages: Sequence[str]) -> None:
    """Write recipe.json, which names the folders of the stages that are finished."""
    _write(out / RECIPE, json.dumps({"stages": list(stages)}, indent=1).encode())


def stage_folders(out: Path) -> list[Path]:
    """Return the folders of the trainings in an output folder: those of a recipe's finished stages, or itself."""
    path = out / RECIPE
    if not path.is_file():
        return [out]
    try:
        return [out / str(name) for name in json.loads(path.read_bytes())["stages"]]
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{path}: is not the record of a recipe ({error}); start its training again") from error


# --- log.jsonl --------------------------------------------------------------------------------------------------------


def trim_log(out: Path, steps: int, name: str = LOG) -> list[dict[str, Any]]:
    """Remove the lines after step `steps` from a log, and a line cut by a kill; return the others."""
    lines = [line for line in read_log(out, name) if line["step"] <= steps]
    _write(out / name, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return lines


def read_log(out: Path, name: str = LOG) -> list[dict[str, Any]]:
    """Return the whole lines of a log."""
    path = out / name
    return _parse(path.read_bytes()) if path.exists() else []


def last_lines(log: Path) -> list[dict[str, Any]]:
    """Return the whole lines at the end of a log, some hundred of them."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - END_BYTES))
        return _parse(file.read())


def _parse(data: bytes) -> list[dict[str, Any]]:
    """Return the lines of a part of a log but those that are cut, by a kill or by the part."""
    lines = list[dict[str, Any]]()
    for text in data.splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            lines += [line] if isinstance(line, dict) else []
    return lines


def mean_loss(lines: Sequence[dict[str, Any]]) -> float:
    """Return the mean loss of some lines of the log."""
    return float(sum(line["loss"] for line in lines) / len(lines))


def _write(path: Path, data: bytes) -> None:
    Folder(str(path.parent.resolve())).write(path.name, data)
