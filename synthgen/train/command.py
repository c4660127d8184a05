"""A training from its arguments to its result: stages, folders, the lease, the progress line, and who does the steps.

The steps are those of loop.py, in this process or in several that ray_train.py starts.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthgen.config.training import TrainConfig
from synthgen.console import StageProgress, note
from synthgen.engines.model_files import read_model_files
from synthgen.engines.protocol import ModelName
from synthgen.errors import Damaged, JobFailing, Stopped, UserMistake
from synthgen.store import Folder, Lease
from synthgen.train import dataset, feed, mixture, monitor, pretrained, seen, uses
from synthgen.train.dataset import ShardChanged, repair_advice
from synthgen.train.encode import Encoder
from synthgen.train.feed import DataSet, Feed
from synthgen.train.group import own_group
from synthgen.train.loader import describe_skipped
from synthgen.train.loop import TrainingRun, Watch, learn_and_save, silence_transformers
from synthgen.train.model_card import CARD, Training, model_card
from synthgen.train.progress import TrainingProgress, checkpoints
from synthgen.train.record import (
    mean_loss,
    open_record,
    read_log,
    read_record,
    read_state,
    trim_log,
    write_recipe,
    write_record,
)
from synthgen.train.schedule import Schedule
from synthgen.train.stream import Order
from synthgen.workers import listening

CHECKED_ROWS = 4  # rows of each data set whose labels are checked before anything is written
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


def train(schedule: Schedule, model: str, out: Path) -> TrainingResult:
    """Fine-tune a model stage by stage, or continue an earlier start of the same training; return the last result.

    Args:
        schedule: The stages and their data.
        model: A model folder or a hub name.
        out: The output folder.

    Raises:
        SettingsChanged: `out` holds a training with other settings.
        UserMistake: The data, the model or `out` cannot be used.
        ModelUnavailable: The model cannot be loaded.
        Damaged: A shard is missing or has other bytes than when training started.
        Stopped: A signal ended the training, after a checkpoint.
    """
    silence_transformers()
    folder = pretrained.model_folder(model)
    sets = _pinned(schedule, out)
    before: Mapping[str, int] = {}
    result: TrainingResult | None = None
    for number, stage in enumerate(schedule.stages):
        place = schedule.folder(out, number)
        if stage.name:
            note(f"stage {number + 1} of {len(schedule.stages)}, {stage.name}: {stage.settings.steps:,} steps")
        fed = Feed(sets, stage.weights, out / feed.FOLDER, before)
        settings = _within_context(stage.settings, folder)
        run = TrainingRun(fed, result.model if result else model, folder, place, settings)
        result = _train_stage(run)
        if stage.name:
            write_recipe(out, [schedule.folder(out, each).name for each in range(number + 1)])
        before, folder = _taken(run), Path(result.model)
    assert result, "a schedule has a stage"
    return result


def _within_context(settings: TrainConfig, folder: Path) -> TrainConfig:
    """Return settings by which no sample is longer than the context of a model, where its files tell that."""
    files = read_model_files(ModelName(str(folder), ""))
    context = files.context if files else None
    if context is None or settings.max_tokens <= context:
        return settings
    note(f"samples of more than {context:,} tokens, the context of the model, are skipped")
    return settings.model_copy(update={"max_tokens": context})


def _pinned(schedule: Schedule, out: Path) -> tuple[DataSet, ...]:
    """Return the data sets as they were when training started, or as they are now if no stage has a checkpoint."""
    for number in range(len(schedule.stages)):
        place = schedule.folder(out, number)
        record = read_record(place)
        if record and (record["result"] or checkpoints(place)):
            known = {each.name: each for each in feed.of_record(record["data"], out).sets}
            added = {name: source for name, source in schedule.sources.items() if name not in known}
            return (*(known[name] for name in schedule.sources if name in known), *feed.pin(added))
    return feed.pin(schedule.sources)


def _taken(run: TrainingRun) -> Mapping[str, int]:
    """Return how many rows of each data set were taken so far, by a finished stage and those before it."""
    record = read_record(run.out) or {}
    counts = Order(run.feed, run.settings).counts(record["position"])
    return {**run.feed.before, **dict(zip((each.name for each in run.feed.taken), counts, strict=True))}


def _train_stage(run: TrainingRun) -> TrainingResult:
    """Take the steps of a stage that are left."""
    processor = pretrained.load_processor(run.model, run.folder, run.settings)
    state = read_state(run.out)
    record = open_record(run)
    if record["result"]:
        note(f"{run.out}: this training is finished; nothing to do")
        return TrainingResult(**record["result"])
    try:
        for each in run.feed.taken:  # a model that does not fit writes nothing
            first_rows = dataset.first_rows(each.files, CHECKED_ROWS)
            Encoder(processor, run.settings).check(first_rows)
            if run.settings.mixture:
                mixture.check_rows(first_rows)
        return _train(run, record, state, processor)
    except ShardChanged as lost:
        raise Damaged(f"{lost}; {repair_advice(lost, has_checkpoint=bool(checkpoints(run.out)))}") from lost
    finally:
        feed.forget_rows(run.feed, run.settings)


def _train(run: TrainingRun, record: dict[str, Any], state: tuple[bytes, ...], processor: Any) -> TrainingResult:
    """Train and save.

    Minutes may pass between the reading of `record` and the lease; `state` shows whether another start came between.
    """
    is_shared = run.settings.processes > 1
    model = None if is_shared else pretrained.load_model(run.model, run.folder, run.settings.precision)
    run.out.mkdir(parents=True, exist_ok=True)
    with Lease.take(Folder(str(run.out.resolve()))):
        if read_state(run.out) != state:
            raise UserMistake(f"--out {run.out}: another start changed this training; start again")
        write_record(run.out, record)
        uses.register_training(run)
        for told in feed.prepare(run.feed, run.settings):
            note(told)
        with _watched(run) as watch:
            if is_shared:
                from synthgen.train.ray_train import train_on_ray  # Ray takes seconds to import

                progress = train_on_ray(run, watch)
            else:
                progress = learn_and_save(run, model, processor, own_group(), watch)
        seen.write_scores(run.out)
        result = _result(run, progress)
        _write_card(run, record["shape"], result)
        write_record(run.out, {**record, "result": asdict(result), "position": progress.position})
        shutil.rmtree(run.out / "checkpoints")
    return result


@contextlib.contextmanager
def _watched(run: TrainingRun) -> Iterator[Watch]:
    """Show the steps of a training, and end it after a step once a signal came.

    Raises:
        Stopped: A signal came; the step under way is finished and in a checkpoint.
    """
    done = steps_done(run.out)
    if done:
        note(f"{run.out}: continues after step {done:,} of {run.settings.steps:,}")
    with (
        listening("the step under way is finished, then a checkpoint is written") as signals,
        signals.draining(),
        StageProgress("train", run.settings.steps - done, "step") as bar,
    ):
        yield Watch(
            lambda: signals.received is not None,
            lambda lines: bar.show(lines[-1]["step"] - done, _describe(lines[-SMOOTHED_STEPS:])),
        )
        if signals.received and steps_done(run.out) < run.settings.steps:
            raise Stopped(signals.received)


def steps_done(out: Path) -> int:
    """Return the steps of the last checkpoint."""
    paths = checkpoints(out)
    return int(paths[-1].name.partition("-")[2]) if paths else 0


def _write_card(run: TrainingRun, shape: dict[str, Any], result: TrainingResult) -> None:
    """Write the card of the tuned model beside its weights."""
    losses, monitored = (result.first_loss, result.last_loss), read_log(run.out, monitor.FILE)
    sources = [each.source for each in run.feed.taken]
    training = Training(run.model, shape["model"], sources, run.settings, losses, monitored, result.skipped)
    (run.out / "model" / CARD).write_text(model_card(training), encoding="utf-8")


def _result(run: TrainingRun, progress: TrainingProgress) -> TrainingResult:
    if progress.steps < run.settings.steps:
        raise JobFailing(f"the training ended after step {progress.steps:,}; the same command continues it")
    log = trim_log(run.out, progress.steps)
    if renamed := pretrained.new_names(run.folder, run.out / "model"):
        note(f"{len(renamed)} weights are saved under new names, such as {renamed[0]}; a server may not know them")
    if progress.skipped:
        note(f"skipped: {describe_skipped(progress.skipped)}, of {progress.position:,} rows taken")
    for told in monitor.summary(read_log(run.out, monitor.FILE)):
        note(told)
    span = max(1, min(SMOOTHED_STEPS, len(log) // 2))
    first_loss, last_loss = mean_loss(log[:span]), mean_loss(log[-span:])
    return TrainingResult(first_loss, last_loss, progress.steps, str(run.out / "model"), dict(progress.skipped))


def _describe(lines: Sequence[dict[str, Any]]) -> str:
    """Return the note of the progress bar on the last steps."""
    speed = sum(line["tokens"] for line in lines) / sum(line["seconds"] for line in lines)
    return f"loss {mean_loss(lines):.3f}, {speed:,.0f} tokens/s"
