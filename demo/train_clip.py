"""Phase three of the recipe: train the nano CLIP to give every tag of the drawn taxonomy a probability.

The tower of the VLM already sees, so only pooling, projection and the text tower are new. The loss is SigLIP's sigmoid
(arXiv 2303.15343), but with all tags as texts and every true tag of a picture as a positive, as the tagger will ask.
The head learns first, on patches averaged once, where a step costs almost nothing.

Shapes: B pictures, P = 36 patches, D = 192, K tags.

    python -m demo.train_clip [--pictures 90000] [--out runs/nano] [--models demo/models] [--start MODELS]
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from demo.checkpoint import read_checkpoint, save_checkpoint
from demo.data_loader import BatchLoader
from demo.distributed import Hardware, ProcessGroup, detect_hardware, run_in_processes
from demo.draw import draw
from demo.muon import build_optimizers, set_learning_rate
from demo.nano_clip import Encode, build_tokenizer, clip_config, copy_tower, export_clip, make_encoder
from demo.nano_vlm import WIDTH, pixel_values
from demo.tag_labels import tag_matrix, tag_phrasings, text_embeddings
from demo.train_vision import KINDS
from demo.world import TRAIN_SEED, sample

RATE = {"cpu": 5e-4, "cuda": 1e-3}
TOWER_SHARE = 0.5  # of the learning rate
HEAD_RATE = 3e-3
BATCH_SIZE = {"cpu": 16, "cuda": 512}  # pictures a step and process
PICTURES = 90_000  # of the recipe
UNSEEN = 1_000_000  # the first picture of a training that begins with exported weights
LOG_SECONDS = 30
TEXTS = tag_phrasings()
TOWER = "vlm.model.vision_tower."  # prefix of the tower's weights in the VLM's checkpoint
Batch = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # pictures (B, SIZE, SIZE, 3), true tags (B, K)


def tag_loss(clip: Any, images: Tensor, is_true: Tensor, encode: Encode) -> tuple[Tensor, float]:
    """Return the sigmoid loss of pictures against all tags, each in one of its texts at random, and F1 at one half.

    Args:
        clip: The model.
        images: (B, D) float32, embeddings of unit length.
        is_true: (B, K) float32, 1 where a tag is true.
        encode: From texts to token ids.
    """
    texts = [[ways[int(torch.randint(len(ways), ()))]] for ways in TEXTS.values()]
    tags = text_embeddings(clip, encode, texts)  # (K, D)
    logits = clip.logit_scale.exp() * images @ tags.T + clip.logit_bias  # (B, K)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, is_true, reduction="none")  # (B, K)
    is_found = logits > 0  # (B, K)
    f1 = float(2 * (is_found * is_true).sum() / (is_found.sum() + is_true.sum()))
    return losses.sum(-1).mean(), f1


def make_batch(seed: int, first: int, size: int) -> Batch:
    """Return the pictures of the scenes from `first` on, and their true tags."""
    scenes = [sample(seed, index, kinds=KINDS) for index in range(first, first + size)]
    return np.stack([np.asarray(draw(scene)) for scene in scenes]), tag_matrix(scenes, list(TEXTS))


def train_head(clip: Any, encode: Encode, loader: BatchLoader[Batch], pictures: int = 6000, steps: int = 500) -> None:
    """Train projection and text tower alone; the tower stays as it is, so its patches are averaged only once."""
    pooled, is_true = _pool_patches(clip, loader, pictures)  # (pictures, D), (pictures, K)
    for name, weight in clip.named_parameters():
        weight.requires_grad_(not name.startswith("visual.") or name.startswith(("visual.ln_post", "visual.proj")))
    trained = [weight for weight in clip.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, HEAD_RATE, weight_decay=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = HEAD_RATE * min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
        rows = torch.randint(0, len(pooled), (1024,))  # (1024,)
        norm = clip.visual.ln_post  # only its affine part: the patches were normalised before they were averaged
        projected = (pooled[rows] * norm.weight + norm.bias) @ clip.visual.proj  # (1024, D)
        loss, f1 = tag_loss(clip, nn.functional.normalize(projected, dim=-1), is_true[rows], encode)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            _log(f"head {step}", loss, f1, clip)
    clip.requires_grad_(True)


@torch.no_grad()
def _pool_patches(clip: Any, loader: BatchLoader[Batch], pictures: int) -> tuple[Tensor, Tensor]:
    """Return the mean normalised patch of each picture, (pictures, D), and its true tags, (pictures, K) float32."""
    pooled: list[Tensor] = []
    is_true: list[Tensor] = []
    for images, tags in loader:
        tower = clip.visual
        patches = tower.transformer(tower._embeds(pixel_values(images)))[:, 1:]  # (B, 1 + P, D) -> (B, P, D)
        pooled.append(nn.functional.layer_norm(patches, (WIDTH,)).mean(1))  # (B, D)
        is_true.append(torch.from_numpy(tags).float())  # (B, K)
        if sum(map(len, is_true)) >= pictures:
            break
    return torch.cat(pooled), torch.cat(is_true)


def _log(progress: str, loss: Tensor, f1: float, clip: Any) -> None:
    scale = clip.logit_scale.exp().item()
    print(f"{progress} loss {loss.item():.3f} F1 {f1:.3f} scale {scale:.1f}", flush=True)


def build_clip() -> nn.Module:
    """Return the model with random weights."""
    clip: nn.Module = open_clip.CLIP(**clip_config(len(build_tokenizer())))
    return clip


def initial_clip(out: Path, start: Path | None, seed: int) -> nn.Module:
    """Return the exported model in `start`; else the tower of the VLM in `out` with a trained head."""
    clip = build_clip()
    if start:
        clip.load_state_dict(load_file(start / "nano-clip" / "open_clip_model.safetensors"))
        return clip
    weights = read_checkpoint(out / "vlm.pt")["average"]
    copy_tower(clip, {name.removeprefix(TOWER): weight for name, weight in weights.items() if name.startswith(TOWER)})
    loader = BatchLoader(partial(make_batch, seed + 1), first=0, size=50, stride=50, processes=1)
    train_head(clip, make_encoder(build_tokenizer()), loader)
    return clip


def train(out: Path, models: Path, pictures: int, seed: int = TRAIN_SEED + 2, start: Path | None = None) -> None:
    """Train the head and then everything until so many pictures are seen; export to `models`.

    Args:
        out: Folder of the checkpoint, `clip.pt`, and of phase two's `vlm.pt`.
        models: Folder to export to.
        pictures: Number of pictures in all; the learning rate falls to nothing.
        seed: Of the pictures and of the initial weights.
        start: Folder of exported models to begin with, on pictures they have not seen, in place of the VLM's tower.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    hardware, path = detect_hardware(), out / "clip.pt"
    if not path.exists():
        save_checkpoint(path, model=initial_clip(out, start, seed).state_dict(), pictures_seen=0, optimizers=[])
    clip = build_clip()
    weights = sum(weight.numel() for weight in clip.parameters())
    first = UNSEEN if start else 0
    run_in_processes(
        ProcessGroup(hardware.processes, weights),
        lambda group: Trainer(group, hardware, path, seed).run(pictures, first),
    )
    clip.load_state_dict(read_checkpoint(path)["model"])
    tokenizer = build_tokenizer()
    export_clip(clip, clip_config(len(tokenizer)), tokenizer, models / "nano-clip")


