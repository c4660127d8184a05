"""The folder of a distilled judge: distilled.json says what it is and how good, head.safetensors holds the weights."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.engines.distilled.head import Head
from synthgen.errors import ModelUnavailable

RECORD, WEIGHTS = "distilled.json", "head.safetensors"
VERSION = 1  # of the features
MAKE_AGAIN = "make it again with `synth distill`"


@dataclass(frozen=True)
class DistilledModel:
    """What a distilled judge was fitted to.

    Attributes:
        score: The score whose calls it serves.
        labels: Of the judge prompt, the worst first.
        embedder: An open_clip model, or a folder.
        pretrained: The name of its weights; None for a folder.
        digest: Of the embedder's files, if it is a folder.
        measured: What it reached on images that were left out, see docs/scores.md.
    """

    score: str
    labels: tuple[str, ...]
    embedder: str
    pretrained: str | None
    digest: str
    measured: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, model: DistilledModel, head: Head) -> None:
    """Write a distilled judge into a new folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    arrays = {name: np.ascontiguousarray(value) for name, value in asdict(head).items() if name != "sure"}
    save_file(arrays, folder / WEIGHTS)
    record = {"version": VERSION, **asdict(model), "sure": head.sure}
    (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def load(folder: Path) -> tuple[DistilledModel, Head]:
    """Read a distilled judge.

    Raises:
        ModelUnavailable: The folder holds none that this version reads.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        record = json.loads((folder / RECORD).read_text())
        arrays = load_file(folder / WEIGHTS)
        version, sure = record.pop("version"), float(record.pop("sure"))
        model = DistilledModel(**{**record, "labels": tuple(record["labels"])})
        head = Head(**arrays, sure=sure)
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{folder}: holds no distilled judge; `synth distill` makes one") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise ModelUnavailable(f"{folder}: is damaged ({type(error).__name__}); {MAKE_AGAIN}") from error
    if version != VERSION:
        raise ModelUnavailable(f"{folder}: was made by another version; {MAKE_AGAIN}")
    return model, head
