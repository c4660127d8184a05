"""The folder of a distilled judge: distilled.json says what it is and how good, head.safetensors holds the weights."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.config.prompt_file import JudgePrompt
from synthgen.engines.distilled.head import Head
from synthgen.engines.protocol import ModelName
from synthgen.errors import ModelUnavailable

RECORD, WEIGHTS = "distilled.json", "head.safetensors"
VERSION = 1  # of the features
MAKE_AGAIN = "make it again with `synth distill`"
AGAIN = "name the prompt pack that it learnt by in the pass, or distil it again"


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
        prompt: The digest of the judge prompt; empty in one of an older synth.
    """

    score: str
    labels: tuple[str, ...]
    embedder: str
    pretrained: str | None
    digest: str
    measured: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""


def prompt_digest(prompt: JudgePrompt) -> str:
    """Return the digest of everything that a judge prompt is."""
    return hashlib.sha256(json.dumps(prompt.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def save(folder: Path, model: DistilledModel, head: Head) -> None:
    """Write a distilled judge into a new folder, which has its name when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a command that was killed
    part.mkdir()
    _write(part, model, head)
    part.rename(folder)


def _write(folder: Path, model: DistilledModel, head: Head) -> None:
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(value) for name, value in asdict(head).items() if name != "sure"}
    save_file(arrays, folder / WEIGHTS)
    record = {"version": VERSION, **asdict(model), "sure": head.sure}
    (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> DistilledModel:
    """Read what a distilled judge was fitted to, without its weights.

    Raises:
        ModelUnavailable: The folder holds none that this version reads.
    """
    try:
        record = json.loads((folder / RECORD).read_text())
        version, _ = record.pop("version"), record.pop("sure")
        model = DistilledModel(**{**record, "labels": tuple(record["labels"])})
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{folder}: holds no distilled judge; `synth distill` makes one") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelUnavailable(f"{folder}: is damaged ({type(error).__name__}); {MAKE_AGAIN}") from error
    if version != VERSION:
        raise ModelUnavailable(f"{folder}: was made by another version; {MAKE_AGAIN}")
    return model


def score_fault(name: ModelName, score: str, prompt: JudgePrompt | None) -> str | None:
    """Return why a distilled judge cannot serve a score by a judge prompt; None if it can, or is none that is whole."""
    try:
        model = read_record(Path(name.model))
    except ModelUnavailable:
        return None  # reported where it is opened
    if score != model.score:
        return f"the small judge {name.model} grades '{model.score}' alone"
    labels = prompt.labels if prompt else ()
    if labels != model.labels:
        learnt, given = ", ".join(model.labels), ", ".join(labels)
        return f"the small judge {name.model} learnt the labels {learnt}, and those of the prompt are {given}; {AGAIN}"
    if prompt and model.prompt and prompt_digest(prompt) != model.prompt:
        return f"the small judge {name.model} learnt by another wording of judge.{score}; {AGAIN}"
    return None


def load(folder: Path) -> tuple[DistilledModel, Head]:
    """Read a distilled judge.

    Raises:
        ModelUnavailable: The folder holds none that this version reads.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    model = read_record(folder)
    try:
        sure = float(json.loads((folder / RECORD).read_text())["sure"])
        return model, Head(**load_file(folder / WEIGHTS), sure=sure)
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{folder}: holds no distilled judge; `synth distill` makes one") from error
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelUnavailable(f"{folder}: is damaged ({type(error).__name__}); {MAKE_AGAIN}") from error
