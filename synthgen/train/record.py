"""The output folder of a training: its settings and its log; checkpoints.py has its checkpoints.

`training.json` pins the settings and the files, and gets the result at the end; `log.jsonl` has one line a step, and
`monitor.jsonl` what monitor.py gathers from several. A record is written under another name and renamed, so a kill
leaves none incomplete; the logs are appended to, and a kill may cut a last line.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthgen.config.training import TrainConfig
from synthgen.engines.revision import folder_digest
from synthgen.errors import Damaged, SettingsChanged, UserMistake
from synthgen.store import Folder
from synthgen.train.checkpoints import checkpoints
from synthgen.train.dataset import absolute_url, pin
from synthgen.train.preconditions import check_out

END_BYTES = 20_000  # of a log
LOG = "log.jsonl"
FORMAT = 2  # 1 had a file a checkpoint
# Settings that do not change the result.
FREE_SETTINGS = {
    *("workers", "checkpoint_every", "micro_batch", "pack_tokens", "processes", "recompute", "score_after"),
}


# --- training.json ----------------------------------------------------------------------------------------------------


def open_record(shards: str, folder: Path, out: Path, settings: TrainConfig) -> dict[str, Any]:
    """Return the record in training.json, or a new one with the files as they are now.

    A training without a checkpoint counts as not started: its files are pinned again.

    Args:
        shards: The source of the rows, as `pin` takes it.
        folder: The files of the model.
        out: The output folder.
        settings: The settings of this start.

    Raises:
        SettingsChanged: The folder holds a training with other settings, shards or model.
        UserMistake: The folder holds other files, or the shards cannot be used.
    """
    path = out / "training.json"
    check_out(out)
    shape = {
        "shards": absolute_url(shards),
        "model": folder_digest(folder),
        **settings.model_dump(mode="json", exclude=FREE_SETTINGS),
    }
    record: dict[str, Any] = _read_record(path) if path.is_file() else {"result": None}
    if not record["result"] and not checkpoints(out):
        files = [asdict(file) for file in pin(shards)]
        return {"format": FORMAT, "model": str(folder), "shape": shape, "result": None, "files": files}
    _check_unchanged(out, record["shape"], shape)
    return record


def read_state(out: Path) -> tuple[bytes, ...]:
    """Return what another start would change: training.json and the names of the checkpoints, in one value to compare.

    Every checkpoint has a name of its own, and is written before an older one is deleted.
    """
    path = out / "training.json"
    return path.read_bytes() if path.is_file() else b"", *(os.fsencode(file.name) for file in checkpoints(out))


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
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
