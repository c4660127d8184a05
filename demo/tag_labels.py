"""The tags of the drawn taxonomy that are true of a scene, and the texts that stand for them.

The texts are those of the pipeline's tagger (template, and name with meaning, averaged), read from the same taxonomy
file, so the CLIP is trained and measured on what it will be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from demo.world import WORDS, Scene

TAXONOMY = Path(__file__).parent.parent / "taggers" / "taxonomies" / "drawn.yaml"


def tag_phrasings() -> dict[str, list[str]]:
    """Return the texts of every tag, by its path."""
    file = yaml.safe_load(TAXONOMY.read_text())
    phrasings: dict[str, list[str]] = {}

    def walk(tags: dict[str, Any], above: str) -> None:
        for name, value in tags.items():
            spoken, means = name.replace("_", " "), value if isinstance(value, str) else value["means"]
            templates = [template.replace("{}", spoken) for template in file["templates"]]
            phrasings[above + name] = [*templates, f"{spoken}: {means}"]
            if not isinstance(value, str):
                walk(value.get("tags", {}), f"{above}{name}/")

    walk(file["tags"], "")
    return phrasings


def true_tags(scene: Scene) -> set[str]:
    """Return the paths of all tags that are true of a scene, ancestors included."""
    leaves = {f"place/{scene.background}"} if scene.background else {"chart/bar_chart"}
    leaves |= {f"colour/{bar.colour}" for bar in scene.bars}
    leaves |= {f"{thing.group}/{thing.name}" for thing in scene.things}
    leaves |= {f"colour/{thing.colour}" for thing in scene.things if thing.colour}
    if scene.sign:
        leaves.add("sign/printed_word" if scene.sign.text in WORDS else "sign/printed_number")
    if scene.background:
        leaves.add("amount/" + ("no_things", "one_thing", "several_things")[min(2, len(scene.things))])
    return leaves | {leaf.partition("/")[0] for leaf in leaves}


def tag_matrix(scenes: Sequence[Scene], paths: Sequence[str]) -> NDArray[np.bool_]:
    """Return which tags are true of which scenes: (scenes, tags) bool."""
    rows = [true_tags(scene) for scene in scenes]
    return np.array([[path in row for path in paths] for row in rows])


def text_embeddings(model: Any, tokenizer: Any, texts: Sequence[Sequence[str]]) -> Tensor:
    """Return the embedding of each tag, the mean over its texts: (tags, width) float32, of unit length."""
    ids = tokenizer([text for group in texts for text in group])  # (texts, context)
    embedded = model.encode_text(ids, normalize=True)  # (texts, width)
    groups = embedded.split([len(group) for group in texts])  # of each tag: (its texts, width)
    means = torch.stack([group.mean(0) for group in groups])  # (tags, width)
    return torch.nn.functional.normalize(means, dim=-1)
