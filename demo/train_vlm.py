"""Phase two of the recipe: teach the language model to ask and answer, with the tower that phase one taught to see.

The learning rate stays constant until the last pictures, and a moving average of the weights stands in for a decay, so
training can stop at any time and go on, with more pictures too; the average is exported. Types that are still answered
badly are drawn more often. The patch labels stay on as a side loss, so that seeing does not get worse.

Shapes: B pictures, P = 36 patches, R = 9 rows of L = 48 tokens, D = 192, V tokens in the vocabulary, N tokens of the
batch that are to be learned, E examples of the picture that has most.

    python -m demo.train_vlm [--pictures 120000] [--role asker] [--out runs/nano] [--cool 0.15] [--start MODELS]
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration

from demo.checkpoint import load_checkpoint, save_checkpoint
from demo.data_loader import BatchLoader
from demo.distributed import Hardware, ProcessGroup, detect_hardware, run_in_processes
from demo.multitask_model import MultitaskVLM, init_from_vision
from demo.muon import build_optimizers, set_learning_rate
from demo.nano_vlm import pixel_values
from demo.packing import Packer, row_mask
from demo.tokenizer import ASSISTANT, END, USER, load_tokenizer
from demo.train_vision import class_logits, patch_loss
from demo.training_examples import KEYS, ROLES
from demo.training_mixture import DRAW_WEIGHTS, Arrays, make_batch
from demo.world import TRAIN_SEED

TASK_LOSS_WEIGHT = {
    "answer": 1.0,
    "ask": 1.0,
    "decline": 1.0,
    "judge": 1.0,
    "rephrase": 0.4,
    "blind": 0.3,
    "turns": 0.7,
    "answerable": 1.0,
    "same": 0.7,
}
LOSS_WEIGHTS = np.array([TASK_LOSS_WEIGHT[key.split("/")[0]] for key in KEYS])  # (keys,)
PATCH_LOSS_WEIGHT = 0.1
AVERAGE = 0.996  # the exported weights average about the last 250 steps
RATE = {"cpu": 1.3e-3, "cuda": 2.5e-3}
TOWER_SHARE = 0.06  # of the learning rate
BATCH_SIZE = {"cpu": 8, "cuda": 256}  # pictures a step and process
PICTURES = 120_000  # of the recipe
LOG_SECONDS, SAVE_SECONDS = 60, 180


def batch_loss(model: MultitaskVLM, batch: Arrays, accuracy: NDArray[np.float64]) -> Tensor:
    """Return the weighted loss of a batch.

    Args:
        model: The model.
        batch: From `make_batch`.
        accuracy: (keys,) float64, the running share of examples whose every token was the likeliest; updated in place.
    """
    device = model.class_embeddings.device
    names = ("token_ids", "position", "targets", "example", "is_blind", "patch_labels")
    token_ids, position, targets, example, is_blind, labels = (
        torch.from_numpy(batch[name]).to(device) for name in names
    )
    images, mask = pixel_values(batch["images"], device), row_mask(example, is_blind)
    hidden, patches = model(images, token_ids, position, mask)  # (B, R, L, D), (B, P, D)
    is_target = targets >= 0  # (B, R, L)
    logits, target = model.vlm.lm_head(hidden[is_target]), targets[is_target]  # (N, V), (N,)
    losses = nn.functional.cross_entropy(logits, target, reduction="none")  # (N,)

    owner = _example_of_tokens(batch, is_target.cpu().numpy())  # (N,)
    keys = batch["keys"].ravel()[owner]  # (N,)
    length = np.bincount(owner, minlength=batch["keys"].size)[owner]  # (N,) learned tokens of the token's example
    weight = torch.from_numpy(LOSS_WEIGHTS[keys] / np.sqrt(length)).float().to(device)  # (N,)
    _update_accuracy(accuracy, owner, keys, (logits.argmax(-1) == target).cpu().numpy())
    side_loss = patch_loss(class_logits(patches, model.class_embeddings), labels)
    return (losses * weight).sum() / weight.sum() + PATCH_LOSS_WEIGHT * side_loss


def _example_of_tokens(batch: Arrays, is_target: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the place in the flattened `keys`, (B * E,), of each learned token's example: (N,)."""
    size, most = batch["keys"].shape
    first = np.arange(size)[:, None, None] * most  # (B, 1, 1)
    places: NDArray[np.int64] = (first + batch["example"] - 1)[is_target]  # (B, R, L) -> (N,)
    return places


