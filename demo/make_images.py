"""Write the committed demo pictures and their scene graphs: `images/*.png`, `scenes.jsonl` and `world.png`.

They come from a seed that no training uses. With the scene graphs, `truth.py` measures a run over the pictures.

    python -m demo.make_images [--count 200] [--out demo]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from demo.draw import draw
from demo.world import DEMO_SEED, SIZE, Scene, sample


def contact_sheet(scenes: list[Scene], path: Path, columns: int = 10) -> None:
    """Write the pictures of some scenes as one image."""
    step = SIZE + 4  # pixels from one picture to the next
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * step, rows * step), (255, 255, 255))
    for i, scene in enumerate(scenes):
        row, column = divmod(i, columns)
        sheet.paste(draw(scene), (column * step, row * step))
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
