"""Phase one of the recipe: teach the vision tower and the projector to see, from patch labels alone.

A picture costs a sixth of what it costs with questions. Every head is one matrix on the *projected* patch, and its rows
become the embeddings of their words, so the language model starts with patches that already lie near the words for what
they show.

Shapes: B pictures, P = 36 patches, D = 192, the width, C classes of one head or of all.

    python -m demo.train_vision [--pictures 64000] [--out runs/nano] [--seed 1000]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlavaOnevisionModel

from demo.checkpoint import load_checkpoint, save_checkpoint
from demo.data_loader import BatchLoader
from demo.distributed import Hardware, ProcessGroup, detect_hardware, run_in_processes
from demo.draw import draw
from demo.muon import build_optimizers, set_learning_rate
from demo.nano_vlm import WIDTH, pixel_values, vlm_config
from demo.patch_labels import COLUMN_OF, HEADS, patch_labels
from demo.world import HELD_OUT_SEED, TRAIN_SEED, sample

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]  # pictures (B, SIZE, SIZE, 3), labels (B, P, heads)
HEAD_WEIGHT = {"row": 0.1, "column": 0.1, "background": 0.3, "text": 1.5, "character": 1.0, "name": 2.0}
OTHER_HEAD_WEIGHT = 0.3
RATE = {"cpu": 2e-3, "cuda": 3e-3}
BATCH_SIZE = {"cpu": 32, "cuda": 512}  # pictures a step and process
PICTURES = 64_000  # of the recipe
EASY_PICTURES, EASY_LEVEL = 12_000, 0.35  # the first pictures hold few things
KINDS = {"scene": 0.5, "sign": 0.24, "chart": 0.24, "empty": 0.02}
LOG_SECONDS = 60
LOG_HEADS = ("name", "colour", "text", "character", "same_name", "rank")


class VisionModel(nn.Module):
    """The tower, the projector, and one linear head for each kind of patch label, all heads stacked in one matrix."""

    def __init__(self) -> None:
        super().__init__()
        parts = LlavaOnevisionModel(vlm_config(512, 1, 2))
        self.tower, self.projector = parts.vision_tower, parts.multi_modal_projector
        self.class_embeddings = nn.Parameter(torch.randn(sum(HEADS.values()), WIDTH) * 0.06)  # (C, D)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the logits of each head: (B, 3, SIZE, SIZE) -> (B, P, C of the head) each."""
        features = self.tower(images, output_hidden_states=True).hidden_states[-1]  # (B, P, D)
        return class_logits(self.projector(features), self.class_embeddings)


def class_logits(patches: Tensor, class_embeddings: Tensor) -> list[Tensor]:
    """Return the logits of each head on projected patches: (B, P, D), (C, D) -> (B, P, C of the head) each."""
    logits = patches @ class_embeddings.T  # (B, P, C)
    return list(logits.split(list(HEADS.values()), dim=-1))


def patch_loss(logits: list[Tensor], labels: Tensor) -> Tensor:
    """Return the weighted sum over heads of the mean cross entropy.

    Most patches show nothing, which is class 0 of most heads: patches of another class count three times.

    Args:
        logits: Of each head, (B, P, C of the head) float32.
        labels: (B, P, heads) int64.
    """
    total = torch.zeros((), device=labels.device)
    for head, head_logits in zip(HEADS, logits, strict=True):
        target = labels[..., COLUMN_OF[head]].flatten()  # (B * P,)
        losses = nn.functional.cross_entropy(head_logits.flatten(0, -2), target, reduction="none")  # (B * P,)
        weight = 1.0 + 2.0 * (target > 0)  # (B * P,)
        loss = (losses * weight).sum() / weight.sum()
        total = total + HEAD_WEIGHT.get(head, OTHER_HEAD_WEIGHT) * loss
    return total


def make_batch(seed: int, first: int, size: int, level: float) -> Batch:
    """Return the pictures of the scenes from `first` on, and their patch labels."""
    scenes = [sample(seed, index, level, KINDS) for index in range(first, first + size)]
    images = np.stack([np.asarray(draw(scene)) for scene in scenes])  # (B, SIZE, SIZE, 3)
    return images, np.stack([patch_labels(scene) for scene in scenes])  # (B, P, heads)


