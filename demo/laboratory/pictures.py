"""The pictures of a trial: scenes that no model was trained on, drawn into a folder beside their scene graphs."""

from __future__ import annotations

from pathlib import Path

from demo.draw import draw
from demo.world import Scene, sample

FIRST_SEED = 700  # seeds below 1000 are held out; those of the demo and of evaluation are others


def draw_pictures(folder: Path, seed: int, count: int) -> None:
    """Draw the first scenes of a seed as `00000.png` …, unless they are there, with `scenes.jsonl` last."""
    if (folder / "scenes.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [sample(FIRST_SEED + seed, index) for index in range(count)]
    for number, scene in enumerate(scenes):
        draw(scene).save(folder / f"{number:05}.png")
    (folder / "scenes.jsonl").write_text("\n".join(scene.to_json() for scene in scenes) + "\n")


def load_scenes(folder: Path) -> dict[str, Scene]:
    """Return the scene of each picture of a folder, by file name."""
    lines = (folder / "scenes.jsonl").read_text().splitlines()
    return {f"{number:05}.png": Scene.from_json(line) for number, line in enumerate(lines)}
