"""The training loop, to be read from top to bottom.

One process on one device; float32 weights, bfloat16 arithmetic on CUDA. The output folder gets `model/`, which loads
wherever the starting model did, and the files of record.py. The same command continues from the last checkpoint to the
losses of an undisturbed run: a position in the stream of rows is one number, and nothing else is drawn at random.
"""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from synthgen.config.pipeline import TrainConfig
from synthgen.console import StageProgress, note
from synthgen.errors import Damaged, Stopped, SynthError, UserMistake
from synthgen.store import Folder, Lease
from synthgen.train import pretrained
from synthgen.train.dataset import ShardChanged, ShardFile, repair_advice, rows
from synthgen.train.encode import IGNORED, Encoder, MicroBatch
from synthgen.train.loader import Batch, batches, describe_skipped, to_device
from synthgen.train.record import (
    TrainingProgress,
    checkpoints,
    load_checkpoint,
    mean_loss,
    open_record,
    read_state,
    trim_log,
    write_checkpoint,
    write_record,
)
from synthgen.workers import listening

CHECKED_ROWS = 4  # rows whose labels are checked before anything is written
MAX_GRADIENT_NORM = 1.0
SMOOTHED_STEPS = 20  # steps in the mean of a reported loss


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training: `result` in training.json, and the last line of `synth train`."""

    first_loss: float
    last_loss: float
    steps: int
    model: str
    skipped: dict[str, int]  # unusable rows by reason; a row is counted again in each epoch

    def __str__(self) -> str:
        losses = f"loss {self.first_loss:.3f} -> {self.last_loss:.3f}"
        return f"{losses} in {self.steps:,} steps; the tuned model is in {self.model}"


@dataclass(frozen=True)
class TrainingRun:
    """The inputs, the output folder and the settings of a training."""

    files: Sequence[ShardFile]
    model: str  # a folder or a hub name, as typed
    folder: Path  # the model's files
    out: Path
    settings: TrainConfig


def train(shards: str, model: str, out: Path, settings: TrainConfig) -> TrainingResult:
    """Fine-tune a model on shards, or continue an earlier start of the same training.

    Args:
        shards: A run's output folder, or a folder, glob or file of Parquet.
        model: A model folder or a hub name.
        out: The output folder.
        settings: The `train` section of a pipeline.

    Raises:
        SettingsChanged: `out` holds a training with other settings.
        UserMistake: The shards, the model or `out` cannot be used.
        ModelUnavailable: The model cannot be loaded.
        Damaged: A shard is missing or has other bytes than when training started.
        Stopped: A signal ended the training, after a checkpoint.
    """
    _silence_transformers()
    folder = pretrained.model_folder(model)
    processor = pretrained.load_processor(model, folder)
    state = read_state(out)
    record = open_record(shards, folder, out, settings)
    if record["result"]:
        note(f"{out}: this training is finished; nothing to do")
        return TrainingResult(**record["result"])
    run = TrainingRun([ShardFile(**file) for file in record["files"]], model, folder, out, settings)
    try:
        return _train(run, record, state, processor)
    except ShardChanged as lost:
        raise Damaged(f"{lost}; {repair_advice(lost, has_checkpoint=bool(checkpoints(out)))}") from lost


def _train(run: TrainingRun, record: dict[str, Any], state: tuple[bytes, ...], processor: Any) -> TrainingResult:
    """Check the first rows against the model, then write, train and save: a model that does not fit writes nothing.

    Minutes may pass between the reading of `record` and the lease; `state` shows whether another start came between.
    """
    first_rows = list(islice(rows(run.files, run.settings.seed, 0), CHECKED_ROWS))
    Encoder(processor, run.settings).check(first_rows)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = pretrained.load_model(run.model, run.folder).to(device)  # weights stay float32
    run.out.mkdir(parents=True, exist_ok=True)
    with Lease.take(Folder(str(run.out.resolve()))):
        if read_state(run.out) != state:
            raise UserMistake(f"--out {run.out}: another start changed this training; start again")
        write_record(run.out, record)
        progress = learn(run, model, processor)
        result = _finish(run, model, progress)
        write_record(run.out, {**record, "result": asdict(result)})
        shutil.rmtree(run.out / "checkpoints")
    return result


# --- the loop ---------------------------------------------------------------------------------------------------------


def learn(run: TrainingRun, model: Any, processor: Any) -> TrainingProgress:
    """Take the remaining optimizer steps; the last one leaves a checkpoint.

    Args:
        run: The training.
        model: The model, float32, on its device.
        processor: The processor of the model.

    Raises:
        Stopped: A signal came; the step under way is finished and in a checkpoint.
        SynthError: The loss is not finite.
    """
    settings, device = run.settings, next(model.parameters()).device
    torch.manual_seed(settings.seed)
    optimizer = _optimizer(pretrained.set_trainable(model, settings.what), settings)
    progress = load_checkpoint(run.out, model, optimizer)
    if progress.steps:
        note(f"{run.out}: continues after step {progress.steps:,} of {settings.steps:,}")
    log = trim_log(run.out, progress.steps)
    resumed_at, remaining = progress.steps, settings.steps - progress.steps
    model.train()
    loader = batches(run.files, processor, settings, progress.position, remaining)
    with (
        listening("the step under way is finished, then a checkpoint is written") as signals,
        signals.draining(),
        StageProgress("train", remaining, "step") as bar,
        (run.out / "log.jsonl").open("a", buffering=1) as file,
        contextlib.closing(loader),
    ):
        started = time.monotonic()
        for batch in loader:
            waited = time.monotonic() - started
            rate = learning_rate(progress.steps, settings)
            micro_batches = [to_device(micro_batch, device) for micro_batch in batch.micro_batches]
            loss = step(model, optimizer, micro_batches, rate)
            progress = _advance(progress, batch)
            started, seconds = time.monotonic(), time.monotonic() - started
            tokens = sum(micro_batch.tokens for micro_batch in batch.micro_batches)
            # "seconds" is the time since the step before, including the seconds "waited" for the loader.
            line = {"step": progress.steps, "loss": loss, "lr": rate, "tokens": tokens}
            log.append({**line, "seconds": seconds, "waited": waited})
            file.write(json.dumps(log[-1]) + "\n")
            bar.show(progress.steps - resumed_at, _describe(log[-SMOOTHED_STEPS:]))
            is_stopping = signals.received is not None
            if is_stopping or progress.steps % settings.checkpoint_every == 0 or progress.steps == settings.steps:
                write_checkpoint(run.out, model, optimizer, progress)
            if signals.received:
                raise Stopped(signals.received)
    return progress


def step(model: Any, optimizer: torch.optim.Optimizer, micro_batches: Sequence[MicroBatch], rate: float) -> float:
    """Take one optimizer step over the micro-batches of a batch.

    Gradients accumulate over the micro-batches. Each loss is divided by the answer tokens of the whole batch, so that
    the size of a micro-batch does not change the step.

    Args:
        model: The model, on the device of the micro-batches.
        optimizer: Its optimizer.
        micro_batches: The rows of the step, with at least one answer token.
        rate: The learning rate of this step.

    Returns:
        The mean loss of the answer tokens.

    Raises:
        SynthError: The loss is not finite.
    """
    answer_tokens, mean = sum(micro_batch.answer_tokens for micro_batch in micro_batches), 0.0
    for micro_batch in micro_batches:
        loss = answer_loss(model, micro_batch) / answer_tokens  # () float32
        loss.backward()  # adds to a float32 gradient of the shape of each trainable weight
        mean += loss.item()
    if not math.isfinite(mean):
        raise SynthError(f"the loss is {mean}; start again into another --out with a lower train.learning_rate")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return mean


def answer_loss(model: Any, micro_batch: MicroBatch) -> torch.Tensor:
    """Return the sum of the cross-entropies of the answer tokens.

    Logits are computed only at positions where some row predicts an answer token: the vocabulary is the widest axis.

    Returns:
        `() float32`, with a gradient.
    """
    targets = micro_batch.labels[:, 1:]  # (batch, tokens - 1) int64: position t predicts token t + 1
    positions = (targets != IGNORED).any(0).nonzero().squeeze(1)  # (positions,) int64
    device = micro_batch.labels.device
    precision = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
    can_select = "logits_to_keep" in signature(model.forward).parameters
    selection = {"logits_to_keep": positions} if can_select else {}
    with precision:
        # (batch, positions, vocabulary), or all (batch, tokens, vocabulary) of a model that cannot select;
        # bfloat16 on CUDA, float32 elsewhere
        logits = model(**micro_batch.inputs, **selection, use_cache=False).logits
    if not can_select:
        logits = logits[:, positions]  # (batch, positions, vocabulary)
    return cross_entropy(
        logits.float().flatten(0, 1),  # (batch * positions, vocabulary) float32
        targets[:, positions].flatten(),  # (batch * positions,) int64
        ignore_index=IGNORED,
        reduction="sum",
    )


def learning_rate(steps: int, settings: TrainConfig) -> float:
    """Return the learning rate of the step after `steps` steps.

    It rises linearly over the warm-up and falls to zero along half a cosine (Loshchilov and Hutter, SGDR, 2017).
    """
    warmup = max(1, round(settings.warmup * settings.steps))
    if steps < warmup:
        return settings.learning_rate * (steps + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (steps - warmup) / max(1, settings.steps - warmup)))


def _optimizer(parameters: Sequence[torch.nn.Parameter], settings: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019) with decay on matrices only, not on biases and the gains of norms."""
    groups = [
        {"params": [weight for weight in parameters if weight.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in parameters if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=(0.9, 0.95), fused=True
    )


def _advance(progress: TrainingProgress, batch: Batch) -> TrainingProgress:
    return TrainingProgress(progress.steps + 1, batch.position, progress.skipped + batch.skipped)


# --- the end, and notes for the user ----------------------------------------------------------------------------------


def _finish(run: TrainingRun, model: Any, progress: TrainingProgress) -> TrainingResult:
    """Save the model and return the result."""
    log = trim_log(run.out, progress.steps)
    folder = run.out / "model"
    if renamed := pretrained.save(model, run.folder, folder):
        note(f"{len(renamed)} weights are saved under new names, such as {renamed[0]}; a server may not know them")
    if progress.skipped:
        note(f"skipped: {describe_skipped(progress.skipped)}, of {progress.position:,} rows taken")
    span = max(1, min(SMOOTHED_STEPS, len(log) // 2))
    first_loss, last_loss = mean_loss(log[:span]), mean_loss(log[-span:])
    return TrainingResult(first_loss, last_loss, progress.steps, str(folder), dict(progress.skipped))


def _describe(lines: Sequence[dict[str, Any]]) -> str:
    """Return the note of the progress bar on the last steps."""
    speed = sum(line["tokens"] for line in lines) / sum(line["seconds"] for line in lines)
    return f"loss {mean_loss(lines):.3f}, {speed:,.0f} tokens/s"


def _silence_transformers() -> None:
    """Turn off the warnings and progress bars of transformers, which would break up the progress line."""
    from transformers.utils import logging

    untyped: Any = logging
    untyped.set_verbosity_error()
    untyped.disable_progress_bar()
