"""The output folder of a training: its settings, its log and its checkpoints.

`training.json` pins the settings and the files, and gets the result at the end; `log.jsonl` has one line a step;
`checkpoints/` has the state to continue from. Records and checkpoints are written under another name and renamed, so a
kill leaves none of them incomplete; the log is appended to, and a kill may cut its last line.
"""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from synthgen.config.pipeline import TrainConfig
from synthgen.engines.revision import folder_digest
from synthgen.errors import Damaged, SettingsChanged, SynthError, UserMistake, one_line
from synthgen.store import Folder
from synthgen.train.dataset import absolute_url, pin
from synthgen.train.preconditions import check_out

FORMAT = 1
CHECKPOINTS_KEPT = 2
FREE_SETTINGS = {"workers", "checkpoint_every", "micro_batch"}  # settings that do not change the result


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training besides weights and optimizer.

    Attributes:
        steps: Optimizer steps taken.
        position: Rows taken from the stream.
        skipped: Unusable rows by reason; a row is counted again in each epoch.
    """

    steps: int = 0
    position: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


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


def trim_log(out: Path, steps: int) -> list[dict[str, Any]]:
    """Remove the lines after step `steps` from the log, and a line cut by a kill; return the others."""
    path, lines = out / "log.jsonl", []
    for text in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    lines = [line for line in lines if line["step"] <= steps]
    _write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return lines


def mean_loss(lines: Sequence[dict[str, Any]]) -> float:
    """Return the mean loss of some lines of the log."""
    return float(sum(line["loss"] for line in lines) / len(lines))


# --- checkpoints/ -----------------------------------------------------------------------------------------------------


def checkpoints(out: Path) -> list[Path]:
    """Return the complete checkpoints, the oldest first."""
    return sorted((out / "checkpoints").glob("step-*.pt"))


def write_checkpoint(
    out: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: TrainingProgress
) -> None:
    """Write everything that the next step depends on, and delete all but the last checkpoints."""
    folder = out / "checkpoints"
    folder.mkdir(exist_ok=True)
    state = {
        "done": {"steps": progress.steps, "place": progress.position, "skipped": dict(progress.skipped)},
        "model": model.state_dict(),  # tensors on the model's device, float32
        "optimizer": optimizer.state_dict(),  # two moments of the shape of each trained weight, float32
        "random": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])],
    }
    temporary = folder / "writing.pt"  # torch refuses names that begin with a dot
    with whole(temporary):
        torch.save(state, temporary)
        temporary.rename(folder / f"step-{progress.steps:07d}.pt")
    for old in checkpoints(out)[:-CHECKPOINTS_KEPT]:
        old.unlink()


@contextlib.contextmanager
def whole(temporary: Path) -> Iterator[None]:
    """Remove a file or folder that could not be written to its end.

    Raises:
        SynthError: The disk failed, as torch (RuntimeError) and safetensors report it too.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise SynthError(
            f"{temporary.parent}: writing failed ({one_line(error)}); free some space, or fix its permissions, and "
            "start the same command again: it continues from the last checkpoint"
        ) from error


def load_checkpoint(out: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> TrainingProgress:
    """Restore model, optimizer and random state from the last checkpoint, if there is one, and return its progress."""
    paths = checkpoints(out)
    if not paths:
        return TrainingProgress()
    state = torch.load(paths[-1], map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])  # copied to the model's device, shapes and dtypes checked
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"][0])
    if torch.cuda.is_available() and len(state["random"]) > 1:
        torch.cuda.set_rng_state_all(state["random"][1:])
    done = state["done"]
    return TrainingProgress(done["steps"], done["place"], Counter(done["skipped"]))


def _write(path: Path, data: bytes) -> None:
    Folder(str(path.parent.resolve())).write(path.name, data)
