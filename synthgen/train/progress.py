"""How far a training is, by its checkpoints; checkpoints.py writes them. No torch is loaded."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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


def write_progress(checkpoint: Path, progress: TrainingProgress, digests: Mapping[str, str]) -> None:
    """Write the progress at a checkpoint, with the digests of its files and one of all this."""
    done = {"steps": progress.steps, "place": progress.position, "skipped": progress.skipped, "files": digests}
    done |= {"mixture": asdict(progress.mixture)} if progress.mixture.seen or progress.mixture.weights else {}
    (checkpoint / PROGRESS).write_text(json.dumps({**done, "digest": _digest(done)}))


def digests_of(checkpoint: Path) -> dict[str, str]:
    """Return the digests of the files of a checkpoint as they were written. Raises ValueError if they were changed."""
    done = json.loads((checkpoint / PROGRESS).read_text())
    if done.pop("digest") != _digest(done):
        raise ValueError(f"{PROGRESS} was changed")
    return dict(done["files"])


def _digest(done: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(done, sort_keys=True).encode()).hexdigest()


def read_progress(out: Path) -> TrainingProgress:
    """Return the progress of the last checkpoint."""
    paths = checkpoints(out)
    return progress_of(paths[-1]) if paths else TrainingProgress()
