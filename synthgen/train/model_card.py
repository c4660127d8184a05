"""The model card: the README.md of a tuned model, in the form of the Hugging Face hub.

It says what the training knows: the model it started from, the data and what their own card says of faults, the
settings, what was hard to learn. Nothing is guessed: the licence of the model is for its owner to add.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from synthgen import __version__
from synthgen.config.training import TrainConfig
from synthgen.console.markdown import CITE, escape, make_table
from synthgen.errors import SynthError
from synthgen.store import Folder

CARD = "README.md"
HARDEST = 10  # types that are shown
OF_DATA = ("Known faults", "Rights to the images")  # sections of the card of the data that hold for a model too
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Training:
    """A training that is over.

    Attributes:
        model: That it started from: a hub name or a folder.
        digest: Of the files of that model.
        data: Where the shards are.
        losses: The first and the last.
        monitor: The rows of monitor.jsonl.
        skipped: Unusable rows by reason.
    """

    model: str
    digest: str
    data: Sequence[str]
    settings: TrainConfig
    losses: tuple[float, float]
    monitor: Sequence[Mapping[str, Any]]
    skipped: Mapping[str, int]


def model_card(training: Training) -> str:
    """Return the text of the card."""
    name = _shown(training.model)
    front = {
        **({"base_model": training.model, "base_model_relation": "finetune"} if _is_on_hub(training.model) else {}),
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["synthgen", "vlm", "instruction-tuning"],
    }
    sections = [
        f"# {escape(name)}, tuned on visual instructions",
        f"A vision-language model, tuned with `synth train` of synthgen {__version__} on questions about images.",
        "## How it was made\n" + make_table(("", ""), _facts(training)),
        *_of_data(training.data),
        *_hardest(training.monitor),
        _USE,
        _LOAD,
        f"## How to make it again\n{_again(training)}",
        CITE,
    ]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(sections) + "\n"


def _facts(training: Training) -> Iterator[tuple[str, str]]:
    settings, (first, last) = training.settings, training.losses
    yield "Started from", _shown(training.model)
    yield "Hash of its files", training.digest
    yield "Data", ", ".join(_shown(place) for place in training.data)
    yield "Steps", f"{settings.steps:,} of {settings.batch:,} samples"
    yield "Trained", f"{settings.what}{', adapters (LoRA)' if settings.lora else ''}"
    yield "Learning rate", f"{settings.learning_rate:g}"
    yield "Weights", settings.precision
    yield "Loss of an answer token", f"{first:.3f} at first, {last:.3f} at the end"
    if training.skipped:
        yield "Rows left out", ", ".join(f"{count:,} {reason}" for reason, count in training.skipped.items())


def _of_data(places: Sequence[str]) -> Iterator[str]:
    """Yield what the cards of the data say: how much there is, and what holds for a model too."""
    for place in places:
        card = _card_of(place)
        parts = re.split(r"^(?=## )", card.partition("\n---\n")[2], flags=re.MULTILINE)
        title = re.search(r"^# (.+)$", parts[0], re.MULTILINE)
        if title:
            yield f"## The data\n{title[1]}"
        for part in parts[1:]:
            if part.partition("\n")[0].removeprefix("## ") in OF_DATA:
                yield f"#{part.strip()}"


def _card_of(place: str) -> str:
    """Return the card of the data at a place, or "" where there is none, or none that can be read."""
    try:
        for folder in (Folder(place).child("5-shards"), Folder(place)):
            if CARD in folder.names(".md"):
                return folder.read(CARD).decode(errors="replace")
    except (SynthError, OSError):  # a glob, or data that are gone by now
        return ""
    return ""


def _hardest(monitor: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the types with the highest loss at the end, if there are several."""
    rows = [row for row in monitor if "loss" in row]
    types: Mapping[str, Mapping[str, float]] = rows[-1]["loss"].get("type", {}) if rows else {}
    if len(types) < 2:
        return
    highest = sorted(types, key=lambda name: (-types[name]["loss"], name))[:HARDEST]
    cells = ((name, f"{types[name]['loss']:.3f}", f"{types[name]['answers']:,.0f}") for name in highest)
    yield (
        "## What was hard\nInstruction types by the mean loss of an answer token in the last steps, the highest first: "
        "where the model is least sure, and where its answers need a look first.\n\n"
        + make_table(("type", "loss", "answers"), cells)
    )


def _again(training: Training) -> str:
    changed = training.settings.model_dump(mode="json", exclude_defaults=True)
    words = ["synth", "train", *map(_shown, training.data), "--model", _shown(training.model), "--out", "TUNED"]
    for name, value in changed.items():
        words += ["--set", f"train.{name}={json.dumps(value)}"]
    command = " ".join(shlex.join(words).replace("`", "'").split())
    return f"```\n{command}\n```\n\nWith synthgen {__version__}, on the same data."


def _shown(name: str) -> str:
    """Return the name of a model or of data without folders of this machine."""
    is_local = name.startswith(("/", "~", ".")) or Path(name).exists()
    return PurePath(name).name if is_local else name


def _is_on_hub(name: str) -> bool:
    return HUB_NAME.fullmatch(name) is not None and not name.startswith(".") and not Path(name).exists()


_USE = """## Intended use
To answer questions about images of the kinds that it was trained on.

- **It makes things up**, as every such model does: check what matters.
- **Not for decisions about persons**, and not to tell who somebody is.
- **Not measured yet.** `synth evaluate` says how right it is, by type, beside the model that it started from.
- **Licence:** that of the model it started from, and of the data; neither is stated here."""

_LOAD = """## How to load it
```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
```

`vllm serve FOLDER` serves it, and `--model FOLDER` uses it in `synth run`."""
