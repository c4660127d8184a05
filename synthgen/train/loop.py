"""The training loop, to be read from top to bottom.

Comes in: shards, a vision-language model, an output folder, settings. Goes out: `model/`, which loads wherever the starting
model did; `log.jsonl`, a line a step; `training.json`, which pins what went in and says what came out. One process on one
device, float32 weights, bfloat16 arithmetic on CUDA. Every hundred steps a checkpoint is written aside and renamed; the
same command continues from the last one to the very losses that an undisturbed run has, because the place in the stream of
rows is one number and nothing else is drawn at random.
"""

import contextlib
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from synthgen.config.pipeline import TrainConfig
from synthgen.console import StageProgress
from synthgen.engines.revision import folder_digest
from synthgen.errors import Damaged, SettingsChanged, Stopped, SynthError, UserMistake
from synthgen.store import Folder, Lease
from synthgen.train import pretrained
from synthgen.train.dataset import ShardChanged, ShardFile, mend, pin, place, rows
from synthgen.train.encode import IGNORED, Encoder, MicroBatch
from synthgen.train.loader import batches, counts, moved
from synthgen.workers import signals

CHECKED_ROWS = 4  # whose labels are looked at before anything is written
CLIP = 1.0  # norm of the gradient
KEPT = 2  # checkpoints
SMOOTH = 20  # steps that a smoothed loss is the mean of
HOW = {"workers", "checkpoint_every", "micro_batch"}  # settings that change no result


@dataclass(frozen=True)
class TrainingResult:
    """What `synth train` has to say at the end."""

    first_loss: float
    last_loss: float
    steps: int
    model: str
    skipped: dict[str, int]  # rows left out, by reason; a row is counted each time that its turn comes

    def __str__(self) -> str:
        return f"loss {self.first_loss:.3f} -> {self.last_loss:.3f} in {self.steps:,} steps; the tuned model is in {self.model}"