@torch.no_grad()
def patch_accuracy(model: VisionModel, scenes: int = 256) -> dict[str, float]:
    """Return the share of right labels by head, on held-out pictures, over the patches that show something."""
    model.eval()
    images, labels = make_batch(HELD_OUT_SEED, 0, scenes, 1.0)
    logits = [head_logits.cpu() for head_logits in model(pixel_values(images, model.class_embeddings.device))]
    model.train()
    accuracy = {}
    for head, head_logits in zip(HEADS, logits, strict=True):
        target = torch.from_numpy(labels[..., COLUMN_OF[head]])  # (B, P)
        is_right = head_logits.argmax(-1) == target  # (B, P)
        has_nothing = head not in ("background", "row", "column", "kind")  # as class 0
        counted = target > 0 if has_nothing else torch.ones_like(is_right)  # (B, P)
        accuracy[head] = round(is_right[counted].float().mean().item(), 3)
    return accuracy


def train(out: Path, pictures: int, seed: int = TRAIN_SEED) -> None:
    """Train until so many pictures are seen, going on from the checkpoint if there is one.

    Args:
        out: Folder of the checkpoint, `vision.pt`.
        pictures: Number of pictures in all; over the last third the learning rate falls.
        seed: Of the pictures and of the initial weights.
    """
    hardware = detect_hardware()
    torch.set_num_threads(1)
    weights = sum(weight.numel() for weight in VisionModel().parameters())
    run_in_processes(
        ProcessGroup(hardware.processes, weights),
        lambda group: Trainer(group, hardware, out / "vision.pt", seed).run(pictures),
    )


class Trainer:
    """The training as one process of the group runs it."""

    def __init__(self, group: ProcessGroup, hardware: Hardware, path: Path, seed: int) -> None:
        torch.manual_seed(seed)
        torch.set_flush_denormal(True)
        self.group, self.hardware, self.device = group, hardware, hardware.device
        self.path, self.seed = path, seed
        self.size, self.rate = BATCH_SIZE[self.device.type], RATE[self.device.type]
        self.state = load_checkpoint(path)
        self.pictures_seen, self.step = 0, 0
        if self.state:
            self.pictures_seen, self.step = self.state["pictures_seen"], self.state["step"]

    def run(self, pictures: int) -> None:
        """Train until so many pictures are seen."""
        if self.pictures_seen >= pictures:
            return
        loader = self._open_loader()  # before the model: its processes must not hold a GPU
        self._load_model()
        logged = time.monotonic()
        for images, labels in loader:
            if self.pictures_seen >= pictures:
                break
            warmup, decay = (self.step + 1) / 50, max(0.02, (1 - self.pictures_seen / pictures) * 3)
            set_learning_rate(self.optimizers, self.rate * min(1.0, warmup) * min(1.0, decay))
            loss = self._train_step(images, labels)
            if self.group.rank == 0 and time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                self._log(loss.item(), pictures)
        if self.group.rank == 0:
            self._save()
            print(json.dumps({"patches": patch_accuracy(self.model), "images": self.pictures_seen}), flush=True)

    def _open_loader(self) -> BatchLoader[Batch]:
        def make(first: int, size: int) -> Batch:
            return make_batch(self.seed, first, size, EASY_LEVEL if first < EASY_PICTURES else 1.0)

        first, stride = self.pictures_seen + self.group.rank * self.size, self.group.size * self.size
        return BatchLoader(make, first, self.size, stride, self.hardware.loaders)

    def _load_model(self) -> None:
        """Make the model and the optimizers, new or from the checkpoint."""
        self.model = VisionModel().to(self.device)
        self.optimizers = build_optimizers(self.model, self.rate)
        if self.state:
            self.model.load_state_dict(self.state["model"])
            for optimizer, saved in zip(self.optimizers, self.state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)

    def _train_step(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Tensor:
        """Take one step on a batch; return its loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(pixel_values(images, self.device))  # of each head, (B, P, C of the head)
            loss = patch_loss(logits, torch.from_numpy(labels).to(self.device))
        loss.backward()
        self.group.average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step, self.pictures_seen = self.step + 1, self.pictures_seen + self.group.size * self.size
        return loss

    def _log(self, loss: float, pictures: int) -> None:
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} at step {self.step}: lower the rate")
        self._save()
        accuracy = patch_accuracy(self.model, 128)
        progress = f"{self.pictures_seen} of {pictures} {loss:.3f}"
        print(time.strftime("%H:%M"), progress, {head: accuracy[head] for head in LOG_HEADS}, flush=True)

    def _save(self) -> None:
        save_checkpoint(
            self.path,
            model=self.model.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            pictures_seen=self.pictures_seen,
            step=self.step,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the vision tower on patch labels.")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=TRAIN_SEED)
    args = parser.parse_args()
    train(args.out, args.pictures, args.seed)


if __name__ == "__main__":
    main()
