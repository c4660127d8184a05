"""The gain of keeping an image's calls together.

Ours: an image's calls as one conversation. The other: stage after stage over all images (every first call, then every
second one, and so on), as tools do that finish a table before they begin the next. The same calls on the same engine,
caches emptied in between; only the order differs. The caches hold a quarter of the images, as no cache holds a bucket.
The model is the nano VLM with patches half as wide, so that an image is 301 tokens, about as many as a small photograph
has in a real VLM. Its new patch embeddings are random, so its replies mean nothing, but the cost of an order does not
depend on them. `--nano` takes the committed model, whose images are 79 tokens.
`ratio` is the other's seconds over ours.

    python benchmarks/image_first.py [--quick] [--nano]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from replay import demo, measure

DEMO = Path(__file__).parent.parent / "demo"
PATCH = 12  # pixels; the committed model has 24
# Four asks and four answers: eight calls.
PLAN = ["plan.per_image=4", "plan.per_type=1", 'generate.scores=["likelihood"]', "select.keep={}"]
BLOCKS = {True: 6, False: 13}  # blocks of 32 tokens that an image and its calls take, by `--nano`
PIXELS_GB = 0.0005  # GB of an image as the engine takes it


def export_half_patches(folder: Path) -> None:
    """Write the nano VLM with four times its patches; the patch embeddings no longer fit and stay random."""
    from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

    from demo.nano_vlm import build_vlm, export_vlm, vlm_config

    committed = DEMO / "models" / "nano-vlm"
    tokenizer = AutoTokenizer.from_pretrained(committed)
    weights = LlavaOnevisionForConditionalGeneration.from_pretrained(committed).state_dict()
    image, end = tokenizer.convert_tokens_to_ids(["<image>", "<|end|>"])
    model = build_vlm(vlm_config(len(tokenizer), image, end, PATCH))
    fitting = {name: weight for name, weight in weights.items() if "vision_tower.embeddings" not in name}
    model.load_state_dict(fitting, strict=False)
    export_vlm(model, tokenizer, folder)


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="24 images instead of 200")
    parser.add_argument("--nano", action="store_true", help="the committed nano VLM")
    args = parser.parse_args()
    images = 24 if args.quick else 200
    sizes = {
        "num_gpu_blocks_override": BLOCKS[args.nano] * images // 4,
        "mm_processor_cache_gb": PIXELS_GB * images / 4,
    }
    overrides = [*PLAN, *(f"generate.engine.options.{name}={size}" for name, size in sizes.items())]
    with tempfile.TemporaryDirectory() as folder:
        if not args.nano:
            export_half_patches(Path(folder))
            overrides.append(f"generate.model={folder}")
        figures = measure(demo(*overrides), images, ["image", "stage"])
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