@dataclass(frozen=True)
class TrainingRun:
    """A training run: what it reads, where it writes, how."""

    files: Sequence[ShardFile]
    model: str  # as the user named it
    folder: Path  # where its files are
    out: Path
    settings: TrainConfig


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is."""

    steps: int = 0
    place: int = 0  # rows taken from the stream
    skipped: Counter[str] = field(default_factory=Counter)


def train(shards: str, model: str, out: Path, settings: TrainConfig) -> TrainingResult:
    """Fine-tunes `model` on `shards` into the folder `out`, or goes on where an earlier start of the same was cut short."""
    _quiet()
    folder = pretrained.model_folder(model)
    processor = pretrained.load_processor(model, folder)
    record = _record(shards, folder, out, settings)
    if record["result"]:
        _say(f"{out}: this training is finished; nothing to do")
        return TrainingResult(**record["result"])
    job = TrainingRun([ShardFile(**file) for file in record["files"]], model, folder, out, settings)
    try:
        return _trained(job, record, processor)
    except ShardChanged as lost:
        raise Damaged(f"{lost}; {mend(lost, has_begun=bool(_checkpoints(out)))}") from lost


def _trained(job: TrainingRun, record: dict[str, Any], processor: Any) -> TrainingResult:
    """Learns, and keeps the record beside what comes of it; nothing is written before the first rows fit the model."""
    out, settings = job.out, job.settings
    Encoder(processor, settings).check(list(islice(rows(job.files, settings.seed, 0), CHECKED_ROWS)))
    tuned = pretrained.load_model(job.model, job.folder).to("cuda" if torch.cuda.is_available() else "cpu")
    out.mkdir(parents=True, exist_ok=True)
    with Lease.take(Folder(str(out.resolve()))):
        _write(out / "training.json", json.dumps(record, indent=1).encode())
        done = learn(job, tuned, processor)
        result = _finish(job, tuned, done)
        _write(out / "training.json", json.dumps({**record, "result": asdict(result)}, indent=1).encode())
        shutil.rmtree(out / "checkpoints")
    return result


# --- the loop ---------------------------------------------------------------------------------------------------------


def learn(job: TrainingRun, model: Any, processor: Any) -> TrainingProgress:
    """Takes the steps that are still to take; the last of them leaves a checkpoint."""
    settings, device = job.settings, next(model.parameters()).device
    torch.manual_seed(settings.seed)
    optimizer = _optimizer(pretrained.choose(model, settings.what), settings)
    done = _resumed(job, model, optimizer)
    begun = done.steps
    log = _log(job.out, begun)
    model.train()
    loader = batches(job.files, processor, settings, done.place, settings.steps - begun)
    with (
        signals.listening(),
        signals.draining(),
        StageProgress("train", settings.steps - begun, "step") as progress,
        (job.out / "log.jsonl").open("a", buffering=1) as file,
        contextlib.closing(loader),
    ):
        clock = time.monotonic()
        for batch in loader:
            waited, rate = time.monotonic() - clock, learning_rate(done.steps, settings)
            loss = step(model, optimizer, [moved(part, device) for part in batch.parts], rate)
            done = TrainingProgress(done.steps + 1, batch.place, done.skipped + batch.skipped)
            clock, seconds = time.monotonic(), time.monotonic() - clock
            tokens = sum(part.tokens for part in batch.parts)
            log.append(
                {"step": done.steps, "loss": loss, "lr": rate, "tokens": tokens, "seconds": seconds, "waited": waited}
            )
            file.write(json.dumps(log[-1]) + "\n")
            progress.show(done.steps - begun, _note(log))
            signal = signals.asked()
            if signal or done.steps % settings.checkpoint_every == 0 or done.steps == settings.steps:
                _checkpoint(job.out, model, optimizer, done)
            if signal:
                raise Stopped(signal)
    return done


def step(model: Any, optimizer: torch.optim.Optimizer, parts: Sequence[MicroBatch], rate: float) -> float:
    """One step of the optimizer over the parts of a batch; the mean loss of its answer tokens, wherever they are."""
    answers, total = sum(part.answer_tokens for part in parts), 0.0
    for part in parts:
        loss = answer_loss(model, part) / answers
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise SynthError(
            f"the loss is no longer a number ({total}); start into another --out with a lower train.learning_rate"
        )
    torch.nn.utils.clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], CLIP)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def answer_loss(model: Any, part: MicroBatch) -> torch.Tensor:
    """The sum of the losses of the answer tokens. Only places that predict one get logits: a vocabulary is wide."""
    targets = part.labels[:, 1:]
    places = (targets != IGNORED).any(0).nonzero().squeeze(1)
    device = part.labels.device
    half = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
    keeps = {"logits_to_keep": places} if "logits_to_keep" in signature(model.forward).parameters else {}
    with half:
        logits = model(**part.inputs, **keeps, use_cache=False).logits
    logits = logits if keeps else logits[:, places]  # a few models cannot leave any out
    return cross_entropy(
        logits.float().flatten(0, 1), targets[:, places].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def learning_rate(done: int, settings: TrainConfig) -> float:
    """Up in a line over the warm-up, then down to nothing along half a cosine."""
    warm = max(1, round(settings.warmup * settings.steps))
    if done < warm:
        return settings.learning_rate * (done + 1) / warm
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, settings.steps - warm)))


def _optimizer(parameters: Sequence[torch.nn.Parameter], settings: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; only matrices decay: a norm's gain or a bias has nothing to gain from being small."""
    groups = [
        {"params": [one for one in parameters if one.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=(0.9, 0.95), fused=True
    )


# --- what is kept: the record, the log, checkpoints, the model ----------------------------------------------------------


def _record(shards: str, folder: Path, out: Path, settings: TrainConfig) -> dict[str, Any]:
    """What this run was started with: as training.json says, or new. Another run's folder is refused.

    A start that left no checkpoint binds nobody: its shards are pinned anew, as they are now.
    """
    shape = {"shards": place(shards), "model": folder_digest(folder), **settings.model_dump(mode="json", exclude=HOW)}
    path = out / "training.json"
    if not path.is_file() and (out.is_file() or (out.is_dir() and any(one.name != "lease" for one in out.iterdir()))):
        raise UserMistake(f"--out {out}: holds other files; give a new or empty folder")
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"result": None}
    if not record["result"] and not _checkpoints(out):
        return {
            "format": 1,
            "model": str(folder),
            "shape": shape,
            "result": None,
            "files": [asdict(file) for file in pin(shards)],
        }
    then = record["shape"]
    changed = [key for key in {**then, **shape} if then.get(key) != shape.get(key)]
    if changed:
        told = "; ".join(f"{key} was {then.get(key)!r} and is now {shape.get(key)!r}" for key in changed)
        raise SettingsChanged(
            f"--out {out}: was started otherwise: {told}; use another --out, or start it as before to continue"
        )
    return record


def _log(out: Path, steps: int) -> list[dict[str, Any]]:
    """The lines of the log up to a step; what was logged after the checkpoint is forgotten, here and in the file."""
    path, lines = out / "log.jsonl", []
    for text in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # the last line of a killed run may be cut
            lines.append(json.loads(text))
    lines = [line for line in lines if line["step"] <= steps]
    _write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return lines


def _note(log: Sequence[dict[str, Any]]) -> str:
    """For the progress line: what the last steps were like."""
    last = log[-SMOOTH:]
    speed = sum(line["tokens"] for line in last) / sum(line["seconds"] for line in last)
    return f"loss {smoothed(last):.3f}, {speed:,.0f} tokens/s"


def smoothed(lines: Sequence[dict[str, Any]]) -> float:
    """The mean loss of some lines of the log."""
    return float(sum(line["loss"] for line in lines) / len(lines))


def _checkpoint(out: Path, model: Any, optimizer: torch.optim.Optimizer, done: TrainingProgress) -> None:
    """Everything that the next step depends on, whole or not at all; the last ones are kept."""
    folder = out / "checkpoints"
    folder.mkdir(exist_ok=True)
    random = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    far = {"steps": done.steps, "place": done.place, "skipped": dict(done.skipped)}
    state = {"done": far, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": random}
    aside = folder / "writing.pt"  # torch refuses names that begin with a dot
    torch.save(state, aside)
    aside.rename(folder / f"step-{done.steps:07d}.pt")
    for old in _checkpoints(out)[:-KEPT]:
        old.unlink()


def _checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("step-*.pt"))


def _resumed(job: TrainingRun, model: Any, optimizer: torch.optim.Optimizer) -> TrainingProgress:
    """Loads the last checkpoint, if there is one."""
    found = _checkpoints(job.out)
    if not found:
        return TrainingProgress()
    state = torch.load(found[-1], map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"][0])
    if torch.cuda.is_available() and len(state["random"]) > 1:
        torch.cuda.set_rng_state_all(state["random"][1:])
    done = TrainingProgress(state["done"]["steps"], state["done"]["place"], Counter(state["done"]["skipped"]))
    _say(f"{job.out}: continues after step {done.steps:,} of {job.settings.steps:,}")
    return done


def _finish(job: TrainingRun, model: Any, done: TrainingProgress) -> TrainingResult:
    """Writes the model and gathers what there is to say."""
    log = _log(job.out, done.steps)
    if unknown := pretrained.save(model, job.folder, job.out / "model"):
        _say(
            f"{len(unknown)} weights are saved under names that are new, such as {unknown[0]}; a server may not know them"
        )
    if done.skipped:
        _say(f"left out: {counts(done.skipped)}, of {done.place:,} rows taken")
    span = max(1, min(SMOOTH, len(log) // 2))
    return TrainingResult(
        smoothed(log[:span]), smoothed(log[-span:]), done.steps, str(job.out / "model"), dict(done.skipped)
    )


def _write(path: Path, data: bytes) -> None:
    Folder(str(path.parent.resolve())).write(path.name, data)


def _quiet() -> None:
    """The progress line is ours."""
    from transformers.utils import logging

    talk: Any = logging  # untyped
    talk.set_verbosity_error()
    talk.disable_progress_bar()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
