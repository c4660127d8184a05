"""A training on several processes, which Ray Train starts on the machines of a cluster.

Each of them runs the loop of loop.py over its share. All state is in the output folder, which every machine must see:
a process or a machine that is lost ends the group, and the next one goes on from the last checkpoint, with as many
processes as there is room for. Nothing is kept in Ray.
"""

import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from synthgen.errors import JobFailing, SynthError, one_line
from synthgen.ingest.images.pool import cores
from synthgen.train import loop, pretrained
from synthgen.train.group import joined_group
from synthgen.train.loop import TrainingRun, Watch
from synthgen.train.progress import TrainingProgress, read_progress
from synthgen.train.record import last_lines
from synthgen.workers import leave_ray
from synthgen.workers.cluster import join_ray

FAILURES = 3  # of a group, between two checkpoints or not, before the training ends
LOOK_SECONDS = 1.0  # between two looks at the log
STOP = "stop"  # a file in the output folder: the group ends after the step under way


def train_on_ray(run: TrainingRun, watch: Watch) -> TrainingProgress:
    """Train on `run.settings.processes` processes until the last step or a signal; return the progress.

    Raises:
        SynthError: A process said why it cannot go on, or the group was lost too often.
    """
    join_ray()
    (run.out / STOP).unlink(missing_ok=True)
    try:
        with _looking(run, watch), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Ray deprecates settings of its own
            _fit(run)
    except Exception as error:
        raise _as_synth_error(error) from error
    finally:
        leave_ray()
        (run.out / STOP).unlink(missing_ok=True)
    return read_progress(run.out)


def _fit(run: TrainingRun) -> None:
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = int(ray.cluster_resources().get("GPU", 0)) > 0
    with tempfile.TemporaryDirectory(prefix="synth-train-") as scratch:
        TorchTrainer(
            _work,
            train_loop_config={"run": _from_root(run), "threads": os.environ.get("OMP_NUM_THREADS")},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(num_workers=run.settings.processes, use_gpu=gpus),
            run_config=ray.train.RunConfig(
                name="train", storage_path=scratch, failure_config=ray.train.FailureConfig(max_failures=FAILURES)
            ),
        ).fit()


def _from_root(run: TrainingRun) -> TrainingRun:
    """Return a training with paths that mean the same in the working folder of another process."""
    scratch = run.settings.scratch and str(Path(run.settings.scratch).absolute())
    return replace(
        run,
        out=run.out.resolve(),
        feed=replace(run.feed, folder=run.feed.folder.resolve()),
        settings=run.settings.model_copy(update={"scratch": scratch}),
    )


def _work(config: dict[str, Any]) -> None:
    """Train as one process of the group."""
    from ray.train import get_context

    run: TrainingRun = config["run"]
    torch.set_num_threads(threads(config["threads"], get_context().get_local_world_size()))
    logging.getLogger("synthgen").setLevel(logging.INFO)
    loop.silence_transformers()
    processor = pretrained.load_processor(run.model, run.folder, run.settings)
    model = pretrained.load_model(run.model, run.folder, run.settings.precision)
    loop.learn_and_save(run, model, processor, joined_group(), Watch((run.out / STOP).exists))


def threads(wanted: str | None, processes: int) -> int:
    """Return on how many threads torch computes in each of the processes of a machine: its part of the cores.

    Ray would leave each of them one.

    Args:
        wanted: OMP_NUM_THREADS where the training was started, which has the last word.
        processes: Of the training, on this machine.
    """
    own = int(wanted) if wanted and wanted.isdigit() else 0
    return own or max(1, cores() // processes)


@contextmanager
def _looking(run: TrainingRun, watch: Watch) -> Iterator[None]:
    """Show the log as it grows, and leave the word to stop where the group looks for it."""
    over = threading.Event()

    def look() -> None:
        log, size = run.out / "log.jsonl", 0
        while not over.wait(LOOK_SECONDS):
            if watch.is_stopping():
                (run.out / STOP).touch()
            if log.exists() and log.stat().st_size != size and (lines := last_lines(log)):
                size = log.stat().st_size
                watch.show(lines)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _as_synth_error(error: Exception) -> SynthError:
    """Return the error of the first process that failed as one of ours."""
    failures = getattr(error, "worker_failures", None) or {}
    cause: BaseException = next(iter(failures.values()), error)
    while cause.__cause__ is not None and not isinstance(cause, SynthError):
        cause = cause.__cause__
    if isinstance(cause, SynthError):
        return cause
    return JobFailing(f"the training ended: {one_line(cause)}")