def _update_accuracy(
    accuracy: NDArray[np.float64], owner: NDArray[np.int64], keys: NDArray[np.int64], is_right: NDArray[np.bool_]
) -> None:
    """Move the running accuracy of each key towards the examples of a batch.

    Args:
        accuracy: (keys,) float64; updated in place.
        owner: (N,) the example of each learned token.
        keys: (N,) its key.
        is_right: (N,) whether the model's likeliest token was right.
    """
    all_right = np.ones(owner.max() + 1, bool)  # (examples,)
    np.logical_and.at(all_right, owner, is_right)
    key_of = np.zeros(owner.max() + 1, np.int64)  # (examples,)
    key_of[owner] = keys
    for number in np.unique(owner):
        key = key_of[number]
        accuracy[key] += 0.01 * (all_right[number] - accuracy[key])


def accuracy_by_task(accuracy: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean over the types of each task."""
    table: dict[str, list[float]] = {}
    for key, share in zip(KEYS, accuracy, strict=True):
        table.setdefault(key.split("/")[0], []).append(share)
    return {task: round(float(np.mean(shares)), 3) for task, shares in table.items()}


@dataclass(frozen=True)
class Course:
    """What the model is taught.

    Attributes:
        pictures: Number of pictures in all.
        seed: Of the pictures and of the initial weights.
        role: A key of ROLES.
        cool: Share of the pictures, the last ones, over which the learning rate falls.
    """

    pictures: int = PICTURES
    seed: int = TRAIN_SEED + 1
    role: str = "asker"
    cool: float = 0.15


def train(out: Path, course: Course, start: Path | None = None) -> None:
    """Train until so many pictures are seen, going on from the checkpoint if there is one.

    Args:
        out: Folder of the checkpoint, `vlm.pt`, of the tokenizer, and of phase one's `vision.pt`.
        course: What to teach.
        start: Folder of exported models to begin with, in place of phase one's tower.
    """
    out.mkdir(parents=True, exist_ok=True)
    hardware = detect_hardware()
    if start and not (out / "tokenizer").exists():
        load_tokenizer(start / "nano-vlm").save_pretrained(out / "tokenizer")
    torch.set_num_threads(1)
    weights = sum(weight.numel() for weight in MultitaskVLM(load_tokenizer(out / "tokenizer")).parameters())
    run_in_processes(
        ProcessGroup(hardware.processes, weights, len(KEYS)),
        lambda group: Trainer(group, hardware, out, start).run(course),
    )


class Trainer:
    """The training as one process of the group runs it."""

    def __init__(self, group: ProcessGroup, hardware: Hardware, out: Path, start: Path | None) -> None:
        torch.set_flush_denormal(True)
        self.group, self.hardware, self.device = group, hardware, hardware.device
        self.path, self.start = out / "vlm.pt", start
        self.size, self.rate = BATCH_SIZE[self.device.type], RATE[self.device.type]
        self.tokenizer = load_tokenizer(out / "tokenizer")
        self.draw_weights: Any = get_context("fork").Array("d", [1.0] * len(KEYS), lock=False)  # read by the loader
        self.pictures_seen, self.step, self.accuracy = 0, 0, np.zeros(len(KEYS))
        self.state = load_checkpoint(self.path)
        if self.state:
            names = ("pictures_seen", "step", "accuracy")
            self.pictures_seen, self.step, self.accuracy = (self.state[name] for name in names)

    def run(self, course: Course) -> None:
        """Train until all pictures of the course are seen."""
        pictures = course.pictures
        if self.pictures_seen >= pictures:
            return
        torch.manual_seed(course.seed)
        loader = self._open_loader(course)  # before the model: its processes must not hold a GPU
        self._load_model()
        began = logged = saved = time.monotonic()
        seen_before = self.pictures_seen
        for batch in loader:
            now, remaining = time.monotonic(), 1 - self.pictures_seen / pictures
            if remaining <= 0:
                break
            warmup, decay = (self.step + 1) / 60, max(0.01, remaining / max(course.cool, 1e-9))
            set_learning_rate(self.optimizers, self.rate * min(1.0, warmup) * min(1.0, decay))
            loss = self._train_step(batch)
            if self.group.rank == 0 and now - logged > LOG_SECONDS:
                logged = now
                speed = (self.pictures_seen - seen_before) / (now - began)
                self._log(loss.item(), pictures, speed)
            if self.group.rank == 0 and now - saved > SAVE_SECONDS:
                saved = now
                self._save()
        if self.group.rank == 0:
            self._save()
            print({key: round(float(share), 2) for key, share in zip(KEYS, self.accuracy, strict=True)}, flush=True)

    def _open_loader(self, course: Course) -> BatchLoader[Arrays]:
        user, assistant, end = self.tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END])
        packer = Packer(lambda text: self.tokenizer.encode(text, add_special_tokens=False), user, assistant, end)
        self._update_draw_weights(self.accuracy)

        def make(first: int, size: int) -> Arrays:
            weights = dict(zip(KEYS, self.draw_weights, strict=True))
            return make_batch(packer, course.seed, first, size, weights, course.role)

        first, stride = self.pictures_seen + self.group.rank * self.size, self.group.size * self.size
        return BatchLoader(make, first, self.size, stride, self.hardware.loaders)

    def _update_draw_weights(self, accuracy: NDArray[np.float64]) -> None:
        """Draw more often the keys that are answered badly."""
        self.draw_weights[:] = np.clip(1.15 - accuracy, 0.15, 1.0) * DRAW_WEIGHTS

    def _load_model(self) -> None:
        """Make the model, its average and the optimizers, new or from the checkpoint."""
        self.model = MultitaskVLM(self.tokenizer)
        if self.state:
            self.model.load_state_dict(self.state["model"])
        elif self.start:
            exported = LlavaOnevisionForConditionalGeneration.from_pretrained(self.start / "nano-vlm")
            self.model.vlm.load_state_dict(exported.state_dict())
        else:
            init_from_vision(self.model, self.tokenizer, self.path.with_name("vision.pt"))
        self.average = copy.deepcopy(self.model)
        if self.state:
            self.average.load_state_dict(self.state["average"])
        self.model.to(self.device)
        self.average.to(self.device)
        self.optimizers = build_optimizers(self.model, self.rate, "vlm.model.vision_tower", TOWER_SHARE)
        if self.state:
            for optimizer, saved in zip(self.optimizers, self.state["optimizers"], strict=False):
                shares = [group["share"] for group in optimizer.param_groups]
                optimizer.load_state_dict(saved)
                for group, share in zip(optimizer.param_groups, shares, strict=True):
                    group["share"] = share  # the recipe's, not the checkpoint's

    def _train_step(self, batch: Arrays) -> Tensor:
        """Take one step on a batch; return its loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = batch_loss(self.model, batch, self.accuracy)
        loss.backward()
        self.group.average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        keep = min(AVERAGE, 1 - 1 / (self.step + 2))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        self.step, self.pictures_seen = self.step + 1, self.pictures_seen + self.group.size * len(batch["images"])
        if self.step % 20 == 0:
            self.group.statistics[self.group.rank] = torch.from_numpy(self.accuracy)
            self._update_draw_weights(self.group.statistics.mean(0).numpy())  # (processes, keys) -> (keys,)
        return loss

    def _log(self, loss: float, pictures: int, speed: float) -> None:
        minutes = (pictures - self.pictures_seen) / speed / 60
        progress = f"{self.pictures_seen} of {pictures} {loss:.3f} {speed:.1f}/s, {minutes:.0f} min remaining"
        print(time.strftime("%H:%M"), progress, accuracy_by_task(self.accuracy), flush=True)

    def _save(self) -> None:
        save_checkpoint(
            self.path,
            model=self.model.state_dict(),
            average=self.average.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            pictures_seen=self.pictures_seen,
            step=self.step,
            accuracy=self.accuracy,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the VLM on packed examples.")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--role", choices=ROLES, default="asker", help="what it learns to do; a judge asks nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the checkpoints")
    parser.add_argument(
        "--cool", type=float, default=0.15, help="share of the pictures, the last ones, over which the rate falls"
    )
    parser.add_argument("--start", type=Path, help="a folder with an exported nano-vlm to begin with")
    args = parser.parse_args()
    train(args.out, Course(args.pictures, role=args.role, cool=args.cool), start=args.start)


if __name__ == "__main__":
    main()
