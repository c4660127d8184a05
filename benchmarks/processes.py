"""Two processes of a training beside one, through Ray Train, on the same batches.

Both sides make the steps of `synth train` with the same global batch on this machine, and share its cores: one process
computes on all of them, each of two on half. They take turns, a short training each. `ratio` is the tokens a second of
two over those of one; without a GPU there is nothing to gain, and what is below 1 is the price: weights that are
gathered and gradients that are exchanged in each step, and the loader's threads of each. `losses` is the largest
relative difference between the losses of a step.

    python benchmarks/processes.py [--quick] [--model FOLDER] [--batch N]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from training import DEMO, write_shards

from synthgen.config.training import TrainConfig
from synthgen.train import train
from synthgen.train.record import read_log

WARM = 3  # first steps, not counted
COUNTS = (1, 2)
NAMES = {1: "one process", 2: "two processes, on Ray"}


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps and one turn")
    parser.add_argument(
        "--model", type=Path, default=DEMO / "models" / "nano-vlm", help="a folder (the demo's nano-vlm)"
    )
    parser.add_argument("--batch", type=int, default=16, help="samples a step (16)")
    options = parser.parse_args()
    steps, turns = (8, 1) if options.quick else (20, 3)
    settings = TrainConfig(steps=steps, batch=options.batch, learning_rate=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", steps * options.batch)
        report([measure(Path(folder), options.model, settings, turn) for turn in range(turns)])


def measure(folder: Path, name: Path, settings: TrainConfig, turn: int) -> dict[int, list[dict[str, float]]]:
    """Return the log of a short training on each number of processes."""
    logs = {}
    for count in COUNTS:
        out = folder / f"out-{turn}-{count}"
        train(str(folder / "shards"), str(name), out, settings.model_copy(update={"processes": count}))
        logs[count] = read_log(out)
    return logs


def report(turns: list[dict[int, list[dict[str, float]]]]) -> None:
    """Print the table and the line of JSON."""
    speeds = {count: [speed(logs[count]) for logs in turns] for count in COUNTS}
    ratios = sorted(two / one for one, two in zip(*speeds.values(), strict=True))
    pairs = [pair for logs in turns for pair in zip(*logs.values(), strict=True)]
    apart = max(abs(one["loss"] - two["loss"]) / one["loss"] for one, two in pairs)
    print(f"\n{'':28}{'tokens/s':>10}")
    for count in COUNTS:
        print(f"{NAMES[count]:28}{statistics.median(speeds[count]):10,.0f}")
    print(f"median of {len(turns)} turns; ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    print(f"losses of {len(pairs)} steps differ by a share of {apart:.1e} at most")
    ratio = round(statistics.median(ratios), 3)
    print(json.dumps({"benchmark": "processes", "ratio": ratio, "losses": float(f"{apart:.1e}"), "turns": len(turns)}))


def speed(log: list[dict[str, float]]) -> float:
    """Return the tokens a second of the median step."""
    return statistics.median(line["tokens"] / line["seconds"] for line in log[WARM:])


if __name__ == "__main__":
    main()
