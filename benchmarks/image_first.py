"""What it is worth to keep an image's calls together.

    python benchmarks/image_first.py [--quick] [--nano]

Ours: an image's calls as one conversation. The other: stage after stage over all images (every first call, then every
second one, and so on), as tools do that finish a table before they begin the next. The same calls on the same engine,
caches emptied in between; only the order differs. The caches hold a quarter of the images, as no cache holds a bucket. The model
is the nano VLM with patches half as wide, so that an image is 301 tokens, about what a real VLM makes of a small
photograph (it sees nothing so, which changes no order); `--nano` takes the one that is shipped, whose images are 79. The
ratio is the others' seconds over ours.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from recorded import measure

DEMO = Path(__file__).parent.parent / "demo"
PATCH = 12  # pixels; the shipped model has 24
# Four asks and four answers: eight calls.
PLAN = ["plan.per_image=4", "plan.per_type=1", 'generate.scores=["likelihood"]', "select.keep={}"]
BLOCKS = {True: 6, False: 13}  # of 32 tokens: an image with its calls, nano or not
PIXELS_GB = 0.0005  # an image as the engine takes it


def half_patches(folder: Path) -> None:
    """Writes the nano VLM with four times its patches; the tower's weights fit no more and are left as they fell."""
    from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

    from demo.nano_vlm import build_vlm, export_vlm, vlm_config

    shipped = DEMO / "models" / "nano-vlm"
    tokenizer = AutoTokenizer.from_pretrained(shipped)
    text = LlavaOnevisionForConditionalGeneration.from_pretrained(shipped).state_dict()
    image, end = tokenizer.convert_tokens_to_ids(["<image>", "<|end|>"])
    wide = build_vlm(vlm_config(len(tokenizer), image, end, PATCH))
    wide.load_state_dict(
        {name: weight for name, weight in text.items() if "vision_tower.embeddings" not in name}, strict=False
    )
    export_vlm(wide, tokenizer, folder)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="64 images instead of all")
    parser.add_argument("--nano", action="store_true", help="the nano VLM as it is shipped")
    given = parser.parse_args()
    images = 64 if given.quick else 200
    sizes = {
        "num_gpu_blocks_override": BLOCKS[given.nano] * images // 4,
        "mm_processor_cache_gb": PIXELS_GB * images / 4,
    }
    overrides = [*PLAN, *(f"generate.engine.options.{name}={size}" for name, size in sizes.items())]
    with tempfile.TemporaryDirectory() as folder:
        if not given.nano:
            half_patches(Path(folder))
            overrides.append(f"generate.model={folder}")
        figures = measure(images, ["image", "stage"], overrides)
    together, apart = (statistics.median(figures.replay_seconds[order]) for order in ("image", "stage"))
    print(f"{figures.images} images, {figures.calls} calls ({figures.calls / figures.images:.1f} an image), one engine")
    print(f"{'':<28} {'seconds':>8} {'calls/s':>8} {'cached':>7}")
    for name, seconds, order in (("a conversation an image", together, "image"), ("stage after stage", apart, "stage")):
        print(f"{name:<28} {seconds:8.2f} {figures.calls / seconds:8.1f} {figures.cached[order]:7.0%}")
    print(f"ratio {apart / together:.2f}")
    record = {
        "benchmark": "image_first",
        "ours": figures.calls / together,
        "peer": figures.calls / apart,
        "ratio": apart / together,
    }
    print(json.dumps(record | {"images": figures.images, "calls": figures.calls}))


if __name__ == "__main__":
    main()
