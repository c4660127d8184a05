"""A step of `synth train` beside the bare forward and backward pass on the same batches.

Shards of the drawn world, four turns an image. Ours is the product's own loop, from Parquet to the log: reading,
decoding, templates, labels, losses by answer, clipping, AdamW, the monitor, a checkpoint at the end. Bare is the model
called on the same batches, encoded beforehand and held in memory, the cross-entropy of the answers, and the backward
pass. They take turns step by step in one run, and ratios are of a step and the bare one just after it, because other
programs may share the machine. AdamW stands aside: it is no overhead but a part of learning that the bare passes lack.

`ratio` is bare over ours on the clock. On a CPU torch has one thread, so that a core second is work and not waiting for
another thread, and `ratio_cpu` compares core seconds: those of the loader's threads count as ours. A table splits what
the loop adds into its parts. A checkpoint is counted once in `train.checkpoint_every` steps, as it is by default.

    python benchmarks/training.py [--quick] [--model FOLDER] [--batch N]
"""

import argparse
import contextlib
import functools
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from synthgen.config.training import TrainConfig
from synthgen.stages.pack.schema import sample_schema
from synthgen.train import loader, loop, pretrained
from synthgen.train.encode import MicroBatch
from synthgen.train.feed import open_feed
from synthgen.train.group import own_group
from synthgen.train.loader import batches, to_device
from synthgen.train.loop import TrainingRun, Watch, learn
from synthgen.train.loss import answer_loss
from synthgen.train.monitor import EVERY, Monitor

