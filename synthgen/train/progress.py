"""How far a training is, by its checkpoints; checkpoints.py writes them. No torch is loaded."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from synthgen.train.mixture import Mixture

FOLDER, PROGRESS = "checkpoints", "progress.json"


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training besides weights and optimizer.

    Attributes:
        steps: Optimizer steps taken.
        position: Rows taken from the stream.
        skipped: Unusable rows by reason; a row is counted again in each epoch.
        mixture: The weights of instruction types, where they move.
    """

    steps: int = 0
    position: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    mixture: Mixture = field(default_factory=Mixture)


def checkpoints(out: Path) -> list[Path]:
    """Return the complete checkpoints, the oldest first."""
    return sorted((out / FOLDER).glob("step-*"))


def progress_of(checkpoint: Path) -> TrainingProgress:
    """Return the progress at a checkpoint."""
    done = json.loads((checkpoint / PROGRESS).read_text())
    mixture = Mixture(**done.get("mixture", {}))
    return TrainingProgress(done["steps"], done["place"], Counter(done["skipped"]), mixture)


def read_progress(out: Path) -> TrainingProgress:
    """Return the progress of the last checkpoint."""
    paths = checkpoints(out)
    return progress_of(paths[-1]) if paths else TrainingProgress()
