"""The data mixture of phase two: how often each kind of example is drawn, and the batches that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.draw import draw
from demo.packing import Packer
from demo.patch_labels import patch_labels
from demo.question_templates import TYPES
from demo.training_examples import KEYS, ROLES
from demo.world import sample

Arrays = dict[str, NDArray[Any]]
KINDS = {"scene": 0.6, "sign": 0.21, "chart": 0.17, "empty": 0.02}
EARLY_PICTURES = 7_000  # taught mostly with one-word answers
# How often a type is drawn, beside how badly it is answered: a caption holds many answers, a yes or no that is half
# right by guessing looks easier than it is, and some types need what few pictures have.
TYPE_WEIGHT = {
    "caption": 2.0,
    "relative_position": 4.0,
    "compare_counts": 2.0,
    "chart_compare": 0.6,
    "same_colour": 5.0,
    "printed_word": 2.0,
    "printed_number": 3.0,
    "chart_arithmetic": 1.5,
    "counting": 1.5,
    "existence": 1.5,
}
# For asking and declining: whether a type fits is hard to see where a thing must be unique or two must differ, and
# signs are rare.
EASY_TO_ASK = (
    "background",
    "picture_kind",
    "caption",
    "existence",
    "object_at_position",
    "kind_of_thing",
    "counting",
    "chart_value",
)
ASK_WEIGHT = {type_: 0.4 if type_ in EASY_TO_ASK else 2.5 for type_ in TYPES} | {
    "relative_position": 4.0,
    "same_colour": 5.0,
}


def _draw_weight(key: str) -> float:
    task, _, type_ = key.partition("/")
    return (ASK_WEIGHT if task in ("ask", "decline") else TYPE_WEIGHT).get(type_, 1.0)


DRAW_WEIGHTS = np.array([_draw_weight(key) for key in KEYS])  # (keys,)


def make_batch(
    packer: Packer, seed: int, first: int, size: int, weights: dict[str, float], role: str = "asker"
) -> Arrays:
    """Return the pictures from `first` on, packed with the examples of a role.

    Returns:
        token_ids, targets, example, is_blind, position: (B, R, L), as in `Pack`; keys: (B, E) int64, padded with 0;
        images: (B, SIZE, SIZE, 3) uint8; patch_labels: (B, P, heads) int64. Shapes as in train_vlm.py.
    """
    scenes = [sample(seed, index, kinds=KINDS) for index in range(first, first + size)]
    # "lessons" is part of the seed: another word gives other examples
    early, late = ROLES[role]
    mixtures = [early if scene.index < EARLY_PICTURES else late for scene in scenes]
    packs = [
        packer.pack(scene, scene.rng("lessons"), weights, mix) for scene, mix in zip(scenes, mixtures, strict=True)
    ]
    names = ("token_ids", "targets", "example", "is_blind", "position")
    arrays: Arrays = {name: np.stack([getattr(pack, name) for pack in packs]) for name in names}  # (B, R, L)
    most = max(len(pack.keys) for pack in packs)
    arrays["keys"] = np.array([pack.keys + [0] * (most - len(pack.keys)) for pack in packs])  # (B, E)
    arrays["images"] = np.stack([np.asarray(draw(scene)) for scene in scenes])  # (B, SIZE, SIZE, 3)
    arrays["patch_labels"] = np.stack([patch_labels(scene) for scene in scenes])  # (B, P, heads)
    return arrays
