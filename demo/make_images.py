"""Write the committed demo pictures and their scene graphs.

In: nothing. Out: `images/*.png` and `scenes.jsonl` beside this file, from a seed that no training uses. Why this way: a user without
the emoji font still has pictures to run on, and the scene graphs let anyone measure what a run made of them.

    python -m demo.make_images [--count 200]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from demo.draw import draw
from demo.world import DEMO_SEED, SIZE, Scene, sample


def contact_sheet(scenes: list[Scene], path: Path, columns: int = 10) -> None:
    """Some of the pictures on one sheet, for the README."""
    step = SIZE + 4
    sheet = Image.new("RGB", (columns * step, -(-len(scenes) // columns) * step), (255, 255, 255))
    for i, scene in enumerate(scenes):
        sheet.paste(draw(scene), (i % columns * step, i // columns * step))
    sheet.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo pictures and their scene graphs.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    scenes = [sample(DEMO_SEED, i) for i in range(args.count)]
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for scene in scenes:
        name = f"{scene.index:04d}.png"
        draw(scene).save(args.out / "images" / name, optimize=True)
        lines.append(f'{{"image": "{name}", "scene": {scene.to_json()}}}')
    (args.out / "scenes.jsonl").write_text("\n".join(lines) + "\n")
    contact_sheet(scenes[:40], args.out / "world.png")


if __name__ == "__main__":
    main()