class Trainer:
    """The training of the whole model as one process of the group runs it."""

    def __init__(self, group: ProcessGroup, hardware: Hardware, path: Path, seed: int) -> None:
        torch.set_flush_denormal(True)
        self.group, self.hardware, self.device = group, hardware, hardware.device
        self.path, self.seed = path, seed
        self.size, self.rate = BATCH_SIZE[self.device.type], RATE[self.device.type]
        self.state = read_checkpoint(path)
        self.pictures_seen: int = self.state["pictures_seen"]

    def run(self, pictures: int, first: int) -> None:
        """Train until so many pictures are seen, of which `first` is the number of the first."""
        torch.manual_seed(self.seed + self.pictures_seen)
        start, stride = first + self.pictures_seen + self.group.rank * self.size, self.group.size * self.size
        loader = BatchLoader(partial(make_batch, self.seed), start, self.size, stride, self.hardware.loaders)
        self._load_model()
        logged = time.monotonic()
        for images, tags in loader:
            progress = self.pictures_seen / pictures
            if progress >= 1:
                break
            warmup, decay = 30 * progress + 0.02, 2 * (1 - progress)
            set_learning_rate(self.optimizers, self.rate * min(1.0, decay) * min(1.0, warmup))
            loss, f1 = self._train_step(images, tags)
            if self.group.rank == 0 and time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                _log(f"{self.pictures_seen} {progress:.0%}", loss, f1, self.clip)
                self._save()
        if self.group.rank == 0:
            self._save()

    def _load_model(self) -> None:
        self.clip: Any = build_clip()
        self.clip.load_state_dict(self.state["model"])
        self.clip.to(self.device)
        self.encode = make_encoder(build_tokenizer(), self.device)
        self.optimizers = build_optimizers(self.clip, self.rate, "visual.transformer", TOWER_SHARE)
        for optimizer, saved in zip(self.optimizers, self.state["optimizers"], strict=False):
            optimizer.load_state_dict(saved)

    def _train_step(self, images: NDArray[np.uint8], tags: NDArray[np.bool_]) -> tuple[Tensor, float]:
        """Take one step on a batch; return its loss and its F1."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            embedded = self.clip.encode_image(pixel_values(images, self.device), normalize=True)  # (B, D)
        is_true = torch.from_numpy(tags).float().to(self.device)  # (B, K)
        loss, f1 = tag_loss(self.clip, embedded.float(), is_true, self.encode)
        loss.backward()
        self.group.average_gradients(self.clip.parameters())
        nn.utils.clip_grad_norm_(self.clip.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.pictures_seen += self.group.size * self.size
        return loss, f1

    def _save(self) -> None:
        save_checkpoint(
            self.path,
            model=self.clip.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            pictures_seen=self.pictures_seen,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the nano CLIP from the VLM's tower.")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the checkpoints")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument("--start", type=Path, help="a folder with an exported nano-clip to begin with")
    args = parser.parse_args()
    train(args.out, args.models, args.pictures, start=args.start)


if __name__ == "__main__":
    main()
