"""Training checkpoints: whole or absent, so that a run that is killed at any instant continues from the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, **state: object) -> None:
    """Write a checkpoint under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint with its tensors on the CPU, or None if there is none."""
    return read_checkpoint(path) if path.exists() else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint that exists, with its tensors on the CPU."""
    state: dict[str, Any] = torch.load(path, weights_only=False, map_location="cpu")
    return state
