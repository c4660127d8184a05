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
from pathlib import Path
from typing import Any

import torch

from synthgen.config.training import TrainConfig
from synthgen.errors import SynthError
from synthgen.train import lora, packing, pretrained, trials
from synthgen.train import mixture as mixing
from synthgen.train import monitor as monitoring
from synthgen.train.agreement import Step, agree
from synthgen.train.checkpoints import load_checkpoint, write_checkpoint
from synthgen.train.feed import Feed
from synthgen.train.finished import score_after
from synthgen.train.group import ALONE, Group
from synthgen.train.image_size import image_size, tell_model
from synthgen.train.loader import Batch, batches, to_device
from synthgen.train.loss import judge_answers, turn_losses, weigh
from synthgen.train.measure import Measure
from synthgen.train.methods.prepare import prepare
from synthgen.train.methods.retention import retain
from synthgen.train.optimizer import learning_rate, make_optimizer, set_learning_rate
from synthgen.train.plots import write_plots
from synthgen.train.progress import TrainingProgress
from synthgen.train.record import trim_log
from synthgen.train.seen import Seen
from synthgen.train.sharding import shard, sum_gradients, whole_norm, whole_weights
from synthgen.train.turns import TurnLoss

MAX_GRADIENT_NORM = 1.0
NAMED_PAIRS = 3  # of a loss that is not finite

Line = dict[str, Any]  # of log.jsonl


@dataclass(frozen=True)
class TrainingRun:
    """The inputs, the output folder and the settings of a training."""

    feed: Feed
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
    tell_model(model, image_size(run.folder, run.settings))
    pretrained.set_trainable(model, run.settings.what)
    prepare(model, processor, run.settings)
    if run.settings.lora:
        torch.manual_seed(run.settings.seed)  # the adapters begin alike in every process, and in every start
        lora.add_adapters(model, run.settings.lora)
    if run.settings.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    shard(model, group)
    progress = learn(run, model, processor, group, watch)
    if progress.steps == run.settings.steps:
        score_after(run, model, processor, group)
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
    optimizer = _optimizer(run, model, processor)
    # Before a checkpoint is loaded: its weights are those of the start.
    monitor = monitoring.Monitor(run.out, model, group)
    progress = load_checkpoint(run.out, model, optimizer, group)
    log, seen = _trimmed_log(run, progress.steps, group), Seen(run.out, progress.steps, is_writing=group.is_first)
    model.train()
    spares = trials.spares(processor, settings) if group.size > 1 else None
    measure = Measure(run.feed, settings, processor, spares, group)
    if settings.pack_tokens:
        trials.check_packing(run.feed, settings, model, processor, group)
    if not progress.steps and measure.is_due(0):
        monitor.write_held_out(0, measure.answers(model))
    loader = batches(run.feed, processor, settings, progress.position, group)
    with contextlib.closing(loader), _appending(run.out / "log.jsonl", group) as write:
        started = time.monotonic()
        while progress.steps < settings.steps:
            planned = _next_step(run, processor, loader, lambda batch: agree(batch, spares, group))
            waited, rate = time.monotonic() - started, learning_rate(progress.steps, settings)
            taken = step(model, optimizer, replace(planned, weights=progress.mixture.weights), rate, group, watch)
            rows = (progress.position, planned.position)
            progress = _after(progress, planned, taken, run, group)
            started, seconds = time.monotonic(), time.monotonic() - started
            # "seconds" is the time since the step before, including the seconds "waited" for the loader.
            line = {"step": progress.steps, "loss": taken.loss, "lr": rate, "tokens": planned.tokens}
            log.append({**line, "norm": taken.norm, "seconds": seconds, "waited": waited})
            write(log[-1])
            _take_in(monitor, seen, log, taken, rows)
            if group.is_first:
                watch.show(log)
            is_end = taken.is_stopping or progress.steps == settings.steps
            is_kept = is_end or progress.steps % settings.checkpoint_every == 0
            if is_kept or monitoring.is_due(progress.steps):
                monitor.write(progress.steps)
            if measure.is_due(progress.steps):
                monitor.write_held_out(progress.steps, measure.answers(model))
            if is_kept:
                _keep(run, model, optimizer, progress, seen, group)
            if is_end:
                break
    return progress


def _trimmed_log(run: TrainingRun, steps: int, group: Group) -> list[Line]:
    """Remove what follows step `steps` from the logs; return the lines of that of the steps."""
    if not group.is_first:
        return []
    for name in (monitoring.FILE, *((mixing.FILE,) if run.settings.mixture else ())):
        trim_log(run.out, steps, name)
    return trim_log(run.out, steps)


def _optimizer(run: TrainingRun, model: Any, processor: Any) -> torch.optim.Optimizer:
    """Return the optimizer of the trainable weights, which are those of the start."""
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = make_optimizer(trainable, run.settings)
    if run.settings.retain:
        retain(model, optimizer, processor, run.settings, run.out)
    return optimizer


