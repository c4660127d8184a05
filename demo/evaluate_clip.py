"""How well the exported CLIP finds tags: precision, recall and F1 by level and by group, on held-out scenes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from demo.draw import draw
from demo.tag_labels import tag_matrix, tag_phrasings, text_embeddings
from demo.world import HELD_OUT_SEED, Scene, sample

BATCH = 64
FIRST = 20_000  # index of the first scene; evaluate.py takes lower ones


@torch.inference_mode()
def tag_probabilities(folder: Path, scenes: Sequence[Scene]) -> tuple[NDArray[np.float32], list[str]]:
    """Tag pictures with stock open_clip.

    Returns:
        Probabilities, (scenes, tags) float32, and the paths of the tags.
    """
    import open_clip

    name, phrasings = f"local-dir:{folder}", tag_phrasings()
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval()
    texts = text_embeddings(model, open_clip.get_tokenizer(name), list(phrasings.values()))  # (tags, width)
    batches = []
    for start in range(0, len(scenes), BATCH):
        images = torch.stack([transform(draw(scene)) for scene in scenes[start : start + BATCH]])  # (B, 3, SIZE, SIZE)
        embedded = model.encode_image(images, normalize=True)  # (B, width)
        logits = model.logit_scale.exp() * embedded @ texts.T + model.logit_bias  # (B, tags)
        batches.append(torch.sigmoid(logits).numpy())
    return np.concatenate(batches), list(phrasings)


def fit_thresholds(scores: NDArray[np.float32], is_true: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the threshold of the best F1 for each tag: (tags,) float32.

    Args:
        scores: Probabilities, (scenes, tags) float32.
        is_true: Which tags are true, (scenes, tags) bool.
    """
    steps = np.linspace(0.1, 0.9, 33, dtype=np.float32)
    rows = []
    for threshold in steps:
        is_found = scores >= threshold
        rows.append(2 * (is_found & is_true).sum(0) / np.maximum(1, is_found.sum(0) + is_true.sum(0)))  # (tags,)
    f1 = np.stack(rows)  # (steps, tags)
    nearness = 1e-6 * (1 - np.abs(steps - 0.5))[:, None]  # (steps, 1): of equal ones, the nearest to one half
    best: NDArray[np.float32] = steps[(f1 + nearness).argmax(0)]
    return best


def precision_recall_f1(is_found: NDArray[np.bool_], is_true: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return precision, recall and F1 over all cells together (micro average)."""
    hits = float((is_found & is_true).sum())
    precision, recall = hits / max(1.0, float(is_found.sum())), hits / max(1.0, float(is_true.sum()))
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def evaluate_tags(folder: Path, size: int) -> float:
    """Print precision, recall and F1 by level and group; return the F1 over all tags at fitted thresholds.

    Args:
        folder: The exported CLIP.
        size: Number of scenes to measure on; as many others fit the thresholds.
    """
    scenes = [sample(HELD_OUT_SEED, i) for i in range(FIRST, FIRST + 2 * size)]
    scores, paths = tag_probabilities(folder, scenes)
    is_true = tag_matrix(scenes, paths)
    thresholds = fit_thresholds(scores[:size], is_true[:size])
    scenes, scores, is_true = scenes[size:], scores[size:], is_true[size:]
    print(
        f"\ntags: {size} held-out scenes; precision, recall, F1 at thresholds of .5 and at calibrated ones; "
        "n tags are true\n"
    )
    for name, columns in _levels(paths).items():
        flat, fitted = (
            precision_recall_f1(scores[:, columns] >= threshold, is_true[:, columns])
            for threshold in (0.5, thresholds[columns])
        )
        _print_row(name, flat, fitted, int(is_true[:, columns].sum()))
    empty = [i for i, scene in enumerate(scenes) if scene.kind == "empty"]
    of_empty = precision_recall_f1(scores[empty] >= thresholds, is_true[empty])
    _print_row("empty scenes", (), of_empty, int(is_true[empty].sum()))
    return precision_recall_f1(scores >= thresholds, is_true)[2]


def _levels(paths: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of each row of the table: both levels, every group, and all."""
    levels: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        levels["groups" if "/" not in path else "leaves"].append(i)
        levels[path.partition("/")[0]].append(i)
    return {**levels, "all": list(range(len(paths)))}


def _print_row(name: str, flat: Sequence[float], fitted: Sequence[float], count: int) -> None:
    """Print a row of the table; where no tag is true, nothing was measured."""
    cells = ["".join(f"{value:>8.3f}" for value in part if count) for part in (flat, fitted)]
    print(f"{name:<16}{cells[0]:>24}   {cells[1]:>24}{count:>7}")
