"""A step of `synth train` beside the bare forward and backward pass on the same batches.

`python benchmarks/training.py [--quick] [--model FOLDER] [--batch N]`. Shards of the drawn world, four turns an image. Ours is
the product's own loop, from Parquet to the log: reading, decoding, templates, labels, the wait for the loader, clipping, AdamW.
Bare is the model called on the same batches, encoded beforehand and held in memory, and its backward pass, nothing else.
The two take turns, a block of steps each, and the ratio is taken within each pair of blocks, because other programs may
share the machine. `ratio` is bare over ours; the share of time that steps waited for the loader stands beside it. On a CPU
the loader's work is done by the cores that the model computes on: `ratio_cpu` compares the processor time of both, threads
of the loader included, and holds on a busy machine too.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from synthgen.config.pipeline import TrainConfig
from synthgen.stages.pack.schema import sample_schema
from synthgen.train import pretrained
from synthgen.train.dataset import pin
from synthgen.train.encode import MicroBatch
from synthgen.train.loader import batches, to_device
from synthgen.train.loop import TrainingRun, answer_loss, learn

DEMO = Path(__file__).parent.parent / "demo"
WARM = 3  # first steps of a block, not counted: caches fill, the loader gets ahead
TURNS = 4


def main() -> None:
    """Prints a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument("--model", type=Path, default=DEMO / "models" / "nano-vlm")
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    steps, rounds = (13, 3) if options.quick else (33, 5)
    settings = TrainConfig(steps=steps, batch=options.batch, learning_rate=1e-5, checkpoint_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", steps * options.batch)
        report(measure(Path(folder), options.model, settings, rounds), settings)


def write_shards(folder: Path, count: int) -> None:
    """Scenes of the drawn world with questions and true answers, as the pack stage writes them."""
    from demo.draw import draw
    from demo.ground_truth import qa_pairs
    from demo.world import sample

    rows = []
    for number in range(count):
        scene, sink = sample(99, number), io.BytesIO()
        draw(scene).save(sink, "PNG")
        turns = [(pair.question(0), pair.sentence()) for pair in qa_pairs(scene, scene.rng("benchmark"))][:TURNS]
        rows.append(
            {"id": str(number), "images": [{"bytes": sink.getvalue(), "path": None}], "messages": messages(turns)}
        )
    folder.mkdir()
    schema = sample_schema(())
    half = len(rows) // 2
    for number, some in enumerate((rows[:half], rows[half:])):
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in some], schema=schema)
        pq.write_table(table, folder / f"train-{number:05d}.parquet")


def messages(turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """A conversation in TRL's form."""
    found: list[dict[str, Any]] = []
    for question, answer in turns:
        asked = {"type": "text", "text": question}
        found.append({"role": "user", "content": [asked] if found else [{"type": "image", "text": None}, asked]})
        found.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return found


def measure(folder: Path, name: Path, settings: TrainConfig, rounds: int) -> list[dict[str, float]]:
    """For each round the seconds a step of both, and the share of ours that was waiting."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = pretrained.load_processor(str(name), name)
    model = pretrained.load_model(str(name), name).to(device)
    files = pin(str(folder / "shards"))
    held = [
        [to_device(part, device) for part in batch.micro_batches]
        for batch in batches(files, processor, settings, 0, settings.steps)
    ]
    return [
        {
            **ours(TrainingRun(files, str(name), name, folder / f"out-{number}", settings), model, processor),
            **bare(model, held),
        }
        for number in range(rounds)
    ]


def ours(job: TrainingRun, model: Any, processor: Any) -> dict[str, float]:
    """A block of steps by the product's loop: what its log says of a step, and the processor time of the whole block."""
    job.out.mkdir()
    spent = time.process_time()
    learn(job, model, processor)
    spent = time.process_time() - spent
    lines = [json.loads(text) for text in (job.out / "log.jsonl").read_text().splitlines()][WARM:]
    mean = {key: sum(line[key] for line in lines) / len(lines) for key in ("seconds", "waited", "tokens")}
    return {
        "ours": mean["seconds"],
        "ours_cpu": spent / job.settings.steps,
        "waited": mean["waited"] / mean["seconds"],
        "tokens": mean["tokens"],
    }


def bare(model: Any, held: list[list[MicroBatch]]) -> dict[str, float]:
    """A block of forward and backward passes, nothing else."""
    began, spent = time.perf_counter(), time.process_time()
    for number, parts in enumerate(held):
        if number == WARM:
            began = synchronised()
        for part in parts:
            answer_loss(model, part).backward()
        model.zero_grad()
    return {
        "bare": (synchronised() - began) / (len(held) - WARM),
        "bare_cpu": (time.process_time() - spent) / len(held),
    }


def synchronised() -> float:
    """The time now, the device's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def report(rounds: list[dict[str, float]], settings: TrainConfig) -> None:
    """Medians over the rounds, and of the ratios within each."""
    middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    ratios = sorted(one["bare"] / one["ours"] for one in rounds)
    ratio_cpu = statistics.median(one["bare_cpu"] / one["ours_cpu"] for one in rounds)
    ratio = statistics.median(ratios)
    print(f"\n{'':36}{'ms a step':>10}{'tokens/s':>12}{'CPU ms':>10}")
    for key, words in (("bare", "bare: forward, backward"), ("ours", "ours: synth train's loop")):
        print(
            f"{words:36}{1000 * middle[key]:10.1f}{middle['tokens'] / middle[key]:12,.0f}{1000 * middle[f'{key}_cpu']:10.1f}"
        )
    print(
        f"batches of {settings.batch}, {middle['tokens']:,.0f} tokens; {middle['waited']:.1%} of our time was waiting for the loader"
    )
    print(f"median of {len(rounds)} rounds; ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    times = {"bare_ms": round(1000 * middle["bare"], 1), "ours_ms": round(1000 * middle["ours"], 1)}
    print(f"processor time, bare over ours: {ratio_cpu:.3f}")
    more = {"ratio_cpu": round(ratio_cpu, 3), "waited": round(middle["waited"], 4), "rounds": len(rounds)}
    print(json.dumps({"benchmark": "training", "ratio": round(ratio, 3), **times, **more}))


if __name__ == "__main__":
    main()