def _take_in(
    monitor: monitoring.Monitor, seen: Seen, log: Sequence[Line], taken: "StepTaken", rows: tuple[int, int]
) -> None:
    """Let those who gather the losses have the ones of a step."""
    monitor.add(log, taken.turns, rows)
    seen.add(log[-1]["step"], taken.turns)


def _keep(
    run: TrainingRun, model: Any, optimizer: torch.optim.Optimizer, progress: TrainingProgress, seen: Seen, group: Group
) -> None:
    """Write what was seen, then a checkpoint, before which nothing that it covers may be missing, then the plots."""
    seen.write(progress.steps)
    write_checkpoint(run.out, model, optimizer, progress, group)
    if group.is_first:
        write_plots(run.out)


def _after(
    progress: TrainingProgress, planned: Step, taken: "StepTaken", run: TrainingRun, group: Group
) -> TrainingProgress:
    """Return the progress after a step."""
    number, out = progress.steps + 1, run.out if group.is_first else None
    mixture = mixing.advance(progress.mixture, number, taken.turns, run.settings.mixture, out)
    return TrainingProgress(number, planned.position, progress.skipped + planned.skipped, mixture)


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
        if empty >= run.feed.rows:
            trials.first_usable(run.feed, run.settings, processor)


@contextlib.contextmanager
def _appending(path: Path, group: Group) -> Iterator[Callable[[Line], object]]:
    """Yield a function that appends a line to the log, in the first process alone."""
    if not group.is_first:
        yield lambda line: None
        return
    with path.open("a", buffering=1) as file:
        yield lambda line: file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class StepTaken:
    """One optimizer step.

    Attributes:
        loss: The mean of the answer tokens.
        norm: The Euclidean norm of the gradients, before it is clipped.
        turns: The loss of each answer.
        is_stopping: Whether no other step is to be taken.
    """

    loss: float
    norm: float
    turns: Sequence[TurnLoss]
    is_stopping: bool


def step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    planned: Step,
    rate: float,
    group: Group = ALONE,
    watch: Watch = UNWATCHED,
) -> StepTaken:
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

    Raises:
        SynthError: The loss is not finite.
    """
    own, turns = 0.0, list[TurnLoss]()
    for number, micro_batch in enumerate(planned.micro_batches, start=1):
        sum_gradients(model, group, is_last=number == len(planned.micro_batches))
        placed = to_device(packing.with_axes(model, micro_batch), group.device)
        losses, is_right = judge_answers(model, placed)  # (batch, tokens - 1) float32 both
        loss = weigh(placed, losses, planned.weights).sum() / planned.answer_tokens  # () float32
        (loss * group.size).backward()  # adds to a gradient of each trainable weight; FSDP takes the mean
        own += (losses.detach().sum() / planned.answer_tokens).item()
        turns += turn_losses(placed, losses.detach(), is_right)
    shared = group.gather((own, group.is_first and watch.is_stopping(), turns))
    mean, turns = sum(each for each, _, _ in shared), [turn for _, _, each in shared for turn in each]
    if not math.isfinite(mean):
        raise SynthError(_not_finite(mean, turns))
    norm = clip([parameter for each in optimizer.param_groups for parameter in each["params"]])
    set_learning_rate(optimizer, rate)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepTaken(mean, norm, turns, any(is_stopping for _, is_stopping, _ in shared))


def clip(parameters: Sequence[torch.nn.Parameter]) -> float:
    """Return the norm of all gradients, and scale them down if it is above MAX_GRADIENT_NORM. All must call this."""
    norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    found = whole_norm(norm)
    if not found <= MAX_GRADIENT_NORM:  # else each would be multiplied by 1, in as much time as a part of AdamW takes
        torch.nn.utils.clip_grads_with_norm_(parameters, MAX_GRADIENT_NORM, norm)
    return found


def _not_finite(mean: float, turns: Sequence[TurnLoss]) -> str:
    broken = [turn.turn for turn in turns if not math.isfinite(turn.loss)]
    pairs = [turn.pair_id for turn in broken if turn.pair_id]
    samples = list(dict.fromkeys(turn.sample for turn in broken if turn.sample))
    named = f" in pair {', '.join(pairs[:NAMED_PAIRS])}" if pairs else ""
    named += f" in {', '.join(samples[:NAMED_PAIRS])}" if samples else ""
    return f"the loss is {mean}{named}; start again into another --out with a lower train.learning_rate"


def silence_transformers() -> None:
    """Turn off the warnings and progress bars of transformers, which would break up the progress line."""
    from transformers.utils import logging

    untyped: Any = logging
    untyped.set_verbosity_error()
    untyped.disable_progress_bar()
