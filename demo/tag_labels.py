"""Which tags of the drawn taxonomy are true of a scene, and how well the nano CLIP finds them.

In: a `Scene`, or the exported CLIP. Out: tag paths, or precision, recall and F1 by level. Why this way: the same phrasings as the
pipeline's tagger uses (template, and name with meaning, averaged) are read from the taxonomy file, so that the model is
trained and measured on the very texts it will be asked with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from demo.draw import draw
from demo.world import GROUP_OF, HELD_OUT_SEED, WORDS, Scene, sample

TAXONOMY = Path(__file__).parent.parent / "taggers" / "taxonomies" / "drawn.yaml"


def phrasings() -> dict[str, list[str]]:
    """Path of every tag -> the texts that stand for it."""
    file = yaml.safe_load(TAXONOMY.read_text())
    found: dict[str, list[str]] = {}

    def walk(tags: dict[str, Any], above: str) -> None:
        for name, value in tags.items():
            spoken, means = name.replace("_", " "), value if isinstance(value, str) else value["means"]
            found[above + name] = [*(t.replace("{}", spoken) for t in file["templates"]), f"{spoken}: {means}"]
            if not isinstance(value, str):
                walk(value.get("tags", {}), f"{above}{name}/")

    walk(file["tags"], "")
    return found


def tags(scene: Scene) -> set[str]:
    """Every tag that is true of a scene, ancestors included."""
    leaves = {f"place/{scene.background}"} if scene.background else {"chart/bar_chart"}
    leaves |= {f"colour/{bar.colour}" for bar in scene.bars}
    for thing in scene.things:
        leaves.add(f"{GROUP_OF.get(thing.name, 'shape')}/{thing.name}")
        if thing.colour:
            leaves.add(f"colour/{thing.colour}")
    if scene.sign:
        leaves.add("sign/printed_word" if scene.sign.text in WORDS else "sign/printed_number")
    if scene.background:
        leaves.add("amount/" + ("no_things", "one_thing", "several_things")[min(2, len(scene.things))])
    return leaves | {leaf.partition("/")[0] for leaf in leaves}


def truth_table(scenes: Sequence[Scene], paths: Sequence[str]) -> NDArray[np.bool_]:
    table = [tags(scene) for scene in scenes]
    return np.array([[path in row for path in paths] for row in table])


def text_embeddings(model: Any, tokenizer: Any, texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """(tags, width): the mean of each tag's phrasings, unit length."""
    flat = model.encode_text(tokenizer([text for group in texts for text in group]), normalize=True)
    parts = flat.split([len(group) for group in texts])
    return torch.nn.functional.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)


@torch.inference_mode()
def probabilities(folder: Path, scenes: Sequence[Scene]) -> tuple[NDArray[np.float32], list[str]]:
    """What stock open_clip says of each scene and tag."""
    import open_clip

    name, texts = f"local-dir:{folder}", phrasings()
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval()
    words = text_embeddings(model, open_clip.get_tokenizer(name), list(texts.values()))
    rows = []
    for start in range(0, len(scenes), 64):
        images = torch.stack([transform(draw(scene)) for scene in scenes[start : start + 64]])
        seen = model.encode_image(images, normalize=True)
        rows.append(torch.sigmoid(model.logit_scale.exp() * seen @ words.T + model.logit_bias).numpy())
    return np.concatenate(rows), list(texts)


def calibrate(scores: NDArray[np.float32], true: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The threshold of best F1 for each tag."""
    steps = np.linspace(0.1, 0.9, 33, dtype=np.float32)
    both = np.stack(
        [(2 * ((scores >= t) & true).sum(0)) / np.maximum(1, (scores >= t).sum(0) + true.sum(0)) for t in steps]
    )
    best: NDArray[np.float32] = steps[(both + 1e-6 * (1 - np.abs(steps - 0.5))[:, None]).argmax(0)]
    return best


def precision_recall(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Over all cells together."""
    hit = float((said & true).sum())
    precision, recall = hit / max(1.0, float(said.sum())), hit / max(1.0, float(true.sum()))
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def _print(name: str, flat: Sequence[float], fit: Sequence[float], count: int) -> None:
    """A line of the table; where no tag is true, nothing was measured."""
    cells = ["".join(f"{v:>8.3f}" for v in part if count) for part in (flat, fit)]
    print(f"{name:<16}{cells[0]:>24}   {cells[1]:>24}{count:>7}")


def tags_f1(folder: Path, size: int) -> float:
    """Print precision, recall and F1 by level and group, at one threshold and at calibrated ones; return the calibrated F1."""
    held_out = [sample(HELD_OUT_SEED, i) for i in range(20_000, 20_000 + 2 * size)]
    scores, paths = probabilities(folder, held_out)
    true = truth_table(held_out, paths)
    cut = calibrate(scores[:size], true[:size])  # thresholds from one half, numbers from the other
    scores, true = scores[size:], true[size:]
    levels: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        levels["groups" if "/" not in path else "leaves"].append(i)
        levels[path.partition("/")[0]].append(i)
    levels["all"] = list(range(len(paths)))
    print(
        f"\ntags: {size} held-out scenes; precision, recall, F1 at thresholds of .5 and at calibrated ones; n tags are true\n"
    )
    for name, columns in levels.items():
        flat, fit = (precision_recall(scores[:, columns] >= t, true[:, columns]) for t in (0.5, cut[columns]))
        _print(name, flat, fit, int(true[:, columns].sum()))
    empty = [i for i, scene in enumerate(held_out[size:]) if scene.kind == "empty"]
    _print("empty scenes", (), precision_recall(scores[empty] >= cut, true[empty]), int(true[empty].sum()))
    return precision_recall(scores >= cut, true)[2]
