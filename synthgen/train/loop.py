"""The training loop, to be read from top to bottom.

Any number of processes, each on one device, which hold a part of the weights and take a part of each batch; weights in
float32 or bfloat16, bfloat16 arithmetic on CUDA. The output folder gets `model/`, which loads wherever the starting
model did, and the files of record.py. The same command continues from the last checkpoint to the losses of an
undisturbed run: a position in the stream of rows is one number, and a checkpoint has the random states.
"""

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from synthgen.config.pipeline import TrainConfig
from synthgen.errors import SynthError, UserMistake
from synthgen.train import lora, packing, pretrained
from synthgen.train.agreement import Step, agree
from synthgen.train.checkpoints import TrainingProgress, load_checkpoint, write_checkpoint
from synthgen.train.dataset import ShardFile, rows
from synthgen.train.encode import IGNORED, Encoder, MicroBatch
from synthgen.train.group import ALONE, Group
from synthgen.train.loader import Batch, batches, describe_skipped, to_device
from synthgen.train.optimizer import learning_rate, make_optimizer, set_learning_rate
from synthgen.train.record import trim_log
from synthgen.train.sharding import shard, sum_gradients, whole_weights

MAX_GRADIENT_NORM = 1.0

Line = dict[str, Any]  # of log.jsonl


@dataclass(frozen=True)
class TrainingRun:
    """The inputs, the output folder and the settings of a training."""

    files: Sequence[ShardFile]
    model: str  # a folder or a hub name, as typed
    folder: Path  # the model's files
    out: Path
    settings: TrainConfig


@dataclass(frozen=True)
class Watch:
    """Who looks at a training.

    Attributes:
        is_stopping: Whether it should end after the step under way; asked of the first process.
        show: Is told the lines of the log after each step, in the first process.
    """

    is_stopping: Callable[[], bool] = lambda: False
    show: Callable[[Sequence[Line]], None] = lambda lines: None


UNWATCHED = Watch()


def learn_and_save(run: TrainingRun, model: Any, processor: Any, group: Group, watch: Watch) -> TrainingProgress:
    """Train a model in every process of a group, and save it where the last step was taken."""
    model.to(group.device)
    pretrained.set_trainable(model, run.settings.what)
    if run.settings.lora:
        torch.manual_seed(run.settings.seed)  # the adapters begin alike in every process, and in every start
        lora.add_adapters(model, run.settings.lora)
    if run.settings.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    shard(model, group)
    progress = learn(run, model, processor, group, watch)
    if progress.steps == run.settings.steps:
        weights = whole_weights(model, group)
        if group.is_first:
            weights = lora.merge(weights, run.settings.lora) if run.settings.lora else weights
            pretrained.save(model, weights, run.folder, run.out / "model")
        group.wait()
    return progress


def learn(
    run: TrainingRun, model: Any, processor: Any, group: Group = ALONE, watch: Watch = UNWATCHED
) -> TrainingProgress:
    """Take the remaining optimizer steps, or those until a signal; the last one leaves a checkpoint.

    Args:
        run: The training.
        model: The model on the device of its process; its trainable weights need a gradient.
        processor: The processor of the model.
        group: The processes.
        watch: Who looks at it.

    Raises:
        SynthError: The loss is not finite.
        UserMistake: No row can be used.
    """
    settings = run.settings
    torch.manual_seed(settings.seed + group.rank)
    optimizer = make_optimizer([weight for weight in model.parameters() if weight.requires_grad], settings)
    progress = load_checkpoint(run.out, model, optimizer, group)
    log = trim_log(run.out, progress.steps) if group.is_first else []
    model.train()
    spare = _spare(run, processor) if group.size > 1 else None
    if settings.pack_tokens:
        _check_packing(run, model, processor, group)
    loader = batches(run.files, processor, settings, progress.position, group)
    with contextlib.closing(loader), _appending(run.out / "log.jsonl", group) as write:
        started = time.monotonic()
        while progress.steps < settings.steps:
            planned = _next_step(run, processor, loader, lambda batch: agree(batch, spare, group))
            waited = time.monotonic() - started
            rate = learning_rate(progress.steps, settings)
            loss, is_stopping = step(model, optimizer, planned, rate, group, watch)
            progress = TrainingProgress(progress.steps + 1, planned.position, progress.skipped + planned.skipped)
            started, seconds = time.monotonic(), time.monotonic() - started
            # "seconds" is the time since the step before, including the seconds "waited" for the loader.
            log.append({"step": progress.steps, "loss": loss, "lr": rate, "tokens": planned.tokens})
            log[-1] |= {"seconds": seconds, "waited": waited}
            write(log[-1])
            if group.is_first:
                watch.show(log)
            if is_stopping or progress.steps % settings.checkpoint_every == 0 or progress.steps == settings.steps:
                write_checkpoint(run.out, model, optimizer, progress, group)
            if is_stopping:
                break
    return progress


