"""Checkpoints: everything that the next step depends on, from which any number of processes can go on.

A checkpoint is a folder of torch.distributed.checkpoint, in which each process writes its part of the weights and of
the optimizer, beside a file with the progress and the random states. It is written under another name and renamed, so a
kill leaves no half of one.
"""

import contextlib
import hashlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from synthgen.errors import Damaged, SynthError, one_line
from synthgen.train.group import Group
from synthgen.train.progress import FOLDER, TrainingProgress, checkpoints, digests_of, read_progress, write_progress

KEPT = 2
TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)  # the others are those of the starting model
RANDOM, WRITING = "random.pt", "writing"


def write_checkpoint(
    out: Path, model: Any, optimizer: torch.optim.Optimizer, progress: TrainingProgress, group: Group
) -> None:
    """Write a checkpoint and delete all but the last ones. All processes of the group must call this.

    Raises:
        SynthError: The disk failed, in any of the processes.
    """
    folder = out / FOLDER
    temporary = folder / WRITING
    if group.is_first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    group.wait()
    random = group.gather(_random_states())
    with whole(temporary):
        weights, moments = _states(model, optimizer)
        with _quiet():
            save({"model": weights, "optimizer": moments}, checkpoint_id=temporary, no_dist=group.size == 1)
        if group.is_first:
            torch.save(random, temporary / RANDOM)
        digests = group.gather(_digests(temporary, group))
        if group.is_first:
            write_progress(temporary, progress, {name: own for each in digests for name, own in each.items()})
            temporary.rename(folder / f"step-{progress.steps:07d}")
    if group.is_first:
        for old in checkpoints(out)[:-KEPT]:
            shutil.rmtree(old)
    group.wait()


def load_checkpoint(out: Path, model: Any, optimizer: torch.optim.Optimizer, group: Group) -> TrainingProgress:
    """Restore model, optimizer and random state from the last checkpoint, if there is one, and return its progress.

    Raises:
        Damaged: It cannot be read.
    """
    paths = checkpoints(out)
    if not paths:
        return TrainingProgress()
    try:
        _verify(paths[-1], group)
        weights, moments = _states(model, optimizer)
        with _quiet():  # in place, whatever the number of processes was
            state = {"model": weights, "optimizer": moments}
            # A weight that never had a gradient, as of a layer that the model skips, has no moments.
            planner = DefaultLoadPlanner(allow_partial_load=True)
            load(state, checkpoint_id=paths[-1], planner=planner, no_dist=group.size == 1)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=TRAINED)
        states = torch.load(paths[-1] / RANDOM, weights_only=True)
        progress = read_progress(out)
    except (Exception, CheckpointException) as error:  # of many kinds: torch, pickle, JSON, the disk
        raise Damaged(
            f"{paths[-1]}: is not a whole checkpoint ({one_line(_cause(error))}); remove it, and the same command goes "
            "on from the one before, or from the start"
        ) from error
    if group.rank < len(states):
        _set_random_states(states[group.rank])
    return progress


def _digests(folder: Path, group: Group) -> dict[str, str]:
    """Return the digests of the files of a checkpoint that this process wrote; the first one wrote those of all."""
    own = [path for path in folder.iterdir() if path.name.startswith(f"__{group.rank}_")]
    if group.is_first:
        own += [path for path in folder.iterdir() if not path.name.startswith("__")]
    return {path.name: _digest(path) for path in own}


def _verify(folder: Path, group: Group) -> None:
    """Raise ValueError, in all processes, if a file of a checkpoint is not as it was written.

    torch reads weights without a look at their checksums.
    """
    digests = sorted(digests_of(folder).items())
    changed = [name for name, digest in digests[group.rank :: group.size] if _digest(folder / name) != digest]
    if every := [name for each in group.gather(changed) for name in each]:
        raise ValueError(f"{every[0]} was changed")


def _digest(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _states(model: Any, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the trained weights by name, and the state of the optimizer."""
    weights, moments = get_state_dict(model, optimizer, options=TRAINED)
    # torch leaves a frozen weight in that has two names, such as the embedding that is the head too.
    every = model.named_parameters(remove_duplicate=False)
    frozen = {name for name, weight in every if not weight.requires_grad}
    return {name: tensor for name, tensor in weights.items() if name not in frozen}, moments


@contextlib.contextmanager
def whole(temporary: Path) -> Iterator[None]:
    """Remove a file or folder that could not be written to its end.

    Raises:
        SynthError: The disk failed, as torch (RuntimeError) and safetensors report it too.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise SynthError(
            f"{temporary.parent}: writing failed ({one_line(_cause(error))}); free some space, or fix its permissions, "
            "and start the same command again: it continues from the last checkpoint"
        ) from error


def _cause(error: BaseException) -> BaseException:
    """Return what failed in the first process, of an error that torch made of the errors of all."""
    failures = error.failures if isinstance(error, CheckpointException) else {}
    return next((failure for failure, _ in failures.values()), error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn off torch's warning that a process which saves alone saves alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _random_states() -> list[torch.Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def _set_random_states(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if torch.cuda.is_available() and len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
