"""The generators: checkpoints of the recipe at three strengths, trained where they are not there yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SEED = 4000  # another one than those of the committed models, which are judges here
VISION_PICTURES = 48_000
COURSES = (5_000, 8_000, 12_000, 16_000, 24_000, 32_000, 48_000, 60_000)  # pictures so far, at the end of each course
PICTURES: Mapping[str, int] = {"weak": 8_000, "middle": 24_000, "strong": 60_000}


def train_generators(out: Path) -> dict[str, Path]:
    """Return the folder of each exported generator, weakest first; train them, or go on with it, where one is missing.

    Args:
        out: Holds a folder for each, and `checkpoints`.
    """
    folders = {name: out / name / "nano-vlm" for name in PICTURES}
    if all((folder / "model.safetensors").exists() for folder in folders.values()):
        return folders
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of one thread: see demo/distributed.py
    from demo import export, train_vision, train_vlm  # torch starts its threads by OMP_NUM_THREADS

    checkpoints = out / "checkpoints"
    train_vision.train(checkpoints, VISION_PICTURES, SEED)
    names = {pictures: name for name, pictures in PICTURES.items()}
    for pictures in COURSES:
        train_vlm.train(checkpoints, train_vlm.Course(pictures, SEED + 1))
        name = names.get(pictures)
        if name and not (folders[name] / "model.safetensors").exists():
            export.export(checkpoints, out / name)
    return folders