DEMO = Path(__file__).parent.parent / "demo"
WARM = 3  # first steps, not counted: caches fill, the loader gets ahead
TURNS = 4
PASSES = ("forward pass, losses of tokens", "backward pass")
PARTS = {  # of our step: an owner and the name of a function
    PASSES[0]: (loop, "judge_answers"),
    PASSES[1]: (torch.Tensor, "backward"),
    "AdamW": (torch.optim.AdamW, "step"),
    "norm of the gradients, clipping": (loop, "clip"),
    "losses by answer": (loop, "turn_losses"),
    "taking the batch": (loop, "_next_step"),
    "monitor and scores, a step": (loop, "_take_in"),
    "monitor, a row": (Monitor, "write"),
    "checkpoint and plots": (loop, "_keep"),
    "encoding": (loader._EncoderPool, "_encode"),
}
ON_CLOCK = {part: PARTS[part] for part in ("AdamW", "taking the batch")}  # to time more, a GPU would have to wait
AT_TIMES = {"monitor, a row": EVERY, "checkpoint and plots": TrainConfig().checkpoint_every}  # steps between two


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and core seconds of the thread that calls."""

    wall: float
    core: float


def main() -> None:
    """Measure; print tables, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument(
        "--model", type=Path, default=DEMO / "models" / "nano-vlm", help="a folder (the demo's nano-vlm)"
    )
    parser.add_argument("--batch", type=int, default=16, help="samples a step (16)")
    options = parser.parse_args()
    steps = 10 if options.quick else 60
    settings = TrainConfig(steps=steps, batch=options.batch, learning_rate=1e-5)
    torch.set_num_threads(1 if own_group().device.type == "cpu" else torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", steps * options.batch)
        report(measure(Path(folder), options.model, settings), settings)


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


@dataclass(frozen=True)
class Measured:
    """What steps took.

    Attributes:
        ours: Of each step from the end of the one before, without the bare one between.
        bare: Of the bare pass after each.
        parts: By part, of each call.
        background: Core seconds of all threads but the loop's, for each batch that they encoded.
        tokens: Of a step, mean.
    """

    ours: list[Spent]
    bare: list[Spent]
    parts: dict[str, list[Spent]]
    background: float
    tokens: float


def measure(folder: Path, name: Path, settings: TrainConfig) -> Measured:
    """Train for so many steps, with a bare pass over the batch of each step after it."""
    group = own_group()
    processor = pretrained.load_processor(str(name), name)
    model = pretrained.load_model(str(name), name).to(group.device)
    feed = open_feed({"shards": str(folder / "shards")}, folder / "feed", settings)
    held = [
        [to_device(part, group.device) for part in batch.micro_batches]
        for batch in islice(batches(feed, processor, settings, 0), settings.steps)
    ]
    ours, bare, since = list[Spent](), list[Spent](), [now()]

    def between(log: Sequence[dict[str, Any]]) -> None:
        ours.append(difference(since[0], now()))
        since[0] = now()
        run_bare(model, held[len(log) - 1])
        bare.append(difference(since[0], now()))
        since[0] = now()

    run = TrainingRun(feed, str(name), name, folder / "out", settings)
    run.out.mkdir()
    with timed(PARTS if group.device.type == "cpu" else ON_CLOCK) as parts:
        started = time.process_time() - time.thread_time()
        learn(run, model, processor, group, Watch(show=between))
        others = time.process_time() - time.thread_time() - started
    tokens = sum(part.tokens for parts_of in held[WARM:] for part in parts_of) / len(held[WARM:])
    background = others / len(parts["encoding"]) if "encoding" in parts else 0.0
    return Measured(ours[WARM:], bare[WARM:], parts, background, tokens)


def run_bare(model: Any, parts: list[MicroBatch]) -> None:
    """Run a forward and a backward pass, nothing else."""
    for part in parts:
        torch.autograd.backward(answer_loss(model, part))  # not by the method of tensors, which is timed for our side
    model.zero_grad()


def now() -> Spent:
    """Return the time, once the device has finished its work."""
    return Spent(synchronised_time(), time.thread_time())


def synchronised_time() -> float:
    """Return the time on the clock, once the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def difference(before: Spent, after: Spent) -> Spent:
    """Return what was spent between two times."""
    return Spent(after.wall - before.wall, after.core - before.core)


@contextlib.contextmanager
def timed(functions: Mapping[str, tuple[Any, str]]) -> Iterator[dict[str, list[Spent]]]:
    """Yield lists, by part, that get what each call of a function took."""
    taken = {part: list[Spent]() for part in functions}
    stock = {part: getattr(owner, name) for part, (owner, name) in functions.items()}
    for part, (owner, name) in functions.items():
        setattr(owner, name, _timed(stock[part], taken[part]))
    try:
        yield taken
    finally:
        for part, (owner, name) in functions.items():
            setattr(owner, name, stock[part])


def _timed(function: Callable[..., Any], taken: list[Spent]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        started = now()
        try:
            return function(*arguments, **named)
        finally:
            taken.append(difference(started, now()))

    return call


def split(found: Measured) -> dict[str, float]:
    """Return the core seconds of a step of ours by part; what is not done in each step, by its share of one."""
    usual = {part: median(calls, "core") for part, calls in found.parts.items() if part != "encoding"}
    rare = {part: usual.pop(part) / steps for part, steps in AT_TIMES.items()}
    rest = median(found.ours, "core") - sum(usual.values())
    return {**usual, "the rest of the loop": rest, **rare, "loader and other threads": found.background}


def median(spent: Sequence[Spent], kind: str) -> float:
    """Return the median of seconds of a kind, `wall` or `core`."""
    return float(statistics.median(getattr(each, kind) for each in spent))


def report(found: Measured, settings: TrainConfig) -> None:
    """Print the tables and the line of JSON."""
    adamw, waiting = (found.parts[part][WARM:] for part in ("AdamW", "taking the batch"))
    ratios = sorted(
        bare.wall / (ours.wall - own.wall) for bare, ours, own in zip(found.bare, found.ours, adamw, strict=True)
    )
    sides = {"bare: forward, backward": found.bare, "ours: synth train's loop": found.ours, "of ours: AdamW": adamw}
    print(f"\n{'':36}{'ms a step':>10}{'tokens/s':>12}")
    for words, spent in sides.items():
        print(f"{words:36}{1000 * median(spent, 'wall'):10.1f}{found.tokens / median(spent, 'wall'):12,.0f}")
    waited = sum(each.wall for each in waiting) / sum(each.wall for each in found.ours)
    print(
        f"batches of {settings.batch}, {found.tokens:,.0f} tokens; {waited:.1%} of our time was waiting for the loader"
    )
    print(f"{len(ratios)} pairs of steps; on the clock, AdamW aside, ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    record = {
        "benchmark": "training",
        "ratio": round(statistics.median(ratios), 3),
        "bare_ms": round(1000 * median(found.bare, "wall"), 1),
        "ours_ms": round(1000 * median(found.ours, "wall"), 1),
        **(report_cores(found) if "encoding" in found.parts else {}),
        "waited": round(waited, 4),
        "steps": len(ratios),
    }
    print(json.dumps(record))


def report_cores(found: Measured) -> dict[str, float]:
    """Print where the core seconds go; return their ratios."""
    bare, parts = median(found.bare, "core"), split(found)
    print(f"\n{'of a step':36}{'core ms':>10}{'of bare':>10}")
    for part, seconds in {"bare: forward, backward": bare, **parts}.items():
        print(f"{part:36}{1000 * seconds:10.2f}{seconds / bare:10.2%}")
    # The passes are the same work on both sides: compared step by step, as the machine changes between steps.
    both = zip(*(found.parts[part][WARM:] for part in PASSES), found.bare, strict=True)
    passes = statistics.median((forward.core + backward.core) / alone.core for forward, backward, alone in both)
    added = sum(seconds for part, seconds in parts.items() if part not in (*PASSES, "AdamW")) / bare
    print(f"our passes over the bare ones: {passes:.3f}; all else but AdamW: {added:.3f}")
    print(f"core seconds, bare over ours, AdamW aside: {1 / (passes + added):.3f}")
    return {
        "ratio_cpu": round(1 / (passes + added), 3),
        "ratio_cpu_whole": round(1 / (passes + added + parts["AdamW"] / bare), 3),
        "passes": round(passes, 3),
        "added": round(added, 3),
    }


if __name__ == "__main__":
    main()