def _next_step(run: TrainingRun, processor: Any, loader: Iterator[Batch], agreed: Callable[[Batch], Step]) -> Step:
    """Return the next step with an answer; batches in which no process has one are only counted.

    Raises:
        UserMistake: No row of the shards has one.
    """
    skipped, empty = Counter[str](), 0
    while True:
        planned = agreed(next(loader))
        skipped += planned.skipped
        if planned.answer_tokens:
            return replace(planned, skipped=skipped)
        empty += run.settings.batch
        if empty >= sum(file.rows for file in run.files):
            _first_usable(run, processor)


def _check_packing(run: TrainingRun, model: Any, processor: Any, group: Group) -> None:
    """Try whether the model keeps the first two usable rows apart. Raises UserMistake if it does not."""

    def loss(micro_batch: MicroBatch) -> float:
        with torch.no_grad():
            return answer_loss(model, to_device(packing.with_axes(model, micro_batch), group.device)).item()

    model.eval()
    packing.check_apart(model, _first_usable(run, processor, 2), loss)
    model.train()


def _spare(run: TrainingRun, processor: Any) -> MicroBatch:
    """Return the first usable row with labels that are all ignored. Raises UserMistake if there is none."""
    (usable,) = _first_usable(run, processor)
    return replace(usable, labels=torch.full_like(usable.labels, IGNORED))


def _first_usable(run: TrainingRun, processor: Any, count: int = 1) -> list[MicroBatch]:
    """Return the first usable rows of the stream, each in a micro-batch of its own.

    Raises:
        UserMistake: There is none.
    """
    encoder, skipped, total = Encoder(processor, run.settings), Counter[str](), sum(file.rows for file in run.files)
    usable: list[MicroBatch] = []
    for row in islice(rows(run.files, run.settings.seed, 0), total):
        micro_batch, failed = encoder.encode([row])
        usable += [micro_batch] if micro_batch and micro_batch.answer_tokens else []
        if len(usable) == count:
            return usable
        skipped += failed
    if usable:
        return usable * count
    raise UserMistake(f"none of the {total:,} rows can be trained on: {describe_skipped(skipped)}")


@contextlib.contextmanager
def _appending(path: Path, group: Group) -> Iterator[Callable[[Line], object]]:
    """Yield a function that appends a line to the log, in the first process alone."""
    if not group.is_first:
        yield lambda line: None
        return
    with path.open("a", buffering=1) as file:
        yield lambda line: file.write(json.dumps(line) + "\n")


def step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    planned: Step,
    rate: float,
    group: Group = ALONE,
    watch: Watch = Watch(),
) -> tuple[float, bool]:
    """Take one optimizer step over the micro-batches of a batch.

    Gradients accumulate over the micro-batches. Each loss is divided by the answer tokens of the whole batch, in all
    processes, so that neither the size of a micro-batch nor the number of processes changes the step.

    Args:
        model: The model.
        optimizer: Its optimizer.
        planned: The rows of the step, with at least one answer token.
        rate: The learning rate of this step.
        group: The processes, all of which must call this.
        watch: Says in the first process whether to stop.

    Returns:
        The mean loss of the answer tokens, and whether this was the last step to take.

    Raises:
        SynthError: The loss is not finite.
    """
    own = 0.0
    for number, micro_batch in enumerate(planned.micro_batches, start=1):
        sum_gradients(model, group, is_last=number == len(planned.micro_batches))
        placed = to_device(packing.with_axes(model, micro_batch), group.device)
        loss = answer_loss(model, placed) / planned.answer_tokens  # () float32
        (loss * group.size).backward()  # adds to a float32 gradient of each trainable weight; FSDP takes the mean
        own += loss.item()
    mean, stopping = group.sums([own, float(group.is_first and watch.is_stopping())])
    if not math.isfinite(mean):
        raise SynthError(f"the loss is {mean}; start again into another --out with a lower train.learning_rate")
    parameters = [parameter for each in optimizer.param_groups for parameter in each["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
    set_learning_rate(optimizer, rate)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return mean, bool(stopping)


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
    inputs = {name: _in_dtype(tensor, model.dtype) for name, tensor in micro_batch.inputs.items()}
    with precision:
        # (batch, positions, vocabulary), or all (batch, tokens, vocabulary) of a model that cannot select;
        # bfloat16 on CUDA, the dtype of the weights elsewhere
        logits = model(**inputs, **selection, use_cache=False).logits
    if not can_select:
        logits = logits[:, positions]  # (batch, positions, vocabulary)
    return cross_entropy(
        logits.float().flatten(0, 1),  # (batch * positions, vocabulary) float32
        targets[:, positions].flatten(),  # (batch * positions,) int64
        ignore_index=IGNORED,
        reduction="sum",
    )


def _in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return pixels in the dtype of the weights, and numbers of tokens and sizes as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def silence_transformers() -> None:
    """Turn off the warnings and progress bars of transformers, which would break up the progress line."""
    from transformers.utils import logging

    untyped: Any = logging
    untyped.set_verbosity_error()
    untyped.disable_progress_bar()
