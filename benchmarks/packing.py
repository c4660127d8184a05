"""Tokens a second in sequences of packed samples beside padded rows.

Shards of the drawn world with one to twelve turns an image, so that samples have uneven lengths, as those of a run do.
Both sides take the same rows in the same batches, encoded beforehand and held in memory, through the forward and
backward pass of `synth train`. They take turns, a block of batches each, and the ratio is taken within each pair of
blocks, because other programs may share the machine. Tokens are counted without padding. `ratio` is the speed packed
over the speed padded, `ratio_cpu` the same by core seconds, which holds on a busy machine too; `padding` is the share
of positions that padding took.

    python benchmarks/packing.py [--quick] [--model FOLDER] [--batch N] [--pack-tokens N]
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from training import DEMO, messages, synchronised_time

from synthgen.config.training import TrainConfig
from synthgen.stages.pack.schema import sample_schema
from synthgen.train import pretrained
from synthgen.train.encode import MicroBatch
from synthgen.train.feed import open_feed
from synthgen.train.loader import batches, to_device
from synthgen.train.loss import answer_loss
from synthgen.train.packing import with_axes

MOST_TURNS = 12


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument(
        "--model", type=Path, default=DEMO / "models" / "nano-vlm", help="a folder (the demo's nano-vlm)"
    )
    parser.add_argument("--batch", type=int, default=16, help="samples a step (16)")
    parser.add_argument("--pack-tokens", type=int, default=1024, help="tokens in a sequence (1024)")
    options = parser.parse_args()
    steps, rounds = (2, 2) if options.quick else (12, 5)
    padded = TrainConfig(batch=options.batch)
    packed = padded.model_copy(update={"pack_tokens": options.pack_tokens})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = pretrained.load_model(str(options.model), options.model).to(device)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", steps * options.batch)
        held = {
            name: hold(Path(folder) / "shards", options.model, settings, steps, model)
            for name, settings in (("padded", padded), ("packed", packed))
        }
    for parts in held.values():
        speed(model, parts[:1])  # caches fill
    report([{name: speed(model, parts) for name, parts in held.items()} for _ in range(rounds)], held)


def write_shards(folder: Path, count: int) -> None:
    """Write scenes of the drawn world with an uneven number of questions and true answers."""
    from demo.draw import draw
    from demo.ground_truth import qa_pairs
    from demo.world import sample

    rows = []
    for number in range(count):
        scene, png = sample(99, number), io.BytesIO()
        draw(scene).save(png, "PNG")
        pairs = qa_pairs(scene, scene.rng("benchmark"))[: 1 + number * 7 % MOST_TURNS]
        turns = [(pair.question(0), pair.sentence()) for pair in pairs]
        rows.append({"images": [{"bytes": png.getvalue(), "path": None}], "messages": messages(turns)})
    folder.mkdir()
    schema = sample_schema(())
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    pq.write_table(table, folder / "train-00000.parquet")


def hold(shards: Path, name: Path, settings: TrainConfig, steps: int, model: Any) -> list[MicroBatch]:
    """Return the micro-batches of some steps, on the device of the model."""
    processor = pretrained.load_processor(str(name), name)
    feed = open_feed({"shards": str(shards)}, shards.with_name("feed"), settings)
    taken = islice(batches(feed, processor, settings, 0), steps)
    return [to_device(with_axes(model, part), model.device) for batch in taken for part in batch.micro_batches]


def speed(model: Any, parts: Sequence[MicroBatch]) -> tuple[float, float]:
    """Return the tokens of forward and backward passes a second, and a core second."""
    started, spent = synchronised_time(), time.process_time()
    for part in parts:
        answer_loss(model, part).backward()
    model.zero_grad()
    tokens = sum(part.tokens for part in parts)
    return tokens / (synchronised_time() - started), tokens / (time.process_time() - spent)


def report(rounds: list[dict[str, tuple[float, float]]], held: dict[str, list[MicroBatch]]) -> None:
    """Print the medians over the rounds, and of the ratios within each."""
    ratios, ratios_cpu = (
        sorted(figures["packed"][kind] / figures["padded"][kind] for figures in rounds) for kind in (0, 1)
    )
    padding = 1 - sum(part.tokens for part in held["padded"]) / sum(part.labels.numel() for part in held["padded"])
    print(f"\n{'':10}{'tokens/s':>12}{'/core s':>12}{'sequences':>12}{'longest':>10}")
    for name, parts in held.items():
        clock, cpu = (statistics.median(figures[name][kind] for figures in rounds) for kind in (0, 1))
        rows, longest = sum(len(part.labels) for part in parts), max(part.labels.shape[1] for part in parts)
        print(f"{name:10}{clock:12,.0f}{cpu:12,.0f}{rows:12,}{longest:10,}")
    print(f"{padding:.0%} of the padded positions are padding")
    print(f"median of {len(rounds)} rounds; ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    print(f"by core seconds: {ratios_cpu[0]:.3f} to {ratios_cpu[-1]:.3f}")
    record = {
        "benchmark": "packing",
        "ratio": round(statistics.median(ratios), 3),
        "ratio_cpu": round(statistics.median(ratios_cpu), 3),
        "padding": round(padding, 3),
        "rounds": len(rounds),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
