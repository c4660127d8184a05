"""The cost of the generate stage on top of the engine.

Ours: the stage as `synth run` does it: Ray, fetching, decoding, prompts made as replies come, Parquet, commits. The
limit: the same calls, all known in advance, handed straight to the same engine in the order that serves it best.
`ratio` is the stage's throughput over the limit's; at 1.0 the pipeline would cost nothing.

    python benchmarks/generate_overhead.py [--quick]
"""

import argparse
import json
import statistics

from replay import demo, measure


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="64 images instead of all")
    images = 64 if parser.parse_args().quick else 200
    figures = measure(demo(), images, ["image"])
    limit = statistics.median(figures.replay_seconds["image"])
    ratio = limit / figures.stage_seconds
    print(f"{figures.images} images, {figures.calls} calls, one engine")
    print(f"{'':<28} {'seconds':>8} {'calls/s':>8} {'cached':>7}")
    for name, seconds, cached in (
        ("generate stage", figures.stage_seconds, "stage_as_run"),
        ("the same calls, bare", limit, "image"),
    ):
        print(f"{name:<28} {seconds:8.2f} {figures.calls / seconds:8.1f} {figures.cached[cached]:7.0%}")
    print(f"ratio {ratio:.2f} (limit 1.0)")
    record = {
        "benchmark": "generate_overhead",
        "ours": figures.calls / figures.stage_seconds,
        "bare": figures.calls / limit,
        "ratio": ratio,
    }
    print(json.dumps(record | {"images": figures.images, "calls": figures.calls}))


if __name__ == "__main__":
    main()
