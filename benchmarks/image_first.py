"""What it is worth to keep an image's calls together.

    python benchmarks/image_first.py [--quick]

Ours: an image's calls as one conversation. The other: stage after stage over all images (every first call, then every
second one, and so on), as tools do that finish a table before they begin the next. The same calls on the same engine,
caches emptied in between; only the order differs. The caches hold some 48 images, as no cache holds a bucket. The ratio is
the others' seconds over ours.
"""

import argparse
import json
import statistics

from recorded import measure

# Four asks and four answers: eight calls. An image with its calls takes about six blocks; its pixels half a megabyte.
PLAN = ["plan.per_image=4", "plan.per_type=1", 'generate.scores=["likelihood"]', "select.keep={}"]
CACHES = ["generate.engine.options.num_gpu_blocks_override=288", "generate.engine.options.mm_processor_cache_gb=0.024"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="64 images instead of all")
    images = 64 if parser.parse_args().quick else 200
    figures = measure(images, ["image", "stage"], [*PLAN, *CACHES])
    together, apart = (statistics.median(figures.replay_seconds[order]) for order in ("image", "stage"))
    print(f"{figures.images} images, {figures.calls} calls ({figures.calls / figures.images:.1f} an image), one engine")
    print(f"{'':<28} {'seconds':>8} {'calls/s':>8} {'cached':>7}")
    for name, seconds, order in (("a conversation an image", together, "image"), ("stage after stage", apart, "stage")):
        print(f"{name:<28} {seconds:8.2f} {figures.calls / seconds:8.1f} {figures.cached[order]:7.0%}")
    print(f"ratio {apart / together:.2f}")
    record = {"benchmark": "image_first", "ours": figures.calls / together, "peer": figures.calls / apart, "ratio": apart / together}
    print(json.dumps(record | {"images": figures.images, "calls": figures.calls}))


if __name__ == "__main__":
    main()
