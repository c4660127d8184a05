"""A step of `synth train` beside the bare forward and backward pass on the same batches.

Shards of the drawn world, four turns an image. Ours is the product's own loop, from Parquet to the log: reading,
decoding, templates, labels, the wait for the loader, clipping, AdamW. Bare is the model called on the same batches,
encoded beforehand and held in memory, and its backward pass, nothing else. The two take turns, a block of steps each,
and the ratio is taken within each pair of blocks, because other programs may share the machine. `ratio` is bare over
ours without the time in AdamW, which is no overhead but a part of learning that the bare passes lack; `ratio_whole` is
with it. Beside them stands the share of time that steps waited for the loader. On a CPU the loader works on the cores
that the model computes on: `ratio_cpu` compares the core seconds of both, threads of the loader included, AdamW aside,
and holds on a busy machine too.

    python benchmarks/training.py [--quick] [--model FOLDER] [--batch N]
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from synthgen.config.training import TrainConfig
from synthgen.stages.pack.schema import sample_schema
from synthgen.train import pretrained
from synthgen.train.encode import MicroBatch
from synthgen.train.feed import open_feed
from synthgen.train.loader import batches, to_device
from synthgen.train.loop import TrainingRun, learn
from synthgen.train.loss import answer_loss

DEMO = Path(__file__).parent.parent / "demo"
WARM = 3  # first steps of a block, not counted: caches fill, the loader gets ahead
TURNS = 4


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument(
        "--model", type=Path, default=DEMO / "models" / "nano-vlm", help="a folder (the demo's nano-vlm)"
    )
    parser.add_argument("--batch", type=int, default=16, help="samples a step (16)")
    options = parser.parse_args()
    steps, rounds = (8, 2) if options.quick else (33, 5)
    settings = TrainConfig(steps=steps, batch=options.batch, learning_rate=1e-5, checkpoint_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", steps * options.batch)
        report(measure(Path(folder), options.model, settings, rounds), settings)


def write_shards(folder: Path, count: int) -> None:
    """Write scenes of the drawn world with questions and true answers, as the pack stage writes them."""
    from demo.draw import draw
    from demo.ground_truth import qa_pairs
    from demo.world import sample

    rows = []
    for number in range(count):
        scene, png = sample(99, number), io.BytesIO()
        draw(scene).save(png, "PNG")
        turns = [(pair.question(0), pair.sentence()) for pair in qa_pairs(scene, scene.rng("benchmark"))][:TURNS]
        images = [{"bytes": png.getvalue(), "path": None}]
        rows.append({"id": str(number), "images": images, "messages": messages(turns)})
    folder.mkdir()
    schema = sample_schema(())
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in part], schema=schema)
        pq.write_table(table, folder / f"train-{number:05d}.parquet")


def messages(turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return a conversation in TRL's form; the first turn carries the image."""
    conversation: list[dict[str, Any]] = []
    for question, answer in turns:
        image = [] if conversation else [{"type": "image", "text": None}]
        conversation.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        conversation.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return conversation


def measure(folder: Path, name: Path, settings: TrainConfig, rounds: int) -> list[dict[str, float]]:
    """Return for each round the seconds a step of both, and the share of ours that was waiting."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = pretrained.load_processor(str(name), name)
    model = pretrained.load_model(str(name), name).to(device)
    feed = open_feed({"shards": str(folder / "shards")}, folder / "feed", settings)
    held = [
        [to_device(part, device) for part in batch.micro_batches]
        for batch in islice(batches(feed, processor, settings, 0), settings.steps)
    ]
    return [
        {
            **measure_ours(TrainingRun(feed, str(name), name, folder / f"out-{number}", settings), model, processor),
            **measure_bare(model, held),
        }
        for number in range(rounds)
    ]


def measure_ours(job: TrainingRun, model: Any, processor: Any) -> dict[str, float]:
    """Run a block of steps by the product's loop; return the means of its log and the core seconds of a step."""
    job.out.mkdir()
    spent = time.process_time()
    with timed_optimizer() as adamw:
        learn(job, model, processor)
    spent = time.process_time() - spent
    steps = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()][WARM:]
    mean = {key: sum(step[key] for step in steps) / len(steps) for key in ("seconds", "waited", "tokens")}
    return {
        "ours": mean["seconds"],
        "ours_cpu": spent / job.settings.steps,
        "adamw": sum(wall for wall, _ in adamw[WARM:]) / len(adamw[WARM:]),
        "adamw_cpu": sum(core for _, core in adamw) / len(adamw),
        "waited": mean["waited"] / mean["seconds"],
        "tokens": mean["tokens"],
    }


@contextlib.contextmanager
def timed_optimizer() -> Iterator[list[tuple[float, float]]]:
    """Yield a list that gets the seconds and core seconds of each step of AdamW."""
    taken = list[tuple[float, float]]()
    stock = torch.optim.AdamW.step

    def step(self: Any, *arguments: Any, **named: Any) -> Any:
        started, spent = synchronised_time(), time.process_time()
        result = stock(self, *arguments, **named)
        taken.append((synchronised_time() - started, time.process_time() - spent))
        return result

    torch.optim.AdamW.step = step  # type: ignore[method-assign]
    try:
        yield taken
    finally:
        torch.optim.AdamW.step = stock  # type: ignore[method-assign]


def measure_bare(model: Any, held: list[list[MicroBatch]]) -> dict[str, float]:
    """Run a block of forward and backward passes, nothing else; return the seconds and core seconds of a step."""
    started, spent = time.perf_counter(), time.process_time()
    for number, parts in enumerate(held):
        if number == WARM:
            started = synchronised_time()
        for part in parts:
            answer_loss(model, part).backward()
        model.zero_grad()
    return {
        "bare": (synchronised_time() - started) / (len(held) - WARM),
        "bare_cpu": (time.process_time() - spent) / len(held),
    }


def synchronised_time() -> float:
    """Return the time, once the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def report(rounds: list[dict[str, float]], settings: TrainConfig) -> None:
    """Print the medians over the rounds, and of the ratios within each."""
    median = {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
    ratios = sorted(figures["bare"] / (figures["ours"] - figures["adamw"]) for figures in rounds)
    ratio_whole = statistics.median(figures["bare"] / figures["ours"] for figures in rounds)
    ratio_cpu = statistics.median(
        figures["bare_cpu"] / (figures["ours_cpu"] - figures["adamw_cpu"]) for figures in rounds
    )
    print(f"\n{'':36}{'ms a step':>10}{'tokens/s':>12}{'CPU ms':>10}")
    kinds = (("bare", "bare: forward, backward"), ("ours", "ours: synth train's loop"), ("adamw", "of ours: AdamW"))
    for key, words in kinds:
        speed = median["tokens"] / median[key]
        print(f"{words:36}{1000 * median[key]:10.1f}{speed:12,.0f}{1000 * median[f'{key}_cpu']:10.1f}")
    print(
        f"batches of {settings.batch}, {median['tokens']:,.0f} tokens; "
        f"{median['waited']:.1%} of our time was waiting for the loader"
    )
    print(f"median of {len(rounds)} rounds; AdamW aside, ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    print(f"processor time, bare over ours, AdamW aside: {ratio_cpu:.3f}")
    record = {
        "benchmark": "training",
        "ratio": round(statistics.median(ratios), 3),
        "ratio_whole": round(ratio_whole, 3),
        "bare_ms": round(1000 * median["bare"], 1),
        "ours_ms": round(1000 * median["ours"], 1),
        "ratio_cpu": round(ratio_cpu, 3),
        "waited": round(median["waited"], 4),
        "rounds": len(rounds),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
